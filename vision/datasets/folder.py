"""Pictures and masks in a folder: `images/` + `labels/` + `classes.json`, or what a job left behind.

    images/a/b.jpg     any suffix that can be read; sub-folders as one likes
    labels/a/b.png     one channel, as large as the picture; the stored value is the class id (8-bit indexed or
                       grey, or 16-bit grey)
    classes.json       {"0": "background", "1": "dog", ..., "ignore_id": 255}; ignore_id may be null or missing

The folder of a finished job has `masks/a/b.jpg.png` instead of `labels/`, and `job.json` says where its pictures
are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from parsers.errors import Code, DatasetError

LAYOUT = ("A dataset folder holds images/, labels/ and classes.json; a job's folder holds masks/, classes.json and "
          "job.json.")
LABEL_MODES = ("1", "L", "P", "I", "I;16", "I;16B")


def dataset_error(given: str, next_step: str, allowed: str = "", code: Code = Code.DATASET_INVALID) -> DatasetError:
    """A DatasetError, in the order in which its parts are written here."""
    return DatasetError(code, given, allowed, next_step)


class FolderDataset:
    """An EvalDataset over a folder of pictures and masks.

    Raises DatasetError when the folder has no classes.json, no masks, or a mask without its picture; `load` raises
    it for a mask of another size than its picture and for ids that have no name.
    """

    always: tuple[str, ...] = ()

    def __init__(self, root: Path, *, classes_file: Path | None = None, name: str | None = None) -> None:
        if not root.is_dir():
            raise dataset_error(f"{root} is not a folder.", "Check the path: lexiseg eval folder:PATH", LAYOUT)
        self.name = name or f"folder:{root}"
        self.classes, self.ignore_id = read_classes(classes_file or root / "classes.json")
        self._pairs = job_pairs(root) if (root / "masks").is_dir() else labelled_pairs(root)
        if not self._pairs:
            raise dataset_error(f"{root} has no masks (*.png).", "Put a mask beside every picture to be scored.",
                                LAYOUT)
        named = np.zeros(65536, bool)
        named[[*self.classes, *([] if self.ignore_id is None else [self.ignore_id])]] = True
        self._named = named

    def __len__(self) -> int:
        return len(self._pairs)

    def key(self, i: int) -> str:
        return self._pairs[i][0]

    def load(self, i: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        from vision.images import read_image

        _, image_path, label_path = self._pairs[i]
        image_HW3, labels_HW = read_image(image_path), read_labels(label_path)
        if image_HW3.shape[:2] != labels_HW.shape:
            (height, width), (mask_height, mask_width) = image_HW3.shape[:2], labels_HW.shape
            raise dataset_error(f"{label_path} is {mask_width}x{mask_height}, "
                                f"its picture {image_path} {width}x{height}.",
                                "Make the mask from the picture as it is shown, camera orientation applied.",
                                "Masks are as large as their pictures.", Code.LABEL_SIZE)
        if not self._named[labels_HW].all():
            unnamed = sorted(set(np.unique(labels_HW).tolist()) - set(np.flatnonzero(self._named).tolist()))
            raise dataset_error(f"{label_path} holds the ids {unnamed[:5]}, which have no name.",
                                'Name them in classes.json, or make one of them "ignore_id".',
                                "Every id of a mask is a key of classes.json or its ignore_id.", Code.LABEL_UNKNOWN_ID)
        return image_HW3, labels_HW


def read_classes(path: Path) -> tuple[dict[int, str], int | None]:
    """Names by id and the id to ignore, from a classes.json. A name given to the ignored id is dropped.

    Raises DatasetError if the file is missing or says something else.
    """
    example = '{"0": "background", "1": "dog", "ignore_id": 255}'
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise dataset_error(f"{path} cannot be read: {error.strerror}.", f"Write the names of the ids to {path}.",
                            f"classes.json holds for example {example}.") from error
    except ValueError as error:
        raise dataset_error(f"{path} is not JSON: {error}.", "Correct the file.",
                            f"classes.json holds for example {example}.") from error
    if not isinstance(data, dict):
        raise dataset_error(f"{path} holds a {type(data).__name__}.", f"Write it as {example}.", "An object.")
    ignore_id = data.get("ignore_id")
    if ignore_id is not None and not is_id(ignore_id):
        raise dataset_error(f"{path}: ignore_id is {ignore_id!r}.", "Correct the file.",
                            "An id from 0 to 65535, or null.")
    classes: dict[int, str] = {}
    for key, name in data.items():
        if not key.isdecimal():
            continue
        if not is_id(int(key)) or not isinstance(name, str) or not name.strip():
            raise dataset_error(f"{path}: {key!r} is {name!r}.", "Correct the file.",
                                "Keys are ids from 0 to 65535, values are names.")
        if int(key) != ignore_id:
            classes[int(key)] = name
    if not classes:
        raise dataset_error(f"{path} names no class.", "Name the ids of the masks.", f"For example {example}.")
    return classes, ignore_id


def is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535


def read_labels(path: Path) -> NDArray[np.uint16]:
    """labels_HW of a mask: the stored values, never the palette's colours. Raises DatasetError."""
    allowed = "A PNG with one channel whose values are class ids (8-bit indexed or grey, 16-bit grey)."
    try:
        with Image.open(path) as image:
            if image.mode not in LABEL_MODES:
                raise dataset_error(f"{path} has the mode {image.mode}.", "Save the ids, not the colours.", allowed,
                                    Code.LABEL_UNREADABLE)
            labels_HW = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise dataset_error(f"{path} is not a readable mask: {error}.", "Write the mask again.", allowed,
                            Code.LABEL_UNREADABLE) from error
    if labels_HW.size and (labels_HW.min() < 0 or labels_HW.max() > 65535):
        raise dataset_error(f"{path} holds ids up to {labels_HW.max()}.", "Renumber the classes.",
                            "Ids from 0 to 65535.", Code.LABEL_UNREADABLE)
    return labels_HW.astype(np.uint16)


def labelled_pairs(root: Path) -> list[tuple[str, Path, Path]]:
    """(key, picture, mask) for every mask under labels/, sorted by key; the key is the mask's path without suffix."""
    images_root, labels_root = root / "images", root / "labels"
    for folder in (images_root, labels_root):
        if not folder.is_dir():
            raise dataset_error(f"{root} has no folder {folder.name}/.", f"Make {folder}.", LAYOUT)
    images: dict[str, Path] = {}
    for path in sorted(p for p in images_root.rglob("*") if p.is_file() and not p.name.startswith(".")):
        key = path.relative_to(images_root).with_suffix("").as_posix()
        if key in images:
            raise dataset_error(f"{images[key]} and {path} have the same name.", "Rename one of them.",
                                "One picture for each mask.")
        images[key] = path
    masks = {path.relative_to(labels_root).with_suffix("").as_posix(): path for path in labels_root.rglob("*.png")}
    alone = sorted(set(masks) - set(images))
    if alone:
        raise dataset_error(f"{masks[alone[0]]} has no picture ({len(alone)} such masks).",
                            f"Put the picture at {images_root / alone[0]}.jpg (or .png), or remove the mask.",
                            "Every mask has a picture of the same name under images/.")
    return [(key, images[key], masks[key]) for key in sorted(masks)]


def job_pairs(root: Path) -> list[tuple[str, Path, Path]]:
    """(key, picture, mask) for every mask that a job left under masks/, sorted by key; the key is the picture's
    path below the inputs of job.json, suffix included."""
    job_path, masks_root = root / "job.json", root / "masks"
    try:
        job = json.loads(job_path.read_text(encoding="utf-8"))
        inputs = [fixed_part(Path(item).expanduser()) for item in job_inputs(job)]
    except (OSError, ValueError, TypeError) as error:
        raise dataset_error(f"{job_path} does not say where the pictures are: {error}.",
                            "Run the job again, or add the pictures as images/ and rename masks/ to labels/.",
                            LAYOUT) from error
    pairs = []
    for mask in sorted(masks_root.rglob("*.png")):
        key = mask.relative_to(masks_root).as_posix().removesuffix(".png")
        places = [path / key for path in inputs] + [path for path in inputs if path.name == key]
        image = next((place for place in places if place.is_file()), None)
        if image is None:
            raise dataset_error(f"The picture {key} of {mask} is not below {', '.join(map(str, inputs))}.",
                                "Bring the pictures back to where the job read them.",
                                "The inputs of job.json, where the job found them.")
        pairs.append((key, image, mask))
    return pairs


def job_inputs(job: Any) -> list[str]:
    """The inputs in a job.json. Raises ValueError if it has none."""
    spec = job.get("spec") if isinstance(job, dict) else None
    inputs = spec.get("inputs") if isinstance(spec, dict) else None
    if not isinstance(inputs, list) or not inputs:
        raise ValueError("it has no inputs")
    return inputs


def fixed_part(path: Path) -> Path:
    """A file or folder as it is; of a pattern ("photos/*/a?.jpg") the folder before its first wildcard."""
    if path.exists():
        return path
    parts = path.parts
    wild = next((i for i, part in enumerate(parts) if set(part) & set("*?[")), len(parts))
    return Path(*parts[:wild])
