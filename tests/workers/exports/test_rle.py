"""The three run-length codes of one mask: each gives the mask back, and none passes for another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from tests.workers.exports.readers import unpack_bits
from workers.exports.rle import mask_to_cvat_rle, mask_to_label_studio_rle


def unpack_cvat(runs, height, width):
    return np.repeat(np.arange(len(runs)) % 2, runs).astype(bool).reshape(height, width)


def test_cvat_runs_begin_with_zeros_and_go_along_rows():
    assert mask_to_cvat_rle(np.array([[0, 1, 1], [1, 0, 0]], bool)) == [1, 3, 2]
    assert mask_to_cvat_rle(np.ones((2, 2), bool)) == [0, 4]


def test_label_studio_bits_of_one_pixel():
    """4 values of 8 bits; sizes 3, 4, 8, 16; a run (1) with the first size (00) of 4, less 1 (011), of 255."""
    bits = f"{4:032b}" "00111" "0010" "0011" "0111" "1111" "1" "00" "011" "11111111"
    bits += "0" * (-len(bits) % 8)
    assert mask_to_label_studio_rle(np.ones((1, 1), bool)) == int(bits, 2).to_bytes(len(bits) // 8)


@pytest.mark.parametrize("pixels", [2, 3, 4, 5, 64, 65, 16384, 16385, 40000])
def test_label_studio_runs_of_every_size(pixels):
    mask = np.zeros((1, pixels + 2), bool)
    mask[0, 1:-1] = True
    values = unpack_bits(list(mask_to_label_studio_rle(mask)))
    assert (np.array(values).reshape(-1, 4) == np.repeat([[0, *[255] * pixels, 0]], 4, 0).T).all()


@settings(max_examples=40)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 8))))
def test_all_three_codes_give_the_mask_back(mask):
    coco = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert np.array_equal(coco_mask.decode(coco), mask)
    runs, (height, width) = mask_to_cvat_rle(mask), mask.shape
    assert np.array_equal(unpack_cvat(runs, height, width), mask)
    turned = coco_mask.frPyObjects({"counts": runs, "size": [width, height]}, width, height)  # rows become columns
    assert np.array_equal(coco_mask.decode(turned).T, mask)
    values = unpack_bits(list(mask_to_label_studio_rle(mask)))
    assert np.array_equal(np.array(values).reshape(*mask.shape, 4)[:, :, 3] > 0, mask)


def test_arrays_that_are_not_contiguous():
    mask = np.random.default_rng(0).random((12, 20)) < 0.5
    view = mask[::-2, 1::3]
    assert mask_to_cvat_rle(view) == mask_to_cvat_rle(view.copy())
    assert mask_to_label_studio_rle(view) == mask_to_label_studio_rle(view.copy())


def test_codes_tell_themselves_apart():
    """The sum of CVAT's runs is the box, of Label Studio's values four times the picture: a mix-up has a wrong size."""
    mask = np.zeros((6, 8), bool)
    mask[2:4, 3:7] = True
    assert sum(mask_to_cvat_rle(mask[2:4, 3:7])) == 8 and sum(mask_to_cvat_rle(mask)) == 48
    assert len(unpack_bits(list(mask_to_label_studio_rle(mask)))) == 4 * 48
    counts = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    with pytest.raises((AssertionError, ValueError)):  # it runs out of bits
        unpack_bits(list(counts) * 20)
