"""What the language model is asked for, as typed records. Everything here is data: nothing a model says is ever run."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from agents.geometry import Box
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


class PresenceSaid(Record):
    """The answer to the question whether a picture, or a region of it, shows a thing."""

    name: str
    box: Box | None = Field(description="x, y, width, height of the region in pixels; null: the whole picture")
    present: bool | None = Field(description="null: there was no answer that could be used")


class PictureSaid(Record):
    """What the language model said of one picture while a request was worked on."""

    priors: ScenePriors | None = Field(description="the description and what was read in it; null: it was not "
                                       "described")
    presence: tuple[PresenceSaid, ...] = ()


class AskResult(Record):
    """ask.json: what came of a request in words, and everything that decided about it."""

    format_version: Literal[1] = 1
    request: str
    model: str = Field(description="the language model that answered")
    model_digest: str = Field(description="of what its answers depend on")
    prompts: dict[str, str] = Field(description="task to the sha256 of its prompt")
    plan: Plan
    names: dict[str, tuple[str, ...]] = Field(description="names that were looked for and are part of the result, "
                                              "with their subclasses")
    kept: dict[str, tuple[int, ...]] = Field(description="picture to the ids of the regions that the request means")
    unread: tuple[str, ...] = Field(default=(), description="pictures that could not be read")
    pictures: dict[str, PictureSaid] = Field(description="what was said of those that were asked about")
    trace: tuple[str, ...] = Field(description="every decision, one sentence each")
