"""Pictures with ground truth, opened by a short text."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from parsers.errors import Code, DatasetError
from vision.datasets.base import EvalDataset

__all__ = ["PROTOCOLS", "SPECS", "EvalDataset", "open_dataset"]

PROTOCOLS: dict[str, tuple[str, dict[str, Any], str]] = {
    "voc21": ("vision.datasets.voc:voc", {}, "voc"),
    "voc20": ("vision.datasets.voc:voc", {"background": False}, "voc"),
    "context60": ("vision.datasets.context:context", {}, "context"),
    "context59": ("vision.datasets.context:context", {"background": False}, "context"),
    "coco-object": ("vision.datasets.coco:coco_object", {}, "coco_object"),
    "coco-stuff171": ("vision.datasets.coco:coco_stuff", {}, "coco_stuff"),
    "ade150": ("vision.datasets.ade:ade150", {}, "ade150"),
    "ade847": ("vision.datasets.ade:ade847", {}, "ade847"),
}
"""Published protocols: the function that opens the dataset, its fixed arguments, and its file of classes."""
SPECS = ("pictograms", "pictograms:count=2000,seed=1,split=seen", "camvid:PATH",
         "camvid:PATH,split=train", "folder:PATH", "voc21:PATH", "voc21:PATH,split=train,names=sclip",
         *(f"{name}:PATH" for name in list(PROTOCOLS)[1:]))
"""Texts that `open_dataset` understands, as examples."""


def open_dataset(spec: str, **options: Any) -> EvalDataset:
    """The dataset that `spec` names: `pictograms[:count=N,seed=N,split=NAME,sprites=DIR]`,
    `camvid[:PATH][,split=train|val]`, `folder:PATH`, or a published protocol `voc21:PATH[,split=val][,names=LIST]`
    (see `PROTOCOLS`). `options` are given on to the dataset and win over the text.

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
    if kind in PROTOCOLS and rest:
        return open_protocol(kind, rest, options)
    hint = f"folder:{spec}" if Path(spec).is_dir() else SPECS[0]
    raise DatasetError(Code.DATASET_INVALID, f"{spec!r} is not a dataset.", f"Datasets: {'; '.join(SPECS)}.",
                       f"Try: lexiseg eval {hint} --candidates present")


def open_protocol(kind: str, text: str, options: dict[str, Any]) -> EvalDataset:
    """The dataset of a published protocol, from "PATH,split=val,names=sclip". Raises DatasetError."""
    from vision.datasets.protocol import class_table

    path, rest = re.fullmatch(r"(.*?)((?:,\w+=[^,=]*)*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    place, fixed, table = PROTOCOLS[kind]
    module, _, function = place.partition(":")
    opener = getattr(importlib.import_module(module), function)
    chosen = keyword_options(f"{kind}:{text}", rest.lstrip(","), opener, without=("root", "background")) | options
    lists = class_table(table).lists
    if chosen.get("names", "plain") not in lists:
        raise DatasetError(Code.DATASET_INVALID, f"{kind} has no list of names {chosen['names']!r}.",
                           f"Lists: {', '.join(lists)}.", f"Try: lexiseg eval {kind}:{path},names={lists[-1]}")
    return opener(Path(path).expanduser(), **fixed, **chosen)


def keyword_options(spec: str, text: str, factory: Any, *, without: Collection[str] = ()) -> dict[str, Any]:
    """"count=20,split=seen" as keyword arguments of `factory`, whole numbers as int; `without` some of its
    parameters. Raises DatasetError."""
    allowed = [name for name in inspect.signature(factory).parameters
               if not name.startswith("_") and name not in without]
    found: dict[str, Any] = {}
    for item in filter(None, text.split(",")):
        name, equals, value = item.partition("=")
        if not equals or name not in allowed or name in found:
            raise DatasetError(Code.DATASET_INVALID, f"{spec!r}: {item!r} is not an option.",
                               f"Options, each once: {', '.join(f'{name}=...' for name in allowed)}.",
                               f"Try: lexiseg eval {SPECS[1] if spec.startswith('pictograms') else SPECS[6]}")
        found[name] = int(value) if re.fullmatch(r"-?\d+", value) else value
    return found
