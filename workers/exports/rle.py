"""Run lengths as CVAT and Label Studio write them. COCO's are pycocotools' own. The three are never exchanged:

    COCO           down the columns of the whole picture, from a run of zeros, packed into a text
    CVAT           along the rows of the box, from a run of zeros, as numbers
    Label Studio   along the rows of the whole picture, four bytes for each pixel, packed into bits

Shapes: H, W height and width of the picture in pixels; h, w height and width of a box in it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WORD_BITS = 8
_SIZES = (3, 4, 8, 16)
"""Bits in which a run length can be given; the ones that Label Studio itself uses."""
_LONGEST = 1 << _SIZES[-1]
_CHANNELS = 4
"""Label Studio's masks are RGBA pictures, all four channels 0 or 255."""


def mask_to_cvat_rle(mask_hw: NDArray[np.bool_]) -> list[int]:
    """Lengths of alternating runs along the rows; the first is of zeros and may be 0. They sum to h * w."""
    lengths, values = _runs(mask_hw)
    return [0, *lengths] if values[0] else lengths


def mask_to_label_studio_rle(mask_HW: NDArray[np.bool_]) -> bytes:
    """The bits of a run-length code over H * W * 4 values of 0 or 255 (the format of the rle-pack library, in which
    Label Studio keeps brush masks).

    32 bits: number of values; 5: bits of a value less 1; 4 times 4: the sizes of length fields less 1. Then for each
    run, 1 bit: 1 (one value repeated); 2: which size; the length less 1 in that size; the value. Zeros to the next
    byte.
    """
    header = [(mask_HW.size * _CHANNELS, 32), (_WORD_BITS - 1, 5), *((size - 1, 4) for size in _SIZES)]
    pieces = [f"{value:0{bits}b}" for value, bits in header]
    for length, value in zip(*_runs(mask_HW), strict=True):
        word, left = "11111111" if value else "00000000", length * _CHANNELS
        while left:
            taken = min(left, _LONGEST)
            index = next(index for index, size in enumerate(_SIZES) if taken <= 1 << size)
            pieces.append(f"1{index:02b}{taken - 1:0{_SIZES[index]}b}{word}")
            left -= taken
    text = "".join(pieces)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def _runs(mask_hw: NDArray[np.bool_]) -> tuple[list[int], list[bool]]:
    """Lengths and values of the runs along the rows."""
    flat = mask_hw.ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    return np.diff(starts, append=flat.size).tolist(), flat[starts].tolist()
