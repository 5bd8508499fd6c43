"""Makes the sprite sheets from the three illustrators of the training world.

Noto Color Emoji: the Debian font file (bitmap strikes of 109 px). OpenMoji and Fluent (styles flat and modern):
unpacked npm packages of SVG drawings. SVG needs `resvg_py` (extra `train`).
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from parsers import MissingPackageError
from parsers.errors import Code
from vision.datasets.sprites import Concept, concepts, fit_cell, save_sheet

STRIKE = 109
"""Pixel size of the bitmaps inside the Noto font."""


def noto_cells(font_file: Path) -> list[NDArray[np.uint8] | None]:
    """One cell per concept from the font's colour bitmaps; None where the font has no glyph."""
    font = ImageFont.truetype(font_file, STRIKE)
    missing = _drawn(font, "\U0010fffd")
    cells: list[NDArray[np.uint8] | None] = []
    for concept in concepts():
        picture = _drawn(font, chr(int(concept.codepoint, 16)))
        empty = picture.getbbox() is None or picture.tobytes() == missing.tobytes()
        cells.append(None if empty else fit_cell(picture))
    return cells


def _drawn(font: ImageFont.FreeTypeFont, text: str) -> Image.Image:
    picture = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(picture).text((8, 8), text, font=font, embedded_color=True)
    return picture


def openmoji_cells(package: Path) -> list[NDArray[np.uint8] | None]:
    """One cell per concept from an unpacked `openmoji` package (`color/svg/<CODEPOINT>.svg`)."""
    folder = package / "color" / "svg"
    return [_svg_cell(folder, [concept.codepoint.upper(), f"{concept.codepoint.upper()}-FE0F"])
            for concept in concepts()]


def fluent_cells(package: Path, style: str) -> list[NDArray[np.uint8] | None]:
    """One cell per concept from an unpacked `fluentui-emoji` package (`icons/<style>/<name-with-dashes>.svg`)."""
    folder = package / "icons" / style
    return [_svg_cell(folder, [_slug(concept)]) for concept in concepts()]


def _slug(concept: Concept) -> str:
    return re.sub(r"[^a-z0-9]+", "-", concept.name.replace("’", "").replace("'", "")).strip("-")


def _svg_cell(folder: Path, stems: list[str]) -> NDArray[np.uint8] | None:
    try:
        import resvg_py
    except ImportError as error:
        raise MissingPackageError(Code.PACKAGE_MISSING, "resvg_py is not installed.", "",
                                  "pip install 'lexiseg[train]'") from error
    for stem in stems:
        path = folder / f"{stem}.svg"
        if path.is_file():
            png = resvg_py.svg_to_bytes(svg_string=path.read_text(encoding="utf-8"), width=216, height=216)
            return fit_cell(Image.open(io.BytesIO(bytes(png))))
    return None


def make_sheets(out: Path, *, noto: Path | None, openmoji: Path | None, fluent: Path | None) -> dict[str, int]:
    """Writes a sheet per given source into `out`; returns how many concepts each illustrator drew."""
    made: dict[str, list[NDArray[np.uint8] | None]] = {}
    if noto:
        made["noto"] = noto_cells(noto)
    if openmoji:
        made["openmoji"] = openmoji_cells(openmoji)
    if fluent:
        made["fluent-flat"] = fluent_cells(fluent, "flat")
        made["fluent-modern"] = fluent_cells(fluent, "modern")
    for name, cells in made.items():
        save_sheet(cells, out / f"{name}.webp")
    return {name: sum(cell is not None for cell in cells) for name, cells in made.items()}
