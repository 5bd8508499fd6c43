"""Jobs without candidates over HTTP. People say whether the language model of the site or a file of theirs names the
classes; which model that is and where its answers are kept is the site's to say: no address comes with a request."""

from __future__ import annotations

import os
import time

from pydantic import BaseModel, ConfigDict, Field

from agents.card import MAX_VIEWS
from agents.records import Detail
from parsers.errors import Code, DatasetError, InputError
from service.api.errors import ApiError
from service.api.site import Site
from service.knowledge import LlmOptions, name_of_llm, place_of_store
from workers.spec import CALLS_PER_PICTURE, CandidateFree
from workers.telling import check_free

FRESH_S = 30.0
"""For so long it is believed that the language model is there, sees, and is the same: each question about it is a call
that nobody counts."""


class FreeRequest(BaseModel):
    """No names: what is said of each picture names what is looked for in it."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [
        {"detail": "detailed", "max_calls": 5000}, {"descriptions": "ward-7/said.jsonl"}]})

    descriptions: str | None = Field(default=None, min_length=1, max_length=4096, description="a file of prepared "
                                     "descriptions below the site's roots, or FOLDER/NAME of an upload; null: the "
                                     "site's language model describes the pictures")
    detail: Detail = Field(default="detailed", description="how the language model is to describe them")
    views: int | None = Field(default=None, ge=1, le=MAX_VIEWS, description="how often each picture is described, "
                              "moved a little or mirrored; what more than a third of the descriptions say is taken. "
                              "null: what the card of the language model says")
    max_calls: int | None = Field(default=None, ge=1, le=1_000_000_000, description="calls of the language model after "
                                  f"which the job stops; null: {CALLS_PER_PICTURE} for each picture. The site may "
                                  "allow fewer")


def free_of(site: Site, request: FreeRequest) -> CandidateFree:
    """Whose words a request means, with the digest of the file or of the language model as it is now. Raises ApiError
    (409: the site has no language model; 413; 422; 429), InputError, LexisegError of the language model or the file."""
    if request.descriptions is None:
        free = asked_llm(site)
        return free.model_copy(update={"detail": request.detail, "max_calls": request.max_calls,
                                       "views": request.views or free.views})
    if request.max_calls is not None or request.views is not None:
        raise ApiError(422, Code.SETTING_INVALID, "max_calls or views, and descriptions.", "A file is no "
                       "language model: leave one of them out.")
    path = site.inside(request.descriptions)
    if not path.is_file():
        raise InputError(Code.FILE_MISSING, f"{request.descriptions[:200]!r} is not a file.", "A JSON Lines file.",
                         "PUT /v1/uploads/FOLDER/NAME.jsonl sends one.")
    if path.stat().st_size > site.settings.max_descriptions:
        raise too_large(site)
    try:
        with site.alone():
            return check_free(CandidateFree(descriptions=str(path)))
    except DatasetError as error:
        given = error.given.replace(str(path), request.descriptions)  # where the site keeps it is the site's affair
        raise DatasetError(error.code, given, error.allowed, error.next_step) from error


def asked_llm(site: Site) -> CandidateFree:
    """The site's language model, as it was at most half a minute ago. Raises ApiError (409, 429), LexisegError."""
    llm = os.environ.get("LEXISEG_LLM")
    if not llm:
        raise ApiError(409, Code.LLM_UNAVAILABLE, "This site names no language model.", "Ask who runs the site to set "
                       "LEXISEG_LLM, or give names.")
    asked, free = site.llm
    if free is not None and time.monotonic() - asked < FRESH_S:
        return free
    with site.alone():
        free = check_free(CandidateFree(llm=llm, llm_model=name_of_llm(LlmOptions()),
                                        store=place_of_store(LlmOptions())))
        site.llm = time.monotonic(), free
    return free


def too_large(site: Site) -> ApiError:
    return ApiError(413, "body-large", f"The descriptions have more than {site.settings.max_descriptions:,} bytes.",
                    "Divide the job, or ask who runs the site for a larger LEXISEG_API_MAX_DESCRIPTIONS.")
