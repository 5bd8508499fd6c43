"""Changes of drawing style for training: the same thing as another illustrator might draw it.

All functions take and return a (w, w, 4) uint8 sprite with premultiplied alpha.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Sprite = NDArray[np.uint8]
LUMA = np.array((0.299, 0.587, 0.114), np.float32)


def restyle(sprite_ww4: Sprite, rng: Generator) -> Sprite:
    """A random mix of recolouring, flattening, blurring, shading and outlining."""
    rgb_ww3, alpha_ww1 = sprite_ww4[..., :3].astype(np.float32), sprite_ww4[..., 3:].astype(np.float32)
    if rng.random() < 0.8:
        rgb_ww3 = _recolour(rgb_ww3, alpha_ww1, rng)
    if rng.random() < 0.25:
        rgb_ww3 = _flatten(rgb_ww3, alpha_ww1, int(rng.integers(2, 6)))
    if rng.random() < 0.3:
        rgb_ww3 = _shade(rgb_ww3, rng)
    out = np.concatenate([np.clip(rgb_ww3, 0, alpha_ww1), alpha_ww1], axis=-1)
    if rng.random() < 0.2:
        out = _blur(out)
    if rng.random() < 0.35:
        out = _outline(out, rng)
    return out.astype(np.uint8)


def _recolour(rgb_ww3: NDArray[np.float32], alpha_ww1: NDArray[np.float32], rng: Generator) -> NDArray[np.float32]:
    """Turns hues, changes saturation, contrast and brightness."""
    angle = rng.normal(0, 0.25)
    cos, sin, third = np.cos(angle), np.sin(angle), 1 / 3
    root = np.sqrt(third)
    plus, minus = third * (1 - cos) + root * sin, third * (1 - cos) - root * sin
    same = cos + (1 - cos) * third
    turn_33 = np.array([[same, minus, plus], [plus, same, minus], [minus, plus, same]], np.float32)
    saturation = rng.uniform(0.0, 0.4) if rng.random() < 0.08 else rng.uniform(0.6, 1.4)
    grey_33 = np.repeat(LUMA[None], 3, 0)
    contrast, lift = rng.uniform(0.75, 1.25), rng.uniform(-0.12, 0.12)
    matrix_33 = contrast * (saturation * turn_33 + (1 - saturation) * grey_33)
    return rgb_ww3 @ matrix_33.T.astype(np.float32) + alpha_ww1 * float(0.5 * (1 - contrast) + lift)


def _flatten(rgb_ww3: NDArray[np.float32], alpha_ww1: NDArray[np.float32], levels: int) -> NDArray[np.float32]:
    """Few tones per channel, as in flat styles."""
    share = rgb_ww3 / np.maximum(alpha_ww1, 1)
    return (np.round(share * levels) / levels * alpha_ww1).astype(np.float32)


def _shade(rgb_ww3: NDArray[np.float32], rng: Generator) -> NDArray[np.float32]:
    """A soft light from one side, as in three-dimensional styles."""
    side = rgb_ww3.shape[0]
    y_ww, x_ww = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.35)
    light_ww = 1 + strength * (np.cos(angle) * x_ww + np.sin(angle) * y_ww)
    return rgb_ww3 * light_ww[..., None].astype(np.float32)


def _blur(sprite_ww4: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of 3 x 3 pixels."""
    padded = np.pad(sprite_ww4, ((1, 1), (1, 1), (0, 0)))
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9


def _outline(sprite_ww4: NDArray[np.float32], rng: Generator) -> NDArray[np.float32]:
    """A dark or light line around the drawing, one or two pixels wide."""
    alpha_ww = sprite_ww4[..., 3]
    wide = alpha_ww
    for _ in range(int(rng.integers(1, 3))):
        padded = np.pad(wide, 1)
        wide = np.maximum.reduce([padded[1:-1, 1:-1], padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2],
                                  padded[1:-1, 2:]])
    tone = 255.0 if rng.random() < 0.3 else rng.uniform(0, 60)
    line_ww1 = (wide * (1 - alpha_ww / 255))[..., None]
    out = sprite_ww4.copy()
    out[..., :3] += line_ww1 * (tone / 255)
    out[..., 3:] += line_ww1
    return np.clip(out, 0, 255)
