"""YOLO segmentation: a text file per picture, a polygon per line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import yaml

from workers.exports.options import Options
from workers.exports.polygons import mask_to_polygon
from workers.exports.source import Picture, Source
from workers.exports.target import write_list

_COMMENT = ("# Masks made by lexiseg: a polygon per connected part, holes joined by bridges without width.\n"
            "# Put the pictures into images/ beside labels/, in the same sub-folders.\n")


def write_yolo(source: Source, folder: Path, options: Options) -> None:
    """labels/NAME.txt with NAME without its suffix, data.yaml, and renames.json: the pictures that share a label file's
    name with another, and what each has to be called."""
    index = {category.id: number for number, category in enumerate(options.categories)}
    names = {number: category.name for number, category in enumerate(options.categories)}
    text = yaml.safe_dump({"train": "images", "val": "images", "names": names}, allow_unicode=True, sort_keys=False,
                          width=1000)
    (folder / "data.yaml").write_text(_COMMENT + text, encoding="utf-8")
    (folder / "labels").mkdir()

    def renames() -> Iterator[dict[str, str]]:
        for picture in options.pictures(source):
            name = _write_label(folder / "labels", picture.entry.name, "".join(_lines(picture, index)))
            if name != picture.entry.name:
                yield {"picture": picture.entry.name, "rename_to": name}

    write_list(folder / "renames.json", renames())


def _write_label(labels: Path, name: str, text: str) -> str:
    """Writes the label file of a picture and returns what the picture has to be called for it: its own name, or, where
    a.jpg took the file a.txt before a.png, a.png.png, whose label file is a.png.txt."""
    path = PurePosixPath(name)
    stem = path.with_suffix("") if path.suffix else path
    while True:
        file = labels / f"{stem}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with file.open("x", encoding="ascii") as lines:
                lines.write(text)
        except FileExistsError:
            stem = stem.with_name(stem.name + path.suffix)
            continue
        return f"{stem}{path.suffix}"


def _lines(picture: Picture, index: dict[int, int]) -> Iterator[str]:
    """Category number and the corners as fractions of width and height, 7 decimals: exact to 1/100 of a pixel up to
    100,000 pixels."""
    width, height = picture.entry.width, picture.entry.height
    for segment in picture.parts():
        left, top = segment.box[:2]
        corners = (f"{_fraction(left + x, width)} {_fraction(top + y, height)}"
                   for x, y in mask_to_polygon(segment.mask_hw))
        yield f"{index[segment.category.id]} {' '.join(corners)}\n"


def _fraction(position: int, size: int) -> str:
    return f"{position / size:.7f}".rstrip("0").rstrip(".")
