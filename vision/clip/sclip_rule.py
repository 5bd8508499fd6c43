"""From the maps of windows to labels, as SCLIP and its successors do it (ECCV 2024, their segmentor code).

The maps of each window are enlarged to its pixels and averaged where windows overlap; the whole is enlarged to the
image; softmax over all names, maximum within a class; a background threshold and an area threshold. Names go through
in chunks and rows in bands, so neither the number of names nor the size of the image is limited by memory.

Shapes: B windows; N names; g, q cells of a window; h, w the resized picture; H, W image; n names of a chunk; R rows of
a band, with its margins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vision.refine.enlarge import taps, turn
from vision.refine.settings import method_of_rule

if TYPE_CHECKING:
    import torch

CHUNK_VALUES = 32_000_000
"""Values of the chunk of names that is enlarged at once (128 MB)."""
BAND_PIXELS = 4_000_000
"""Pixels of the band of rows that is enlarged at once."""


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

    def decide(self, image_HW3: NDArray[np.uint8], refinement: str,
               device: str) -> tuple[NDArray[np.uint16], NDArray[np.float32], NDArray[np.uint16]]:
        """The winner of every pixel as an index into the class ids, its probability, and the class ids, the background
        first. refinement: `none` or `pamr`, which smooths the maps of the names along the edges of the picture; raises
        SettingError for another one. Pixels below the background threshold are as sure as their best name is unsure."""
        import torch

        method = method_of_rule("sclip", refinement)
        best_HW, name_HW, total_HW = self._race(image_HW3, method, device, np.ones(len(self.class_N), bool))
        class_N = torch.from_numpy(self.class_N)
        if self.area_threshold is not None:
            area_K = torch.bincount(class_N[name_HW].flatten(), minlength=len(self.class_ids))
            area_K[0] = 0
            stays_K = area_K > self.area_threshold * area_K.sum()
            stays_K[0] = True
            if not bool(stays_K[class_N].all()):
                best_HW, name_HW, _ = self._race(image_HW3, method, device, stays_K[class_N].numpy())
        probability_HW = (best_HW - total_HW).exp()
        winner_HW = class_N[name_HW]
        unsure_HW = (probability_HW < self.background_threshold) | (best_HW == float("-inf"))
        winner_HW = winner_HW.masked_fill(unsure_HW, 0)
        probability_HW = torch.where(unsure_HW, 1 - probability_HW, probability_HW)
        return (winner_HW.numpy().astype(np.uint16), probability_HW.numpy(), np.array(self.class_ids, np.uint16))

    def _race(self, image_HW3: NDArray[np.uint8], method: str, device: str,
              running_N: NDArray[np.bool_]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(H, W) logit and index of the best name among those that run, and the logarithm of the sum of exponentials
        over all names; on the CPU."""
        import torch

        from vision.refine.pamr import DILATIONS, ITERATIONS, mix, neighbour_weights

        height, width = image_HW3.shape[:2]
        best_HW, total_HW = torch.empty(height, width), torch.empty(height, width)
        name_HW = torch.empty(height, width, dtype=torch.long)
        guide_3hw = picture_3hw(resize(image_HW3, self.size)) if method == "pamr" else None
        margin = ITERATIONS * max(DILATIONS) if method == "pamr" else 0  # from farther away nothing reaches a pixel
        for start, stop in bands(height, width, margin):
            top, bottom = max(0, start - margin), min(height, stop + margin)
            inner = slice(start - top, stop - top)
            best_RW = total_RW = torch.full((stop - start, width), float("-inf"), device=device)
            name_RW = torch.zeros(stop - start, width, dtype=torch.long, device=device)
            with turn(device):
                if guide_3hw is not None:
                    band_3RW = enlarge_rows(guide_3hw.to(device), (height, width), top, bottom)
                    weights_1ZRW = neighbour_weights(band_3RW[None])
                for chunk in self._chunks(max((bottom - top) * width, self.size[0] * self.size[1])):
                    maps_nhw = stitch(torch.from_numpy(self.maps_BNgq[:, chunk]).to(device), self.corners, self.window,
                                      self.size)
                    logits_nRW = enlarge_rows(maps_nhw, (height, width), top, bottom)
                    if guide_3hw is not None:
                        logits_nRW = mix(logits_nRW[None], weights_1ZRW)[0]
                    logits_nRW = logits_nRW[:, inner] * self.logit_scale
                    total_RW = torch.logaddexp(total_RW, logits_nRW.logsumexp(dim=0))
                    stopped_n = torch.from_numpy(~running_N[chunk]).to(device)
                    highest_RW, index_RW = logits_nRW.masked_fill(stopped_n[:, None, None], float("-inf")).max(dim=0)
                    name_RW = torch.where(highest_RW > best_RW, index_RW + chunk.start, name_RW)
                    best_RW = torch.maximum(best_RW, highest_RW)
                best_HW[start:stop], total_HW[start:stop] = best_RW.cpu(), total_RW.cpu()
                name_HW[start:stop] = name_RW.cpu()
        return best_HW, name_HW, total_HW

    def _chunks(self, pixels: int) -> Iterator[slice]:
        names = max(1, CHUNK_VALUES // pixels)
        for start in range(0, len(self.class_N), names):
            yield slice(start, min(start + names, len(self.class_N)))


def bands(height: int, width: int, margin: int) -> Iterator[tuple[int, int]]:
    """First row of each band and the row after its last; with the margins on both sides BAND_PIXELS hold a band, except
    where even the margins are larger."""
    rows = max(1, margin, BAND_PIXELS // width - 2 * margin)
    for start in range(0, height, rows):
        yield start, min(start + rows, height)


def enlarge_rows(maps_nhw: torch.Tensor, size: tuple[int, int], top: int, bottom: int) -> torch.Tensor:
    """(n, R, W): rows `top` to `bottom` of the maps enlarged bilinearly to `size`."""
    import torch
    from torch.nn import functional as F

    first_R, second_R, toward_R = (torch.from_numpy(part_H[top:bottom]).to(maps_nhw.device)
                                   for part_H in taps(maps_nhw.shape[1], size[0]))
    above_nRw = maps_nhw[:, first_R]
    rows_nRw = above_nRw + (maps_nhw[:, second_R] - above_nRw) * toward_R[:, None]
    return F.interpolate(rows_nRw[None], (bottom - top, size[1]), mode="bilinear")[0]


def resize(image_HW3: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(h, w, 3): bilinear between the four nearest pixels, also when it shrinks, as OpenCV does it."""
    from torch.nn import functional as F

    if tuple(image_HW3.shape[:2]) == size:
        return image_HW3
    resized_13hw = F.interpolate(picture_3hw(image_HW3)[None], size, mode="bilinear")
    return resized_13hw[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()


def picture_3hw(image_hw3: NDArray[np.uint8]) -> torch.Tensor:
    """(3, h, w) float32."""
    import torch

    return torch.from_numpy(np.array(image_hw3)).permute(2, 0, 1).float()


def stitch(maps_Bngq: torch.Tensor, corners: tuple[tuple[int, int], ...], window: tuple[int, int],
           size: tuple[int, int]) -> torch.Tensor:
    """(n, h, w): the maps of windows, each enlarged to its pixels, averaged where they overlap."""
    import torch
    from torch.nn import functional as F

    total_nhw = torch.zeros(maps_Bngq.shape[1], *size, device=maps_Bngq.device)
    count_hw = torch.zeros(size, device=maps_Bngq.device)
    for maps_ngq, (top, left) in zip(maps_Bngq, corners, strict=True):
        block = np.s_[top:top + window[0], left:left + window[1]]
        total_nhw[:, *block] += F.interpolate(maps_ngq[None], window, mode="bilinear")[0]
        count_hw[block] += 1
    return total_nhw / count_hw
