"""Descriptions for training and validation where no language model has written them: `python -m vision.train priors`.

Pictogram scenes are described by their own captions with mistakes made on purpose: things left out, taken for another
of their super-class, or seen where none are. Photographs with labels are described by a template over the labels.
Both go through `parsers.parse_scenes` and end in the file that a language model's descriptions would be in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator

from parsers.errors import Code, DatasetError
from parsers.prepared import PreparedRow, write_prepared
from parsers.scene import parse_scenes
from vision.datasets import open_dataset
from vision.datasets.captions import with_article, write_caption
from vision.datasets.pictograms import PictogramDataset
from vision.datasets.scene import Scene, SceneObject, SceneRelation
from vision.datasets.sprites import concepts, texture_names
from vision.llmformer.words import write_table
from vision.train.llmformer_config import TrainingConfig, VectorsConfig
from vision.train.llmformer_data import IGNORED, PictogramSource, Source, open_source
from vision.train.pictures import TRAINING_SEED


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistakes:
    """How often a description is wrong, each in [0, 1]."""

    left_out: float = 0.2
    """Of the things."""
    mistaken: float = 0.15
    """Of the things that are told: called another name of their super-class."""
    added: float = 0.1
    """Of the descriptions: a thing more that is not there."""
    ground: float = 0.1
    """Of the descriptions: another background."""

    @property
    def id(self) -> str:
        """For `prompt_id`."""
        return f"caption, mistakes {self.left_out} {self.mistaken} {self.added} {self.ground}"


def describe_scene(scene: Scene, mistakes: Mistakes, rng: Generator) -> str:
    """A caption of the scene as an imperfect observer would give it."""
    told = [k for k in range(len(scene.objects)) if rng.random() >= mistakes.left_out]
    things = [_mistaken(scene.objects[k], rng) if rng.random() < mistakes.mistaken else scene.objects[k] for k in told]
    place = {old: new for new, old in enumerate(told)}
    relations = tuple(SceneRelation(subject=place[r.subject], predicate=r.predicate, object=place[r.object])
                      for r in scene.relations if r.subject in place and r.object in place)
    if rng.random() < mistakes.added or not things:
        things.append(_imagined(rng))
    texture = str(rng.choice(texture_names())) if rng.random() < mistakes.ground else scene.texture
    return write_caption(tuple(things), relations, texture, rng).text


def _mistaken(thing: SceneObject, rng: Generator) -> SceneObject:
    others = [c.name for c in concepts() if c.superclass == thing.superclass and c.seen and c.name != thing.name]
    return replace(thing, name=str(rng.choice(others))) if others else thing


def _imagined(rng: Generator) -> SceneObject:
    seen = [concept for concept in concepts() if concept.seen]
    chosen = seen[int(rng.integers(len(seen)))]
    return SceneObject(name=chosen.name, superclass=chosen.superclass, label=0, attributes=(), box=(0, 0, 1, 1), area=0)


def scene_rows(keys: Iterable[str], scene: Callable[[int], Scene], mistakes: Mistakes,
               seed: int) -> Iterator[PreparedRow]:
    """Rows for scenes 0, 1, ...; a row depends on (seed, number) alone."""
    keys = list(keys)
    texts = (describe_scene(scene(i), mistakes, np.random.default_rng([TRAINING_SEED + 7, seed, i]))
             for i in range(len(keys)))
    return _rows(keys, texts, mistakes.id)


def label_rows(source: Source, *, left_out: float, seed: int = 0) -> Iterator[PreparedRow]:
    """Rows for labelled photographs, from a template over the names of their labels."""
    keys = [source.key(i) for i in range(len(source))]
    texts = (_listing(source, i, left_out, np.random.default_rng([TRAINING_SEED + 8, seed, i]))
             for i in range(len(keys)))
    return _rows(keys, texts, f"labels, {left_out} left out")


def _listing(source: Source, i: int, left_out: float, rng: Generator) -> str:
    labels_HW = source.load(i)[1]
    present = [source.names[label] for label in np.unique(labels_HW[labels_HW != IGNORED])]
    told = [with_article(name, "a") for name in rng.permutation(present) if rng.random() >= left_out]
    if not told:
        return "a picture"
    return "there is " + (", ".join(told[:-1]) + " and " + told[-1] if len(told) > 1 else told[0])


def prepare_missing(config: TrainingConfig, say: Callable[[str], None]) -> None:
    """Makes the files of descriptions and of text vectors that a training file names and that are not there. Raises
    DatasetError where there is nothing to make them from."""
    data, evaluation = config.data, config.evaluation
    if data.priors and not Path(data.priors).is_file():
        say(f"making {data.priors}")
        source = open_source(data, config.model.window)
        if isinstance(source, PictogramSource):
            keys = [source.key(i) for i in range(len(source))]
            write_prepared(Path(data.priors), scene_rows(keys, source.scene, Mistakes(), 1))
        elif data.kind == "folder":
            raise DatasetError(Code.DATASET_INVALID, f"{data.priors} is not there.", "A description of each picture, "
                               "which shows nothing that only its labels know.",
                               "Have them written: lexiseg describe IMAGES --jsonl > FILE")
        else:
            write_prepared(Path(data.priors), label_rows(source, left_out=0.1))
    if evaluation and evaluation.priors and not Path(evaluation.priors).is_file():
        say(f"making {evaluation.priors}")
        write_prepared(Path(evaluation.priors), validation_rows(evaluation.dataset, Mistakes()))


def validation_rows(dataset: str, mistakes: Mistakes) -> Iterator[PreparedRow]:
    """Rows for the scenes of a pictogram data set, as `open_dataset` names it. Raises DatasetError for another."""
    opened = open_dataset(dataset)
    if not isinstance(opened, PictogramDataset):
        raise DatasetError(Code.DATASET_INVALID, f"{dataset} is no pictogram data set.",
                           "Only they come with captions to make stand-ins from.",
                           "Give a file with descriptions of its pictures.")
    return scene_rows((opened.key(i) for i in range(len(opened))), opened.scene, mistakes, 2)


def make_vectors(config: VectorsConfig, out: Path) -> None:
    """Writes a table of text vectors: for each name the mean of its sources, less the mean over the names (unrelated
    names of CLIP are much alike; centred they are told apart sooner; ours), along the axes that the names span, as
    many as there are names (cosines stay as they are, and a head for every pixel has less to write). Raises
    DatasetError."""
    try:
        rows = np.load(config.array, allow_pickle=False)
        listed = json.loads(Path(config.names).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(Code.DATASET_INVALID, f"{config.array} and {config.names} cannot be read: {error}.",
                           "A NumPy array and a JSON list of its rows' names.", "Correct data.vectors.") from error
    missing = sorted({source for sources in config.sources.values() for source in sources} - set(listed))
    if missing:
        raise DatasetError(Code.DATASET_INVALID, f"{config.names} lacks {', '.join(missing)}.",
                           f"It has for example {', '.join(listed[:5])}.", "Correct data.vectors.sources.")
    means = {name: torch.from_numpy(rows[[listed.index(source) for source in sources]].mean(0))
             for name, sources in config.sources.items()}
    vectors_Nc = torch.stack(list(means.values()))
    vectors_Nc = vectors_Nc - vectors_Nc.mean(0)
    axes_cN = torch.linalg.svd(vectors_Nc, full_matrices=False).Vh.T
    write_table(out, dict(zip(means, vectors_Nc @ axes_cN, strict=True)))


def _rows(keys: Sequence[str], texts: Iterable[str], prompt: str) -> Iterator[PreparedRow]:
    for key, priors in zip(keys, parse_scenes(texts), strict=True):
        yield PreparedRow(image_id=key, prompt_id=prompt, model_id="template", priors=priors)
