"""Enlarging along the edges of the picture."""

import sys

import numpy as np
import pytest
from PIL import Image

from vision.refine.enlarge import enlarge
from vision.refine.upsample import LEAST, follow_edges


def example(size, cells, classes=4, seed=0):
    """A picture, the same made smaller, and probabilities for the smaller one."""
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (*size, 3), dtype=np.uint8)
    small = np.asarray(Image.fromarray(image).resize(cells[::-1], Image.Resampling.BOX))
    maps = random.dirichlet(np.ones(classes), cells).transpose(2, 0, 1).astype(np.float32)
    return image, small, maps


def by_loops(image, small, maps, srgb):
    """The definition, pixel by pixel."""
    classes, height, width = maps.shape
    rows, columns = image.shape[:2]
    winner, best = enlarge(maps, rows, columns)
    for y in range(rows):
        for x in range(columns):
            v = np.clip((y + 0.5) * height / rows - 0.5, 0, height - 1)
            u = np.clip((x + 0.5) * width / columns - 0.5, 0, width - 1)
            cells = [(min(int(v) + i, height - 1), min(int(u) + j, width - 1)) for i in (0, 1) for j in (0, 1)]
            place = [(1 - (v - int(v)), v - int(v))[i] * (1 - (u - int(u)), u - int(u))[j]
                     for i in (0, 1) for j in (0, 1)]
            if len({int(maps[:, a, b].argmax()) for a, b in cells}) == 1:
                continue
            total, sums = 0.0, np.zeros(classes)
            for (a, b), weight in zip(cells, place, strict=True):
                away = small[a, b].astype(float) - image[y, x]
                weight *= np.exp(-(away @ away) / (2 * srgb**2)) + LEAST
                total, sums = total + weight, sums + weight * maps[:, a, b]
            winner[y, x], best[y, x] = sums.argmax(), sums.max() / total
    return winner, best


@pytest.mark.parametrize(("size", "cells"), [((12, 15), (4, 5)), ((9, 7), (4, 3)), ((5, 30), (1, 6)), ((6, 6), (3, 2)),
                                              ((5, 4), (5, 4))],
                         ids=str)
@pytest.mark.parametrize("srgb", [13.0, 200.0])
def test_it_is_its_definition(size, cells, srgb):
    image, small, maps = example(size, cells)
    winner, best = follow_edges(image, small, maps, srgb=srgb)
    expected_winner, expected_best = by_loops(image, small, maps, srgb)
    assert np.abs(best - expected_best).max() < 1e-5
    assert (winner == expected_winner).mean() > 0.99  # the rest are equals


def test_a_border_between_cells_goes_to_the_edge_of_the_picture():
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 13:] = 200
    small = np.asarray(Image.fromarray(image).resize((8, 8), Image.Resampling.BOX))
    maps = np.zeros((2, 8, 8), np.float32)
    maps[0, :, :3], maps[1, :, 3:] = 1, 1
    plain, _ = enlarge(maps, 32, 32)
    assert (plain != (np.arange(32) >= 13)).any()
    winner, best = follow_edges(image, small, maps, srgb=13.0)
    assert (winner == (np.arange(32) >= 13)).all() and best.min() > 0.5


def test_colour_without_meaning_is_the_plain_enlargement():
    image, small, maps = example((20, 24), (5, 6))
    plain_winner, plain_best = enlarge(maps, 20, 24)
    winner, best = follow_edges(image, small, maps, srgb=1e6)
    assert (winner == plain_winner).mean() > 0.99 and np.abs(best - plain_best).max() < 1e-4


def test_portions_do_not_show(monkeypatch):
    image, small, maps = example((40, 40), (10, 10))
    results = []
    for portion in (1_000_000, 7 * len(maps)):
        monkeypatch.setattr(sys.modules["vision.refine.upsample"], "VALUES", portion)
        results.append(follow_edges(image, small, maps, srgb=13.0))
    assert (results[0][0] == results[1][0]).all() and (results[0][1] == results[1][1]).all()
