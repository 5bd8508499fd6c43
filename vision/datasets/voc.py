"""PASCAL VOC 2012, semantic segmentation.

    VOCdevkit/VOC2012/JPEGImages/NAME.jpg
    VOCdevkit/VOC2012/SegmentationClass/NAME.png      indexed; 0 background, 1 to 20, 255 border of objects
    VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt  (train.txt, trainval.txt)

M. Everingham and others: The PASCAL Visual Object Classes Challenge, IJCV 2010.
"""

from __future__ import annotations

from pathlib import Path

from vision.datasets.listed import ListedDataset, Pair, find_folder, read_list, value_table
from vision.datasets.protocol import BACKGROUND_ID, IGNORE_ID, class_table

PLACES = (".", "VOC2012", "VOCdevkit/VOC2012", "VOCtrainval_11-May-2012/VOCdevkit/VOC2012")


def voc(root: Path, *, split: str = "val", names: str = "plain", background: bool = True) -> ListedDataset:
    """VOC21, or without `background` VOC20, where its pixels are ignored. Raises DatasetError."""
    protocol = "voc21" if background else "voc20"
    folder = find_folder(root, PLACES, ("JPEGImages", "SegmentationClass"), "PASCAL VOC 2012", protocol)
    classes = class_table("voc")
    keys = read_list(folder / "ImageSets" / "Segmentation" / f"{split}.txt", protocol)
    pairs = [Pair(key, folder / "JPEGImages" / f"{key}.jpg", folder / "SegmentationClass" / f"{key}.png")
             for key in keys]
    ids = {entry.id: entry.id for entry in classes.classes} | {0: BACKGROUND_ID if background else IGNORE_ID}
    return ListedDataset(f"{protocol}:{root}", protocol, split, classes, names, pairs,
                         value_table(ids, classes.ignored), background=background)
