"""Whether a job stands still, as far as the ledger can tell."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import func, select

from workers.ledger.claims import settle_shards
from workers.ledger.jobs import JobRow, last_finished
from workers.ledger.notes import noted_move
from workers.ledger.schema import items, shards
from workers.ledger.states import ItemState, JobState, ShardState
from workers.ledger.store import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Standstill:
    """A job on which nothing has moved for a while."""

    seconds: float
    """Since the last result, description or step of the job's end, or since the job was entered, first sent out or set
    going again."""
    held: int
    """Pictures that a worker holds now."""
    published: int
    """Shards whose message is under way and that nobody has begun."""


def standstill(ledger: Ledger, job: JobRow, stall_s: float) -> Standstill | None:
    """None while something moves, or where nothing should."""
    if job.state not in (JobState.RUNNING, JobState.FINALISING):
        return None
    now = time.time()
    moved = max(job.created, last_finished(ledger, job.id) or 0.0)
    if now - moved < stall_s:
        return None
    mine = shards.c.job_id == job.id
    with ledger.read() as connection:
        noted = noted_move(connection, job.id)
        first = connection.execute(select(func.max(shards.c.published)).where(mine, shards.c.sent <= 1)).scalar()
        held = connection.execute(select(func.count()).select_from(items).where(
            items.c.job_id == job.id, items.c.state == ItemState.RUNNING, items.c.lease_until > now)).scalar_one()
        published = connection.execute(select(func.count()).select_from(shards).where(
            mine, shards.c.state == ShardState.PUBLISHED, ~_worked_on().exists())).scalar_one()
    seconds = now - max(moved, noted, first or 0.0)
    return Standstill(seconds=seconds, held=held, published=published) if seconds >= stall_s else None


def send_again(ledger: Ledger, job: JobRow) -> int:
    """Shards of a job whose message is under way and that nobody works on wait again. How many."""
    with ledger.write() as connection:
        found = list(connection.execute(select(shards.c.id).where(
            shards.c.job_id == job.id, shards.c.state == ShardState.PUBLISHED, ~_worked_on().exists())).scalars())
        settle_shards(connection, found)
    return len(found)


def _worked_on():
    return select(items.c.id).where(items.c.shard_id == shards.c.id, items.c.state == ItemState.RUNNING)
