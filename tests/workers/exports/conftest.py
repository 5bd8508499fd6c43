"""Finished jobs to export."""

from __future__ import annotations

import numpy as np
import pytest

from parsers.vocabulary import Vocabulary
from tests.workers.exports.examples import SHAPES, write_out


@pytest.fixture
def make_out(tmp_path):
    """make_out({"a.jpg": [[0, 1]]}, vocabulary) -> the folder of a finished job."""
    number = iter(range(1000))
    return lambda *arguments, **options: write_out(tmp_path / f"out{next(number)}", *arguments, **options)


@pytest.fixture(scope="session")
def many_classes() -> Vocabulary:
    """300 classes: masks of 16 bits."""
    return Vocabulary.from_names([f"class {number}" for number in range(300)])


@pytest.fixture(scope="session")
def shapes_out(tmp_path_factory):
    """The folder of a job with a picture for every shape, and the masks by name."""
    masks = {f"{name}.png": mask for name, mask in SHAPES.items()}
    return write_out(tmp_path_factory.mktemp("shapes") / "out", masks), masks


@pytest.fixture(scope="session")
def many_classes_out(tmp_path_factory, many_classes):
    """The folder of a job with 300 classes, all of them in one picture, and the masks by name."""
    ids = np.array(sorted(many_classes.names)).reshape(15, 20)
    masks = {"all.png": ids, "ignore.png": np.full((2, 2), 65535), "last.png": np.array([[0, 65535, 301]])}
    return write_out(tmp_path_factory.mktemp("many") / "out", masks, many_classes), masks
