"""Masks, overlays and confidence maps as files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from vision.types import LabelMap
from workers.drawing import blend, draw_overlay, encode_confidence, encode_mask, encode_overlay, ignore_id, palette

COLOURS = {1: (255, 0, 0), 2: (0, 255, 0), 254: (1, 2, 3)}


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (33, 5), (64, 64)])
def test_masks_up_to_254_are_indexed(size):
    labels_HW = np.random.default_rng(0).choice([0, 1, 2, 254], size).astype(np.uint16)
    image = opened(encode_mask(labels_HW, COLOURS))
    assert image.mode == "P" and image.format == "PNG"
    assert np.array_equal(np.asarray(image), labels_HW)
    assert bytes(image.getpalette())[:9] == bytes([0, 0, 0, 255, 0, 0, 0, 255, 0])


def test_masks_beyond_are_16_bit_even_where_small_ids_are_found():
    labels_HW = np.array([[0, 1], [2, 300]], np.uint16)
    for values_HW in (labels_HW, labels_HW % 3):
        image = opened(encode_mask(values_HW, COLOURS | {300: (9, 9, 9)}))
        assert image.mode == "I;16"
        assert np.array_equal(np.asarray(image), values_HW)


def test_ids_65534_survive():
    labels_HW = np.array([[65534, 0]], np.uint16)
    assert np.array_equal(np.asarray(opened(encode_mask(labels_HW, {65534: (1, 1, 1)}))), labels_HW)


def test_non_contiguous_labels():
    labels_HW = np.arange(20, dtype=np.uint16).reshape(4, 5).T % 3
    assert np.array_equal(np.asarray(opened(encode_mask(labels_HW, COLOURS))), labels_HW)


def test_the_ignore_value_is_never_a_class():
    assert ignore_id([1, 2, 254]) == 255 and ignore_id([]) == 255
    assert ignore_id([1, 256]) == 65535
    assert tuple(palette(COLOURS)[255 * 3:]) == (224, 224, 192)


def test_confidence():
    image = opened(encode_confidence(np.array([[0, 0.5, 1]], np.float16)))
    assert image.mode == "L" and np.asarray(image).tolist() == [[0, 128, 255]]


def test_blend_paints_only_what_was_found():
    image_HW3 = np.full((9, 9, 3), 100, np.uint8)
    labels_HW = np.zeros((9, 9), np.uint16)
    labels_HW[:, 5:] = 1
    mixed_HW3 = blend(image_HW3, labels_HW, COLOURS)
    assert (mixed_HW3[:, :5] == 100).all()
    assert (mixed_HW3[:, 5] == 255).all()
    assert mixed_HW3[4, 8].tolist() == [185, 45, 45]
    assert (image_HW3 == 100).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (5000, 20), (128, 128)])
def test_overlays_have_a_readable_size_and_a_legend(size):
    labels_HW = np.ones(size, np.uint16)
    label_map = LabelMap(labels_HW=labels_HW, scores={1: 1.0})
    overlay = draw_overlay(np.zeros((*size, 3), np.uint8), label_map, COLOURS, {1: "a very " + "long " * 30 + "name"})
    assert 256 <= overlay.width <= 2048
    assert overlay.height <= 2048 + 60
    legend = np.asarray(overlay)[-28:]
    assert (legend == 255).all(-1).any() and (legend.astype(int).sum(-1) < 300).any()
    assert (legend == (255, 0, 0)).all(-1).any()
    assert opened(encode_overlay(overlay)).size == overlay.size


def test_the_legend_grows_with_the_classes():
    labels_HW = np.arange(40, dtype=np.uint16).reshape(4, 10).repeat(30, 0).repeat(30, 1)
    label_map = LabelMap(labels_HW=labels_HW, scores={})
    names = {i: f"class {i}" for i in range(40)}
    overlay = draw_overlay(np.zeros((*labels_HW.shape, 3), np.uint8), label_map, {}, names)
    assert overlay.height > 120 + 8 * 22


def test_hostile_names_do_not_break_a_legend():
    label_map = LabelMap(labels_HW=np.ones((9, 9), np.uint16), scores={})
    for name in ("\n\n\n", "<b>", "犬", "‮god", "\0", ""):
        draw_overlay(np.zeros((9, 9, 3), np.uint8), label_map, COLOURS, {1: name})
