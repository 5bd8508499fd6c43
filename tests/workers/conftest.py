"""A small world for the tests of `workers`: a segmenter that goes by colour, and a folder of pictures for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from parsers.vocabulary import Vocabulary
from vision.types import Sample, ScoreMap
from workers.ledger import open_ledger
from workers.spec import JobSpec

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class ColourSegmenter:
    """Each class name is a colour word or unknown; a place belongs to the nearest colour, black and white to nothing.

    Score maps have a quarter of the picture's height and width.
    """

    digest = "c0" * 32

    def score(self, samples: Sequence[Sample]) -> list[ScoreMap]:
        return [self._score(sample) for sample in samples]

    def unknown_words(self, vocabulary) -> list[str]:
        return [name for name in vocabulary.names.values() if name not in COLOURS]

    def warnings(self, vocabulary) -> list[str]:
        return [f"{name!r} is not a colour" for name in self.unknown_words(vocabulary)]

    @staticmethod
    def _score(sample: Sample) -> ScoreMap:
        height, width = sample.image_HW3.shape[:2]
        size = max(1, width // 4), max(1, height // 4)
        small = Image.fromarray(sample.image_HW3).resize(size, Image.Resampling.BOX)
        pixels_hw3 = np.asarray(small, np.float32)
        targets = [(127, 127, 127)] + [COLOURS.get(name, (999, 999, 999)) for name in sample.vocabulary.names.values()]
        distance_Chw = np.stack([np.abs(pixels_hw3 - target).sum(-1) for target in targets])
        spread_hw = np.ptp(pixels_hw3, axis=-1)
        distance_Chw[0] = np.where(spread_hw < 60, -400, 400)
        scores_Chw = (-distance_Chw / 20).astype(np.float16)
        return ScoreMap(scores_CHW=scores_Chw, class_ids=(0, *sample.vocabulary.names),
                        names=("background", *sample.vocabulary.names.values()),
                        image_scores_C=np.ones(len(targets), np.float32))


@pytest.fixture
def segmenter() -> ColourSegmenter:
    return ColourSegmenter()


def _paint(path: Path, *blocks: str, size=(48, 32)) -> Path:
    """Writes a picture of equal upright stripes, one per colour word."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size)
    for index, block in enumerate(blocks):
        image.paste(COLOURS.get(block, block), (index * size[0] // len(blocks), 0, size[0], size[1]))
    image.save(path)
    return path


@pytest.fixture
def paint():
    """paint(path, "red", "green", size=(width, height))"""
    return _paint


@pytest.fixture
def photos(tmp_path, paint) -> Path:
    """Five good pictures in two folders and three bad ones."""
    root = tmp_path / "photos"
    paint(root / "a.jpg", "red", "green")
    paint(root / "a.png", "blue")
    paint(root / "deep" / "b.png", "green", "blue", size=(41, 67))
    paint(root / "deep" / "c.bmp", "red", size=(1, 1))
    paint(root / "nothing.png", "black")
    (root / "empty.jpg").touch()
    (root / "deep" / "cut.png").write_bytes((root / "a.png").read_bytes()[:60])
    (root / "text.jpg").write_text("not a picture")
    (root / "notes.txt").write_text("ignored")
    return root


@pytest.fixture
def make_spec(tmp_path, photos):
    """make_spec(overlay=True, ...): a job on `photos` for the three colours."""

    def make(**changes) -> JobSpec:
        values = {"inputs": (str(photos),), "vocabulary": Vocabulary.from_names("red, green, blue"),
                  "out": str(tmp_path / "out"), "model": "colours", "batch": 2, "workers": 2}
        return JobSpec(**(values | changes))

    return make


@pytest.fixture
def ledger(tmp_path):
    """An empty ledger."""
    opened = open_ledger(str(tmp_path / "ledger.sqlite"))
    yield opened
    opened.close()


class Nobody:
    """A folder in which a user without rights can be played; needed because root may read everything."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def act(self):
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)


@pytest.fixture
def nobody():
    path = Path(tempfile.mkdtemp())
    path.chmod(0o777)
    yield Nobody(path)
    for folder in path.rglob("*"):
        folder.chmod(0o755)
    shutil.rmtree(path)
