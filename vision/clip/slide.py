"""Windows over a picture that keeps its ratio, and the rule that labels follow by: SCLIP's way (ECCV 2024).

Shapes: H, W image; h, w the resized picture; B windows; N names; g, q cells of a window; P = g q.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vision.clip.ensemble import NameLists
from vision.clip.sclip_rule import SclipRule, resize
from vision.clip.settings import ClipSettings

LONGEST = 2048
"""Pixels of the longer side of the resized picture, at most."""
MOST_NAMES = 2048
"""Names that labels are decided among: those with the highest cosines anywhere in the picture. Ours; it bounds what a
picture with very many names takes until it is labelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slide:
    """Where the windows of one picture lie."""

    size: tuple[int, int]
    """h and w."""
    window: tuple[int, int]
    """Height and width of all windows."""
    corners: tuple[tuple[int, int], ...]
    """Top and left of each."""


def plan_slide(height: int, width: int, window: int, settings: ClipSettings) -> Slide:
    """The shorter side becomes `short_side`; windows of `window` pixels, no larger than the picture, every `stride`
    pixels. A stride of 0: one window, the whole picture."""
    size = scaled_size(height, width, settings.short_side or window * 3 // 2)
    stride = window // 2 if settings.stride is None else settings.stride
    if stride == 0:
        return Slide(size=size, window=size, corners=((0, 0),))
    shape = (min(window, size[0]), min(window, size[1]))
    return Slide(size=size, window=shape, corners=window_corners(size, shape, stride))


def cut_slide(image_HW3: NDArray[np.uint8], slide: Slide) -> Iterator[NDArray[np.uint8]]:
    """The windows of a picture, one by one."""
    resized_hw3 = resize(image_HW3, slide.size)
    for top, left in slide.corners:
        yield resized_hw3[top:top + slide.window[0], left:left + slide.window[1]]


def sclip_rule(maps_BNP: Sequence[torch.Tensor], slide: Slide, lists: NameLists, patch: int, logit_scale: float,
               settings: ClipSettings) -> SclipRule:
    """The rule for one picture. maps: cosines of the table of names and the patches of each window. A name of two
    classes takes part twice. Without a background in the vocabulary there are no thresholds."""
    class_ids = lists.class_ids if lists.class_ids[:1] == (0,) else (0, *lists.class_ids)
    shift = len(class_ids) - len(lists.class_ids)
    class_M, place_M = torch.nonzero(lists.valid_CM.cpu(), as_tuple=True)  # all names of all lists, class by class
    rows_M, class_M = lists.lists_CM.cpu()[class_M, place_M], class_M + shift
    table_BNP = torch.stack(list(maps_BNP))
    if len(rows_M) > MOST_NAMES:
        best = table_BNP.amax(dim=(0, 2))[rows_M].topk(MOST_NAMES).indices.sort().values
        rows_M, class_M = rows_M[best], class_M[best]
    grid = (max(1, slide.window[0] // patch), max(1, slide.window[1] // patch))
    with_background = shift == 0  # thresholds need something that is below them
    return SclipRule(maps_BNgq=table_BNP[:, rows_M].unflatten(2, grid).numpy(), corners=slide.corners,
                     window=slide.window, size=slide.size, class_N=class_M.numpy(), class_ids=class_ids,
                     logit_scale=logit_scale,
                     background_threshold=settings.background_threshold if with_background else 0.0,
                     area_threshold=settings.area_threshold if with_background else None)


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width of the picture with the ratio kept: the shorter side as asked for, the longer one at most
    2,048 (at most 64 times the shorter one, so a very thin picture is stretched)."""
    scale = min(LONGEST / max(height, width), short_side / min(height, width))
    least = short_side // 16
    return max(least, int(height * scale + 0.5)), max(least, int(width * scale + 0.5))


def window_corners(size: tuple[int, int], window: tuple[int, int], stride: int) -> tuple[tuple[int, int], ...]:
    """Top and left of windows every `stride` pixels; the last of a row or column ends with the picture."""
    return tuple((top, left) for top in _starts(size[0], window[0], stride)
                 for left in _starts(size[1], window[1], stride))


def _starts(pixels: int, window: int, stride: int) -> list[int]:
    count = max(pixels - window + stride - 1, 0) // stride + 1
    return [max(min(index * stride + window, pixels) - window, 0) for index in range(count)]
