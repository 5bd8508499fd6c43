"""What goes into an export comes out of it again, read by readers that know nothing of lexiseg."""

import json

import numpy as np
import pytest
from scipy import ndimage

from parsers.vocabulary import Vocabulary
from tests.workers.exports import examples
from tests.workers.exports.readers import (
    read_coco,
    read_cvat,
    read_label_studio,
    read_panoptic,
    read_png,
    read_yolo,
)
from workers.exports import FORMATS, export_job

PARTS = ("coco", "panoptic", "yolo", "label-studio", "cvat")
PER_CLASS = tuple(name for name, kind in FORMATS.items() if kind.per_class)


def read(format, folder, masks):
    if format == "yolo":
        return read_yolo(folder, {name: np.shape(mask) for name, mask in masks.items()})
    return {"coco": read_coco, "panoptic": read_panoptic, "png": read_png, "label-studio": read_label_studio,
            "cvat": read_cvat}[format](folder)


def expected(mask, names, category_of=None, parts=True):
    """(name, mask_HW) by class id and part; or one per category."""
    labels = np.asarray(mask)
    found = []
    if parts:
        for class_id in sorted(set(names) & set(np.unique(labels).tolist())):
            if category_of is None or class_id in category_of:
                numbered, count = ndimage.label(labels == class_id, structure=np.ones((3, 3)))
                found += [(names[class_id], numbered == part) for part in range(1, count + 1)]
    else:
        merged = np.zeros_like(labels)
        for class_id, category in (category_of or {i: i for i in names}).items():
            merged[labels == class_id] = category
        found = [(names[i], merged == i) for i in sorted(set(np.unique(merged).tolist()) - {0})]
    return found


def same(read_back, wanted):
    assert sorted(read_back) == sorted(wanted)
    for name, found in read_back.items():
        assert [label for label, _ in found] == [label for label, _ in wanted[name]], name
        for (_, got), (_, want) in zip(found, wanted[name], strict=True):
            assert np.array_equal(got, want), name


@pytest.mark.parametrize("format", FORMATS)
def test_every_shape_comes_back(format, shapes_out, tmp_path):
    out, masks = shapes_out
    export_job(out, format, tmp_path / "to")
    names = {1: "dog", 2: "cat", 3: "tree"}
    same(read(format, tmp_path / "to", masks),
         {name: expected(mask, names, parts=format != "png") for name, mask in masks.items()})


@pytest.mark.parametrize("format", PER_CLASS)
def test_every_shape_comes_back_with_one_segment_per_class(format, shapes_out, tmp_path):
    out, masks = shapes_out
    export_job(out, format, tmp_path / "to", per_class=True)
    names = {1: "dog", 2: "cat", 3: "tree"}
    same(read(format, tmp_path / "to", masks),
         {name: expected(mask, names, parts=False) for name, mask in masks.items()})


@pytest.mark.parametrize("format", FORMATS)
def test_every_name_comes_back(format, make_out, tmp_path):
    masks = {name: np.full((2, 3), number % 3 + 1) for number, name in enumerate(examples.NAMES)}
    export_job(make_out(masks), format, tmp_path / "to")
    classes = {1: "dog", 2: "cat", 3: "tree"}
    wanted = {name: expected(mask, classes) for name, mask in masks.items()}
    if format == "cvat":  # XML has no place for this character
        wanted["new\nline\\x01.png"] = wanted.pop("new\nline\x01.png")
    same(read(format, tmp_path / "to", masks), wanted)


@pytest.mark.parametrize("format", FORMATS)
def test_300_classes(format, many_classes_out, many_classes, tmp_path):
    out, masks = many_classes_out
    export_job(out, format, tmp_path / "to")
    same(read(format, tmp_path / "to", masks),
         {name: expected(mask, many_classes.names) for name, mask in masks.items()})


@pytest.mark.parametrize("unmatched", ["keep", "drop"])
@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_classes_that_map_to_one_name_are_one_category(format, per_class, unmatched, make_out, tmp_path):
    if per_class and format not in PER_CLASS:
        return
    masks = {"a.png": examples.blobs(20, 30, 5, 2), "b.png": np.array([[1, 2, 4, 3, 7, 7, 0, 255]])}
    masks["a.png"][masks["a.png"] == 5] = 7
    export_job(make_out(masks, examples.TAXONOMY), format, tmp_path / "to", unmatched=unmatched, per_class=per_class)
    names = {1: "animal", 2: "animal", 3: "tree", 4: "animal", 7: "thing's"}
    category_of = examples.CATEGORY_OF[unmatched]
    same(read(format, tmp_path / "to", masks),
         {name: expected(mask, names, category_of, parts=format != "png" and not per_class)
          for name, mask in masks.items()})


def test_ignored_pixels_stay_ignored_in_masks_and_belong_to_nothing_elsewhere(make_out, many_classes_out, tmp_path):
    out = make_out({"a.png": np.array([[1, 255, 0]])})
    export_job(out, "png", tmp_path / "8 bit")
    export_job(many_classes_out[0], "png", tmp_path / "16 bit")
    for folder, name in (("8 bit", "a.png"), ("16 bit", "last.png")):
        assert read_png(tmp_path / folder, ignore=True)[name][-1][1].tolist() == [[False, True, False]]
    export_job(out, "panoptic", tmp_path / "panoptic")
    assert [mask.tolist() for _, mask in read_panoptic(tmp_path / "panoptic")["a.png"]] == [[[True, False, False]]]


def test_a_mapping_can_turn_16_bits_into_8(make_out, tmp_path):
    classes = [{"id": 1, "name": "a", "maps_to": "x"}, {"id": 300, "name": "b", "maps_to": "x"}]
    out = make_out({"a.png": np.array([[1, 300, 0, 65535]])}, Vocabulary.model_validate({"classes": classes}))
    export_job(out, "png", tmp_path / "to")
    assert json.loads((tmp_path / "to/classes.json").read_text()) == {"0": "background", "1": "x", "ignore_id": 255}
    found = dict(read_png(tmp_path / "to", ignore=True)["a.png"])
    assert found["x"].tolist() == [[True, True, False, False]]
    assert found["ignore"].tolist() == [[False, False, False, True]]


@pytest.mark.parametrize("format", FORMATS)
def test_a_picture_without_finds_is_there_and_a_failed_one_is_not(format, make_out, tmp_path):
    masks = {"a.png": np.ones((2, 2)), "b/empty.png": np.zeros((4, 3))}
    record = export_job(make_out(masks, failed=("b/broken.png", "z.png")), format, tmp_path / "to")
    assert (record.images, record.empty, record.left_out) == (2, 1, 2)
    found = read(format, tmp_path / "to", masks)
    assert sorted(found) == ["a.png", "b/empty.png"] and found["b/empty.png"] == []
    written = [path.read_bytes() for path in (tmp_path / "to").rglob("*") if path.is_file()]
    assert not any(b"broken" in data for data in written)
