"""COCO: instances with masks as compressed run lengths, and panoptic segmentation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from parsers.errors import Code, MissingPackageError
from workers.exports.options import Options
from workers.exports.source import ImageEntry, Picture, Segment, Source
from workers.exports.target import write_lists


def write_coco(source: Source, folder: Path, options: Options) -> None:
    """annotations.json. Raises MissingPackageError where pycocotools is not installed."""
    try:
        from pycocotools import mask as coco_mask
    except ImportError as error:
        raise MissingPackageError(Code.PACKAGE_MISSING, "COCO masks are encoded by pycocotools, which is not "
                                  "installed.", "", "pip install lexiseg[exports]") from error

    def annotations() -> Iterator[dict[str, Any]]:
        number = 0
        for picture in options.pictures(source):
            frame_HW = np.zeros(picture.categories_HW.shape, np.uint8, order="F")
            for segment in picture.segments(options.per_class):
                number += 1
                x, y, width, height = segment.box
                frame_HW[y:y + height, x:x + width] = segment.mask_hw
                counts = coco_mask.encode(frame_HW)["counts"].decode("ascii")
                frame_HW[y:y + height, x:x + width] = 0
                yield {"id": number, "image_id": picture.entry.id, "category_id": segment.category.id,
                       "segmentation": {"size": list(frame_HW.shape), "counts": counts}, **_measures(segment)}

    write_lists(folder / "annotations.json", {"info": _info(source), "licenses": []},
                [("categories", _categories(options)), ("images", map(_image, source.entries())),
                 ("annotations", annotations())])


def write_panoptic(source: Source, folder: Path, options: Options) -> None:
    """panoptic.json, and panoptic/NAME.png whose colours are segment ids (red + 256 green + 65536 blue; 0: none)."""
    is_thing = int(not options.per_class)  # of stuff a picture has at most one segment

    def annotations() -> Iterator[dict[str, Any]]:
        for picture in options.pictures(source):
            file_name = f"{picture.entry.name}.png"
            ids_HW, segments = _paint(picture, options.per_class)
            path = folder / "panoptic" / file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            colours_HW3 = np.stack([ids_HW & 255, ids_HW >> 8 & 255, ids_HW >> 16], axis=-1).astype(np.uint8)
            Image.fromarray(colours_HW3).save(path, "PNG", compress_level=1)
            yield {"image_id": picture.entry.id, "file_name": file_name, "segments_info": segments}

    (folder / "panoptic").mkdir()
    categories = [{**category, "isthing": is_thing} for category in _categories(options)]
    write_lists(folder / "panoptic.json", {"info": _info(source), "licenses": []},
                [("categories", categories), ("images", map(_image, source.entries())),
                 ("annotations", annotations())])


def _paint(picture: Picture, per_class: bool) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """(H, W) segment ids from 1, and what is said of each segment."""
    ids_HW = np.zeros(picture.categories_HW.shape, np.uint32)
    segments: list[dict[str, Any]] = []
    for number, segment in enumerate(picture.segments(per_class), start=1):
        x, y, width, height = segment.box
        ids_HW[y:y + height, x:x + width][segment.mask_hw] = number
        segments.append({"id": number, "category_id": segment.category.id, **_measures(segment)})
    return ids_HW, segments


def _measures(segment: Segment) -> dict[str, Any]:
    score = {} if segment.score is None else {"score": segment.score}
    return {"area": segment.area, "bbox": list(segment.box), "iscrowd": 0, **score}


def _image(entry: ImageEntry) -> dict[str, Any]:
    return {"id": entry.id, "width": entry.width, "height": entry.height, "file_name": entry.name}


def _categories(options: Options) -> list[dict[str, Any]]:
    return [{"id": category.id, "name": category.name, "supercategory": category.group}
            for category in options.categories]


def _info(source: Source) -> dict[str, Any]:
    """Where the masks come from; no dates, so that equal jobs give equal files."""
    return {"description": "Masks made by lexiseg", "version": "1", "vocabulary_sha256": source.vocabulary.digest,
            "model": source.job.model.name, "model_sha256": source.job.model.sha256}
