"""Sprite sheets: what is written is what is read, and a folder of drawings serves as well."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from parsers import DatasetError
from vision.datasets.sprites import CELL, concepts, fit_cell, load_sheet, premultiply, save_sheet


def test_a_sheet_survives_writing_and_reading(tmp_path):
    rng = np.random.default_rng(0)
    cells = [rng.integers(1, 256, (CELL, CELL, 4), dtype=np.uint8) for _ in range(3)]
    cells += [None] * (len(concepts()) - 3)
    save_sheet(cells, tmp_path / "own.webp")
    sheet = load_sheet(tmp_path / "own.webp")
    assert list(sheet.available) == [0, 1, 2]
    assert np.array_equal(sheet.rgba_NSS4[1], premultiply(cells[1]))


def test_a_folder_of_drawings_named_by_codepoint(tmp_path):
    picture = Image.new("RGBA", (100, 60))
    picture.paste((255, 0, 0, 255), (30, 20, 70, 40))
    picture.save(tmp_path / f"{concepts()[4].codepoint.upper()}.png")
    picture.save(tmp_path / f"{concepts()[7].codepoint}-FE0F.png")
    sheet = load_sheet(tmp_path)
    assert list(sheet.available) == [4, 7]
    assert (sheet.rgba_NSS4[4, CELL // 2, CELL // 2] == (255, 0, 0, 255)).all()


def test_a_drawing_fills_its_cell_whatever_its_margins():
    picture = Image.new("RGBA", (300, 300))
    picture.paste((0, 0, 255, 255), (140, 140, 160, 150))
    alpha = fit_cell(picture)[..., 3] > 127
    assert alpha.any(0).sum() >= CELL - 4 and 30 <= alpha.any(1).sum() <= 40


@pytest.mark.parametrize("content", ["nothing", "a folder without drawings"])
def test_no_sheet_is_a_clear_error(tmp_path, content):
    with pytest.raises(DatasetError, match=r"code ?point"):
        load_sheet(tmp_path / "missing.webp" if content == "nothing" else tmp_path)
