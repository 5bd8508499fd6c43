"""Tiny copies of the archives of published datasets: two pictures each, in the folders that sites unpack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (12, 8)
"""Width and height."""


def save_picture(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(len(path.name)).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(values).save(path)


def mask_of(values: list[int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W): the values as columns of about equal width."""
    columns = np.array(values)[np.arange(size[0]) * len(values) // size[0]]
    return np.tile(columns, (size[1], 1))


def save_mask(path: Path, values: list[int], *, dtype: type = np.uint8, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask_of(values).astype(dtype))
    if palette:
        image.putpalette([9, 9, 9] * 256)
    image.save(path)


def save_list(path: Path, keys: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key}\n" for key in keys))


def voc(root: Path) -> Path:
    folder = root / "VOCdevkit" / "VOC2012"
    for key, values in {"2007_000033": [0, 1, 255, 20], "2007_000042": [0, 15, 15, 12]}.items():
        save_picture(folder / "JPEGImages" / f"{key}.jpg")
        save_mask(folder / "SegmentationClass" / f"{key}.png", values, palette=True)
    save_picture(folder / "JPEGImages" / "2012_004331.jpg")  # without segmentation, as most are
    save_list(folder / "ImageSets" / "Segmentation" / "val.txt", ["2007_000033", "2007_000042"])
    return root


CONTEXT_VALUES = {"2008_000002": ["aeroplane", None, "wood"], "2008_000003": ["tvmonitor", "table", "cloth"]}
"""What the pictures of the Context layouts show; None is the background."""
CONTEXT_RAW = {"aeroplane": 2, "wood": 458, "tvmonitor": 427, "table": 397, "cloth": 80, None: 1}
CONTEXT_IDS = {"aeroplane": 1, "wood": 59, "tvmonitor": 55, "table": 50, "cloth": 18, None: 0}


def context(root: Path, form: str) -> Path:
    """form: "converted" (mmsegmentation), "png" (59_context_labels) or "mat" (trainval)."""
    from scipy.io import savemat

    folder = root / "VOCdevkit" / "VOC2010"
    for key, names in CONTEXT_VALUES.items():
        save_picture(folder / "JPEGImages" / f"{key}.jpg")
        if form == "converted":
            save_mask(folder / "SegmentationClassContext" / f"{key}.png", [CONTEXT_IDS[name] for name in names])
        elif form == "png":
            order = [*context_names()][::-1]
            save_mask(root / "59_context_labels" / f"{key}.png",
                      [order.index(name) + 1 if name else 0 for name in names], palette=True)
        else:
            (root / "trainval").mkdir(parents=True, exist_ok=True)
            values = mask_of([CONTEXT_RAW[name] for name in names]).astype(np.uint16)
            savemat(root / "trainval" / f"{key}.mat", {"LabelMap": values})
    if form == "png":
        spelled = {"table": "diningtable", "bedclothes": "bedcloth", "cloth": "clothes"}
        lines = [f"{number}: {spelled.get(name, name)}" for number, name in enumerate(order, start=1)]
        (root / "59_labels.txt").write_text("\n".join(lines) + "\n")
    part = "SegmentationContext" if form == "converted" else "Main"
    save_list(folder / "ImageSets" / part / "val.txt", list(CONTEXT_VALUES))
    return root


def context_names() -> list[str]:
    from vision.datasets.protocol import class_table

    return [entry.official or entry.name for entry in class_table("context").classes]


def coco(root: Path, form: str = "official") -> Path:
    """form: "official" (stuffthingmaps), "stuff" or "object" (*TrainIds.png)."""
    for key in ("000000000139", "000000000285"):
        if form == "official":
            save_picture(root / "val2017" / f"{key}.jpg")
            save_mask(root / "stuffthingmaps" / "val2017" / f"{key}.png", [0, 89, 91, 181, 255])
        else:
            save_picture(root / "images" / "val2017" / f"{key}.jpg")
            folder = root / "annotations" / "val2017"
            save_mask(folder / f"{key}.png", [0, 89, 91, 181, 255])
            if form == "stuff":
                save_mask(folder / f"{key}_labelTrainIds.png", [0, 79, 80, 170, 255])
            else:
                save_mask(folder / f"{key}_instanceTrainIds.png", [1, 80, 0, 0, 0])
    return root


def ade_benchmark(root: Path) -> Path:
    folder = root / "ADEChallengeData2016"
    for key in ("ADE_val_00000001", "ADE_val_00000002"):
        save_picture(folder / "images" / "validation" / f"{key}.jpg")
        save_mask(folder / "annotations" / "validation" / f"{key}.png", [0, 1, 150])
    return root


def ade_full(root: Path, form: str = "official") -> Path:
    """form: "official" or "converted" (MaskFormer)."""
    folder = root / "ADE20K_2021_17_01"
    for key in ("ADE_val_00000001", "ADE_val_00000002"):
        if form == "official":
            place = folder / "images" / "ADE" / "validation" / "urban" / "street"
            save_picture(place / f"{key}.jpg")
            numbers = mask_of([2978, 3148, 5, 0])  # wall, adding machine, none of the 847, nothing
            colours = np.stack([numbers // 256 * 10, numbers % 256, np.full_like(numbers, 77)], axis=-1)
            Image.fromarray(colours.astype(np.uint8)).save(place / f"{key}_seg.png")
        else:
            save_picture(folder / "images_detectron2" / "validation" / f"{key}.jpg")
            save_mask(folder / "annotations_detectron2" / "validation" / f"{key}.tif", [0, 846, 65535, 65535],
                      dtype=np.uint16)
    return root
