"""How many pictures of a job may fail before it is stopped."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, select, update

from parsers.errors import Code
from workers.ledger.schema import items, jobs
from workers.ledger.states import ItemState, JobState
from workers.ledger.store import Ledger

if TYPE_CHECKING:
    from workers.ledger.jobs import JobRow

ACCEPTED = "failures_accepted"
"""In the notes of a job: failures after which a person resumed it; they are not counted again."""


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


def accept_failures(connection: Connection, job_id: str, number: int) -> None:
    """Notes how many failures are not counted: those of until now when a person resumes a job that was stopped for
    them, none when they are tried again."""
    notes = json.loads(connection.execute(select(jobs.c.notes).where(jobs.c.id == job_id).with_for_update())
                       .scalar_one())
    if notes.get(ACCEPTED, 0) != number:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(notes=json.dumps(
            notes | {ACCEPTED: number})))


def failed_number(connection: Connection, job_id: str) -> int:
    """Pictures that failed or were quarantined."""
    return connection.execute(select(func.count()).select_from(items).where(
        items.c.job_id == job_id, items.c.state.in_((ItemState.FAILED, ItemState.QUARANTINED)))).scalar_one()


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
