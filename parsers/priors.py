"""What a description says about an image: objects, attributes, counts, relations and denials."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ObjectPrior(BaseModel):
    """One object that a text names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """As in the text, without articles."""
    lemma: str
    attributes: tuple[str, ...] = ()
    count: int = Field(default=1, ge=1)


class RelationPrior(BaseModel):
    """A relation between two objects of the same text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: int = Field(ge=0)
    """Index into `ScenePriors.objects`."""
    predicate: str
    object: int = Field(ge=0)
    """Index into `ScenePriors.objects`."""


class ScenePriors(BaseModel):
    """A text and what it says of a scene. Every object that the text names is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    objects: tuple[ObjectPrior, ...] = ()
    relations: tuple[RelationPrior, ...] = ()
    absent: tuple[str, ...] = ()
    """Names that the text denies ("no cars")."""
