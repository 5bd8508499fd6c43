"""PASCAL Context: the pictures of VOC 2010 with a class for every pixel.

    VOCdevkit/VOC2010/JPEGImages/NAME.jpg
    VOCdevkit/VOC2010/ImageSets/Main/val.txt          the split, also of the masks that are made from them

and one of these, beside VOC2010 or in it:

    SegmentationClassContext/NAME.png                 as mmsegmentation converts them; its list is
                                                      ImageSets/SegmentationContext/val.txt
    59_context_labels/NAME.png and 59_labels.txt      0 is everything else
    trainval/NAME.mat                                 LabelMap with the numbers of labels.txt

R. Mottaghi and others: The Role of Context for Object Detection and Semantic Segmentation in the Wild, CVPR 2014.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parsers.errors import Code, DatasetError
from vision.datasets.folder import read_labels
from vision.datasets.listed import ListedDataset, Pair, find_folder, read_list, value_table
from vision.datasets.protocol import BACKGROUND_ID, IGNORE_ID, ClassTable, class_table

PLACES = (".", "VOC2010", "VOCdevkit/VOC2010", "VOCtrainval_03-May-2010/VOCdevkit/VOC2010")
LABELS = ("SegmentationClassContext", "59_context_labels", "trainval")


def context(root: Path, *, split: str = "val", names: str = "plain", background: bool = True) -> ListedDataset:
    """Context60, or without `background` Context59, where its pixels are ignored. Raises DatasetError."""
    protocol = "context60" if background else "context59"
    folder = find_folder(root, PLACES, ("JPEGImages",), "PASCAL Context with the pictures of VOC 2010", protocol)
    classes = class_table("context")
    above = [place for place in (folder, *folder.resolve().parents[:3], root) if place.is_dir()]
    labels = next((place / name for name in LABELS for place in above if (place / name).is_dir()), None)
    if labels is None:
        raise DatasetError(Code.DATASET_INVALID, f"{folder} has the pictures, but there are no masks beside it.",
                           f"One of the folders {', '.join(LABELS)}.",
                           f"Unpack the annotations there, then lexiseg eval {protocol}:{root}")
    list_path = folder / "ImageSets" / "SegmentationContext" / f"{split}.txt"
    if not list_path.is_file():
        list_path = folder / "ImageSets" / "Main" / f"{split}.txt"
    other = BACKGROUND_ID if background else IGNORE_ID
    suffix, read = ".png", read_labels
    if labels.name == "trainval":
        suffix, read = ".mat", read_label_map
        ids = {entry.stored: entry.id for entry in classes.classes}
        table = value_table(ids, default=other)
    elif labels.name == "59_context_labels":
        table = value_table(numbered_names(labels, classes, protocol) | {0: other})
    else:
        table = value_table({entry.id: entry.id for entry in classes.classes} | {0: other})
    pairs = [Pair(key, folder / "JPEGImages" / f"{key}.jpg", labels / f"{key}{suffix}")
             for key in read_list(list_path, protocol)]
    return ListedDataset(f"{protocol}:{root}", protocol, split, classes, names, pairs, table, background=background,
                         read=read)


def numbered_names(labels: Path, classes: ClassTable, protocol: str) -> dict[int, int]:
    """Stored value to id, from the 59_labels.txt ("3: bed") beside the masks or among them. Raises DatasetError."""
    allowed = 'Lines such as "3: bed", one for each of the 59 classes.'
    next_step = f"Put the archive's 59_labels.txt beside {labels}, then lexiseg eval {protocol}:PATH"
    path = next((place for place in (labels.parent / "59_labels.txt", labels / "59_labels.txt") if place.is_file()),
                None)
    if path is None:
        raise DatasetError(Code.DATASET_INVALID, f"{labels} does not say which class its values are.", allowed,
                           next_step)
    id_of_name = {(entry.official or entry.name): entry.id for entry in classes.classes}
    found: dict[int, int] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        number, colon, name = line.partition(":")
        key = name.replace(" ", "").lower()
        id = id_of_name.get(classes.aliases.get(key, key))
        if colon and number.strip().isdecimal() and id is not None:
            found[int(number)] = id
    if sorted(found.values()) != sorted(id_of_name.values()):
        lacking = sorted(name for name, id in id_of_name.items() if id not in found.values())
        given = f"{path} lacks {', '.join(lacking[:5])}." if lacking else f"{path} has a class twice."
        raise DatasetError(Code.DATASET_INVALID, given, allowed, next_step)
    return found


def read_label_map(path: Path) -> NDArray[np.uint16]:
    """labels_HW of a MATLAB file of the official archive. Raises DatasetError (`label-unreadable`)."""
    from scipy.io import loadmat

    load: Callable[..., dict] = loadmat
    try:
        label_map_HW = load(path, variable_names=["LabelMap"])["LabelMap"]
    except Exception as error:  # a damaged file may raise almost anything
        raise DatasetError(Code.LABEL_UNREADABLE, f"{path} is not a readable mask: {type(error).__name__}: {error}.",
                           "A MATLAB file with a matrix LabelMap.", "Unpack the archive again.") from error
    return np.asarray(label_map_HW).astype(np.uint16)
