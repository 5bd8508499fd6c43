"""Numbers of a model's card, chosen on training scenes: `python -m vision.train thresholds`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision.clip.encoder import ClipEncoder
from vision.clip.segmenter import ClipSegmenter
from vision.clip.settings import ClipSettings
from vision.datasets.pictograms import PictogramDataset, make_scene
from vision.datasets.sprites import concepts, load_sheet
from vision.evaluate import evaluate
from vision.models import load_card
from vision.train.pictures import TRAINING_SEED

LOGIT_SCALES = (7.0, 10.0, 14.0, 20.0, 30.0)
PRESENCES = (None, (0.1, 0.05), (0.2, 0.05), (0.3, 0.05), (0.2, 0.1), (0.3, 0.1))
"""(presence_threshold, presence_temperature); None: no presence test."""


class TrainingScenes(PictogramDataset):
    """Scenes of seen names from training seeds, the illustrators in turn."""

    name = "training scenes"

    def __init__(self, count: int, sheets: list[Path]) -> None:
        super().__init__(count=count)
        self._sheets = [load_sheet(path) for path in sheets]
        self._pools = [np.array([i for i in sheet.available if concepts()[i].seen]) for sheet in self._sheets]

    def load(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        which = index % len(self._sheets)
        scene = make_scene([TRAINING_SEED, index], self._sheets[which], pool=self._pools[which], bank=2)
        return scene.image_HW3, scene.labels_HW


def grid(model: Path, sheets: list[Path], count: int) -> Iterator[dict[str, float]]:
    """mIoU of seen names (present+20) for each pair of numbers, one row at a time."""
    card = load_card(model)
    dataset = TrainingScenes(count, sheets)
    for scale, presence in product(LOGIT_SCALES, PRESENCES):
        numbers = {"logit_scale": scale}
        if presence:
            numbers |= {"presence_threshold": presence[0], "presence_temperature": presence[1]}
        chosen = card.model_copy(update={"thresholds": numbers})
        chosen._directory = card.directory
        settings = ClipSettings(presence="soft" if presence else "off")
        encoder = ClipEncoder(chosen, device="auto", variant="auto", batch_size=16)
        run = evaluate(dataset, ClipSegmenter(encoder, settings), absent=20)
        yield numbers | {"seen": round(run.groups["seen"].miou or 0.0, 4),
                         "texture": round(run.groups["texture"].miou or 0.0, 4)}
