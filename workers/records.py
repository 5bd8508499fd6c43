"""What a job writes about itself, as types: the lines of results.jsonl, job.json and classes.json.

Times and rates are in timings.jsonl alone, so that equal jobs leave equal files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from parsers.errors import Code
from parsers.prepared import PreparedRow

DONE, EMPTY, FAILED, QUARANTINED = "done", "done-empty", "failed", "quarantined"
Counted = Literal["done", "done-empty", "failed", "quarantined"]
_FROZEN = ConfigDict(frozen=True, extra="forbid")


class ClassFound(BaseModel):
    """One class in one picture."""

    model_config = _FROZEN

    id: int
    name: str
    area: int = Field(ge=1, description="pixels")
    score: float = Field(ge=0, le=1, description="mean probability over its pixels, 6 decimals")


class RegionFound(BaseModel):
    """One connected part (8-neighbourhood) of a class."""

    model_config = _FROZEN

    id: int
    class_id: int
    box: tuple[int, int, int, int] = Field(description="x, y, width, height in pixels")
    area: int = Field(ge=1, description="pixels")
    score: float = Field(ge=0, le=1, description="mean probability over its pixels, 6 decimals")


class Result(BaseModel):
    """One line of results.jsonl: what became of one picture."""

    model_config = _FROZEN

    format_version: Literal[1] = 1
    name: str = Field(description="path below the input with its suffix; the mask is masks/<name>.png")
    state: Counted = Field(
        description="quarantined: set aside, since the process that worked on it died each time")
    code: Code | None = Field(default=None, description="the reason of a failure")
    message: str | None = Field(default=None, description="the reason in words")
    advice: str | None = Field(default=None, description="what to do about it")
    width: int | None = Field(default=None, description="pixels, upright")
    height: int | None = None
    classes: tuple[ClassFound, ...] = Field(default=(), description="by id; background is not among them")
    regions: tuple[RegionFound, ...] = ()
    mask: str | None = Field(default=None, description="path of the mask below the job's folder")
    image_sha256: str | None = Field(default=None, description="of the bytes of the picture file")
    mask_sha256: str | None = Field(default=None, description="of the bytes of the mask file")
    told: PreparedRow | None = Field(default=None, description="in a job without candidates: what was said of the "
                                     "picture, which names what was looked for in it")


class Problem(BaseModel):
    """A folder that could not be listed."""

    model_config = _FROZEN

    path: str
    code: Code
    message: str


class ModelRecord(BaseModel):
    """The model a job ran with."""

    model_config = _FROZEN

    path: str
    sha256: str = Field(description="the model's digest")
    name: str | None = Field(default=None, description="from its model.json")
    licence: str | None = None
    known_words: int | None = Field(default=None, description="size of its closed word list; null: open")


class MadeWith(BaseModel):
    """What has a say in the bytes of a job beside its spec; the workers of one job must agree in model and code."""

    model_config = _FROZEN

    model: ModelRecord
    versions: dict[str, str]
    warnings: tuple[str, ...] = Field(default=(), description="what the model cannot know of the vocabulary")
    code_sha256: str = ""
    device: str | None = None
    precision: str | None = None


class VocabularyRecord(BaseModel):
    """The vocabulary a job ran with."""

    model_config = _FROZEN

    file: Literal["vocabulary.yaml"] = "vocabulary.yaml"
    sha256: str = Field(description="the vocabulary's digest")
    classes: int
    warnings: tuple[str, ...] = ()


class Job(BaseModel):
    """job.json."""

    model_config = _FROZEN

    format_version: Literal[1] = 1
    state: Literal["running", "stopped", "done"] = Field(
        description="stopped: ended early by a person or by an error that concerns all pictures; see `error`")
    spec: dict[str, Any] = Field(description="the JobSpec without its vocabulary")
    vocabulary: VocabularyRecord
    model: ModelRecord
    versions: dict[str, str] = Field(description="lexiseg and the libraries that have a say in the bytes")
    code_sha256: str = Field(default="", description="of the code that has a say in the bytes, and these versions")
    device: str | None = Field(default=None, description="where the model of the first worker computed: cpu or cuda; "
                               "null: its backend does not say")
    precision: str | None = Field(default=None, description="of the image tower there: float32 or bfloat16")
    total: int | None = Field(default=None, description="pictures in the job")
    counts: dict[Counted, int] = Field(description="pictures by state")
    warnings: tuple[str, ...] = ()
    unreadable_folders: tuple[Problem, ...] = ()
    error: str | None = Field(default=None, description="why it stopped")


def job_counts(by_state: Mapping[str, int]) -> dict[Counted, int]:
    """Pictures by state as job.json has them: `quarantined` only where there are any."""
    return {state: by_state.get(state, 0) for state in get_args(Counted)
            if state != QUARANTINED or by_state.get(state)}


def read_job(out: Path) -> Job:
    """The job.json of a job folder. Raises OSError or pydantic's ValidationError."""
    return Job.model_validate_json((out / "job.json").read_bytes())


def read_results(out: Path) -> Iterator[Result]:
    """The lines of results.jsonl one by one, in the order of their names."""
    with (out / "results.jsonl").open("rb") as file:
        for line in file:
            yield Result.model_validate_json(line)
