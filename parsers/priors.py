"""What a description says about an image: objects, attributes, counts, relations and denials."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Reason = Literal["empty-text", "no-words", "not-latin", "not-english", "not-prose", "too-long", "no-objects"]
"""Why priors are empty, or cover only the start of the text (`too-long`):

empty-text   nothing but white space
no-words     no letters
not-latin    mostly letters of another script
not-english  mostly words of another language
not-prose    JSON
no-objects   English prose that names nothing
too-long     only the first part was read
"""


class ObjectPrior(BaseModel):
    """One object that a text names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """As in the text, without articles."""
    lemma: str
    attributes: tuple[str, ...] = ()
    count: int = Field(default=1, ge=1)
    """The number that the text states. 1 where it states none; a plural then shows in `name` beside `lemma`."""


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
    reason: Reason | None = None
    """Why there is nothing here, or not everything; None otherwise."""
