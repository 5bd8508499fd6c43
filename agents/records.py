"""What the language model is asked for, as typed records. Everything here is data: nothing a model says is ever run."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from parsers.priors import ScenePriors

Outcome = Literal["first", "repaired", "fallback"]
"""How a record came about: the first answer was valid; the second was, after one repair; neither, so it was made
without the language model."""
Detail = Literal["simple", "detailed"]


class Record(BaseModel):
    """Base of the records."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Subclasses(Record):
    """Finer names of a class; empty where the model gave none that can be used."""

    subclasses: tuple[str, ...] = ()


class Partition(Record):
    """Class names in clusters; every name is in exactly one."""

    clusters: dict[str, tuple[str, ...]]


class Assignment(Record):
    """The clusters of a partition that a picture shows, in the order of the partition."""

    clusters: tuple[str, ...] = ()


class Description(Record):
    """What a picture shows, in prose. Empty where the model gave no prose."""

    text: str = ""


class Presence(Record):
    """Whether a picture shows a thing; None where the model did not say."""

    present: bool | None = None


class Filter(Record):
    """What a target has to be like: "red", or "next to" a "bench". One of `attribute` and `relation` is given."""

    target: str
    attribute: str = ""
    relation: str = ""
    object: str = ""
    """The other side of the relation."""


class Plan(Record):
    """What a request in words asks for."""

    targets: tuple[str, ...] = Field(default=(), max_length=32)
    """Names to look for; with `candidate_free` they may be empty: everything in the picture."""
    subclasses: bool = False
    """A target is a kind of thing ("every animal"), so its subclasses are looked for, too."""
    candidate_free: bool = False
    """The request also means things that it does not name ("whatever stands on the sand")."""
    filters: tuple[Filter, ...] = Field(default=(), max_length=16)


class PicturePriors(Record):
    """A description and what the scene parser reads in it."""

    description: str
    priors: ScenePriors
