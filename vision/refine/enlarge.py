"""The winner of every pixel from probabilities at feature resolution.

A pixel lies between four cells, its *block*. A class that cannot win in a block is not enlarged there, which is exact
and saves most of the work.

Shapes: C classes; K classes that may win somewhere; h, w score map in cells; H, W image; R, V rows and columns of a
part of it.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

BAND_PIXELS = 4_000_000
"""Pixels that are enlarged at once; bounds the memory."""
CLASS_VALUES = 8_000_000
"""Values of the classes that are made wide together; bounds the memory however many classes there are."""
ROUNDING = 1e-6
"""Of the enlargement."""
DEVICE_PIXELS = 16_000_000
"""Of the largest picture that is enlarged on a GPU, which takes about 40 bytes of its memory for each."""
_on_device = threading.Lock()


def turn(device: torch.device | str) -> AbstractContextManager[object]:
    """What is entered to refine or enlarge there: many threads finish pictures, and the memory of a GPU is for one."""
    return nullcontext() if str(device) == "cpu" else _on_device


def softmax(scores_Chw: NDArray[np.float16]) -> NDArray[np.float32]:
    """Probabilities over the classes; finite for scores of any height."""
    exponents_Chw = scores_Chw.astype(np.float32)
    exponents_Chw -= exponents_Chw.max(axis=0)
    np.exp(exponents_Chw, out=exponents_Chw)
    exponents_Chw /= exponents_Chw.sum(axis=0)
    return exponents_Chw


def enlarge(probabilities_Chw: NDArray[np.float32], height: int,
            width: int) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """(H, W) index of the most probable class (the first of equals) and its probability. Bilinear: centres of
    pixels, borders repeated. At least one class must be above 0 in each cell."""
    winner_HW = np.zeros((height, width), np.uint16)
    best_HW = np.zeros((height, width), np.float32)
    may_win_Chw = _may_win(probabilities_Chw)
    index_K = np.flatnonzero(may_win_Chw.any(axis=(1, 2)))
    together = max(1, CLASS_VALUES // (probabilities_Chw.shape[1] * width))
    for start in range(0, len(index_K), together):
        chunk_K = index_K[start:start + together]
        _race(chunk_K, probabilities_Chw[chunk_K], may_win_Chw[chunk_K], winner_HW, best_HW)
    return winner_HW, best_HW


def enlarge_on(device: torch.device, probabilities_Chw: NDArray[np.float32], height: int,
               width: int) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """As `enlarge`, on a GPU, where all classes are enlarged at every pixel, so many of them at once that CLASS_VALUES
    holds; only the winners come back. Where two classes are nearer than rounding, another one may win."""
    import torch
    from torch.nn.functional import interpolate

    with turn(device):
        given_Chw = torch.from_numpy(probabilities_Chw).to(device)
        best_HW = torch.zeros(height, width, device=device)
        winner_HW = torch.zeros(height, width, dtype=torch.int32, device=device)
        together = max(1, CLASS_VALUES // (height * width))
        for start in range(0, len(given_Chw), together):
            maps_KHW = interpolate(given_Chw[None, start:start + together], (height, width), mode="bilinear")[0]
            highest_HW, index_HW = maps_KHW.max(0)
            winner_HW = torch.where(highest_HW > best_HW, index_HW.int() + start, winner_HW)
            best_HW = torch.maximum(highest_HW, best_HW)
        return winner_HW.cpu().numpy().astype(np.uint16), best_HW.cpu().numpy()


def _race(index_K: NDArray[np.intp], map_Khw: NDArray[np.float32], may_win_Khw: NDArray[np.bool_],
          winner_HW: NDArray[np.uint16], best_HW: NDArray[np.float32]) -> None:
    """Lets some classes run against the best so far, in place; ascending from call to call."""
    height, width = winner_HW.shape
    left_W, right_W, toward_W = taps(map_Khw.shape[2], width)
    up_H, _, toward_H = taps(map_Khw.shape[1], height)
    wide_KhW = map_Khw.take(left_W, axis=2)
    wide_KhW += (map_Khw.take(right_W, axis=2) - wide_KhW) * toward_W
    step_KhW = wide_KhW[:, np.minimum(np.arange(1, map_Khw.shape[1] + 1), map_Khw.shape[1] - 1)] - wide_KhW
    tops, bottoms = _extent(np.asarray(may_win_Khw.any(axis=2)), up_H)
    lefts, rights = _extent(np.asarray(may_win_Khw.any(axis=1)), left_W)
    for index, wide_hW, step_hW, top, bottom, left, right in zip(
            index_K, wide_KhW, step_KhW, tops, bottoms, lefts, rights, strict=True):
        if left == right:
            continue
        wide_hV, step_hV = wide_hW[:, left:right], step_hW[:, left:right]
        rows = max(1, BAND_PIXELS // (right - left))
        for start in range(top, bottom, rows):
            band = slice(start, min(start + rows, bottom))
            map_RV = step_hV[up_H[band]]
            map_RV *= toward_H[band, None]
            map_RV += wide_hV[up_H[band]]
            best_RV = best_HW[band, left:right]
            np.copyto(winner_HW[band, left:right], index, where=map_RV > best_RV, casting="unsafe")
            np.maximum(best_RV, map_RV, out=best_RV)


def _may_win(probabilities_Chw: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Per class and block: can it be the largest anywhere in the block?

    The mean of several classes is nowhere above the largest of them, and between four cells all maps are bilinear. So
    a class that is below the mean of the four cells' winners in each of the four loses everywhere between them.
    """
    classes, height, width = probabilities_Chw.shape
    cells_hw = np.arange(height * width).reshape(height, width)
    padded_hw = np.pad(cells_hw, ((0, 1), (0, 1)), mode="edge")
    corners = [(y, x) for y in (0, 1) for x in (0, 1)]
    cells_4hw = np.stack([padded_hw[y:y + height, x:x + width] for y, x in corners])
    flat_CP = probabilities_Chw.reshape(classes, -1)
    winners_4hw = flat_CP.argmax(axis=0)[cells_4hw]
    rivals_4hw = flat_CP.ravel().take(winners_4hw[:, None] * (height * width) + cells_4hw).mean(axis=0) - ROUNDING
    may_win_Chw = np.zeros(probabilities_Chw.shape, np.bool_)
    for (y, x), rival_hw in zip(corners, rivals_4hw, strict=True):  # blocks at the border have fewer corners
        may_win_Chw[:, :height - y, :width - x] |= probabilities_Chw[:, y:, x:] >= rival_hw[:height - y, :width - x]
    return may_win_Chw


def _extent(used_Kh: NDArray[np.bool_], first_H: NDArray[np.intp]) -> tuple[list[int], list[int]]:
    """Per class the range of pixels from its first used cell to its last."""
    first_K = used_Kh.argmax(axis=1)
    last_K = used_Kh.shape[1] - 1 - used_Kh[:, ::-1].argmax(axis=1)
    return (np.searchsorted(first_H, first_K).tolist(), np.searchsorted(first_H, last_K, side="right").tolist())


def taps(cells: int, pixels: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Per pixel the two cells that it lies between and how far it is toward the second."""
    place = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
    first = place.astype(np.intp)
    return first, np.minimum(first + 1, cells - 1), (place - first).astype(np.float32)
