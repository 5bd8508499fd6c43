"""Which shards are handed to the queue, and the repair of whatever was lost on the way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, func, or_, select, update

from workers.ledger.claims import expire, settle_shards
from workers.ledger.jobs import JobRow
from workers.ledger.notes import NOTE, note_moved
from workers.ledger.schema import items, jobs, meta, shards
from workers.ledger.states import OPEN_ITEMS, ItemState, JobState, ShardState
from workers.ledger.store import Ledger

DISPATCHER = "dispatcher:"
"""How the keys of their signs of life begin."""
AHEAD_S = 60.0
"""A message that was sent later than so far in the future was sent before the clock was set back."""


@dataclass(frozen=True, slots=True)
class Repairs:
    """What the reaper found."""

    expired: int
    """Items whose worker did not renew its lease."""
    republished: int
    """Shards whose message is taken for lost."""


def hand_out(ledger: Ledger, job: JobRow, window: int) -> list[int]:
    """Shards that a message is to be sent for now, so that at most `window` of the job are under way. Two who ask at
    once get different ones."""
    with ledger.read() as connection:
        if _room(connection, job, window) <= 0 or not _waiting(connection, job, 1):
            return []
    with ledger.write() as connection:
        state = connection.execute(select(jobs.c.state).where(jobs.c.id == job.id)).scalar_one()
        room = _room(connection, job, window)
        if state != JobState.RUNNING or room <= 0:
            return []
        found = _waiting(connection, job, room)
        return sorted(connection.execute(
            update(shards).where(shards.c.id.in_(found), shards.c.state == ShardState.WAITING)
            .values(state=ShardState.PUBLISHED, published=time.time(), sent=shards.c.sent + 1)
            .returning(shards.c.id)).scalars())


def untold_shards(ledger: Ledger, shard_ids: Sequence[int]) -> set[int]:
    """Those of the shards in which it is to be said what pictures show before any of them is segmented."""
    with ledger.read() as connection:
        return set(connection.execute(select(items.c.shard_id).distinct().where(
            items.c.shard_id.in_(shard_ids), items.c.state.in_(OPEN_ITEMS), items.c.told.is_(None))).scalars())


def unbegun_shard(ledger: Ledger, job: JobRow) -> int | None:
    """The first shard of a job whose message is under way and that nobody has tried; None if there is none, or while a
    job is running that is more urgent."""
    inside = select(items.c.id).where(items.c.shard_id == shards.c.id)
    urgent = select(jobs.c.id).where(jobs.c.state == JobState.RUNNING, jobs.c.priority == "interactive")
    with ledger.read() as connection:
        if job.priority != "interactive" and connection.execute(urgent.limit(1)).first() is not None:
            return None
        return connection.execute(
            select(shards.c.id).where(
                shards.c.job_id == job.id, shards.c.state == ShardState.PUBLISHED,
                inside.where(items.c.state == ItemState.QUEUED, items.c.attempts == 0,
                             items.c.told.is_not(None)).exists(),
                ~inside.where(items.c.state == ItemState.QUEUED, items.c.told.is_(None)).exists(),
                ~inside.where(items.c.state == ItemState.RUNNING).exists())
            .order_by(shards.c.id).limit(1)).scalar_one_or_none()


def take_back(ledger: Ledger, shard_ids: list[int]) -> None:
    """Says that messages could not be sent."""
    with ledger.write() as connection:
        settle_shards(connection, shard_ids)


def reap(ledger: Ledger, stale_s: float) -> Repairs:
    """Ends leases that are over, and takes the messages of shards for lost that nobody has begun for `stale_s`
    (twice as long after each message). Any number of reapers may run at any time."""
    now = time.time()
    with ledger.write() as connection:
        expired = expire(connection, now)
        running = select(items.c.id).where(items.c.shard_id == shards.c.id, items.c.state == ItemState.RUNNING)
        stale = connection.execute(
            select(shards.c.id, shards.c.published, shards.c.sent).join(jobs, jobs.c.id == shards.c.job_id)
            .where(shards.c.state == ShardState.PUBLISHED, jobs.c.state == JobState.RUNNING, ~running.exists(),
                   or_(shards.c.published < now - stale_s, shards.c.published > now + AHEAD_S))).all()
        lost = [row.id for row in stale
                if row.published > now + AHEAD_S or row.published < now - stale_s * 2 ** min(row.sent - 1, 6)]
        settle_shards(connection, lost)
    return Repairs(expired, len(lost))


def forget_messages(ledger: Ledger, age_s: float) -> int:
    """The queue is known to be empty: every shard that nobody works on, and whose message was sent more than `age_s`
    ago, waits again. How many."""
    with ledger.write() as connection:
        running = select(items.c.id).where(items.c.shard_id == shards.c.id, items.c.state == ItemState.RUNNING)
        idle = select(shards.c.id).where(shards.c.state == ShardState.PUBLISHED, ~running.exists(),
                                         shards.c.published < time.time() - age_s)
        found = list(connection.execute(idle).scalars())
        settle_shards(connection, found)
    return len(found)


def note_dispatcher(ledger: Ledger, host: str) -> None:
    """A dispatcher on `host` gives a sign of life. Those that gave none for a day are forgotten."""
    now = time.time()
    with ledger.write() as connection:
        connection.execute(NOTE, {"key": DISPATCHER + host[:20], "value": repr(now)})
        for name, at in _dispatchers(connection).items():
            if now - at > 86_400:
                connection.execute(delete(meta).where(meta.c.key == DISPATCHER + name))


def dispatchers(ledger: Ledger) -> dict[str, float]:
    """Host (its first 20 characters) to the time of its dispatcher's last sign of life, seconds since 1970."""
    with ledger.read() as connection:
        return _dispatchers(connection)


def _dispatchers(connection: Connection) -> dict[str, float]:
    found = connection.execute(select(meta.c.key, meta.c.value).where(meta.c.key.startswith(DISPATCHER)))
    return {row.key.removeprefix(DISPATCHER): float(row.value) for row in found}


def begin_finalising(ledger: Ledger, job: JobRow) -> bool:
    """Moves a job with nothing left to do from running to finalising; True for exactly one of those who try."""
    left = and_(items.c.job_id == job.id, items.c.state.in_(OPEN_ITEMS))
    if job.stage == 0:
        left = and_(left, items.c.shard_id.in_(select(shards.c.id).where(shards.c.job_id == job.id,
                                                                        shards.c.stage == 0)))
    with ledger.read() as connection:  # most often something is left, and the write lock is not needed
        if connection.execute(select(items.c.id).where(left).limit(1)).first() is not None:
            return False
    with ledger.write() as connection:
        begun = connection.execute(
            update(jobs).where(jobs.c.id == job.id, jobs.c.state == JobState.RUNNING, jobs.c.stage == job.stage,
                               ~select(items.c.id).where(left).exists())
            .values(state=JobState.FINALISING, lease_until=0)).rowcount == 1
        if begun:
            note_moved(connection, job.id)
    return begun


def needs_finaliser(ledger: Ledger, job: JobRow, lease_s: float) -> bool:
    """Whether a message to finalise the job is to be sent: nobody holds it. It is taken for under way for `lease_s`."""
    now = time.time()
    free = and_(jobs.c.id == job.id, jobs.c.state == JobState.FINALISING, _is_free(now, lease_s))
    with ledger.read() as connection:
        if connection.execute(select(jobs.c.id).where(free)).first() is None:
            return False
    with ledger.write() as connection:
        return connection.execute(update(jobs).where(free).values(lease_until=now + lease_s)).rowcount == 1


def hold_finalising(ledger: Ledger, job_id: str, lease_s: float) -> bool:
    """Lengthens the lease of who finalises and got on with it; False if the job is not being finalised any more."""
    with ledger.write() as connection:
        held = connection.execute(update(jobs).where(jobs.c.id == job_id, jobs.c.state == JobState.FINALISING)
                                  .values(lease_until=time.time() + lease_s)).rowcount == 1
        if held:
            note_moved(connection, job_id)
    return held


def _is_free(now: float, lease_s: float) -> ColumnElement[bool]:
    return or_(jobs.c.lease_until.is_(None), jobs.c.lease_until < now, jobs.c.lease_until > now + 2 * lease_s + 60)


def _room(connection: Connection, job: JobRow, window: int) -> int:
    return window - connection.execute(select(func.count()).select_from(shards).where(
        shards.c.job_id == job.id, shards.c.state == ShardState.PUBLISHED)).scalar_one()


def _waiting(connection: Connection, job: JobRow, limit: int) -> list[int]:
    waiting = (select(shards.c.id).where(shards.c.job_id == job.id, shards.c.state == ShardState.WAITING,
                                         shards.c.stage <= job.stage)
               .order_by(shards.c.stage, shards.c.id).limit(limit))
    return list(connection.execute(waiting).scalars())
