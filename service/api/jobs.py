"""Jobs over HTTP: submit, look, steer, follow."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from parsers.errors import Code, InputError, SettingError
from parsers.free import PLACES
from parsers.vocabulary import Vocabulary
from service.api.errors import ApiError, responses
from service.api.free import FreeRequest, free_of
from service.api.site import Reader, Site, Submitter
from service.api.vocabularies import read_content, stored_vocabulary
from service.options import PRESETS, settings_from
from vision.models import list_models, resolve_model
from workers import JobSpec
from workers.inputs import InputItem
from workers.ledger import JobRow, JobState, Ledger
from workers.ledger import jobs as ledger_jobs
from workers.progress import JobProgress
from workers.submit import submit
from workers.verify import verify

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
OVER = (JobState.DONE, JobState.CANCELLED, JobState.STOPPED, JobState.PAUSED, JobState.SAMPLED)
JobId = Annotated[str, Path(description="the id of a job", pattern=r"^[0-9a-f]{1,16}$", examples=["4f1c2a9b"])]
STREAM_S = 1.0
ENTERING_S = 10.0
"""Who wants to enter a job waits so long for those who do."""
SHOWN = 1000
"""Paths in one answer."""
_verifying = threading.Lock()


class JobRequest(BaseModel):
    """A JobSpec as a person writes it: names instead of paths of models, results and stored vocabularies."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [
        {"inputs": ["ward-7"], "vocabulary": "wards", "out": "ward-7-june", "refine": "pydensecrf"},
        {"inputs": ["uploads-of-anna"], "vocabulary": {"classes": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]},
         "overlay": True, "priority": "interactive"},
        {"inputs": ["ward-7"], "free": {"max_calls": 5000}, "out": "ward-7-free"},
        {"inputs": ["ward-7"], "free": {"descriptions": "ward-7/said.jsonl"}}]})

    inputs: list[Annotated[str, Field(min_length=1, max_length=4096)]] = Field(
        min_length=1, max_length=1000, description="files, folders and patterns below the site's roots, and names "
                                              "of uploads")
    vocabulary: str | dict[str, JsonValue] | None = Field(default=None, description="the name of a stored vocabulary, "
                                                          "or a whole one; without it `free` is needed")
    free: FreeRequest | None = Field(default=None, description="in place of a vocabulary: no names")
    out: str | None = Field(default=None, min_length=1, max_length=200, description="a name for the results; submit "
                            "under the same name again to add new pictures")
    backend: str = Field(default="clip", max_length=40)
    model: str | None = Field(default=None, max_length=200, description="the name of a listed model; null: the pocket "
                                                                        "model")
    preset: str = Field(default="lexiseg", max_length=40, description=f"one of {', '.join(PRESETS)}")
    settings: dict[str, JsonValue] = Field(default={}, description="options of the backend, over those of the preset")
    refine: str | None = Field(default=None, max_length=40)
    overlay: bool = False
    confidence: bool = False
    max_failures: int | None = Field(default=None, ge=0, description="stop when more pictures failed; null: never")
    priority: Literal["interactive", "batch"] = "batch"
    sample: int | None = Field(default=None, ge=1, le=1_000_000, description="so many pictures first; the rest waits "
                                                                              "for resume")


class JobAnswer(BaseModel):
    """A job as it is now."""

    format_version: int = 1
    job: str = Field(examples=["4f1c2a9b"])
    state: str = Field(description="submitting, running, finalising, sampled, paused, stopped, cancelled or done")
    out: str = Field(description="the name of its results")
    priority: str
    total: int
    finished: int
    counts: dict[str, int] = Field(description="pictures by state")
    described: int | None = Field(default=None, description="pictures of which it is said what they show; null where "
                                                            "names are given")
    llm_calls: int = Field(default=0, description="of the language model, as they were counted before they were made")
    images_per_s: float
    eta_s: float | None
    created: float = Field(description="seconds since 1970")
    error_code: str | None = None
    error: str | None = None


class VerificationAnswer(BaseModel):
    """Whether a job's files are as they were written."""

    format_version: int = 1
    job: str
    whole: bool = Field(description="every picture is finished, and no file is damaged")
    counts: dict[str, int] = Field(description="pictures by state")
    files: int = Field(description="that were compared")
    damaged: list[str] = Field(description="the first thousand that are missing or not as they were written")
    strange: list[str] = Field(description="the first thousand that belong to no finished picture")


class JobList(BaseModel):
    """Jobs, the newest first."""

    format_version: int = 1
    jobs: list[JobAnswer]


def answer_of(site: Site, now: JobProgress) -> JobAnswer:
    job = now.job
    out = job.out.removeprefix(str(site.settings.outputs)).lstrip("/")
    return JobAnswer(job=job.id, state=job.state, out=out, priority=job.priority, total=now.total,
                     finished=now.finished, counts=now.counts, described=now.described, llm_calls=job.llm_calls,
                     images_per_s=round(now.images_per_s, 3), eta_s=now.eta_s,
                     created=job.created, error_code=job.error_code, error=job.error)


def vocabulary_of(site: Site, given: str | dict[str, Any]) -> Vocabulary:
    """A stored vocabulary or the one in the request. Raises VocabularyError, ApiError."""
    found = stored_vocabulary(site, given) if isinstance(given, str) else read_content(given)
    if len(found.classes) > site.settings.max_classes:
        raise InputError(Code.VOCABULARY_INVALID, f"The vocabulary has {len(found.classes):,} classes.",
                         f"At most {site.settings.max_classes:,} here.", "Divide it.")
    return found


def spec_of(site: Site, request: JobRequest, inputs: list[str]) -> JobSpec:
    """The JobSpec that a request means. Raises LexisegError, ApiError."""
    if (request.vocabulary is None) == (request.free is None):
        raise ApiError(422, Code.SETTING_INVALID, "Neither vocabulary nor free, or both.",
                       'Give one of them; {"free": {}} lets the language model of the site name the classes.')
    if request.preset not in PRESETS:  # the command line takes files here, too; nobody reads the server's from afar
        raise SettingError(Code.SETTING_INVALID, f"preset is {request.preset!r}.", f"One of: {', '.join(PRESETS)}.",
                           "Leave it out for the default.")
    if "descriptions" in request.settings:
        raise SettingError(Code.SETTING_INVALID, "settings name a file of descriptions.",
                           "Files of the server are not read from afar.", "Use the command line on the server.")
    if request.model is not None and request.model not in (listed := {card.name for card in list_models()}):
        raise SettingError(Code.MODEL_MISSING, f"There is no model {request.model!r}.",
                           f"Listed: {', '.join(sorted(listed))}.", "lexiseg models list")
    settings, refinement = settings_from(request.preset, request.backend, request.model, **(
        request.settings | ({} if request.refine is None else {"refine": request.refine})))
    vocabulary = (Vocabulary(classes=(), background=PLACES) if request.vocabulary is None
                  else vocabulary_of(site, request.vocabulary))
    return JobSpec.model_validate({
        "inputs": inputs, "vocabulary": vocabulary,
        "out": str(site.output(request.out or f"job-{secrets.token_hex(4)}")), "backend": request.backend,
        "model": str(resolve_model(request.model, request.backend)), "settings": settings, "preset": request.preset,
        "refine": refinement, "overlay": request.overlay, "confidence": request.confidence,
        "max_failures": request.max_failures,
        "free": None if request.free is None else free_of(site, request.free)})


def check_of(site: Site) -> Callable[[InputItem], None]:
    """What every picture of one request is shown to: raises InputError where they are too many or one may not be
    read."""
    seen = 0

    def check(item: InputItem) -> None:
        nonlocal seen
        seen += 1
        if seen > site.settings.max_pictures:
            raise InputError(Code.NO_INPUTS, f"More than {site.settings.max_pictures:,} pictures.",
                             f"At most {site.settings.max_pictures:,} in one job here.", "Divide the folder.")
        if not site.is_readable(str(item.path)):
            raise InputError(Code.FILE_MISSING, f"{item.name} is a link out of the folders that the API may read.", "",
                             "Take the link away, or ask who runs the site.")

    return check


@router.post("", status_code=201, responses=responses(404, 409, 413, 502, 507))
async def submit_job(site: Submitter, request: JobRequest) -> JobAnswer:
    """Enter a job; workers begin at once. The same request again changes nothing, or adds what is new."""
    try:
        await asyncio.wait_for(site.entering.acquire(), ENTERING_S)
    except TimeoutError:
        raise ApiError(429, "too-many", "Other jobs are being entered, which takes minutes for very many pictures.",
                       "Ask again in half a minute.") from None
    try:
        return await run_in_threadpool(_enter, site, request)
    finally:
        site.entering.release()


def _enter(site: Site, request: JobRequest) -> JobAnswer:
    site.check_room()
    spec = spec_of(site, request, [str(site.inside(text)) for text in request.inputs])
    submitted = submit(site.ledger, spec, priority=request.priority, sample=request.sample, check=check_of(site))
    site.forget(submitted.job.id)
    return answer_of(site, site.progress(submitted.job.id))


@router.get("", responses=responses())
def list_jobs(site: Reader, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> JobList:
    """The newest jobs."""
    found = ledger_jobs.list_jobs(site.ledger, limit)
    return JobList(jobs=[answer_of(site, site.progress(job.id)) for job in found])


@router.get("/{job_id}", responses=responses(404))
async def show_job(site: Reader, job_id: JobId) -> JobAnswer:
    """One job: states, rate, time left."""
    return answer_of(site, await _progress(site, job_id))


async def _progress(site: Site, job_id: str) -> JobProgress:
    known = site.fresh_progress(job_id)
    return await run_in_threadpool(site.progress, job_id) if known is None else known


@router.post("/{job_id}/pause", responses=responses(404, 409))
def pause_job(site: Submitter, job_id: JobId) -> JobAnswer:
    """Begin no further pictures; a batch under way is finished."""
    return _steer(site, job_id, ledger_jobs.pause_job)


@router.post("/{job_id}/resume", responses=responses(404, 409))
def resume_job(site: Submitter, job_id: JobId) -> JobAnswer:
    """Go on with a job that was paused, stopped, or whose sample is done."""
    return _steer(site, job_id, ledger_jobs.resume_job)


@router.post("/{job_id}/cancel", responses=responses(404, 409))
def cancel_job(site: Submitter, job_id: JobId) -> JobAnswer:
    """Give up what is not begun. Finished masks stay."""
    return _steer(site, job_id, ledger_jobs.cancel_job)


@router.post("/{job_id}/retry", responses=responses(404, 409))
def retry_job(site: Submitter, job_id: JobId) -> JobAnswer:
    """Try failed and quarantined pictures again."""
    return _steer(site, job_id, ledger_jobs.retry_failed)


@router.post("/{job_id}/verify", responses=responses(404))
def verify_job(site: Reader, job_id: JobId) -> VerificationAnswer:
    """Compute the digest of every file that the job wrote again and compare. One job at a time; another one is told to
    come back."""
    job = site.job(job_id)
    if not _verifying.acquire(blocking=False):
        raise ApiError(429, "too-many", "Another job is being verified.", "Ask again in half a minute.")
    try:
        found = verify(site.ledger, job)
    finally:
        _verifying.release()
    return VerificationAnswer(job=job.id, whole=found.is_whole, counts=found.counts, files=found.files,
                              damaged=list(found.damaged[:SHOWN]), strange=list(found.strange[:SHOWN]))


def _steer(site: Site, job_id: str, act: Callable[[Ledger, JobRow], object]) -> JobAnswer:
    job = site.job(job_id)
    act(site.ledger, job)
    site.forget(job.id)
    return answer_of(site, site.progress(job.id))


@router.get("/{job_id}/events", responses=responses(404, content="text/event-stream"),
            response_class=StreamingResponse)
async def follow_job(site: Reader, job_id: JobId) -> StreamingResponse:
    """Server-sent events: `progress` whenever something changed, `over` at the end; each carries the job as JSON."""
    await run_in_threadpool(site.job, job_id)
    if not site.streams.acquire(blocking=False):
        raise ApiError(429, "too-many", f"{site.settings.max_waiting} streams are open already.", "Ask again later.")
    return _Events(_events(site, job_id), site.streams.release)


class _Events(StreamingResponse):
    """A stream that gives its place back at its end, also if the client is gone before its first byte."""

    def __init__(self, events: AsyncIterator[bytes], end: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._end = end

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._end()


async def _events(site: Site, job_id: str) -> AsyncIterator[bytes]:
    last = b""
    while True:
        now = answer_of(site, await _progress(site, job_id))
        over = now.state in OVER
        data = now.model_dump_json().encode()
        if data != last or over:
            yield b"event: " + (b"over" if over else b"progress") + b"\ndata: " + data + b"\n\n"
        else:
            yield b": still there\n\n"  # a connection that died is noticed
        if over:
            return
        last = data
        await asyncio.sleep(STREAM_S)
