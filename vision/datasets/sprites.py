"""Drawings of the things in pictogram scenes: a sheet per illustrator.

A sheet is one RGBA picture with a cell per concept, in the order of `concepts.json`; an empty cell means that the
illustrator did not draw that concept. The Noto sheet ships with the project; others are made by
`python -m vision.train sprites` for training, or read from a folder of `<codepoint>.png` files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from parsers import Code, DatasetError

CELL = 72
"""Side of a cell in pixels."""
COLUMNS = 32
PICTOGRAMS = Path(__file__).resolve().parents[2] / "models" / "pocket" / "pictograms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """One drawable thing."""

    name: str
    """Unicode short name in lower case."""
    codepoint: str
    """Hexadecimal, lower case."""
    superclass: str
    seen: bool
    """Whether models may be trained on the name."""


@cache
def concepts() -> tuple[Concept, ...]:
    """The 786 concepts in the order of the sheets."""
    rows = json.loads((PICTOGRAMS / "concepts.json").read_text(encoding="utf-8"))["concepts"]
    return tuple(
        Concept(name=row["name"], codepoint=row["codepoint"], superclass=row["superclass"], seen=row["split"] == "seen")
        for row in rows
    )


@cache
def texture_names() -> tuple[str, ...]:
    """The eight backgrounds."""
    return tuple(json.loads((PICTOGRAMS / "concepts.json").read_text(encoding="utf-8"))["textures"])


@dataclass(frozen=True)
class SpriteSheet:
    """The drawings of one illustrator.

    rgba_NSS4: (concepts, CELL, CELL, 4) uint8, colour premultiplied by alpha.
    """

    name: str
    rgba_NSS4: NDArray[np.uint8]

    @cached_property
    def available(self) -> NDArray[np.intp]:
        """Indices of the concepts that this illustrator drew."""
        return np.flatnonzero(self.rgba_NSS4[..., 3].max(axis=(1, 2)) > 0)

    @cached_property
    def pyramid(self) -> dict[int, list[Image.Image]]:
        """Premultiplied (mode RGBa) pictures of every concept by side in pixels: full, two thirds and one third."""
        levels: dict[int, list[Image.Image]] = {}
        for side in (CELL, CELL * 2 // 3, CELL // 3):
            full = (Image.frombuffer("RGBa", (CELL, CELL), cell.tobytes(), "raw", "RGBa", 0, 1)
                    for cell in self.rgba_NSS4)
            levels[side] = [picture.resize((side, side), Image.Resampling.BOX) if side != CELL else picture
                            for picture in full]
        return levels


def premultiply(rgba_SS4: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Straight to premultiplied alpha; same shape and dtype."""
    out = rgba_SS4.copy()
    alpha = rgba_SS4[..., 3:].astype(np.uint16)
    out[..., :3] = (rgba_SS4[..., :3] * alpha + 127) // 255
    return out


def fit_cell(picture: Image.Image) -> NDArray[np.uint8]:
    """Crops a drawing to what it shows and fits it, centred, into a cell: (CELL, CELL, 4) uint8, straight alpha."""
    picture = picture.convert("RGBA")
    box = picture.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox()
    cell = Image.new("RGBA", (CELL, CELL))
    if box is None:
        return np.array(cell)
    picture = picture.crop(box)
    scale = (CELL - 2) / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    cell.paste(picture, ((CELL - size[0]) // 2, (CELL - size[1]) // 2))
    return np.array(cell)


def save_sheet(cells: list[NDArray[np.uint8] | None], path: Path) -> None:
    """Writes straight-alpha cells (None: not drawn) as one lossless WebP picture."""
    rows = -(-len(cells) // COLUMNS)
    sheet = np.zeros((rows * CELL, COLUMNS * CELL, 4), np.uint8)
    for index, cell in enumerate(cells):
        if cell is not None:
            y, x = divmod(index, COLUMNS)
            sheet[y * CELL : (y + 1) * CELL, x * CELL : (x + 1) * CELL] = cell
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path, lossless=True, quality=100, method=6)


def load_sheet(source: Path | None = None) -> SpriteSheet:
    """Reads a sheet (`.webp`) or a folder of `<codepoint>.png` files (any case, as most emoji sets name them).

    None is the Noto sheet of the project. Raises DatasetError if nothing usable is there.
    """
    source = source or PICTOGRAMS / "noto.webp"
    if source.is_dir():
        return SpriteSheet(source.name, np.stack(list(map(premultiply, _cells_of_folder(source)))))
    if not source.is_file():
        raise DatasetError(Code.DATASET_INVALID, f"{source} does not exist.",
                           "A sprite sheet, or a folder of drawings named <codepoint>.png.",
                           "Give sprites=FOLDER, or leave it out for the built-in drawings.")
    with Image.open(source) as picture:
        sheet = np.array(picture.convert("RGBA"))
    count = len(concepts())
    cells = sheet.reshape(-1, CELL, COLUMNS, CELL, 4).swapaxes(1, 2).reshape(-1, CELL, CELL, 4)[:count]
    return SpriteSheet(source.stem, premultiply(cells))  # (concepts, CELL, CELL, 4)


def _cells_of_folder(folder: Path) -> list[NDArray[np.uint8]]:
    by_code = {path.stem.lower().removesuffix("-fe0f"): path for path in sorted(folder.glob("*.png"))}
    found = [by_code.get(concept.codepoint) for concept in concepts()]
    if not any(found):
        raise DatasetError(Code.DATASET_INVALID, f"{folder} holds no drawing of a known concept.",
                           "Files named by Unicode code point, such as 1f415.png.",
                           "Point sprites= at the folder that holds the PNG files.")
    empty = np.zeros((CELL, CELL, 4), np.uint8)
    cells = []
    for path in found:
        if path is None:
            cells.append(empty)
        else:
            with Image.open(path) as picture:
                cells.append(fit_cell(picture))
    return cells
