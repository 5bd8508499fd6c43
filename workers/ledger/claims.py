"""Taking work, keeping it and handing in what became of it.

A claim raises the item's fence; only who has the newest fence can hand in. So of any number of workers that come to
hold one item, through duplicate messages, long pauses or a clock that jumps, one at most has an effect.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, case, delete, insert, or_, select, update

from parsers.errors import Code
from parsers.files import canonical_json
from workers.inputs import InputItem, item_of
from workers.ledger.notes import note_moved
from workers.ledger.schema import items, jobs, results, shards
from workers.ledger.states import OPEN_ITEMS, ItemState, JobState, ShardState
from workers.ledger.store import Ledger
from workers.records import QUARANTINED, Result

LONGEST_LEASE_S = 3600.0
"""A lease that ends later than this from now was written by a clock that has since been set back: it is over."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One item that is ours until its lease ends."""

    item_id: int
    fence: int
    attempts: int
    """This one included."""
    item: InputItem
    told: str = ""
    """What is said of it, as JSON; empty in a job with candidates, and while it is to be said."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of a claimed item."""

    claim: Claim
    result: Result
    files: tuple[tuple[str, str], ...]
    """Path below OUT and sha256 of each file written for it."""
    decode_s: float
    score_s: float
    finish_s: float


@dataclass(frozen=True, slots=True)
class Committed:
    """What the ledger says to what was handed in."""

    lost: tuple[int, ...]
    """Items that were no longer ours; nothing was changed for them."""
    job_state: str | None
    """None: the ledger knows no such job any more."""


def claim(ledger: Ledger, shard_id: int, owner: str, lease_s: float, *, only_new: bool = False,
          untold: bool = False) -> tuple[Claim, ...]:
    """Takes what is to be done in a shard, in the order of names; empty if there is nothing for us.

    Items that were never tried come together. One that was tried before (its worker died) comes alone, so that a
    picture that kills its worker takes no other with it, and never with only_new. Each claim counts as an attempt: a
    worker that dies cannot count any more. untold: those of which it is to be said what they show; else those of which
    that is said, or need not be.
    """
    now = time.time()
    taken = {"state": ItemState.RUNNING, "fence": items.c.fence + 1, "attempts": items.c.attempts + 1,
             "owner": owner, "lease_until": now + lease_s}
    with ledger.write() as connection:
        state = connection.execute(select(jobs.c.state).join(shards, shards.c.job_id == jobs.c.id)
                                   .where(shards.c.id == shard_id)).scalar_one_or_none()
        if state not in (JobState.RUNNING, JobState.SUBMITTING):
            return ()
        expire(connection, now, shard_id)
        queued = and_(items.c.shard_id == shard_id, items.c.state == ItemState.QUEUED,
                      items.c.told.is_(None) if untold else items.c.told.is_not(None))
        rows = connection.execute(update(items).where(queued, items.c.attempts == 0).values(taken)
                                  .returning(*_CLAIMED)).all()
        if not rows and not only_new:
            first = select(items.c.id).where(queued).order_by(items.c.attempts, items.c.name).limit(1).scalar_subquery()
            rows = connection.execute(update(items).where(items.c.id == first, items.c.state == ItemState.QUEUED)
                                      .values(taken).returning(*_CLAIMED)).all()
        if rows:
            connection.execute(update(shards).where(shards.c.id == shard_id).values(sent=0))
    claims = [Claim(row.id, row.fence, row.attempts, item_of(row.name, row.root, row.relative), row.told or "")
              for row in rows]
    return tuple(sorted(claims, key=lambda entry: entry.item.name))


def renew(ledger: Ledger, owner: str, lease_s: float) -> int:
    """Lengthens the leases of an owner; how many items are still its own."""
    mine = and_(items.c.owner == owner, items.c.state == ItemState.RUNNING)
    with ledger.write() as connection:
        return connection.execute(update(items).where(mine).values(lease_until=time.time() + lease_s)).rowcount


def commit(ledger: Ledger, job_id: str, finished: Sequence[Finished]) -> Committed:
    """Hands in results, each only if its item is still ours by its fence; all in one transaction."""
    now = time.time()
    handed = {entry.claim.item_id: entry for entry in finished}
    rows = {item_id: {"item_id": item_id, "line": line_of(entry.result),
                      "files": canonical_json(dict(entry.files)).decode(), "decode_s": entry.decode_s,
                      "score_s": entry.score_s, "finish_s": entry.finish_s, "finished": now}
            for item_id, entry in handed.items()}
    with ledger.write() as connection:
        held = connection.execute(select(items.c.id, items.c.fence).with_for_update().where(
            items.c.id.in_(list(handed)), items.c.state == ItemState.RUNNING)).all()
        ours = [row.id for row in held if row.fence == handed[row.id].claim.fence]
        if ours:
            connection.execute(_FINISH, [{"of": item_id, "to": handed[item_id].result.state,
                                          "why": handed[item_id].result.code,
                                          "sha256": handed[item_id].result.image_sha256} for item_id in ours])
            connection.execute(delete(results).where(results.c.item_id.in_(ours)))
            connection.execute(insert(results), [rows[item_id] for item_id in ours])
        state = connection.execute(select(jobs.c.state).where(jobs.c.id == job_id)).scalar_one_or_none()
    return Committed(tuple(sorted(set(handed) - set(ours))), state)


def hand_on(ledger: Ledger, job_id: str, told: Sequence[tuple[Claim, str]]) -> Committed:
    """Hands in what is said of pictures, each only if it is still ours by its fence; they are queued for the next
    stage as if never tried. All in one transaction."""
    handed = {entry.item_id: (entry, said) for entry, said in told}
    with ledger.write() as connection:
        held = connection.execute(select(items.c.id, items.c.fence).with_for_update().where(
            items.c.id.in_(list(handed)), items.c.state == ItemState.RUNNING)).all()
        ours = [row.id for row in held if row.fence == handed[row.id][0].fence]
        if ours:
            connection.execute(_HAND_ON, [{"of": item_id, "said": handed[item_id][1]} for item_id in ours])
            note_moved(connection, job_id)
        state = connection.execute(select(jobs.c.state).where(jobs.c.id == job_id)).scalar_one_or_none()
        if state == JobState.CANCELLED and ours:
            connection.execute(update(items).where(items.c.id.in_(ours)).values(state=ItemState.CANCELLED))
    return Committed(tuple(sorted(set(handed) - set(ours))), state)


def release(ledger: Ledger, owner: str) -> int:
    """Gives back what an owner still holds, as if it had never been taken (in a cancelled job it is cancelled, too);
    how many items."""
    with ledger.write() as connection:
        mine = and_(items.c.owner == owner, items.c.state == ItemState.RUNNING)
        ended = select(jobs.c.id).where(jobs.c.id == items.c.job_id, jobs.c.state == JobState.CANCELLED).exists()
        return connection.execute(update(items).where(mine).values(
            state=case((ended, ItemState.CANCELLED.value), else_=ItemState.QUEUED.value), fence=items.c.fence + 1,
            attempts=items.c.attempts - 1, owner=None, lease_until=None)).rowcount


def settle(ledger: Ledger, *shard_ids: int) -> None:
    """Says of shards that were worked off what they are now: closed, waiting, or another worker's."""
    if shard_ids:
        with ledger.write() as connection:
            settle_shards(connection, shard_ids)


def expire(connection: Connection, now: float, shard_id: int | None = None) -> int:
    """Ends leases that are over, in one shard or in all: items go back to the queue, and those at their last attempt
    into quarantine. Returns how many."""
    over = and_(items.c.state == ItemState.RUNNING,
                or_(items.c.lease_until < now, items.c.lease_until > now + LONGEST_LEASE_S))
    if shard_id is not None:
        over = and_(over, items.c.shard_id == shard_id)
    columns = (items.c.id, items.c.name, items.c.attempts, items.c.shard_id, items.c.fence,
               jobs.c.attempts.label("limit"), jobs.c.state.label("job_state"))
    rows = connection.execute(select(*columns).join(jobs, jobs.c.id == items.c.job_id).where(over)
                              .order_by(items.c.id)).all()
    expired = 0
    for row in rows:
        state = (ItemState.QUARANTINED if row.attempts >= row.limit else
                 ItemState.CANCELLED if row.job_state == JobState.CANCELLED else ItemState.QUEUED)
        changed = connection.execute(
            update(items).where(items.c.id == row.id, items.c.fence == row.fence, over)
            .values(state=state, fence=items.c.fence + 1, owner=None, lease_until=None,
                    code=Code.WORKER_DIED if state == ItemState.QUARANTINED else None)).rowcount
        expired += changed
        if changed and state == ItemState.QUARANTINED:
            connection.execute(delete(results).where(results.c.item_id == row.id))
            connection.execute(insert(results).values(item_id=row.id, line=line_of(quarantine(row.name, row.attempts)),
                                                      files="{}", decode_s=0, score_s=0, finish_s=0, finished=now))
    settle_shards(connection, sorted({row.shard_id for row in rows}))
    return expired


def settle_shards(connection: Connection, shard_ids: Sequence[int]) -> None:
    """A shard waits for a message when something in it is queued, but not for the next stage as long as it is being
    said what its pictures show."""
    for shard_id in shard_ids:
        if connection.execute(select(items.c.id).where(
                items.c.shard_id == shard_id, items.c.state == ItemState.RUNNING, items.c.told.is_(None))
                .limit(1)).first() is not None:
            continue
        there = {state for (state,) in connection.execute(
            select(items.c.state).where(items.c.shard_id == shard_id, items.c.state.in_(OPEN_ITEMS)).distinct())}
        if not there or ItemState.QUEUED in there:
            state = ShardState.WAITING if there else ShardState.CLOSED
            connection.execute(update(shards).where(shards.c.id == shard_id).values(state=state))


def quarantine(name: str, attempts: int) -> Result:
    """The line for a picture whose worker died each time."""
    return Result(name=name, state=QUARANTINED, code=Code.WORKER_DIED,
                  message=f"The process that worked on it died {attempts} times.",
                  advice="Look at the picture and at the memory of the machine; then retry the failed pictures.")


def line_of(result: Result) -> str:
    """A line of results.jsonl, without its end."""
    return canonical_json(result.model_dump(mode="json")).decode()


_FINISH = update(items).where(items.c.id == bindparam("of")).values(
    state=bindparam("to"), code=bindparam("why"), image_sha256=bindparam("sha256"), owner=None, lease_until=None)
_HAND_ON = update(items).where(items.c.id == bindparam("of")).values(
    told=bindparam("said"), state=ItemState.QUEUED.value, fence=items.c.fence + 1, attempts=0, owner=None,
    lease_until=None)
_CLAIMED = (items.c.id, items.c.fence, items.c.attempts, items.c.name, items.c.root, items.c.relative, items.c.told)
