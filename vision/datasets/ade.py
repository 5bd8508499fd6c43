"""ADE20K: the 150 classes of the scene parsing benchmark, or 847 of the full dataset.

    ADEChallengeData2016/images/validation/NAME.jpg
    ADEChallengeData2016/annotations/validation/NAME.png          0 unlabelled, 1 to 150

    ADE20K_2021_17_01/images/ADE/validation/.../NAME.jpg and NAME_seg.png     the class number is R // 10 * 256 + G
    ADE20K_2021_17_01/images_detectron2/validation/NAME.jpg                   as MaskFormer converts them (pictures of
    ADE20K_2021_17_01/annotations_detectron2/validation/NAME.tif              at most 512 pixels): 0 to 846, 65535

B. Zhou and others: Semantic Understanding of Scenes through the ADE20K Dataset, IJCV 2019.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from parsers.errors import Code, DatasetError
from vision.datasets.folder import read_labels
from vision.datasets.listed import ListedDataset, Pair, find_folder, listed_twice, value_table
from vision.datasets.protocol import IGNORE_ID, class_table

PARTS = {"val": "validation", "train": "training"}
BENCHMARK_PLACES = (".", "ADEChallengeData2016")
FULL_PLACES = (".", "ADE20K_2021_17_01")


def ade150(root: Path, *, split: str = "val", names: str = "plain") -> ListedDataset:
    """The benchmark's 150 classes. Raises DatasetError."""
    part = part_of(split, "ade150")
    folder = find_folder(root, BENCHMARK_PLACES, (f"images/{part}", f"annotations/{part}"),
                         "the scene parsing benchmark of ADE20K", "ade150")
    classes = class_table("ade150")
    pairs = listed_twice(folder / "images" / part, folder / "annotations" / part, ".jpg", ".png")
    table = value_table({entry.id: entry.id for entry in classes.classes}, classes.ignored)
    return ListedDataset(f"ade150:{root}", "ade150", split, classes, names, pairs, table, background=False)


def ade847(root: Path, *, split: str = "val", names: str = "plain") -> ListedDataset:
    """The 847 classes that MaskFormer evaluates; whatever is none of them is ignored. Raises DatasetError."""
    part = part_of(split, "ade847")
    classes = class_table("ade847")
    converted = next((root / place for place in FULL_PLACES
                      if (root / place / "annotations_detectron2" / part).is_dir()), None)
    if converted is not None:
        pairs = listed_twice(converted / "images_detectron2" / part, converted / "annotations_detectron2" / part,
                             ".jpg", ".tif")
        table = value_table({entry.id - 1: entry.id for entry in classes.classes}, [IGNORE_ID])
        return ListedDataset(f"ade847:{root}", "ade847", split, classes, names, pairs, table, background=False,
                             read=read_labels)
    folder = find_folder(root, FULL_PLACES, (f"images/ADE/{part}",), "the full ADE20K", "ade847") / "images/ADE" / part
    stems = {path.with_suffix("") for path in folder.rglob("*.jpg")}
    stems |= {path.with_name(path.name.removesuffix("_seg.png")) for path in folder.rglob("*_seg.png")}
    pairs = [Pair(stem.relative_to(folder).as_posix(), stem.with_suffix(".jpg"), stem.with_name(f"{stem.name}_seg.png"))
             for stem in sorted(stems)]
    table = value_table({entry.stored: entry.id for entry in classes.classes}, default=IGNORE_ID)
    return ListedDataset(f"ade847:{root}", "ade847", split, classes, names, pairs, table, background=False,
                         read=read_seg)


def part_of(split: str, protocol: str) -> str:
    """"val" to "validation". Raises DatasetError."""
    if split not in PARTS:
        raise DatasetError(Code.DATASET_INVALID, f"{protocol} has no split {split!r}.", f"Splits: {', '.join(PARTS)}.",
                           f"Try: lexiseg eval {protocol}:PATH,split=val")
    return PARTS[split]


def read_seg(path: Path) -> NDArray[np.uint16]:
    """Class numbers (H, W) of a NAME_seg.png: R // 10 * 256 + G. Raises DatasetError (`label-unreadable`)."""
    allowed = "An RGB PNG of the full ADE20K."
    try:
        with Image.open(path) as image:
            if image.mode != "RGB":
                raise DatasetError(Code.LABEL_UNREADABLE, f"{path} has the mode {image.mode}.", allowed,
                                   "Unpack the archive again.")
            seg_HW3 = np.asarray(image).astype(np.uint16)
    except (OSError, SyntaxError, ValueError) as error:
        raise DatasetError(Code.LABEL_UNREADABLE, f"{path} is not a readable mask: {error}.", allowed,
                           "Unpack the archive again.") from error
    return seg_HW3[..., 0] // 10 * 256 + seg_HW3[..., 1]
