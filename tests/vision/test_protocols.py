"""Published datasets in the folders in which sites find them, and with what goes wrong there."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from parsers.errors import Code, DatasetError, InputError
from tests.vision.layouts import (
    CONTEXT_IDS,
    CONTEXT_VALUES,
    ade_benchmark,
    ade_full,
    coco,
    context,
    mask_of,
    save_mask,
    voc,
)
from vision.datasets import PROTOCOLS, open_dataset
from vision.datasets.base import check_files, knowledge_of, warnings_of
from vision.datasets.protocol import IGNORE_ID, class_table, protocol_constants

SHARED = [parent / "shared" / "data" / "photos" for parent in Path(__file__).resolve().parents]
COUNTS = {"voc21": 21, "voc20": 20, "context60": 60, "context59": 59, "coco-object": 81, "coco-stuff171": 171,
          "ade150": 150, "ade847": 847}
I = IGNORE_ID  # noqa: E741


def columns(dataset, i=0):
    """The ids of the first row, each once, in order."""
    row = dataset.load(i)[1][0].tolist()
    return [value for x, value in enumerate(row) if x == 0 or row[x - 1] != value]


@pytest.mark.parametrize(("spec", "make", "expected"), [
    ("voc21", voc, [0, 1, I, 20]), ("voc20", voc, [I, 1, I, 20]),
    ("coco-object", coco, [1, 80, 0]), ("coco-stuff171", coco, [1, 80, 81, 171, I]),
    ("coco-object", lambda root: coco(root, "object"), [1, 80, 0]),
    ("coco-stuff171", lambda root: coco(root, "stuff"), [1, 80, 81, 171, I]),
    ("coco-object", lambda root: coco(root, "stuff"), [1, 80, 0]),
    ("coco-stuff171", lambda root: coco(root, "object"), [1, 80, 81, 171, I]),
    ("ade150", ade_benchmark, [I, 1, 150]),
    ("ade847", ade_full, [1, 847, I]), ("ade847", lambda root: ade_full(root, "converted"), [1, 847, I]),
])
def test_an_archive_is_read_with_the_ids_of_its_protocol(tmp_path, spec, make, expected):
    dataset = open_dataset(f"{spec}:{make(tmp_path)}")
    check_files(dataset)
    assert len(dataset) == 2
    assert columns(dataset) == expected
    image_HW3, labels_HW = dataset.load(0)
    assert (image_HW3.shape, image_HW3.dtype, labels_HW.dtype) == ((8, 12, 3), np.uint8, np.uint16)
    assert len(dataset.classes) == COUNTS[spec]
    assert dataset.name == f"{spec}:val"


@pytest.mark.parametrize("form", ["converted", "png", "mat"])
@pytest.mark.parametrize(("spec", "nothing"), [("context60", 0), ("context59", I)])
def test_the_three_forms_of_pascal_context_give_the_same_ids(tmp_path, form, spec, nothing):
    dataset = open_dataset(f"{spec}:{context(tmp_path, form)}")
    check_files(dataset)
    for i, names in enumerate(CONTEXT_VALUES.values()):
        expected = mask_of([CONTEXT_IDS[name] or nothing for name in names])
        assert np.array_equal(dataset.load(i)[1], expected)
    assert dataset.classes[55] == "tv monitor"


@pytest.mark.parametrize("place", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_a_folder_above_or_inside_the_archive_will_do(tmp_path, place):
    voc(tmp_path)
    if place == "VOCdevkit":
        assert len(open_dataset(f"voc21:{tmp_path / place}")) == 2
    assert len(open_dataset(f"voc21:{tmp_path / place}")) == 2


def test_options_choose_split_and_names(tmp_path):
    folder = voc(tmp_path) / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    (folder / "train.txt").write_text("2007_000042\n")
    dataset = open_dataset(f"voc21:{tmp_path},split=train,names=sclip")
    assert [dataset.key(i) for i in range(len(dataset))] == ["2007_000042"]
    assert dataset.classes[4] == "ship"
    knowledge = knowledge_of(dataset)
    person = next(entry for entry in knowledge.classes if entry.name == "person")
    assert len((person.name, *person.synonyms)) == 7
    assert len(knowledge.background_words) == 26
    assert open_dataset(f"voc21:{tmp_path},names=simseg").classes[20] == "monitor"
    assert open_dataset(f"voc21:{tmp_path}").classes[20] == "tv monitor"


@pytest.mark.parametrize(("options", "said"), [
    pytest.param("names=mine", "plain, synonyms, sclip, simseg", id="another list"),
    pytest.param("split=test", "test.txt", id="another split"),
    pytest.param("colour=red", "split=", id="another option"),
])
def test_options_that_there_are_not(tmp_path, options, said):
    with pytest.raises(DatasetError, match=said) as caught:
        open_dataset(f"voc21:{voc(tmp_path)},{options}")
    assert "lexiseg eval" in caught.value.next_step


@pytest.mark.parametrize("spec", list(PROTOCOLS))
def test_an_empty_folder_is_answered_with_the_layout(tmp_path, spec):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DatasetError) as caught:
            open_dataset(f"{spec}:{path}")
        assert caught.value.code == Code.DATASET_INVALID
        assert caught.value.allowed
        assert f"lexiseg eval {spec}:PATH" in caught.value.next_step


def test_a_picture_without_mask_is_found_before_the_first_is_read(tmp_path):
    dataset = open_dataset(f"voc21:{voc(tmp_path)}")
    (tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2007_000042.png").unlink()
    with pytest.raises(DatasetError, match=r"label-missing 1 of 2.*2007_000042\.png") as caught:
        check_files(dataset)
    assert caught.value.code == Code.LABEL_MISSING
    assert caught.value.next_step.endswith(f"lexiseg eval voc21:{tmp_path} --skip-bad")
    with pytest.raises(DatasetError) as caught:
        dataset.load(1)
    assert caught.value.code == Code.LABEL_MISSING
    assert dataset.load(0)


@pytest.mark.parametrize(("spec", "make", "gone"), [
    ("coco-stuff171", coco, "stuffthingmaps/val2017/000000000285.png"),
    ("ade150", ade_benchmark, "ADEChallengeData2016/annotations/validation/ADE_val_00000002.png"),
    ("ade847", ade_full, "ADE20K_2021_17_01/images/ADE/validation/urban/street/ADE_val_00000002_seg.png"),
    ("context60", lambda root: context(root, "mat"), "trainval/2008_000003.mat"),
])
def test_missing_masks_are_missing_where_no_list_names_them(tmp_path, spec, make, gone):
    make(tmp_path)
    (tmp_path / gone).unlink()
    with pytest.raises(DatasetError, match="label-missing 1 of 2"):
        check_files(open_dataset(f"{spec}:{tmp_path}"))


def test_a_mask_without_picture_is_missing_its_picture(tmp_path):
    coco(tmp_path)
    (tmp_path / "val2017" / "000000000139.jpg").unlink()
    dataset = open_dataset(f"coco-object:{tmp_path}")
    with pytest.raises(DatasetError, match="file-missing 1 of 2"):
        check_files(dataset)
    with pytest.raises(InputError) as caught:
        dataset.load(0)
    assert caught.value.code == Code.FILE_MISSING


def other_size(path):
    Image.new("L", (5, 5)).save(path)


def other_values(path):
    save_mask(path, [0, 1, 77])


def colours(path):
    Image.new("RGB", (12, 8)).save(path)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:20])


@pytest.mark.parametrize(("harm", "code", "said"), [
    (other_size, Code.LABEL_SIZE, "5x5.*12x8"), (other_values, Code.LABEL_UNKNOWN_ID, r"\[77\]"),
    (colours, Code.LABEL_UNREADABLE, "RGB"), (cut_short, Code.LABEL_UNREADABLE, "not a readable mask"),
], ids=lambda value: getattr(value, "__name__", None))
def test_a_mask_that_does_not_fit_says_why(tmp_path, harm, code, said):
    dataset = open_dataset(f"voc21:{voc(tmp_path)}")
    harm(tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2007_000033.png")
    with pytest.raises(DatasetError, match=said) as caught:
        dataset.load(0)
    assert caught.value.code == code
    assert caught.value.next_step


@pytest.mark.parametrize(("spec", "make", "path"), [
    ("context60", lambda root: context(root, "mat"), "trainval/2008_000002.mat"),
    ("ade847", ade_full, "ADE20K_2021_17_01/images/ADE/validation/urban/street/ADE_val_00000001_seg.png"),
])
def test_damaged_masks_of_other_forms_say_so_too(tmp_path, spec, make, path):
    make(tmp_path)
    (tmp_path / path).write_bytes(b"nothing of use")
    with pytest.raises(DatasetError, match="not a readable mask") as caught:
        open_dataset(f"{spec}:{tmp_path}").load(0)
    assert caught.value.code == Code.LABEL_UNREADABLE


def test_the_values_of_stuffthingmaps_are_those_of_coco(tmp_path):
    """Eleven category numbers are not used: a mask that holds one is something else."""
    coco(tmp_path)
    save_mask(tmp_path / "stuffthingmaps/val2017/000000000139.png", [11])
    for spec in ("coco-object", "coco-stuff171"):
        with pytest.raises(DatasetError, match=r"\[11\]"):
            open_dataset(f"{spec}:{tmp_path}").load(0)


@pytest.mark.parametrize(("change", "said"), [
    (lambda text: text.replace("bicycle", "bycicle"), "lacks bicycle"), (lambda text: "", "lacks"),
    (lambda text: text + "60: wood\n", "twice"), (None, "does not say which class"),
])
def test_pascal_context_needs_its_own_list_of_names(tmp_path, change, said):
    path = context(tmp_path, "png") / "59_labels.txt"
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text()))
    with pytest.raises(DatasetError, match=said):
        open_dataset(f"context60:{tmp_path}")


def test_pictures_without_masks_beside_them_name_the_folders(tmp_path):
    (tmp_path / "val2017").mkdir()
    with pytest.raises(DatasetError, match="stuffthingmaps/val2017"):
        open_dataset(f"coco-stuff171:{tmp_path}")
    (tmp_path / "VOC2010" / "JPEGImages").mkdir(parents=True)
    with pytest.raises(DatasetError, match="59_context_labels"):
        open_dataset(f"context59:{tmp_path}")


def test_a_split_of_another_length_is_told(tmp_path):
    [warning] = warnings_of(open_dataset(f"voc21:{voc(tmp_path)}"))
    assert "2 pictures, the published split 1,449" in warning


@pytest.mark.parametrize(("spec", "fixed"), [(spec, table) for spec, (_, _, table) in PROTOCOLS.items()])
def test_every_list_of_names_is_a_vocabulary_of_its_own(spec, fixed):
    table = class_table(fixed)
    assert [entry.id for entry in table.classes] == list(range(1, len(table.classes) + 1))
    assert table.lists[:2] == ("plain", "synonyms")
    for kind in table.lists:
        vocabulary = table.vocabulary(kind)
        assert len(vocabulary.classes) == len(table.classes) == COUNTS[spec] - (spec in ("voc21", "context60",
                                                                                        "coco-object"))
        assert [entry.name for entry in vocabulary.classes] == list(table.names(kind).values())
        assert bool(vocabulary.background) == (fixed in ("voc", "context", "coco_object"))
    raw = [entry.raw for entry in table.classes if entry.raw is not None]
    assert len(set(raw)) == len(raw)


def test_constants_are_those_of_the_published_code():
    assert protocol_constants("sclip", "voc21") == {
        "short_side": 336, "stride": 112, "logit_scale": 65, "background_threshold": 0.1, "area_threshold": 0.1}
    assert protocol_constants("sclip", "coco-stuff171")["short_side"] == 448
    assert protocol_constants("naclip", "voc20")["stride"] == 0
    assert protocol_constants("resclip", "voc21") == {
        "short_side": 336, "stride": 0, "logit_scale": 40, "background_threshold": 0.1, "area_threshold": None,
        "cross_scale": 2, "cross_share": 0.3, "feedback_scale": 2.2, "feedback_share": 0.7, "feedback_threshold": 0.5}
    assert protocol_constants("resclip", "voc20")["feedback_share"] == 0.6
    assert protocol_constants("sc-clip", "coco-object")["background_threshold"] == 0.35
    assert protocol_constants("simseg", "context60") == {"presence_top": 30}
    for method, dataset in (("sclip", "ade847"), ("simseg", "ade150"), ("lexiseg", "voc21")):
        assert protocol_constants(method, dataset) == {}


@pytest.fixture
def photos():
    folder = next((place for place in SHARED if place.is_dir()), None)
    if folder is None:
        pytest.skip("../shared is absent")
    return folder


def lay_out(source, images, masks, change=lambda labels_HW: labels_HW):
    """The sample photos of one source in the folders of its archive."""
    for folder in (images, masks):
        folder.mkdir(parents=True)
    for path in sorted((source / "images").glob("*.jpg")):
        (images / path.name).write_bytes(path.read_bytes())
        labels_HW = np.asarray(Image.open(source / "labels" / f"{path.stem}.png"))
        Image.fromarray(change(labels_HW).astype(np.uint8)).save(masks / f"{path.stem}.png")
    return [path.stem for path in sorted(images.iterdir())]


def shares(dataset):
    """Class name to pixels, over all pictures."""
    found = {}
    for i in range(len(dataset)):
        for id, count in zip(*np.unique(dataset.load(i)[1], return_counts=True), strict=True):
            name = dataset.classes.get(int(id), "ignored")
            found[name] = found.get(name, 0) + int(count)
    return found


def named(source):
    classes = json.loads((source / "classes.json").read_text())
    found = {}
    for path in (source / "labels").glob("*.png"):
        for id, count in zip(*np.unique(np.asarray(Image.open(path)), return_counts=True), strict=True):
            name = "ignored" if int(id) == classes["ignore_id"] else classes[str(id)]
            found[name] = found.get(name, 0) + int(count)
    return found


def test_real_photos_of_pascal_voc(photos, tmp_path):
    keys = lay_out(photos / "voc", tmp_path / "JPEGImages", tmp_path / "SegmentationClass")
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(keys))
    expected = named(photos / "voc")
    for mine, theirs in (("dining table", "diningtable"), ("tv monitor", "tv/monitor")):
        if theirs in expected:
            expected[mine] = expected.pop(theirs)
    assert shares(open_dataset(f"voc21:{tmp_path}")) == expected
    with_ignored = shares(open_dataset(f"voc20:{tmp_path}"))
    assert with_ignored["ignored"] == expected["ignored"] + expected["background"]


def test_a_real_photo_of_ade20k(photos, tmp_path):
    lay_out(photos / "ade20k", tmp_path / "images" / "validation", tmp_path / "annotations" / "validation")
    assert shares(open_dataset(f"ade150:{tmp_path}")) == named(photos / "ade20k")


def test_real_photos_of_coco(photos, tmp_path):
    """Panoptic masks hold category numbers: one more than stuffthingmaps for things, other stuff."""
    def to_stuffthingmaps(labels_HW):
        return np.where(labels_HW == 0, 255, np.minimum(labels_HW.astype(int) - 1, 181))

    lay_out(photos / "coco_panoptic", tmp_path / "val2017", tmp_path / "stuffthingmaps" / "val2017", to_stuffthingmaps)
    source = json.loads((photos / "coco_panoptic" / "classes.json").read_text())
    things = {name for key, name in source.items() if key.isdecimal() and int(key) <= 90}
    expected = named(photos / "coco_panoptic")
    found = shares(open_dataset(f"coco-object:{tmp_path}"))
    assert {name: count for name, count in found.items() if name != "background"} == {
        name: count for name, count in expected.items() if name in things}
    assert found["background"] == sum(count for name, count in expected.items() if name not in things)
