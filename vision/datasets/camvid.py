"""CamVid: street photos in 11 classes, in the folder layout with one classes.json for its splits.

G. Brostow, J. Fauqueur, R. Cipolla: Semantic object classes in video, Pattern Recognition Letters 2009; the
11-class version of SegNet.
"""

from __future__ import annotations

import re
from pathlib import Path

from vision.datasets.folder import FolderDataset, dataset_error

DEVELOPMENT_ROOT = Path("../shared/data/camvid")
"""Where a development checkout keeps it; everyone else names the folder."""


def camvid(root: Path = DEVELOPMENT_ROOT, *, split: str = "val") -> FolderDataset:
    """The pictures of one split ("train" or "val") of a CamVid folder: classes.json, train/ and val/ with images/ and
    labels/ each. Class names become words: "SignSymbol" is "sign symbol".

    Raises DatasetError if the folder or the split is not there.
    """
    splits = [name for name in ("train", "val") if (root / name).is_dir()]
    if split not in splits:
        raise dataset_error(f"{root} has no split {split!r}.", "lexiseg eval camvid:PATH,split=val",
                            f"Splits: {', '.join(splits) or 'none found; a CamVid folder has train/ and val/'}.")
    dataset = FolderDataset(root / split, classes_file=root / "classes.json", name=f"camvid:{split}")
    dataset.classes = {id: camel_to_words(name) for id, name in dataset.classes.items()}
    return dataset


def camel_to_words(name: str) -> str:
    """"SignSymbol" to "sign symbol", "Road_marking" to "road marking"."""
    return " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("_", " ")).lower().split())
