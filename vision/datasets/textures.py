"""The eight backgrounds of pictogram scenes, drawn from random numbers.

Every texture is a function (rng, side) -> (side, side, 3) float32 in [0, 255]; tones, scales and directions vary
widely, so that a model learns what grass is rather than one drawing of it. A scene cuts its background out of a
bank of such drawings, and shifts its tones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.float32]
BANK_SIDE = 192
BANK_DRAWINGS = 16
"""Drawings per texture in the bank."""


def _noise(rng: Generator, side: int, cells: int | tuple[int, int]) -> Picture:
    """Smooth noise in [-1, 1], (side, side): random values on a grid of cells, enlarged bicubically."""
    rows, columns = (cells, cells) if isinstance(cells, int) else cells
    grid = rng.uniform(-1, 1, (max(rows, 2), max(columns, 2))).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC))


def _tint(level_HW: Picture, low: tuple[int, int, int], high: tuple[int, int, int]) -> Picture:
    """Colours between `low` (level -1) and `high` (level 1)."""
    weight_HW1 = np.clip((level_HW + 1) / 2, 0, 1)[..., None]
    return (np.array(low) * (1 - weight_HW1) + np.array(high) * weight_HW1).astype(np.float32)


def _axes(side: int) -> tuple[Picture, Picture]:
    y_HW, x_HW = np.mgrid[0:side, 0:side].astype(np.float32)
    return y_HW, x_HW


def _grass(rng: Generator, side: int) -> Picture:
    blades = _noise(rng, side, (side // int(rng.integers(5, 12)), side // int(rng.integers(2, 4))))
    patches = _noise(rng, side, int(rng.integers(3, 8)))
    return _tint(0.75 * blades * rng.uniform(0.4, 1.2) + 0.4 * patches, (30, 95, 25), (135, 205, 80))


def _sand(rng: Generator, side: int) -> Picture:
    y, x = _axes(side)
    ripple = np.sin((y + rng.uniform(-0.4, 0.4) * x + 9 * _noise(rng, side, 4)) * rng.uniform(0.15, 0.5))
    grain = rng.normal(0, 0.35, (side, side)).astype(np.float32)
    level_HW = (rng.uniform(0, 0.5) * ripple + grain * rng.uniform(0.3, 1)).astype(np.float32)
    return _tint(level_HW, (190, 150, 95), (245, 222, 170))


def _water(rng: Generator, side: int) -> Picture:
    y, x = _axes(side)
    bend = _noise(rng, side, (int(rng.integers(6, 16)), int(rng.integers(3, 6))))
    waves = np.sin(y * rng.uniform(0.25, 0.7) + bend * rng.uniform(2, 4) + x * rng.uniform(-0.05, 0.05))
    return _tint((0.7 * waves + 0.3 * bend).astype(np.float32), (15, 75, 150), (80, 180, 225))


def _sky(rng: Generator, side: int) -> Picture:
    y, _ = _axes(side)
    clouds = _noise(rng, side, int(rng.integers(3, 6))) + 0.4 * _noise(rng, side, int(rng.integers(8, 14)))
    blue = _tint((2 * y / side - 1).astype(np.float32), (90, 165, 235), (185, 222, 250))
    cover = np.clip(clouds - rng.uniform(0.0, 0.9), 0, 1)[..., None] * rng.uniform(0.5, 1.2)
    return blue * (1 - np.minimum(cover, 1)) + 252 * np.minimum(cover, 1)


def _snow(rng: Generator, side: int) -> Picture:
    drifts = _noise(rng, side, (int(rng.integers(4, 9)), int(rng.integers(2, 5))))
    picture = _tint(drifts, (205, 218, 235), (253, 254, 255))
    flakes = rng.random((side, side)) < rng.uniform(0, 0.02)
    picture[flakes] = 255
    return picture


def _brick_wall(rng: Generator, side: int) -> Picture:
    y, x = _axes(side)
    height, joint = rng.uniform(9, 18), rng.uniform(1.2, 2.5)
    length = height * rng.uniform(1.8, 2.6)
    row = np.floor(y / height)
    shifted = x + (row % 2) * length / 2
    column = np.floor(shifted / length)
    tones = rng.uniform(-1, 1, (64, 64)).astype(np.float32)[row.astype(int) % 64, column.astype(int) % 64]
    low, high = [((120, 45, 30), (190, 90, 65)), ((140, 85, 60), (200, 140, 110)), ((95, 50, 45), (150, 85, 75))][
        int(rng.integers(3))]
    picture = _tint(0.7 * tones + 0.3 * rng.normal(0, 0.5, (side, side)).astype(np.float32), low, high)
    picture[(y % height < joint) | (shifted % length < joint)] = rng.uniform(165, 225)
    return picture


def _wooden_floor(rng: Generator, side: int) -> Picture:
    y, x = _axes(side)
    width = rng.uniform(14, 30)
    plank = np.floor(x / width).astype(int)
    tone = rng.uniform(-1, 1, 64).astype(np.float32)[plank % 64]
    grain = _noise(rng, side, (int(rng.integers(4, 8)), side // 3))
    low, high = [((110, 70, 35), (185, 130, 80)), ((150, 105, 60), (220, 175, 120)), ((80, 50, 30), (140, 95, 60))][
        int(rng.integers(3))]
    picture = _tint(0.55 * tone + 0.6 * grain, low, high)
    ends = rng.uniform(0, side, 64)[plank % 64]
    picture[(x % width < 1.3) | (np.abs(y - ends) < 0.8)] *= 0.5
    return picture if rng.random() < 0.5 else np.ascontiguousarray(picture.swapaxes(0, 1))


def _night_sky(rng: Generator, side: int) -> Picture:
    haze = _noise(rng, side, int(rng.integers(2, 5)))
    picture = _tint(haze, (6, 8, 28), (38, 42, 92))
    count = int(side * side * rng.uniform(0.001, 0.006))
    ys, xs = rng.integers(1, side - 1, (2, count))
    picture[ys, xs] = rng.uniform(150, 255, (count, 1))
    bright = rng.random(count) < 0.25
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        picture[ys[bright] + dy, xs[bright] + dx] = rng.uniform(110, 220)
    return picture


DRAW: dict[str, Callable[[Generator, int], Picture]] = {
    "grass": _grass, "sand": _sand, "water": _water, "sky": _sky, "snow": _snow,
    "brick wall": _brick_wall, "wooden floor": _wooden_floor, "night sky": _night_sky,
}


@cache
def _bank(name: str, bank: int) -> NDArray[np.uint8]:
    """(BANK_DRAWINGS, BANK_SIDE, BANK_SIDE, 3) uint8; the same for every process."""
    rng = np.random.default_rng([7, bank, list(DRAW).index(name)])
    return np.stack([np.clip(DRAW[name](rng, BANK_SIDE), 0, 255).astype(np.uint8) for _ in range(BANK_DRAWINGS)])


def background(name: str, side: int, rng: Generator, bank: int = 0) -> NDArray[np.uint8]:
    """A (side, side, 3) uint8 background: a cut out of the bank's drawings, mirrored and shifted in tone.

    side: at most BANK_SIDE pixels. bank: training, validation and demo scenes use banks of their own.
    """
    drawing = _bank(name, bank)[rng.integers(BANK_DRAWINGS)]
    y, x = rng.integers(0, BANK_SIDE - side + 1, 2)
    cut = drawing[y : y + side, x : x + side]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    gain, shift = rng.uniform(0.9, 1.1) * rng.uniform(0.95, 1.05, 3), rng.uniform(-10, 10)
    levels = np.arange(256, dtype=np.float32)[:, None] * gain + shift
    table_256x3 = np.clip(levels, 0, 255).astype(np.uint8)
    return np.stack([table_256x3[cut[..., channel], channel] for channel in range(3)], axis=-1)
