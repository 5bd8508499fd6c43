"""From the maps of windows to labels, as SCLIP and its successors do it (ECCV 2024, their segmentor code).

The maps of each window are enlarged to its pixels and averaged where windows overlap; the whole is enlarged to the
image; softmax over all names, maximum within a class; a background threshold and an area threshold. Names go through
in chunks, so neither their number nor the size of the image is limited by memory.

Shapes: B windows; N names; g, q cells of a window; h, w the resized picture; H, W image; n names of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from parsers.errors import Code, SettingError

if TYPE_CHECKING:
    import torch

METHODS = ("none", "pamr")
CHUNK_VALUES = 32_000_000
"""Values of the chunk of names that is enlarged at once (128 MB)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SclipRule:
    """Everything but the image that labels follow from."""

    maps_BNgq: NDArray[np.float32]
    """Cosines of patches and names."""
    corners: tuple[tuple[int, int], ...]
    """Top and left of each window in the resized picture."""
    window: tuple[int, int]
    """Height and width of all windows."""
    size: tuple[int, int]
    """h and w."""
    class_N: NDArray[np.intp]
    """Index of each name's class into `class_ids`."""
    class_ids: tuple[int, ...]
    """0, background or nothing, first."""
    logit_scale: float
    background_threshold: float
    area_threshold: float | None

    def decide(self, image_HW3: NDArray[np.uint8],
               method: str) -> tuple[NDArray[np.uint16], NDArray[np.float32], NDArray[np.uint16]]:
        """The winner of every pixel as an index into the class ids, its probability, and the class ids, the background
        first. method: `none` or `pamr`, which smooths the maps of the names along the edges of the picture; raises
        SettingError for another one. Pixels below the background threshold are as sure as their best name is unsure."""
        import torch

        if method not in METHODS:
            raise SettingError(Code.SETTING_INVALID, f"refine is {method!r} with the rule sclip.",
                               f"Allowed: {', '.join(METHODS)}.", "lexiseg segment --help")
        best_HW, name_HW, total_HW = self._race(image_HW3, method, np.ones(len(self.class_N), bool))
        class_N = torch.from_numpy(self.class_N)
        if self.area_threshold is not None:
            area_K = torch.bincount(class_N[name_HW].flatten(), minlength=len(self.class_ids))
            area_K[0] = 0
            stays_K = area_K > self.area_threshold * area_K.sum()
            stays_K[0] = True
            if not bool(stays_K[class_N].all()):
                best_HW, name_HW, _ = self._race(image_HW3, method, stays_K[class_N].numpy())
        probability_HW = (best_HW - total_HW).exp()
        winner_HW = class_N[name_HW]
        unsure_HW = (probability_HW < self.background_threshold) | (best_HW == float("-inf"))
        winner_HW = winner_HW.masked_fill(unsure_HW, 0)
        probability_HW = torch.where(unsure_HW, 1 - probability_HW, probability_HW)
        return (winner_HW.numpy().astype(np.uint16), probability_HW.numpy(), np.array(self.class_ids, np.uint16))

    def _race(self, image_HW3: NDArray[np.uint8], method: str,
              running_N: NDArray[np.bool_]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(H, W) logit and index of the best name among those that run, and the logarithm of the sum of exponentials
        over all names."""
        import torch
        from torch.nn import functional as F

        size = image_HW3.shape[:2]
        best_HW = total_HW = torch.full(size, float("-inf"))
        name_HW = torch.zeros(size, dtype=torch.long)
        for chunk in self._chunks(max(size[0] * size[1], self.size[0] * self.size[1])):
            maps_nhw = stitch(torch.from_numpy(self.maps_BNgq[:, chunk]), self.corners, self.window, self.size)
            logits_nHW = F.interpolate(maps_nhw[None], size, mode="bilinear")[0]
            if method == "pamr":
                logits_nHW = _smooth(image_HW3, logits_nHW)
            logits_nHW = logits_nHW * self.logit_scale
            total_HW = torch.logaddexp(total_HW, logits_nHW.logsumexp(dim=0))
            stopped_n = torch.from_numpy(~running_N[chunk])
            highest_HW, index_HW = logits_nHW.masked_fill(stopped_n[:, None, None], float("-inf")).max(dim=0)
            name_HW = torch.where(highest_HW > best_HW, index_HW + chunk.start, name_HW)
            best_HW = torch.maximum(best_HW, highest_HW)
        return best_HW, name_HW, total_HW

    def _chunks(self, pixels: int) -> Iterator[slice]:
        names = max(1, CHUNK_VALUES // pixels)
        for start in range(0, len(self.class_N), names):
            yield slice(start, min(start + names, len(self.class_N)))


def stitch(maps_Bngq: torch.Tensor, corners: tuple[tuple[int, int], ...], window: tuple[int, int],
           size: tuple[int, int]) -> torch.Tensor:
    """(n, h, w): the maps of windows, each enlarged to its pixels, averaged where they overlap."""
    import torch
    from torch.nn import functional as F

    total_nhw, count_hw = torch.zeros(maps_Bngq.shape[1], *size), torch.zeros(size)
    for maps_ngq, (top, left) in zip(maps_Bngq, corners, strict=True):
        block = np.s_[top:top + window[0], left:left + window[1]]
        total_nhw[:, *block] += F.interpolate(maps_ngq[None], window, mode="bilinear")[0]
        count_hw[block] += 1
    return total_nhw / count_hw


def _smooth(image_HW3: NDArray[np.uint8], logits_nHW: torch.Tensor) -> torch.Tensor:
    """PAMR with 10 iterations and dilations 8 and 16; it asks for no particular scale of the colours."""
    import torch

    from vision.refine.pamr import pamr

    image_13HW = torch.from_numpy(np.array(image_HW3)).permute(2, 0, 1)[None].float()
    return pamr(image_13HW, logits_nHW[None])[0]
