"""Pictures with ground truth, opened by a short text."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from parsers.errors import Code, DatasetError
from vision.datasets.base import EvalDataset

__all__ = ["SPECS", "EvalDataset", "open_dataset"]

SPECS = ("pictograms", "pictograms:count=2000,seed=1,split=seen", "camvid:PATH",
         "camvid:PATH,split=train", "folder:PATH")
"""Texts that `open_dataset` understands, as examples."""


def open_dataset(spec: str, **options: Any) -> EvalDataset:
    """The dataset that `spec` names: `pictograms[:count=N,seed=N,split=NAME,sprites=DIR]`,
    `camvid[:PATH][,split=train|val]` or `folder:PATH`. `options` are given on to the dataset and win over the text.

    Raises DatasetError (`dataset-invalid`).
    """
    kind, _, rest = spec.partition(":")
    if kind == "folder" and rest:
        from vision.datasets.folder import FolderDataset

        return FolderDataset(Path(rest), **options)
    if kind == "camvid":
        from vision.datasets.camvid import DEVELOPMENT_ROOT, camvid

        path, split = re.fullmatch(r"(.*?)(?:,split=(\w+))?", rest, re.DOTALL).groups()  # type: ignore[union-attr]
        return camvid(Path(path or DEVELOPMENT_ROOT), **({"split": split} if split else {}) | options)
    if kind == "pictograms":
        from vision.datasets.pictograms import PictogramDataset

        return PictogramDataset(**keyword_options(spec, rest, PictogramDataset) | options)
    hint = f"folder:{spec}" if Path(spec).is_dir() else SPECS[0]
    raise DatasetError(Code.DATASET_INVALID, f"{spec!r} is not a dataset.", f"Datasets: {'; '.join(SPECS)}.",
                       f"Try: lexiseg eval {hint} --candidates present")


def keyword_options(spec: str, text: str, factory: Any) -> dict[str, Any]:
    """"count=20,split=seen" as keyword arguments of `factory`, whole numbers as int. Raises DatasetError."""
    allowed = [name for name in inspect.signature(factory).parameters if not name.startswith("_")]
    found: dict[str, Any] = {}
    for item in filter(None, text.split(",")):
        name, equals, value = item.partition("=")
        if not equals or name not in allowed or name in found:
            raise DatasetError(Code.DATASET_INVALID, f"{spec!r}: {item!r} is not an option.",
                               f"Options, each once: {', '.join(f'{name}=...' for name in allowed)}.",
                               f"Try: {SPECS[1]}")
        found[name] = int(value) if re.fullmatch(r"-?\d+", value) else value
    return found
