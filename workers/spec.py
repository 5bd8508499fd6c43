"""What a job is: the same description for the command line, the API and Python."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from agents.card import MAX_VIEWS
from parsers.errors import SettingError
from parsers.vocabulary import Vocabulary
from vision.refine.settings import METHODS, parse_refinement

CALLS_PER_PICTURE = 100
"""Calls of the language model that a job may make for each of its pictures, one with another. A picture takes one to
ten for its description and one for each thing that this names, and each may be asked once more; a description is cut at
256 tokens, in which fewer than 90 things can be named. So only a job that asks again and again gets there. Ours."""
DEFAULT_BATCH = 16
"""Pictures."""


class CandidateFree(BaseModel):
    """Whose words name the classes of a job without candidates: a language model's, or those of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    llm: str | None = Field(default=None, description="pocket, a model directory, or the URL of a server")
    llm_model: str | None = Field(default=None, description="which model of the server")
    llm_digest: str | None = Field(default=None, description="of the language model when the job began")
    detail: Literal["simple", "detailed"] = Field(default="detailed", description="the prompt")
    views: int | None = Field(default=None, ge=1, le=MAX_VIEWS, description="how often a picture is described, moved "
                              "or mirrored; what enough of the descriptions say is taken. null: what the card of the "
                              "language model says")
    descriptions: str | None = Field(default=None, description="a file of prepared descriptions, in place of `llm`")
    descriptions_sha256: str | None = None
    store: str = Field(default="none", description="where answers are kept; none: nowhere")
    timeout_s: float | None = Field(default=None, description="for one answer; null: the default")
    parallel: int | None = Field(default=None, description="questions at once; null: the default")
    max_calls: int | None = Field(default=None, ge=1, description="calls of the language model in the whole job; null: "
                                  f"{CALLS_PER_PICTURE} for each picture")

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.llm is None) == (self.descriptions is None):
            raise ValueError("one of llm and descriptions")
        if self.max_calls is not None and self.llm is None:
            raise ValueError("max_calls is of a language model")
        if self.views is not None and self.llm is None:
            raise ValueError("views is of a language model")
        return self

    def call_limit(self, pictures: int) -> int:
        """How many calls of the language model a job of so many pictures may make."""
        return CALLS_PER_PICTURE * pictures if self.max_calls is None else self.max_calls


class JobSpec(BaseModel):
    """One job, complete: nothing outside of it and its inputs decides about a mask."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    inputs: tuple[str, ...] = Field(min_length=1, description="files, folders (searched to any depth) and patterns")
    vocabulary: Vocabulary = Field(description="what to look for; of a job without candidates no class, and the words "
                                   "for the background")
    free: CandidateFree | None = Field(default=None, description="no candidates: what is said of a picture names its "
                                       "classes")
    out: str = Field(min_length=1, description="the folder for the results; made if missing")
    backend: str = "clip"
    model: str = Field(min_length=1, description="a model directory")
    settings: dict[str, JsonValue] = Field(default={}, description="options of the backend, such as variant or tile")
    preset: str | None = Field(default=None, description="the name under which `settings` were chosen; only recorded")
    refine: str = Field(default="none", pattern=rf"^({'|'.join(METHODS)})(:.+)?$", description="edges of the masks; "
                        "a method may have options, as in torch-crf:stride=1,iterations=5")
    overlay: bool = Field(default=False, description="also write overlays/, pictures with the classes painted in")
    confidence: bool = Field(default=False, description="also write confidence/, grey pictures, 255 = certain")
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N")
    workers: int | None = Field(default=None, ge=1, le=256, description="processes or threads beside the model's own; "
                                "null: one per processor core; results do not depend on it")
    max_failures: int | None = Field(default=None, ge=0, description="the job is stopped when more pictures than this "
                                     "failed; null: no bound")
    batch: int = Field(default=DEFAULT_BATCH, ge=1, le=1024, description="pictures given to the backend at once; "
                       "results do not depend on it")

    @field_validator("refine")
    @classmethod
    def _check_refine(cls, text: str) -> str:
        try:
            parse_refinement(text)
        except SettingError as error:
            raise ValueError(str(error)) from error
        return text
