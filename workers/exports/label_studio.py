"""Label Studio: tasks with predictions, masks as brush strokes."""

from __future__ import annotations

import urllib.parse
from itertools import chain, islice
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from workers.exports.options import Options
from workers.exports.rle import mask_to_label_studio_rle
from workers.exports.source import Picture, Segment, Source
from workers.exports.target import write_list

IMAGE_PREFIX = "/data/local-files/?d="
"""Where Label Studio serves files of a connected folder."""
TASKS_PER_FILE = 1000
"""Label Studio reads an imported file as a whole, and refuses large ones."""
_CONTROL, _IMAGE = "label", "image"


def write_label_studio(source: Source, folder: Path, options: Options) -> None:
    """tasks/00001.json and so on, each with up to 1,000 tasks, and labeling_config.xml."""
    (folder / "labeling_config.xml").write_text(_config(options), encoding="utf-8")
    (folder / "tasks").mkdir()
    version = f"{source.job.model.name or 'lexiseg'} {source.job.model.sha256[:12]}".strip()
    tasks = (_task(picture, version, options) for picture in options.pictures(source))
    for number, first in enumerate(tasks, start=1):
        write_list(folder / "tasks" / f"{number:05d}.json", chain([first], islice(tasks, TASKS_PER_FILE - 1)))


def _task(picture: Picture, version: str, options: Options) -> dict[str, Any]:
    """A picture and one prediction. A picture in which nothing was found has a prediction without regions."""
    results, area, weighted = [], 0, 0.0
    for number, segment in enumerate(picture.segments(options.per_class), start=1):
        results.append(_result(picture, segment, number))
        if segment.score is not None:
            area, weighted = area + segment.area, weighted + segment.score * segment.area
    score = {"score": round(weighted / area, 6)} if area else {}
    address = options.image_prefix + urllib.parse.quote(picture.entry.name)
    return {"data": {"image": address, "name": picture.entry.name},
            "predictions": [{"model_version": version, **score, "result": results}]}


def _result(picture: Picture, segment: Segment, number: int) -> dict[str, Any]:
    mask_HW = np.zeros(picture.categories_HW.shape, bool)
    x, y, width, height = segment.box
    mask_HW[y:y + height, x:x + width] = segment.mask_hw
    score = {} if segment.score is None else {"score": segment.score}
    return {"id": f"region-{number}", "type": "brushlabels", "from_name": _CONTROL, "to_name": _IMAGE,
            "original_width": picture.entry.width, "original_height": picture.entry.height, "image_rotation": 0,
            "value": {"format": "rle", "rle": list(mask_to_label_studio_rle(mask_HW)),
                      "brushlabels": [segment.category.name]}, **score}


def _config(options: Options) -> str:
    labels = "".join(f"    <Label value={quoteattr(category.name)} background=\"{category.css}\"/>\n"
                     for category in options.categories)
    return (f"<View>\n  <Image name=\"{_IMAGE}\" value=\"${_IMAGE}\" zoom=\"true\"/>\n"
            f"  <BrushLabels name=\"{_CONTROL}\" toName=\"{_IMAGE}\">\n{labels}  </BrushLabels>\n</View>\n")
