"""Windows cover every image, and their maps fit together again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision.windows import Canvas, cut_windows, plan_windows


def covered(plan):
    count = np.zeros((plan.cells_h, plan.cells_w), int)
    for row, column in plan.offsets:
        assert 0 <= row <= plan.cells_h - plan.grid and 0 <= column <= plan.cells_w - plan.grid
        count[row:row + plan.grid, column:column + plan.grid] += 1
    return count


@pytest.mark.parametrize(("size", "tile", "cells", "windows"), [
    ((128, 128), None, (16, 16), 1),
    ((256, 256), None, (16, 16), 1),
    ((360, 480), None, (16, 21), 2),
    ((480, 360), None, (21, 16), 2),
    ((128, 256), None, (16, 32), 3),
    ((256, 256), 128, (32, 32), 9),
    ((256, 256), 512, (16, 16), 1),
    ((1, 1), None, (16, 16), 1),
    ((20000, 50), None, (1022, 16), 127),
    ((50, 20000), 512, (16, 1022), 127),
    ((1, 20000), None, (16, 1022), 127)], ids=str)
def test_plan(size, tile, cells, windows):
    plan = plan_windows(*size, 16, tile=tile)
    assert (plan.cells_h, plan.cells_w) == cells and len(plan.offsets) == windows
    assert covered(plan).min() >= 1


@given(height=st.integers(1, 5000), width=st.integers(1, 5000), grid=st.integers(1, 24),
       tile=st.none() | st.integers(200, 600), overlap=st.floats(0, 0.9))
def test_every_cell_is_covered_and_windows_differ(height, width, grid, tile, overlap):
    plan = plan_windows(height, width, grid, tile=tile, overlap=overlap)
    assert covered(plan).min() >= 1
    assert len(set(plan.offsets)) == len(plan.offsets)


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.8])
def test_stitching_a_constant_map_is_constant(overlap):
    plan = plan_windows(300, 700, 8, tile=120, overlap=overlap)
    canvas = Canvas(plan, 2)
    for window in range(len(plan.offsets)):
        canvas.add(window, np.stack([np.full((8, 8), 0.25, np.float32), np.full((8, 8), -3, np.float32)]))
    assert (canvas.mean()[0] == 0.25).all() and (canvas.mean()[1] == -3).all()
    assert canvas.mean().shape == (2, plan.cells_h, plan.cells_w)


@pytest.mark.parametrize("axis", [0, 1])
def test_stitching_puts_windows_where_they_were_cut(axis):
    """A ramp that is cut into windows and stitched again is the ramp."""
    size = (256, 128) if axis == 0 else (128, 256)
    ramp_HW = np.broadcast_to(np.expand_dims(np.arange(256, dtype=np.uint8), 1 - axis), size)
    image = np.ascontiguousarray(np.repeat(ramp_HW[..., None], 3, axis=2))
    plan = plan_windows(*size, 8)
    canvas = Canvas(plan, 1)
    for window, cut in enumerate(cut_windows(image, plan, 64, "bilinear")):
        assert cut.shape == (64, 64, 3) and cut.dtype == np.uint8
        canvas.add(window, cut[..., 0].reshape(8, 8, 8, 8).mean(axis=(1, 3), dtype=np.float32)[None])
    expected = ramp_HW.reshape(plan.cells_h, 16, plan.cells_w, 16).mean(axis=(1, 3))
    assert np.abs(canvas.mean()[0] - expected).max() < 1


def test_an_image_of_the_models_size_is_not_resampled():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    (window,) = cut_windows(image, plan_windows(32, 32, 4), 32)
    assert window is image


@pytest.mark.parametrize("size", [(1, 1), (20000, 50), (1, 3000), (33, 31)], ids=str)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_odd_sizes_can_be_cut(size, interpolation):
    image = np.full((*size, 3), 77, np.uint8)
    windows = list(cut_windows(image, plan_windows(*size, 4), 32, interpolation))
    assert all((window == 77).all() and window.shape == (32, 32, 3) for window in windows)


def test_windows_are_cut_one_by_one():
    cut = cut_windows(np.zeros((4000, 100, 3), np.uint8), plan_windows(4000, 100, 4), 32)
    assert next(cut) is not next(cut)
