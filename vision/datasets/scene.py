"""A pictogram scene as plain data: the picture, its masks, its objects and relations, and a caption."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneObject:
    """One thing in a scene."""

    name: str
    superclass: str
    label: int
    """Label id of the dataset."""
    attributes: tuple[str, ...]
    """Sizes and colours that are true: "small", "large", "red" ..."""
    box: tuple[int, int, int, int]
    """x, y, width, height in pixels of the visible part."""
    area: int
    """Visible pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRelation:
    """A spatial relation that is true in the picture; `subject` and `object` index the scene's objects."""

    subject: int
    predicate: str
    object: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """A noun phrase of a caption and what it stands for."""

    phrase: str
    """Without article: "small red dog", "mammal"."""
    noun: str
    """The name or super-class alone."""
    object: int
    """Index of the object in the scene."""
    by_superclass: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """A true sentence about a scene; every object is mentioned, and the texture unless `texture` is None."""

    text: str
    mentions: tuple[Mention, ...]
    texture: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A picture and everything that is known of it."""

    image_HW3: NDArray[np.uint8]
    labels_HW: NDArray[np.uint16]
    instances_HW: NDArray[np.uint8]
    """0 background, k object k - 1."""
    texture: str
    objects: tuple[SceneObject, ...]
    relations: tuple[SceneRelation, ...]
    caption: Caption

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the things and of the texture, once each."""
        return tuple(dict.fromkeys((*(thing.name for thing in self.objects), self.texture)))
