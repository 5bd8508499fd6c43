"""Jobs: making them, finding them, counting, and what a person may do to them."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, delete, func, insert, or_, select, update

from parsers.errors import Code, JobError
from workers.inputs import InputItem, item_of
from workers.ledger.notes import forget_moves, note_moved
from workers.ledger.schema import items, jobs, results, shards
from workers.ledger.states import FINISHED_ITEMS, OPEN_ITEMS, ItemState, JobState, ShardState
from workers.ledger.store import Ledger

Priority = Literal["interactive", "batch"]
NAMES_AT_ONCE = 4096
ACCEPTED = "failures_accepted"
"""In the notes of a job: failures after which a person resumed it; they are not counted again."""
ALL_STAGES = 1
"""Shards of stage 0 are a sample, those of stage 1 the rest; a job at stage 1 works on both."""


# These are asked all the time, so they are put together once.
_JOB = select(jobs).where(jobs.c.id == bindparam("job"))
_COUNTS = select(items.c.state, func.count()).where(items.c.job_id == bindparam("job")).group_by(items.c.state)
_FINISHED_SINCE = (select(func.count()).select_from(results).join(items, items.c.id == results.c.item_id)
                   .where(results.c.finished > bindparam("since"), items.c.job_id == bindparam("job")))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What a job is when it is submitted."""

    out: str
    """Absolute path; one job has one OUT, and one OUT has one job."""
    spec: str
    """The JobSpec as JSON."""
    digest: str
    """Of everything that decides about a mask."""
    priority: Priority = "batch"
    shard_size: int = 32
    """Pictures that one message stands for, 1 to 64."""
    attempts: int = 3
    """After so many deaths of its worker a picture is quarantined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job as the ledger has it."""

    id: str
    out: str
    state: str
    priority: str
    spec: str
    digest: str
    shard_size: int
    attempts: int
    stage: int
    made_with: dict[str, Any] | None
    """Model, code and versions of the first worker; every other one must be equal."""
    notes: dict[str, Any]
    error_code: str | None
    error: str | None
    created: float
    finished: float | None
    files: dict[str, str] | None
    llm_calls: int
    """Calls of the language model that were made or are about to be."""


def create_job(ledger: Ledger, new: NewJob) -> JobRow:
    """A new job in the state `submitting`, or the one that has this OUT already."""
    with ledger.write() as connection:
        row = connection.execute(select(jobs).where(jobs.c.out == new.out)).one_or_none()
        if row is None:
            job_id = secrets.token_hex(4)
            connection.execute(insert(jobs).values(
                id=job_id, out=new.out, state=JobState.SUBMITTING, priority=new.priority, spec=new.spec,
                digest=new.digest, shard_size=new.shard_size, attempts=new.attempts, stage=ALL_STAGES, notes="{}",
                created=time.time()))
            row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one()
    return _job(row)


def get_job(ledger: Ledger, job_id: str) -> JobRow | None:
    """The job of that id."""
    with ledger.read() as connection:
        row = connection.execute(_JOB, {"job": job_id}).one_or_none()
    return None if row is None else _job(row)


def find_job(ledger: Ledger, given: str) -> JobRow:
    """The job with an id, with the beginning of an id, or with this OUT. Raises JobError (`job-missing`)."""
    with ledger.read() as connection:
        rows = connection.execute(select(jobs).where(or_(jobs.c.out == os.path.abspath(os.path.expanduser(given)),
                                                         jobs.c.id.startswith(given, autoescape=True)))).all()
    exact = [row for row in rows if row.id == given] or rows
    if len(exact) != 1 or not given:
        raise JobError(Code.JOB_MISSING, f"{len(exact) or 'No'} jobs fit {given!r}.",
                       "The id of a job, its beginning, or the folder of its results.", "lexiseg jobs list")
    return _job(exact[0])


def list_jobs(ledger: Ledger, limit: int | None = None) -> list[JobRow]:
    """The newest jobs first, all of them or so many."""
    with ledger.read() as connection:
        return [_job(row) for row in connection.execute(select(jobs).order_by(jobs.c.created.desc(), jobs.c.id)
                                                        .limit(limit))]


def active_jobs(ledger: Ledger) -> list[JobRow]:
    """Jobs that workers have something to do for, interactive ones first, then the oldest."""
    with ledger.read() as connection:
        return [_job(row) for row in connection.execute(
            select(jobs).where(jobs.c.state.in_((JobState.RUNNING, JobState.FINALISING)))
            .order_by(jobs.c.priority.desc(), jobs.c.created))]


def counts(ledger: Ledger, job_id: str) -> dict[str, int]:
    """Items by state, every state named."""
    with ledger.read() as connection:
        return _counts(connection, job_id)


def look_at_job(ledger: Ledger, job_id: str, recent_s: float) -> tuple[JobRow, dict[str, int], float] | None:
    """The job, its items by state, and how many a second were handed in lately: in the last `recent_s` seconds, or
    since it was made; 0 for a job that is over. None if there is no such job. One transaction, so the three fit."""
    with ledger.read() as connection:
        row = connection.execute(_JOB, {"job": job_id}).one_or_none()
        if row is None:
            return None
        by_state, now, rate = _counts(connection, job_id), time.time(), 0.0
        if row.finished is None and any(by_state[state] for state in FINISHED_ITEMS):
            span = min(recent_s, max(now - row.created, 1.0))
            rate = connection.execute(_FINISHED_SINCE, {"job": job_id, "since": now - span}).scalar_one() / span
    return _job(row), by_state, rate


def _counts(connection: Connection, job_id: str) -> dict[str, int]:
    found = connection.execute(_COUNTS, {"job": job_id}).all()
    return {state.value: 0 for state in ItemState} | {state: number for state, number in found}


def finished_rows(ledger: Ledger, job_id: str, *, chunk: int = 500) -> Iterator[Row]:
    """What was handed in, in the order of names: name, line, files, decode_s, score_s, finish_s, finished, item_id.
    Read piece by piece, so that no reader holds the database for long."""
    after = ""
    while True:
        with ledger.read() as connection:
            rows = connection.execute(
                select(items.c.name, results.c.line, results.c.files, results.c.decode_s, results.c.score_s,
                       results.c.finish_s, results.c.finished, results.c.item_id)
                .join(results, results.c.item_id == items.c.id)
                .where(items.c.job_id == job_id, items.c.name > after, items.c.state.in_(FINISHED_ITEMS))
                .order_by(items.c.name).limit(chunk)).all()
        yield from rows
        if len(rows) < chunk:
            return
        after = rows[-1].name


def told_number(ledger: Ledger, job_id: str) -> int:
    """Pictures of which it is said what they show."""
    with ledger.read() as connection:
        return connection.execute(select(func.count()).select_from(items).where(
            items.c.job_id == job_id, items.c.told.is_not(None), items.c.told != "")).scalar_one()


def told_rows(ledger: Ledger, job_id: str, *, chunk: int = 500) -> Iterator[str]:
    """What is said of the finished pictures of a job, as JSON, in the order of their names; read piece by piece."""
    after = ""
    while True:
        with ledger.read() as connection:
            rows = connection.execute(
                select(items.c.name, items.c.told).where(
                    items.c.job_id == job_id, items.c.name > after, items.c.told.is_not(None), items.c.told != "",
                    items.c.state.in_(FINISHED_ITEMS)).order_by(items.c.name).limit(chunk)).all()
        yield from (row.told for row in rows)
        if len(rows) < chunk:
            return
        after = rows[-1].name


def item_names(ledger: Ledger, job_id: str, *conditions: ColumnElement[bool]) -> Iterator[str]:
    """Names of items in order, read piece by piece."""
    after = ""
    while True:
        with ledger.read() as connection:
            names = list(connection.execute(
                select(items.c.name).where(items.c.job_id == job_id, items.c.name > after, *conditions)
                .order_by(items.c.name).limit(NAMES_AT_ONCE)).scalars())
        yield from names
        if len(names) < NAMES_AT_ONCE:
            return
        after = names[-1]


def last_finished(ledger: Ledger, job_id: str) -> float | None:
    """When the last item was handed in, in seconds since 1970."""
    with ledger.read() as connection:
        return connection.execute(select(func.max(results.c.finished)).join(items, items.c.id == results.c.item_id)
                                  .where(items.c.job_id == job_id)).scalar_one()


def failures(ledger: Ledger, job_id: str, limit: int) -> list[str]:
    """Lines of results.jsonl of the first failed and quarantined items by name."""
    with ledger.read() as connection:
        return list(connection.execute(
            select(results.c.line).join(items, items.c.id == results.c.item_id)
            .where(items.c.job_id == job_id, items.c.state.in_((ItemState.FAILED, ItemState.QUARANTINED)))
            .order_by(items.c.name).limit(limit)).scalars())


def locate(ledger: Ledger, job_id: str, name: str) -> InputItem:
    """The item of that name, which must be there."""
    with ledger.read() as connection:
        row = connection.execute(select(items.c.name, items.c.root, items.c.relative)
                                 .where(items.c.job_id == job_id, items.c.name == name)).one()
    return item_of(row.name, row.root, row.relative)


def set_made_with(ledger: Ledger, job_id: str, made_with: dict[str, Any]) -> JobRow:
    """Notes model, code and versions unless another worker has; the job as it is now. Raises JobError
    (`job-missing`)."""
    with ledger.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id, jobs.c.made_with.is_(None))
                           .values(made_with=json.dumps(made_with)))
        row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    if row is None:
        raise JobError(Code.JOB_MISSING, f"The ledger {ledger.where} has no job {job_id} any more.", "",
                       "lexiseg jobs list")
    return _job(row)


def note_problem(ledger: Ledger, job_id: str, code: str, message: str) -> None:
    """Notes what a worker complains about; the job goes on."""
    with ledger.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(error_code=code, error=message))


def take_calls(ledger: Ledger, job_id: str, wanted: int, limit: int) -> int:
    """Counts calls of the language model before a worker makes them; how many of those that are wanted it may make, so
    that the job makes no more than `limit`."""
    with ledger.write() as connection:
        counted = connection.execute(select(jobs.c.llm_calls).where(jobs.c.id == job_id)
                                     .with_for_update()).scalar_one_or_none()
        granted = 0 if counted is None else max(0, min(wanted, limit - counted))
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(llm_calls=jobs.c.llm_calls + granted))
    return granted


def give_back_calls(ledger: Ledger, job_id: str, number: int) -> None:
    """Calls that were counted and not made."""
    with ledger.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(llm_calls=jobs.c.llm_calls - number))


def stop_job(ledger: Ledger, job_id: str, code: str, message: str) -> None:
    """Stops a running job for something that concerns all pictures."""
    with ledger.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_((JobState.RUNNING,
                                                                                   JobState.FINALISING)))
                           .values(state=JobState.STOPPED, error_code=code, error=message))


def pause_job(ledger: Ledger, job: JobRow) -> None:
    """No further pictures are begun; a batch that is under way is finished. Raises JobError (`job-state`)."""
    with ledger.write() as connection:
        _move(connection, job, (JobState.RUNNING,), JobState.PAUSED, "paused")


def resume_job(ledger: Ledger, job: JobRow) -> None:
    """Goes on with a job that was paused, was stopped, or whose sample is done. Raises JobError (`job-state`)."""
    with ledger.write() as connection:
        _move(connection, job, (JobState.PAUSED, JobState.STOPPED, JobState.SAMPLED), JobState.RUNNING, "resumed",
              stage=jobs.c.stage if job.state == JobState.STOPPED else ALL_STAGES, error_code=None, error=None)
        # messages that came while it stood still were put aside
        connection.execute(update(shards).where(shards.c.job_id == job.id, shards.c.state == ShardState.PUBLISHED)
                           .values(state=ShardState.WAITING))
        note_moved(connection, job.id)
        if job.error_code == Code.TOO_MANY_FAILURES:
            accept_failures(connection, job.id, failed_number(connection, job.id))


def cancel_job(ledger: Ledger, job: JobRow) -> int:
    """Takes back all pictures that are not begun and ends the job; how many were taken back. Finished masks stay.
    Raises JobError (`job-state`)."""
    with ledger.write() as connection:
        _move(connection, job, tuple(state for state in JobState if state not in (JobState.DONE, JobState.CANCELLED)),
              JobState.CANCELLED, "cancelled", finished=time.time())
        number = connection.execute(update(items).where(items.c.job_id == job.id, items.c.state == ItemState.QUEUED)
                                    .values(state=ItemState.CANCELLED, fence=items.c.fence + 1)).rowcount
        connection.execute(update(shards).where(shards.c.job_id == job.id).values(state=ShardState.CLOSED))
        forget_moves(connection, job.id)
    return number


def retry_failed(ledger: Ledger, job: JobRow) -> int:
    """Queues failed and quarantined items again and sets the job going; how many. Raises JobError (`job-state`) for a
    job that was cancelled."""
    if job.state == JobState.CANCELLED:
        raise _state_error(job, "retried")
    again = and_(items.c.job_id == job.id, items.c.state.in_((ItemState.FAILED, ItemState.QUARANTINED)))
    with ledger.write() as connection:
        number = requeue(connection, again)
        if number:
            connection.execute(update(jobs).where(jobs.c.id == job.id, jobs.c.state.in_((
                JobState.DONE, JobState.FINALISING, JobState.STOPPED))).values(
                    state=JobState.RUNNING, error_code=None, error=None, finished=None))
            note_moved(connection, job.id)
            accept_failures(connection, job.id, 0)
    return number


def requeue(connection: Any, which: Any) -> int:
    """Items go back to the queue as if never tried, their shards wait for a message; how many."""
    shard_ids = list(connection.execute(select(items.c.shard_id).where(which).distinct()).scalars())
    number = connection.execute(update(items).where(which).values(
        state=ItemState.QUEUED, fence=items.c.fence + 1, attempts=0, code=None, owner=None, lease_until=None)).rowcount
    for start in range(0, len(shard_ids), 500):
        connection.execute(update(shards).where(shards.c.id.in_(shard_ids[start:start + 500]))
                           .values(state=ShardState.WAITING, sent=0))
    return number


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


def failed_with(ledger: Ledger, job_id: str, code: str) -> int:
    """Pictures that failed for that reason."""
    with ledger.read() as connection:
        return connection.execute(select(func.count()).select_from(items).where(
            items.c.job_id == job_id, items.c.state == ItemState.FAILED, items.c.code == code)).scalar_one()


def forget_job(ledger: Ledger, job: JobRow) -> None:
    """Takes a job that never began, and its items, out of the ledger."""
    with ledger.write() as connection:
        for table in (items, shards):
            connection.execute(delete(table).where(table.c.job_id == job.id))
        connection.execute(delete(jobs).where(jobs.c.id == job.id))
        forget_moves(connection, job.id)


def forget_new_items(ledger: Ledger, job: JobRow) -> None:
    """Takes the items of a submission that is given up out of the ledger: those that were not dealt out yet."""
    with ledger.write() as connection:
        connection.execute(delete(items).where(items.c.job_id == job.id, items.c.shard_id.is_(None)))


def open_items(ledger: Ledger, job_id: str) -> int:
    """Items that are queued or running."""
    with ledger.read() as connection:
        return connection.execute(select(func.count()).select_from(items).where(
            items.c.job_id == job_id, items.c.state.in_(OPEN_ITEMS))).scalar_one()


def _move(connection: Connection, job: JobRow, allowed: Sequence[JobState], state: JobState, verb: str,
          **values: Any) -> None:
    changed = connection.execute(update(jobs).where(jobs.c.id == job.id, jobs.c.state.in_(allowed))
                                 .values(state=state, **values)).rowcount
    if not changed:
        raise _state_error(job, verb)


def _state_error(job: JobRow, verb: str) -> JobError:
    return JobError(Code.JOB_STATE, f"The job {job.id} is {job.state} and cannot be {verb}.", "",
                    f"lexiseg jobs show {job.id}")


def _job(row: Row) -> JobRow:
    values = {name: value for name, value in row._mapping.items() if name in JobRow.__slots__}
    for name in ("made_with", "notes", "files"):
        values[name] = None if values[name] is None else json.loads(values[name])
    return JobRow(**values)
