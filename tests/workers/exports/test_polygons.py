"""A mask becomes one polygon and the polygon the mask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask
from scipy import ndimage

from tests.workers.exports import examples
from tests.workers.exports.readers import even_odd
from workers.exports.polygons import mask_to_polygon


def parts(mask_hw):
    numbered, count = ndimage.label(mask_hw, structure=np.ones((3, 3)))
    for part, (y, x) in enumerate(ndimage.find_objects(numbered), start=1):
        yield numbered[y, x] == part
    assert count or not mask_hw.any()


def area(polygon):
    """By the surveyor's formula; positive for clockwise as seen, y downward."""
    x, y = np.array(polygon).T
    return (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2


def check(mask_hw):
    polygon = mask_to_polygon(mask_hw)
    assert area(polygon) == mask_hw.sum()
    assert np.array_equal(even_odd(np.array(polygon), *mask_hw.shape), mask_hw)
    return polygon


def test_one_pixel_is_a_square():
    assert mask_to_polygon(np.ones((1, 1), bool)) == [(0, 0), (1, 0), (1, 1), (0, 1)]


def test_a_rectangle_has_four_corners():
    assert mask_to_polygon(np.ones((3, 5), bool)) == [(0, 0), (5, 0), (5, 3), (0, 3)]


def test_pixels_that_touch_at_a_corner_have_one_outline():
    check(np.eye(4, dtype=bool))
    check(np.eye(4, dtype=bool)[::-1])


def test_a_hole_is_joined_by_a_bridge_inside_the_mask():
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert check(ring) == [(0, 0), (3, 0), (3, 3), (0, 3), (0, 1), (1, 1), (1, 2), (2, 2), (2, 1), (0, 1)]


@pytest.mark.parametrize("density", [0.5, 0.6, 0.8, 0.95])
def test_noise_comes_back(density):
    for mask_hw in parts(np.random.default_rng(3).random((24, 30)) < density):
        check(mask_hw)


@settings(max_examples=40)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_every_part_of_any_mask_comes_back(mask_HW):
    for mask_hw in parts(mask_HW):
        check(mask_hw)


def test_pycocotools_fills_the_polygons_alike():
    for mask_HW in (examples.blobs(40, 50, 2, 5) == 1, examples.DONUT == 1):
        for mask_hw in parts(mask_HW):
            flat = [float(value) for point in mask_to_polygon(mask_hw) for value in point]
            codes = coco_mask.frPyObjects([flat], *mask_hw.shape)
            assert np.array_equal(coco_mask.decode(codes)[:, :, 0], mask_hw)
