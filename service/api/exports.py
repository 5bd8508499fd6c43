"""Exports of finished jobs and samples over HTTP. An export appears whole or not at all, so asking again is safe."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from parsers.errors import Code
from service.api.errors import ApiError, responses
from service.api.jobs import JobId
from service.api.site import Reader, Site, Submitter
from workers.exports.export import FORMATS, RECORD, export_job
from workers.ledger import JobRow, JobState

router = APIRouter(prefix="/v1/jobs/{job_id}/exports", tags=["exports"])
_making = threading.Lock()
EXPORTED = (JobState.DONE, JobState.SAMPLED)


class ExportRequest(BaseModel):
    """What `lexiseg export` takes; docs/exports.md tells of each."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"format": "coco"}]})

    format: str = Field(max_length=40, description=f"one of {', '.join(FORMATS)}")
    per_class: bool = False
    unmatched: Literal["keep", "drop", "error"] = "keep"
    image_prefix: str | None = Field(default=None, max_length=1000)


class ExportAnswer(BaseModel):
    """An export that is there."""

    format_version: int = 1
    format: str
    files: list[str] = Field(description="paths for GET .../exports/FORMAT?path=")
    images: int


def _folder(site: Site, job: JobRow, format: str) -> Path:
    if format not in FORMATS:
        raise ApiError(404, Code.SETTING_INVALID, f"There is no format {format[:40]!r}.",
                       f"One of: {', '.join(FORMATS)}.")
    return Path(f"{job.out}.exports") / format


def _answer(folder: Path, format: str) -> ExportAnswer:
    from workers.exports.export import ExportRecord

    record = ExportRecord.model_validate_json((folder / RECORD).read_bytes())
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return ExportAnswer(format=format, files=files, images=record.images)


@router.post("", status_code=201, responses=responses(404, 409, 507))
def make_export(site: Submitter, job_id: JobId, request: ExportRequest) -> ExportAnswer:
    """Write an export of a job that is done, or of its sample, and list its files; it takes minutes for many thousand
    pictures. One is made at a time; another one is told to come back."""
    job = site.job(job_id)
    folder = _folder(site, job, request.format)
    if job.state not in EXPORTED:
        raise ApiError(409, Code.JOB_STATE, f"The job {job.id} is {job.state}.",
                       "Wait until it is done, or its sample is.")
    site.check_disk()
    if not _making.acquire(blocking=False):
        raise ApiError(429, "too-many", "Another export is being written.", "Ask again in half a minute.")
    try:
        export_job(Path(job.out), request.format, folder, per_class=request.per_class, unmatched=request.unmatched,
                   image_prefix=request.image_prefix)
    finally:
        _making.release()
    return _answer(folder, request.format)


def _ended_at(job: JobRow) -> float:
    """When the job wrote its last file, by the clock of the disk; 0 if that file is gone."""
    try:
        return (Path(job.out) / "job.json").stat().st_mtime
    except OSError:
        return 0.0


@router.get("/{format}", responses=responses(404, 409, content="application/octet-stream"),
            response_model=None)
def read_export(site: Reader, job_id: JobId, format: str,
                path: Annotated[str | None, Query(max_length=4096)] = None) -> ExportAnswer | FileResponse:
    """The files of an export; with `path` one of them."""
    job = site.job(job_id)
    folder = _folder(site, job, format)
    if not (folder / RECORD).is_file():
        raise ApiError(404, Code.FILE_MISSING, f"The job has no export as {format}.", "POST .../exports makes one.")
    if job.state not in EXPORTED or (folder / RECORD).stat().st_mtime < _ended_at(job):
        raise ApiError(409, Code.JOB_STATE, f"The export as {format} is of an earlier state of the job, for example of "
                       "its sample.", "When the job is done, POST .../exports makes a new one.")
    found = _answer(folder, format)
    if path is None:
        return found
    if path not in found.files:
        raise ApiError(404, Code.FILE_MISSING, f"The export has no file {path[:200]!r}.",
                       "Leave `path` out for the list.")
    return FileResponse(folder / path, headers={"X-Content-Type-Options": "nosniff"})
