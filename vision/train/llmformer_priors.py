"""Descriptions for training and validation where no language model has written them: `python -m vision.train priors`.

Pictogram scenes are described by their own captions with mistakes made on purpose: things left out, taken for another
of their super-class, or seen where none are. Photographs with labels are described by a template over the labels.
Both go through `parsers.parse_scenes` and end in the file that a language model's descriptions would be in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from parsers.priors import ScenePriors
from parsers.scene import parse_scenes
from vision.datasets.captions import with_article, write_caption
from vision.datasets.scene import Scene, SceneObject, SceneRelation
from vision.datasets.sprites import concepts, texture_names
from vision.llmformer.prepared import PreparedRow
from vision.train.llmformer_data import IGNORED, Source
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


def _rows(keys: Sequence[str], texts: Iterable[str], prompt: str) -> Iterator[PreparedRow]:
    for key, priors in zip(keys, _parsed(texts), strict=True):
        yield PreparedRow(image_id=key, prompt_id=prompt, model_id="template", priors=priors)


def _parsed(texts: Iterable[str]) -> Iterator[ScenePriors]:
    return parse_scenes(texts)
