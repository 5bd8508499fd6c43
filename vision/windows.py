"""Square windows over an image of any size, and one map from the maps of its windows.

The image is covered by a canvas of cells, one per patch; windows are g x g blocks of cells at whole cell offsets, so
their maps fit onto the canvas without resampling.

Shapes: H, W image in pixels; h, w canvas in cells; g window in cells; B windows; C classes; S side in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LONGEST = 64
"""A picture is never longer than this many windows' widths of its own height: thinner ones are stretched."""
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPlan:
    """Where the windows of one image lie."""

    height: int
    width: int
    """Of the image, in pixels."""
    cells_h: int
    cells_w: int
    """Of the canvas."""
    grid: int
    """Cells per side of a window."""
    offsets: tuple[tuple[int, int], ...]
    """Row and column of the first cell of each window."""


def plan_windows(height: int, width: int, grid: int, *, tile: int | None = None, overlap: float = 0.5) -> WindowPlan:
    """Windows that cover an image of `height` x `width` pixels.

    grid: cells per side of a window; tile: pixels of the image that a window covers (None, or more than the shorter
    side: the shorter side, so that an image keeps its ratio and one row of windows slides along its longer side);
    overlap: fraction of a window. An image more than 64 times as long as high is stretched, so that the number of
    windows stays bounded.
    """
    side = max(min(height, width), -(-max(height, width) // LONGEST))
    if tile is not None:
        side = min(side, tile)
    cells_h, cells_w = (max(grid, round(pixels * grid / side)) for pixels in (height, width))
    step = max(1, round(grid * (1 - overlap)))
    offsets = tuple((row, column) for row in _starts(cells_h, grid, step) for column in _starts(cells_w, grid, step))
    return WindowPlan(height=height, width=width, cells_h=cells_h, cells_w=cells_w, grid=grid, offsets=offsets)


def _starts(cells: int, grid: int, step: int) -> list[int]:
    """First cells along one axis; the last window ends with the canvas."""
    return [*range(0, cells - grid, step), cells - grid]


def cut_windows(image_HW3: NDArray[np.uint8], plan: WindowPlan, size: int,
                interpolation: str = "bicubic") -> Iterator[NDArray[np.uint8]]:
    """The windows of an image, one by one, each (size, size, 3) uint8. A window that is exactly one to one is not
    resampled."""
    if (plan.height, plan.width) == (size, size) and len(plan.offsets) == 1:
        yield image_HW3
        return
    picture = Image.fromarray(image_HW3)
    cell_y, cell_x = plan.height / plan.cells_h, plan.width / plan.cells_w
    for row, column in plan.offsets:
        box = (column * cell_x, row * cell_y,
               min((column + plan.grid) * cell_x, plan.width), min((row + plan.grid) * cell_y, plan.height))
        yield np.asarray(picture.resize((size, size), FILTERS[interpolation], box=box))


class Canvas:
    """The mean of the maps of an image's windows, added one by one in any number of batches."""

    def __init__(self, plan: WindowPlan, classes: int) -> None:
        self._plan = plan
        self._total_Chw = np.zeros((classes, plan.cells_h, plan.cells_w), np.float32)
        self._count_hw = np.zeros((plan.cells_h, plan.cells_w), np.float32)

    def add(self, window: int, map_Cgg: NDArray[np.float32]) -> None:
        """Adds the map of the window at `plan.offsets[window]`."""
        row, column = self._plan.offsets[window]
        block = np.s_[row:row + self._plan.grid, column:column + self._plan.grid]
        self._total_Chw[:, *block] += map_Cgg
        self._count_hw[block] += 1

    def mean(self) -> NDArray[np.float32]:
        """(C, h, w) float32; every window must have been added."""
        return self._total_Chw / self._count_hw
