"""Readers of exports, written from the formats' public descriptions; none of them uses code of lexiseg.

Each returns {picture name: [(category name, mask_HW), ...]} in the order of the file.
"""

from __future__ import annotations

import contextlib
import io
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import numpy as np
import yaml
from PIL import Image
from pycocotools.coco import COCO

Read = dict[str, list[tuple[str, np.ndarray]]]


def read_coco(folder: Path) -> Read:
    """By pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "annotations.json"))
    return {image["file_name"]: [
        (coco.cats[found["category_id"]]["name"], coco.annToMask(found).astype(bool))
        for found in coco.loadAnns(coco.getAnnIds(imgIds=[image_id]))] for image_id, image in coco.imgs.items()}


def read_panoptic(folder: Path) -> Read:
    """cocodataset.org/#format-data: the id of a pixel's segment is red + 256 green + 256^2 blue."""
    data = json.loads((folder / "panoptic.json").read_text())
    names = {category["id"]: category["name"] for category in data["categories"]}
    images = {image["id"]: image for image in data["images"]}
    read: Read = {}
    for annotation in data["annotations"]:
        colours = np.asarray(Image.open(folder / "panoptic" / annotation["file_name"])).astype(np.int64)
        ids = colours @ np.array([1, 256, 256 ** 2])
        image = images.pop(annotation["image_id"])
        assert ids.shape == (image["height"], image["width"])
        assert set(np.unique(ids)) - {0} == {segment["id"] for segment in annotation["segments_info"]}
        read[image["file_name"]] = [(names[segment["category_id"]], ids == segment["id"])
                                    for segment in annotation["segments_info"]]
    assert not images, "pictures without an annotation"
    return read


def read_png(folder: Path, ignore: bool = False) -> Read:
    """Pixel values are ids of classes.json."""
    names = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
    read: Read = {}
    for path in sorted((folder / "masks").rglob("*.png")):
        labels = np.asarray(Image.open(path)).astype(int)
        values = [int(key) for key in names if key not in ("0", "ignore_id")]
        assert set(np.unique(labels)) <= {0, names["ignore_id"], *values}
        found = [(names[str(value)], labels == value) for value in values if (labels == value).any()]
        if ignore:
            found.append(("ignore", labels == names["ignore_id"]))
        read[str(path.relative_to(folder / "masks")).removesuffix(".png")] = found
    return read


def read_yolo(folder: Path, sizes: dict[str, tuple[int, int]]) -> Read:
    """docs.ultralytics.com/datasets/segment: a class and normalised corners per line; images/x.jpg has labels/x.txt.

    sizes: (height, width) by picture. A pixel belongs to a polygon if its centre does (even-odd rule).
    """
    names = yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))["names"]
    renamed = {entry["picture"]: entry["rename_to"] for entry in json.loads((folder / "renames.json").read_text())}
    read: Read = {}
    for name, (height, width) in sizes.items():
        picture = renamed.get(name, name)
        stem = picture.removesuffix(PurePosixPath(picture).suffix)
        read[name] = []
        for line in (folder / "labels" / f"{stem}.txt").read_text().splitlines():
            index, *numbers = line.split(" ")
            corners = np.array(numbers, float).reshape(-1, 2)
            assert len(corners) >= 3 and corners.min() >= 0 and corners.max() <= 1
            read[name].append((names[int(index)], even_odd(corners * [width, height], height, width)))
    assert len(list((folder / "labels").rglob("*.txt"))) == len(sizes)
    return read


def even_odd(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """Which pixel centres a ray to the left leaves through an odd number of sides."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside = np.zeros((height, width), bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, 0), strict=True):
        if abs(y1 - y2) > 1e-3:
            crossing = x1 + (y - y1) * (x2 - x1) / (y2 - y1)
            inside ^= ((y1 > y) != (y2 > y)) & (crossing < x)
    return inside


def read_label_studio(folder: Path) -> Read:
    """labelstud.io/tags/brushlabels, and the README of the rle-pack library for the bits."""
    root = ElementTree.parse(folder / "labeling_config.xml").getroot()
    control, image = root.find("BrushLabels"), root.find("Image")
    known = {label.get("value") for label in control}
    read: Read = {}
    for path in sorted((folder / "tasks").iterdir()):
        for task in json.loads(path.read_text()):
            (prediction,) = task["predictions"]
            found = []
            for region in prediction["result"]:
                assert (region["from_name"], region["to_name"]) == (control.get("name"), image.get("name"))
                assert region["type"] == "brushlabels" and region["value"]["format"] == "rle"
                (label,) = region["value"]["brushlabels"]
                assert label in known
                values = unpack_bits(region["value"]["rle"])
                shape = (region["original_height"], region["original_width"], 4)
                pixels = np.array(values).reshape(shape)
                assert (pixels == pixels[:, :, :1]).all() and set(values) <= {0, 255}
                found.append((label, pixels[:, :, 3] > 0))
            name = unquote(task["data"][image.get("value").lstrip("$")].split("?d=")[1])
            assert name == task["data"]["name"]
            read[name] = found
    return read


def unpack_bits(data: list[int]) -> list[int]:
    bits = "".join(f"{byte:08b}" for byte in data)
    place = 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count:place], 2)

    total, word, sizes = take(32), take(5) + 1, [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        run = take(1)
        length = take(sizes[take(2)]) + 1
        values += [take(word)] * length if run else [take(word) for _ in range(length)]
    assert len(values) == total and len(bits) - place < 8
    return values


def read_cvat(folder: Path) -> Read:
    """docs.cvat.ai, "XML annotation format": runs of the box along its rows, the first of zeros."""
    root = ElementTree.parse(folder / "annotations.xml").getroot()
    assert root.findtext("version") == "1.1"
    labels = [label.findtext("name") for label in root.iterfind("meta/task/labels/label")]
    assert labels == [entry["name"] for entry in json.loads((folder / "labels.json").read_text(encoding="utf-8"))]
    images = root.findall("image")
    assert int(root.findtext("meta/task/size")) == len(images)
    assert [image.get("id") for image in images] == [str(number) for number in range(len(images))]
    read: Read = {}
    for image in images:
        read[image.get("name")] = []
        for mask in image.findall("mask"):
            assert mask.get("label") in labels
            left, top, width, height = (int(mask.get(key)) for key in ("left", "top", "width", "height"))
            runs = [int(run) for run in mask.get("rle").split(",")]
            box = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width)
            whole = np.zeros((int(image.get("height")), int(image.get("width"))), bool)
            whole[top:top + height, left:left + width] = box
            read[image.get("name")].append((mask.get("label"), whole))
    return read
