"""Indexed PNG masks: the layout of a job's own masks, in the categories of the export."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from parsers.files import pretty_json
from workers.drawing import encode_mask, ignore_id
from workers.exports.options import Options
from workers.exports.source import IGNORE, Source


def write_masks(source: Source, folder: Path, options: Options) -> None:
    """masks/NAME.png and classes.json. 8 bits with the classes' colours where all category ids are at most 254, else
    16-bit grey."""
    colours = {category.id: category.colour for category in options.categories}
    ignored = ignore_id(list(colours))
    names = {"0": "background"} | {str(category.id): category.name for category in options.categories}
    (folder / "classes.json").write_bytes(pretty_json(names | {"ignore_id": ignored}))
    (folder / "masks").mkdir()
    for picture in options.pictures(source):
        path = folder / "masks" / f"{picture.entry.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        categories_HW = picture.categories_HW
        path.write_bytes(encode_mask(np.where(categories_HW == IGNORE, ignored, categories_HW), colours))
