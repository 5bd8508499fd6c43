"""COCO 2017 with the masks of COCO-Stuff, as 171 classes or as 80 objects and a background.

    val2017/NAME.jpg                        or images/val2017/
    stuffthingmaps/val2017/NAME.png         or annotations/val2017/; the value is the category number less one, 255 is
                                            unlabelled
    annotations/val2017/NAME_labelTrainIds.png     as mmsegmentation converts them: 0 to 170, 255 (171 classes)
    annotations/val2017/NAME_instanceTrainIds.png  as GroupViT and SCLIP convert them: 0 to 80 (objects)

H. Caesar, J. Uijlings, V. Ferrari: COCO-Stuff, CVPR 2018; J. Xu and others: GroupViT, CVPR 2022 (COCO-Object).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parsers.errors import Code, DatasetError
from vision.datasets.listed import ListedDataset, find_folder, listed_twice, value_table
from vision.datasets.protocol import BACKGROUND_ID, ClassTable, class_table

IMAGES = (".", "images")
LABELS = ("stuffthingmaps", "stuffthingmaps_trainval2017", "annotations/stuffthingmaps", "annotations")
LAST_THING, LAST_VALUE = 90, 181
"""Of the stored values in stuffthingmaps."""
UNLABELLED = 255


def coco_object(root: Path, *, split: str = "val", names: str = "plain") -> ListedDataset:
    """81 classes; stuff and what is unlabelled are background. Raises DatasetError."""
    return _coco(root, "coco-object", class_table("coco_object"), "_instanceTrainIds.png", split, names)


def coco_stuff(root: Path, *, split: str = "val", names: str = "plain") -> ListedDataset:
    """171 classes; what is unlabelled is ignored. Raises DatasetError."""
    return _coco(root, "coco-stuff171", class_table("coco_stuff"), "_labelTrainIds.png", split, names)


def _coco(root: Path, protocol: str, classes: ClassTable, converted: str, split: str, names: str) -> ListedDataset:
    part = f"{split}2017"
    images = find_folder(root, IMAGES, (part,), "COCO 2017", protocol) / part
    places = [root / place / part for place in LABELS]
    labels = next((place for place in places if place.is_dir()), None)
    if labels is None:
        raise DatasetError(Code.DATASET_INVALID, f"{root} has the pictures {part}, but no masks for them.",
                           f"One of the folders {', '.join(f'{place}/{part}' for place in LABELS)}.",
                           f"Unpack stuffthingmaps_trainval2017.zip there, then lexiseg eval {protocol}:{root}")
    background = protocol == "coco-object"
    if next(labels.glob(f"*{converted}"), None) is not None:
        suffix, table = converted, converted_values(classes, background)
    else:
        suffix, table = ".png", official_values(classes, background)
    pairs = listed_twice(images, labels, ".jpg", suffix)
    if suffix == ".png":  # the folder may hold both forms, each beside the other
        pairs = [pair for pair in pairs if not pair.key.endswith("TrainIds")]
    return ListedDataset(f"{protocol}:{root}", protocol, split, classes, names, pairs, table, background=background)


def official_values(classes: ClassTable, background: bool) -> NDArray[np.int32]:
    """The values of stuffthingmaps. With a background every one above 90 is it, 255 too (GroupViT)."""
    ids = {entry.stored: entry.id for entry in classes.classes}
    if not background:
        return value_table(ids, classes.ignored)
    return value_table({value: BACKGROUND_ID for value in (*range(LAST_THING + 1, LAST_VALUE + 1), UNLABELLED)} | ids)


def converted_values(classes: ClassTable, background: bool) -> NDArray[np.int32]:
    """The values of *TrainIds.png."""
    if background:
        return value_table({entry.id: entry.id for entry in classes.classes}
                           | {0: BACKGROUND_ID, UNLABELLED: BACKGROUND_ID})
    return value_table({entry.id - 1: entry.id for entry in classes.classes}, classes.ignored)
