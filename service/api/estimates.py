"""What a job would take, over HTTP: its pictures are counted, time and room reckoned from what earlier jobs took.

Nothing is measured here: the machine of the API may have neither the model nor the device of the workers.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import Row

from service.api.errors import ApiError, responses
from service.api.jobs import JobRequest, check_of, spec_of
from service.api.site import Site, Submitter
from workers import JobSpec
from workers.estimate import count_files
from workers.inputs import InputItem
from workers.ledger.jobs import finished_rows, list_jobs
from workers.outputs import free_mb
from workers.submit import absolute, find_items

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
_counting = threading.Lock()
JOBS, PICTURES = 50, 200
"""Newest jobs that are looked at for one like this one, and pictures of those from which is reckoned."""
ALIKE = ("backend", "model", "settings", "refine", "overlay", "confidence", "device")
"""What decides how long a picture takes and how large its files are."""


class Unreadable(BaseModel):
    """A file that will fail."""

    name: str
    code: str


class EstimateAnswer(BaseModel):
    """What was counted and reckoned."""

    format_version: int = 1
    images: int
    bytes: int = Field(description="of the picture files")
    unreadable: int = Field(description="files whose beginning already shows that they will fail")
    examples: list[Unreadable] = Field(description="the first of them")
    measured: int = Field(description="pictures of earlier jobs with the same model and options, from which time and "
                                      "room are reckoned; 0: there are none, and what follows is 0")
    images_per_s: float = Field(description="as the site worked on those, with the workers that it had then; without "
                                            "what the language model takes to describe them")
    seconds: float = Field(description="for all, at that rate")
    disk_bytes: int = Field(description="of masks, overlays and confidence maps")
    free_bytes: int = Field(description="where the results would be")


@router.post("/estimate", responses=responses(404, 409, 413, 502))
def estimate_job(site: Submitter, request: JobRequest) -> EstimateAnswer:
    """Count the pictures of a job and its unreadable files, and say what time and room it would take. Nothing is
    entered or measured. One request at a time counts; another one is told to come back."""
    spec = absolute(spec_of(site, request, [str(site.inside(text)) for text in request.inputs]))
    if not _counting.acquire(blocking=False):
        raise ApiError(429, "too-many", "The pictures of another job are being counted.", "Ask again in half a minute.")
    try:
        found = count_files(_checked(site, spec))
    finally:
        _counting.release()
    measured, seconds, written = _history(site, spec)
    good = found.images - found.unreadable
    return EstimateAnswer(
        images=found.images, bytes=found.bytes, unreadable=found.unreadable,
        examples=[Unreadable(name=name, code=code) for name, code in found.examples], measured=measured,
        images_per_s=measured / seconds if seconds else 0.0, seconds=good * seconds / measured if measured else 0.0,
        disk_bytes=round(good * written / measured) if measured else 0,
        free_bytes=round(free_mb(Path(spec.out)) * 1e6))


def _checked(site: Site, spec: JobSpec) -> Iterator[InputItem]:
    """The pictures of a job. Raises InputError as a submission would."""
    check = check_of(site)
    for item in find_items(spec.inputs, Path(spec.out), []):
        check(item)
        yield item


def _history(site: Site, spec: JobSpec) -> tuple[int, float, int]:
    """Pictures of the newest jobs like this one, the seconds that they took and the bytes that were written of them."""
    rows = list(islice(_rows_alike(site, spec), PICTURES))
    seconds = sum(_took([row for _, row in group]) for _, group in groupby(rows, lambda pair: pair[0]))
    return len(rows), seconds, sum(_size(out / path) for out, row in rows for path in json.loads(row.files))


def _took(rows: list[Row]) -> float:
    """Seconds that a site took for pictures of one job: from the first result to the last and the first picture's own
    time, since decoding, scoring and finishing overlap and several workers may have done it. At most the sum of all
    that was done: a job that rested took no longer for it."""
    work = [row.decode_s + row.score_s + row.finish_s for row in rows]
    finished = [row.finished for row in rows]
    return min(sum(work), max(finished) - min(finished) + work[finished.index(min(finished))])


def _rows_alike(site: Site, spec: JobSpec) -> Iterator[tuple[Path, Row]]:
    for job in list_jobs(site.ledger, JOBS):
        other = JobSpec.model_validate_json(job.spec)
        if (other.free is None) == (spec.free is None) and all(
                getattr(other, name) == getattr(spec, name) for name in ALIKE):
            yield from ((Path(job.out), row) for row in finished_rows(site.ledger, job.id) if row.files != "{}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # moved or taken away since
        return 0
