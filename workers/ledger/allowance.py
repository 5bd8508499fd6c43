"""How many pictures of a job may fail before it is stopped."""

from __future__ import annotations

import functools
import json

from sqlalchemy import update

from parsers.errors import Code
from workers.ledger.jobs import ACCEPTED, JobRow, failed_number
from workers.ledger.schema import jobs
from workers.ledger.states import JobState
from workers.ledger.store import Ledger


def stop_beyond_allowance(ledger: Ledger, job: JobRow) -> bool:
    """Stops an active job of which more pictures failed or were quarantined than its `max_failures`, those not counted
    that a person accepted by resuming it; True if it was stopped. What is finished stays."""
    allowed = _allowed(job.spec)
    if allowed is None:
        return False
    limit = allowed + job.notes.get(ACCEPTED, 0)
    with ledger.read() as connection:
        if failed_number(connection, job.id) <= limit:
            return False
    with ledger.write() as connection:
        failed = failed_number(connection, job.id)
        return failed > limit and connection.execute(
            update(jobs).where(jobs.c.id == job.id, jobs.c.state.in_((JobState.RUNNING, JobState.FINALISING)))
            .values(state=JobState.STOPPED, error_code=Code.TOO_MANY_FAILURES, error=_explained(job, failed, allowed))
        ).rowcount == 1


def _explained(job: JobRow, failed: int, allowed: int) -> str:
    before = job.notes.get(ACCEPTED, 0)
    return (f"{failed} pictures failed, {f'{before} of them before it was resumed, ' if before else ''}and "
            f"--max-failures allows {allowed}. lexiseg jobs show {job.id} names the first; then lexiseg jobs retry "
            f"{job.id} --failed tries them again, and lexiseg jobs resume {job.id} goes on without them.")


@functools.lru_cache(maxsize=64)
def _allowed(spec: str) -> int | None:
    """The field of a JobSpec in JSON; jobs of an earlier lexiseg have none."""
    allowed: int | None = json.loads(spec).get("max_failures")
    return allowed
