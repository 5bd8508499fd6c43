"""How far a job in the ledger is."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from parsers.errors import Code, JobError
from workers.ledger import JobRow, Ledger
from workers.ledger.jobs import counts, finished_since, get_job, told_number
from workers.ledger.states import FINISHED_ITEMS, OPEN_ITEMS

RECENT_S = 30.0
"""The rate is that of so many last seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """One look at a job."""

    job: JobRow
    counts: dict[str, int]
    """Pictures by state."""
    described: int | None
    """Pictures of which it is said what they show; None where names are given."""
    images_per_s: float
    """Over the last 30 seconds; 0 while nothing was handed in."""
    eta_s: float | None
    """Seconds left at that rate; None while it is unknown, and at the end."""

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def finished(self) -> int:
        return sum(self.counts[state] for state in FINISHED_ITEMS)


def read_progress(ledger: Ledger, job_id: str) -> JobProgress:
    """The job as it is now. Raises JobError (`job-missing`)."""
    job = get_job(ledger, job_id)
    if job is None:
        raise JobError(Code.JOB_MISSING, f"There is no job {job_id!r}.", "", "lexiseg jobs list")
    by_state = counts(ledger, job_id)
    span = min(RECENT_S, max(time.time() - job.created, 1.0))
    rate = finished_since(ledger, job_id, time.time() - span) / span if job.finished is None else 0.0
    left = sum(by_state[state] for state in OPEN_ITEMS)
    described = told_number(ledger, job_id) if json.loads(job.spec).get("free") else None
    return JobProgress(job=job, counts=by_state, described=described, images_per_s=rate,
                       eta_s=left / rate if rate and left else None)
