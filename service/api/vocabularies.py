"""Vocabularies that a site keeps: people write, look, freeze; jobs use them by name."""

from __future__ import annotations

import os
import threading
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from parsers.errors import Code
from parsers.vocabulary import Vocabulary
from service.api.errors import ApiError, responses
from service.api.site import Reader, Site, Submitter

router = APIRouter(prefix="/v1/vocabularies", tags=["vocabularies"])
_building = threading.Lock()
_writing = threading.Lock()
"""Held between looking at what is stored and replacing it."""
Name = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", examples=["wards"])]


class VocabularyAnswer(BaseModel):
    """A stored vocabulary."""

    format_version: int = 1
    name: str
    digest: str = Field(description="sha256 of its content")
    frozen: bool
    warnings: list[str]
    vocabulary: dict[str, JsonValue] = Field(description="its content, as in a vocabulary file")


class VocabularyList(BaseModel):
    """Names of the stored vocabularies."""

    format_version: int = 1
    names: list[str]


class BuildRequest(BaseModel):
    """What a language model is to add."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"subclasses": 7, "clusters": True}]})

    subclasses: int = Field(default=7, ge=0, le=10, description="for each class that has none")
    clusters: bool = False


def stored_vocabulary(site: Site, name: str) -> Vocabulary:
    """Raises ApiError (404), VocabularyError."""
    path = _path(site, name)
    if not name.replace("-", "").replace("_", "").isalnum() or not path.is_file():
        raise ApiError(404, Code.VOCABULARY_INVALID, f"There is no vocabulary {name[:64]!r}.",
                       "GET /v1/vocabularies lists all; PUT /v1/vocabularies/NAME makes one.")
    return Vocabulary.load(path)


def read_content(content: dict[str, Any]) -> Vocabulary:
    """The vocabulary in a request. Raises ApiError (422) without a class, VocabularyError."""
    if not content.get("classes"):
        raise ApiError(422, Code.VOCABULARY_INVALID, "There is no class in it.", "docs/vocabulary.md shows the format.")
    return Vocabulary.model_validate(content)


@router.get("", responses=responses())
def list_vocabularies(site: Reader) -> VocabularyList:
    """Which there are."""
    return VocabularyList(names=sorted(path.stem for path in site.settings.vocabularies.glob("*.yaml")))


@router.get("/{name}", responses=responses(404))
def show_vocabulary(site: Reader, name: Name) -> VocabularyAnswer:
    """One of them."""
    return _answer(name, stored_vocabulary(site, name))


@router.put("/{name}", responses=responses(409, 413, 507))
def write_vocabulary(site: Submitter, name: Name, content: dict[str, JsonValue]) -> VocabularyAnswer:
    """Make one, or replace one that is not frozen. Jobs keep the copy that they were submitted with."""
    site.check_disk()
    vocabulary = read_content(content)
    with _writing:
        _check_free(site, name)
        vocabulary.save(_path(site, name))
    return _answer(name, vocabulary)


@router.post("/{name}/build", responses=responses(404, 409, 502, 507))
def build_stored(site: Submitter, name: Name, request: BuildRequest) -> VocabularyAnswer:
    """Let the site's language model add subclasses and clusters to a stored vocabulary; what people wrote stays. It
    takes seconds for each class. One is built at a time; another one is told to come back. What somebody writes under
    this name meanwhile stays, and what was built is given up."""
    from agents.vocabulary import build_vocabulary
    from service.knowledge import LlmOptions, knowledge_source

    llm = os.environ.get("LEXISEG_LLM")
    if not llm:
        raise ApiError(409, Code.LLM_UNAVAILABLE, "This site names no language model.", "Ask who runs the site to set "
                       "LEXISEG_LLM, or build it there: lexiseg vocabulary build")
    site.check_disk()
    vocabulary = stored_vocabulary(site, name)
    _check_free(site, name)
    if len(vocabulary.classes) > site.settings.max_llm_classes:
        raise ApiError(422, Code.VOCABULARY_INVALID, f"The vocabulary has {len(vocabulary.classes):,} classes; at most "
                       f"{site.settings.max_llm_classes:,} for the language model.", "Divide it.")
    if not _building.acquire(blocking=False):
        raise ApiError(429, "too-many", "Another vocabulary is being built.", "Ask again in half a minute.")
    try:
        with knowledge_source(LlmOptions(llm=llm)) as source:
            built = build_vocabulary(source, vocabulary, subclasses=request.subclasses, clusters=request.clusters)
    finally:
        _building.release()
    with _writing:
        _check_free(site, name)
        if stored_vocabulary(site, name).digest != vocabulary.digest:
            raise ApiError(409, Code.VOCABULARY_CONFLICT, f"Somebody replaced the vocabulary {name!r} while it was "
                           "being built.", f"POST /v1/vocabularies/{name}/build again builds that one.")
        built.vocabulary.save(_path(site, name))
    answer = _answer(name, built.vocabulary)
    return answer.model_copy(update={"warnings": [*built.notes, *answer.warnings]})


@router.post("/{name}/freeze", responses=responses(404))
def freeze_vocabulary(site: Submitter, name: Name) -> VocabularyAnswer:
    """From now on it stays as it is."""
    with _writing:
        vocabulary = stored_vocabulary(site, name).frozen()
        vocabulary.save(_path(site, name))
    return _answer(name, vocabulary)


@router.delete("/{name}", status_code=204, responses=responses(404, 409))
def remove_vocabulary(site: Submitter, name: Name) -> None:
    """Take away one that is not frozen."""
    with _writing:
        stored_vocabulary(site, name)
        _check_free(site, name)
        _path(site, name).unlink(missing_ok=True)


def _check_free(site: Site, name: str) -> None:
    if _path(site, name).is_file() and Vocabulary.load(_path(site, name)).is_frozen:
        raise ApiError(409, Code.VOCABULARY_CONFLICT, f"The vocabulary {name!r} is frozen.", "Choose another name.")


def _path(site: Site, name: str) -> FilePath:
    return site.settings.vocabularies / f"{FilePath(name).name}.yaml"


def _answer(name: str, vocabulary: Vocabulary) -> VocabularyAnswer:
    return VocabularyAnswer(name=name, digest=vocabulary.digest, frozen=vocabulary.is_frozen,
                            warnings=vocabulary.warnings(), vocabulary=vocabulary.model_dump(mode="json"))
