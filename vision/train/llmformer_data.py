"""What LLMFormer learns from: pictures, labels and descriptions in endless batches.

Batch n depends on the configuration and n alone, so a run that is resumed sees what it would have seen.

Shapes: B batch; S side of the window; H, W picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from parsers.errors import Code, DatasetError, LexisegError
from parsers.prepared import PreparedPriors
from parsers.priors import ScenePriors
from vision.datasets.base import EvalDataset
from vision.datasets.pictograms import FIRST_CONCEPT_ID, make_scene
from vision.datasets.scene import Scene
from vision.datasets.sprites import SpriteSheet, concepts, load_sheet, texture_names
from vision.llmformer.config import LlmformerConfig
from vision.llmformer.priors import PriorPhrases, prior_phrases
from vision.train.llmformer_config import DataConfig
from vision.train.llmformer_loss import IGNORED
from vision.train.pictures import TRAINING_SEED

SCENES = 60
"""Added to the first training seed: LLMFormer's scenes are not those of the pocket CLIP."""
TRIES = 10
"""Windows that are tried until one shows a class."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Pictures with labels and phrases."""

    images_B3SS: Tensor
    """uint8, RGB."""
    labels_BSS: Tensor
    """int64: index into the names of the source, `IGNORED` where nothing counts."""
    phrases: tuple[PriorPhrases, ...]


class Source(Protocol):
    """Labelled pictures by number."""

    names: tuple[str, ...]

    def __len__(self) -> int: ...

    def key(self, i: int) -> str: ...

    def load(self, i: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """image_HW3 and labels_HW (index into `names`, or `IGNORED`)."""
        ...


class PictogramSource:
    """Scenes of seen names from training seeds, the illustrators in turn."""

    def __init__(self, count: int, sheets: list[Path], loose: float) -> None:
        self.count, self.sheets, self.loose = count, sheets, loose
        self._loaded: list[tuple[SpriteSheet, NDArray[np.intp]]] = []
        seen = [i for i, concept in enumerate(concepts()) if concept.seen]
        ids = [*range(1, 1 + len(texture_names())), *(FIRST_CONCEPT_ID + i for i in seen)]
        self.names = (*texture_names(), *(concepts()[i].name for i in seen))
        self._index = np.full(FIRST_CONCEPT_ID + len(concepts()), IGNORED, np.int64)
        self._index[ids] = np.arange(len(ids))

    def __len__(self) -> int:
        return self.count

    def key(self, i: int) -> str:
        return f"training_{i:06d}"

    def scene(self, i: int) -> Scene:
        """Everything about one scene."""
        if not self._loaded:
            for path in self.sheets:
                sheet = load_sheet(path)
                self._loaded.append((sheet, np.array([k for k in sheet.available if concepts()[k].seen])))
        sheet, pool = self._loaded[i % len(self._loaded)]
        loose = (i // len(self._loaded)) % 10 < 10 * self.loose
        return make_scene([TRAINING_SEED + SCENES, i], sheet, pool=pool, bank=2, loose=loose)

    def load(self, i: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        scene = self.scene(i)
        return scene.image_HW3, self._index[scene.labels_HW]


class FolderSource:
    """A data set of `vision.datasets` with its ids as indexes. renamed: class name to the name that is learned."""

    def __init__(self, dataset: EvalDataset, renamed: dict[str, str]) -> None:
        self._dataset = dataset
        names = {id: renamed.get(name, name) for id, name in sorted(dataset.classes.items())}
        self.names = tuple(dict.fromkeys(names.values()))
        self._index = np.full(65536, IGNORED, np.int64)
        for id, name in names.items():
            self._index[id] = self.names.index(name)
        if dataset.ignore_id is not None:
            self._index[dataset.ignore_id] = IGNORED

    def __len__(self) -> int:
        return len(self._dataset)

    def key(self, i: int) -> str:
        return self._dataset.key(i)

    def load(self, i: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        image_HW3, labels_HW = self._dataset.load(i)
        return image_HW3, self._index[labels_HW]


class SyntheticSource:
    """Coloured rectangles of `names` on noise: nothing to learn, but the shapes and the work of a real data set."""

    def __init__(self, count: int, names: tuple[str, ...], side: int) -> None:
        self.count, self.names, self.side = count, names, side

    def __len__(self) -> int:
        return self.count

    def key(self, i: int) -> str:
        return f"synthetic_{i:06d}"

    def load(self, i: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        rng = np.random.default_rng([TRAINING_SEED, i])
        image_HW3 = rng.integers(0, 60, (self.side, self.side, 3), np.uint8)
        labels_HW = np.zeros((self.side, self.side), np.int64)
        for _ in range(4):
            y, x = rng.integers(0, self.side // 2, 2)
            h, w = rng.integers(self.side // 4, self.side // 2, 2)
            label = int(rng.integers(len(self.names)))
            labels_HW[y:y + h, x:x + w] = label
            image_HW3[y:y + h, x:x + w] += np.array([label * 37 % 190, label * 71 % 190, label * 13 % 190], np.uint8)
        return image_HW3, labels_HW


def open_source(config: DataConfig, window: int) -> Source:
    """The labelled pictures that a configuration names. Raises DatasetError: what is not there, or no class."""
    if config.kind == "pictograms":
        sheets = sorted(Path(config.sprites).glob("*.webp"))
        if not sheets:
            raise DatasetError(Code.DATASET_INVALID, f"{config.sprites} holds no sprite sheet.",
                               "The sheets of the illustrators.", "Make them: python -m vision.train sprites --help")
        return PictogramSource(config.count, sheets, config.loose)
    if config.kind == "synthetic":
        return SyntheticSource(config.count, tuple(config.names.values()) or ("dog", "cat", "grass"), window)
    if config.path is None:
        raise DatasetError(Code.DATASET_INVALID, f"data.kind {config.kind} without data.path.",
                           "The folder of the data set.", "Add it to the training file.")
    if config.kind == "camvid":
        from vision.datasets.camvid import camvid

        return FolderSource(camvid(Path(config.path), split="train"), config.names)
    from vision.datasets.folder import FolderDataset

    return FolderSource(FolderDataset(Path(config.path)), config.names)


class LabelledPictures(IterableDataset):
    """Endless batches; process `rank` of `world` gets every `world`-th. start: the first step."""

    def __init__(self, source: Source, config: DataConfig, model: LlmformerConfig, *, batch: int, seed: int,
                 start: int = 0, rank: int = 0, world: int = 1) -> None:
        self.source, self.config, self.model = source, config, model
        self.batch, self.seed, self.start, self.rank, self.world = batch, seed, start, rank, world
        self.priors = PreparedPriors.read(Path(config.priors)) if config.priors else None

    def __iter__(self) -> Iterator[Batch | LexisegError]:
        """What is wrong with a picture comes as the last value: a loader would make an unknown error of it."""
        worker = get_worker_info()  # a loader asks its workers in turn, so each makes every n-th batch
        number, stride = (self.start + worker.id, worker.num_workers) if worker else (self.start, 1)
        while True:
            try:
                yield self.make(number)
            except LexisegError as error:
                yield error
                return
            number += stride

    def make(self, number: int) -> Batch:
        """The batch of step `number` for this process."""
        total = len(self.source)
        images, labels, phrases = [], [], []
        for row in range(self.batch):
            place = (number * self.world + self.rank) * self.batch + row
            epoch, offset = divmod(place, total)
            order = _order(total, self.seed, epoch)
            rng = np.random.default_rng([TRAINING_SEED + self.seed, 1, place])
            image_SS3, labels_SS = self._window(int(order[offset]), rng)
            images.append(image_SS3)
            labels.append(labels_SS)
            phrases.append(self._phrases(int(order[offset]), rng))
        return Batch(images_B3SS=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
                     labels_BSS=torch.from_numpy(np.stack(labels)), phrases=tuple(phrases))

    def _phrases(self, i: int, rng: np.random.Generator) -> PriorPhrases:
        shown: ScenePriors | None = None
        if self.priors is not None and rng.random() < self.config.prior_share:
            shown = self.priors.of(self.source.key(i))
        return prior_phrases(shown, self.model.objects, self.model.relations)

    def _window(self, i: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """A square of the window's size, changed at random, with a class in it."""
        image_HW3, labels_HW = self.source.load(i)
        for _ in range(TRIES):
            image_SS3, labels_SS = cut(image_HW3, labels_HW, self.model.window, self.config, rng)
            if (labels_SS != IGNORED).any():
                return image_SS3, labels_SS
        raise DatasetError(Code.DATASET_INVALID, f"The picture {self.source.key(i)!r} shows no class.",
                           "Every picture for training has labels of named classes.", "Take it out of the data set.")


_orders: dict[tuple[int, int, int], NDArray[np.intp]] = {}


def _order(total: int, seed: int, epoch: int) -> NDArray[np.intp]:
    """The pictures of one round in random order; the last one asked for is remembered."""
    key = (total, seed, epoch)
    if key not in _orders:
        if len(_orders) > 2:
            _orders.clear()
        _orders[key] = np.random.default_rng([seed, epoch]).permutation(total)
    return _orders[key]


def cut(image_HW3: NDArray[np.uint8], labels_HW: NDArray[np.int64], side: int, config: DataConfig,
        rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A random window of `side` pixels; what the picture does not fill is grey and ignored."""
    if image_HW3.shape[:2] != (side, side) or config.zoom != (1.0, 1.0):
        height, width = image_HW3.shape[:2]
        scale = side / min(height, width) * float(np.exp(rng.uniform(*np.log(config.zoom))))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = Image.fromarray(image_HW3).resize(size, Image.Resampling.BILINEAR)
        names = Image.fromarray(labels_HW.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
        top, left = (_start(length, side, rng) for length in (size[1], size[0]))
        canvas, empty = Image.new("RGB", (side, side), (124, 116, 104)), Image.new("I", (side, side), IGNORED)
        canvas.paste(image, (-left, -top))
        empty.paste(names, (-left, -top))
        image_HW3, labels_HW = np.asarray(canvas), np.asarray(empty).astype(np.int64)
    if config.mirror and rng.random() < 0.5:
        image_HW3, labels_HW = image_HW3[:, ::-1], labels_HW[:, ::-1]
    if config.jitter:
        picture = Image.fromarray(np.ascontiguousarray(image_HW3))
        for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            picture = change(picture).enhance(1 + float(rng.uniform(-config.jitter, config.jitter)))
        image_HW3 = np.asarray(picture)
    return np.ascontiguousarray(image_HW3), np.ascontiguousarray(labels_HW)


def _start(length: int, side: int, rng: np.random.Generator) -> int:
    """Where a window begins along an axis; before the picture (negative) where the picture is the shorter one."""
    return int(rng.integers(0, length - side + 1)) if length >= side else -int(rng.integers(0, side - length + 1))
