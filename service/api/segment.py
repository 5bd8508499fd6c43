"""One picture now: a job of one picture that goes before all others, and its answer in one breath."""

from __future__ import annotations

import asyncio
import base64
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from sqlalchemy import select

from parsers.errors import Code
from parsers.vocabulary import Vocabulary
from service.api.errors import ApiError, responses
from service.api.free import FreeRequest
from service.api.jobs import OVER, JobRequest, spec_of
from service.api.site import SINGLES, Site, Submitter
from service.api.uploads import BYTES, receive_picture
from vision.images import IMAGE_SUFFIXES
from workers.ledger.jobs import forget_job, get_job
from workers.ledger.schema import jobs
from workers.records import Result, read_results
from workers.submit import submit

router = APIRouter(prefix="/v1", tags=["one picture"])
FIRST_LOOK_S, LAST_LOOK_S = 0.05, 0.5
"""Between two looks at whether it is done: longer ones while it takes longer, since many may wait."""


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
    folder = site.settings.outputs / f"{SINGLES}{secrets.token_hex(8)}"
    try:
        if path is None:
            picture = folder / "picture"
            await receive_picture(request, picture, site.check_disk)
        else:
            picture = await run_in_threadpool(_one_picture, site, path)
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
    deadline, pause = time.monotonic() + site.settings.segment_timeout_s, FIRST_LOOK_S
    try:
        while True:
            now = await run_in_threadpool(get_job, site.ledger, job.id)
            if now is None or now.state in OVER:
                break
            if time.monotonic() > deadline:
                raise ApiError(504, "too-slow", f"No worker was done with it in {site.settings.segment_timeout_s:g} s.",
                               "Check that a worker runs (lexiseg up), or submit a job.")
            await asyncio.sleep(pause)
            pause = min(1.2 * pause, LAST_LOOK_S)
        if now is None or now.error:
            raise ApiError(503, now.error_code or Code.INTERNAL if now else Code.JOB_MISSING,
                           now.error if now and now.error else "The job is gone.", "Ask again.")
        return await run_in_threadpool(_answer, folder / "out")
    finally:
        await run_in_threadpool(forget_job, site.ledger, job)


def sweep(site: Site) -> None:
    """Takes away the folders and jobs of pictures that nobody waits for any more, since the process that did was
    killed. Other processes of the same site may be waiting for theirs, so only what is older than a request can be.
    Raises JobError where the ledger does not answer."""
    begun = time.time() - 2 * (site.settings.upload_timeout_s + site.settings.segment_timeout_s)
    with site.ledger.read() as connection:
        left = list(connection.execute(select(jobs.c.id).where(
            jobs.c.out.startswith(str(site.settings.outputs / SINGLES), autoescape=True), jobs.c.created < begun))
                    .scalars())
    for job in filter(None, (get_job(site.ledger, job_id) for job_id in left)):
        forget_job(site.ledger, job)
    for folder in site.settings.outputs.glob(f"{SINGLES}*"):
        with suppress(FileNotFoundError):  # another process was faster
            if folder.stat().st_mtime < begun:
                shutil.rmtree(folder, ignore_errors=True)


def _one_picture(site: Site, path: str) -> Path:
    """A picture on the server. Raises InputError for a path that may not be read, ApiError for what is no picture by
    its name: a folder or a list would be a whole job."""
    picture = site.inside(path)
    if not picture.is_file() or picture.suffix.lower() not in IMAGE_SUFFIXES:
        raise ApiError(415, Code.NOT_AN_IMAGE, f"{path[:200]!r} is not one picture.",
                       "Name a picture, or submit a job.")
    return picture


def _answer(out: Path) -> SegmentAnswer:
    result = next(read_results(out))
    vocabulary = Vocabulary.load(out / "vocabulary.yaml")
    mask: Any = None
    if result.mask is not None:
        mask = base64.b64encode((out / result.mask).read_bytes()).decode()
    return SegmentAnswer(result=result, classes={0: "background", **vocabulary.names}, mask_png=mask)
