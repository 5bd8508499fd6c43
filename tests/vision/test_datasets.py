"""Dataset folders as people have them, and as they should not be."""

import json

import numpy as np
import pytest
from PIL import Image

from parsers.errors import Code, DatasetError
from vision.datasets import open_dataset
from vision.datasets.base import groups_of, superclasses_of
from vision.datasets.camvid import camel_to_words
from vision.datasets.superclasses import SuperclassView


def save_picture(path, size=(4, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 10, 10)).save(path)


def save_labels(path, labels_HW, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(labels_HW))
    if mode == "P":
        image.putpalette([7, 7, 7] * 256)
    image.save(path)


def save_classes(path, **classes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(classes), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """Three pictures in two folders; 8-bit grey, indexed and 16-bit masks."""
    save_classes(tmp_path / "classes.json", **{"0": "background", "1": "dog", "300": "cat", "ignore_id": 255})
    save_picture(tmp_path / "images" / "a.jpg")
    save_labels(tmp_path / "labels" / "a.png", np.full((3, 4), 1, np.uint8))
    save_picture(tmp_path / "images" / "deep" / "er" / "b.png")
    save_labels(tmp_path / "labels" / "deep" / "er" / "b.png", np.full((3, 4), 255, np.uint8), mode="P")
    save_picture(tmp_path / "images" / "c.webp")
    save_labels(tmp_path / "labels" / "c.png", np.full((3, 4), 300, np.uint16))
    return tmp_path


def test_a_folder_is_read(folder):
    dataset = open_dataset(f"folder:{folder}")
    assert dataset.classes == {0: "background", 1: "dog", 300: "cat"}
    assert dataset.ignore_id == 255
    assert [dataset.key(i) for i in range(len(dataset))] == ["a", "c", "deep/er/b"]
    image_HW3, labels_HW = dataset.load(1)
    assert (image_HW3.shape, image_HW3.dtype, labels_HW.dtype) == ((3, 4, 3), np.uint8, np.uint16)
    assert (labels_HW == 300).all()
    assert (dataset.load(2)[1] == 255).all(), "the index counts, not the palette's colour"
    assert (groups_of(dataset), superclasses_of(dataset)) == ({}, {})


@pytest.mark.parametrize("classes", [{"0": "a"}, {"0": "a", "ignore_id": None}])
def test_ignore_id_may_be_null_or_missing(tmp_path, classes):
    save_classes(tmp_path / "classes.json", **classes)
    save_picture(tmp_path / "images" / "a.png")
    save_labels(tmp_path / "labels" / "a.png", np.zeros((3, 4), np.uint8))
    assert open_dataset(f"folder:{tmp_path}").ignore_id is None


def test_pictures_without_a_mask_are_left_out(folder):
    save_picture(folder / "images" / "unlabelled.jpg")
    assert len(open_dataset(f"folder:{folder}")) == 3


def drop_classes(folder):
    (folder / "classes.json").unlink()


def break_classes(folder):
    (folder / "classes.json").write_text("{")


def listed_classes(folder):
    (folder / "classes.json").write_text('["a", "b"]')


def no_names(folder):
    save_classes(folder / "classes.json", ignore_id=255)


def bad_ignore_id(folder):
    save_classes(folder / "classes.json", **{"0": "a", "ignore_id": [1, 2]})


def number_as_name(folder):
    save_classes(folder / "classes.json", **{"0": 3})


def id_too_large(folder):
    save_classes(folder / "classes.json", **{"70000": "a"})


def drop_images(folder):
    (folder / "images").rename(folder / "pictures")


def drop_a_picture(folder):
    (folder / "images" / "a.jpg").unlink()


def two_pictures_of_one_name(folder):
    save_picture(folder / "images" / "a.png")


def drop_masks(folder):
    for path in (folder / "labels").rglob("*.png"):
        path.unlink()


@pytest.mark.parametrize(("harm", "said"), [
    (drop_classes, "classes.json"), (break_classes, "not JSON"), (listed_classes, "list"), (no_names, "no class"),
    (bad_ignore_id, "ignore_id"), (number_as_name, "'0' is 3"), (id_too_large, "70000"), (drop_images, "images"),
    (drop_a_picture, "a.png has no picture"), (two_pictures_of_one_name, "same name"), (drop_masks, "no masks"),
], ids=lambda value: getattr(value, "__name__", None))
def test_a_bad_folder_is_refused_when_it_is_opened(folder, harm, said):
    harm(folder)
    with pytest.raises(DatasetError, match=said) as caught:
        open_dataset(f"folder:{folder}")
    assert caught.value.code == Code.DATASET_INVALID
    assert str(folder) in caught.value.given
    assert caught.value.next_step


def other_size(path):
    save_labels(path, np.ones((4, 3), np.uint8))


def unnamed_id(path):
    save_labels(path, np.full((3, 4), 9, np.uint8))


def colours(path):
    Image.new("RGB", (4, 3)).save(path)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:40])


def text(path):
    path.write_text("not a picture")


@pytest.mark.parametrize(("harm", "said"), [
    (other_size, "3x4.*4x3"), (unnamed_id, r"ids \[9\]"), (colours, "mode RGB"), (cut_short, "not a readable mask"),
    (text, "not a readable mask"),
], ids=lambda value: getattr(value, "__name__", None))
def test_a_bad_mask_is_refused_when_it_is_loaded(folder, harm, said):
    harm(folder / "labels" / "a.png")
    dataset = open_dataset(f"folder:{folder}")
    with pytest.raises(DatasetError, match=said) as caught:
        dataset.load(0)
    assert str(folder / "labels" / "a.png") in caught.value.given
    assert caught.value.next_step


@pytest.fixture
def job(tmp_path):
    """What a job leaves behind, over a folder, a single file and a pattern."""
    save_picture(tmp_path / "photos" / "a.jpg")
    save_picture(tmp_path / "photos" / "deep" / "a.jpg")
    save_picture(tmp_path / "single.png")
    save_picture(tmp_path / "more" / "x" / "b1.png")
    out = tmp_path / "out"
    for key in ("a.jpg", "deep/a.jpg", "single.png", "x/b1.png"):
        save_labels(out / "masks" / f"{key}.png", np.full((3, 4), 2, np.uint8), mode="P")
    save_classes(out / "classes.json", **{"0": "background", "2": "dog", "ignore_id": 255})
    inputs = [str(tmp_path / "photos"), str(tmp_path / "single.png"), str(tmp_path / "more" / "*" / "b?.png")]
    (out / "job.json").write_text(json.dumps({"format_version": 1, "spec": {"inputs": inputs}}))
    return out


def test_a_jobs_folder_is_a_dataset(job):
    dataset = open_dataset(f"folder:{job}")
    assert [dataset.key(i) for i in range(len(dataset))] == ["a.jpg", "deep/a.jpg", "single.png", "x/b1.png"]
    assert all((dataset.load(i)[1] == 2).all() for i in range(4))


def test_a_job_whose_pictures_are_gone_is_refused(job):
    (job.parent / "photos" / "a.jpg").unlink()
    with pytest.raises(DatasetError, match=r"a\.jpg"):
        open_dataset(f"folder:{job}")


@pytest.mark.parametrize("content", [None, "[]", "{}", '{"spec": {"inputs": []}}'])
def test_a_job_that_does_not_say_its_inputs_is_refused(job, content):
    if content is None:
        (job / "job.json").unlink()
    else:
        (job / "job.json").write_text(content)
    with pytest.raises(DatasetError, match=r"job\.json"):
        open_dataset(f"folder:{job}")


@pytest.fixture
def camvid_root(tmp_path):
    save_classes(tmp_path / "classes.json", **{"0": "Sky", "1": "SignSymbol", "2": "Column_Pole", "ignore_id": 11})
    for split in ("train", "val"):
        save_picture(tmp_path / split / "images" / f"{split}.jpg")
        save_labels(tmp_path / split / "labels" / f"{split}.png", np.full((3, 4), 11, np.uint8))
    return tmp_path


@pytest.mark.parametrize(("suffix", "key"), [("", "val"), (",split=val", "val"), (",split=train", "train")])
def test_camvid_has_splits_and_plain_names(camvid_root, suffix, key):
    dataset = open_dataset(f"camvid:{camvid_root}{suffix}")
    assert dataset.key(0) == key
    assert dataset.classes == {0: "sky", 1: "sign symbol", 2: "column pole"}
    assert dataset.load(0)[1].shape == (3, 4)


def test_camvid_without_such_a_split_names_those_there_are(camvid_root):
    with pytest.raises(DatasetError, match="train, val"):
        open_dataset(f"camvid:{camvid_root},split=test")
    with pytest.raises(DatasetError, match="none found"):
        open_dataset(f"camvid:{camvid_root / 'train'}")


@pytest.mark.parametrize(("name", "words"), [("SignSymbol", "sign symbol"), ("TV", "tv"),
                                             ("Road_marking", "road marking")])
def test_camel_to_words(name, words):
    assert camel_to_words(name) == words


@pytest.mark.parametrize("spec", ["", "voc", "folder:", "pictogram"])
def test_an_unknown_dataset_is_answered_with_the_known_ones(spec):
    with pytest.raises(DatasetError, match="folder:PATH"):
        open_dataset(spec)


def test_a_bare_path_is_answered_with_how_to_write_it(tmp_path):
    with pytest.raises(DatasetError, match=f"folder:{tmp_path}"):
        open_dataset(str(tmp_path))


def test_pictograms_take_options_by_name():
    dataset = open_dataset("pictograms:count=3,seed=5")
    assert len(dataset) == 3
    image_HW3, labels_HW = dataset.load(2)
    assert image_HW3.shape == (*labels_HW.shape, 3)
    assert len(open_dataset("pictograms:count=3", count=2)) == 2


@pytest.mark.parametrize("options", ["colour=red", "count", "count=3,count=4"])
def test_pictograms_refuse_options_that_they_have_not(options):
    with pytest.raises(DatasetError, match=r"count=\.\.\."):
        open_dataset(f"pictograms:{options}")


def test_a_superclass_view_renames_classes(folder):
    dataset = open_dataset(f"folder:{folder}")
    view = SuperclassView(dataset, {"DOG": "animal", "cat": "animal", "car": "vehicle"})
    assert view.classes == {0: "background", 1: "animal", 300: "animal"}
    assert groups_of(view) == {"super-classes": {"animal"}, "other names": {"background"}}
    assert (len(view), view.key(1), view.ignore_id) == (3, "c", 255)
    assert (view.load(1)[1] == 300).all()


def test_a_superclass_view_of_nothing_is_refused(folder):
    with pytest.raises(DatasetError, match="super-class"):
        SuperclassView(open_dataset(f"folder:{folder}"), {"lorry": "vehicle"})
