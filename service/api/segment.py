"""One picture now: a job of one picture that goes before all others, and its answer in one breath."""

from __future__ import annotations

import asyncio
import base64
import secrets
import shutil
import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from parsers.errors import Code
from parsers.vocabulary import Vocabulary
from service.api.errors import ApiError, responses
from service.api.free import FreeRequest
from service.api.jobs import OVER, JobRequest, spec_of
from service.api.site import Site, Submitter
from service.api.uploads import BYTES, receive_picture
from workers.ledger.jobs import forget_job, get_job
from workers.records import Result, read_results
from workers.submit import submit

router = APIRouter(prefix="/v1", tags=["one picture"])


class SegmentAnswer(BaseModel):
    """What was found in a picture."""

    format_version: int = 1
    result: Result
    classes: dict[int, str] = Field(description="values of the mask and their names; 0 is background")
    mask_png: str | None = Field(description="the mask as a PNG file in base64; null if the picture failed")


@router.post("/segment", openapi_extra=BYTES, responses=responses(404, 408, 409, 413, 415, 502, 504, 507))
async def segment(site: Submitter, request: Request,
                  classes: Annotated[str | None, Query(max_length=10_000, description='names: "dog, cat"')] = None,
                  vocabulary: Annotated[str | None, Query(max_length=64, description="a stored vocabulary")] = None,
                  candidate_free: Annotated[bool, Query(description="no names: the site's language model says what the "
                                                                    "picture shows, and that is searched for")] = False,
                  path: Annotated[str | None, Query(max_length=4096, description="a picture on the server, instead of "
                                                                                 "a body")] = None,
                  model: Annotated[str | None, Query(max_length=200)] = None,
                  preset: Annotated[str, Query(max_length=40)] = "lexiseg",
                  refine: Annotated[str | None, Query(max_length=40)] = None) -> SegmentAnswer:
    """Segment one picture and wait for it. The picture is the body, or `path` names one on the server."""
    if (classes is not None) + (vocabulary is not None) + candidate_free != 1:
        raise ApiError(422, Code.SETTING_INVALID, "None or several of classes, vocabulary and candidate_free.",
                       'Give one of them, for example ?classes=dog,cat')
    await run_in_threadpool(site.check_room)
    if not site.singles.acquire(blocking=False):
        raise ApiError(429, "too-many", f"{site.settings.max_waiting} pictures are waited for already.",
                       "Ask again in half a minute, or submit a job.")
    folder = site.settings.outputs / f".now-{secrets.token_hex(8)}"
    try:
        if path is None:
            picture = folder / "picture"
            await receive_picture(request, picture)
        else:
            picture = await run_in_threadpool(site.inside, path)
        names = (Vocabulary.from_names(classes).model_dump(mode="json") if classes is not None else vocabulary)
        wanted = JobRequest(inputs=[str(picture)], vocabulary=names, free=FreeRequest() if candidate_free else None,
                            model=model, preset=preset, refine=refine, priority="interactive")
        return await _run(site, wanted, picture, folder)
    finally:
        site.singles.release()
        await run_in_threadpool(shutil.rmtree, folder, ignore_errors=True)


async def _run(site: Site, wanted: JobRequest, picture: Path, folder: Path) -> SegmentAnswer:
    spec = (await run_in_threadpool(spec_of, site, wanted, [str(picture)])).model_copy(
        update={"out": str(folder / "out")})
    job = (await run_in_threadpool(submit, site.ledger, spec, priority="interactive")).job
    deadline = time.monotonic() + site.settings.segment_timeout_s
    try:
        while True:
            now = await run_in_threadpool(get_job, site.ledger, job.id)
            if now is None or now.state in OVER:
                break
            if time.monotonic() > deadline:
                raise ApiError(504, "too-slow", f"No worker was done with it in {site.settings.segment_timeout_s:g} s.",
                               "Check that a worker runs (lexiseg up), or submit a job.")
            await asyncio.sleep(0.05)
        if now is None or now.error:
            raise ApiError(503, now.error_code or Code.INTERNAL if now else Code.JOB_MISSING,
                           now.error if now and now.error else "The job is gone.", "Ask again.")
        return await run_in_threadpool(_answer, folder / "out")
    finally:
        await run_in_threadpool(forget_job, site.ledger, job)


def _answer(out: Path) -> SegmentAnswer:
    result = next(read_results(out))
    vocabulary = Vocabulary.load(out / "vocabulary.yaml")
    mask: Any = None
    if result.mask is not None:
        mask = base64.b64encode((out / result.mask).read_bytes()).decode()
    return SegmentAnswer(result=result, classes={0: "background", **vocabulary.names}, mask_png=mask)
