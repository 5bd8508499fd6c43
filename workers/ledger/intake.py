"""Pictures come into the ledger: new ones, changed ones, and those that are there already."""

from __future__ import annotations

import hashlib
import heapq
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, select, update

from parsers.errors import Code, InputError
from parsers.files import sha256_file
from workers.inputs import InputItem
from workers.ledger.jobs import ALL_STAGES, JobRow, item_names, requeue
from workers.ledger.schema import items, jobs, shards
from workers.ledger.states import ItemState, JobState, ShardState
from workers.ledger.store import Ledger

CHUNK = 500
"""Items per transaction."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What a submission brought."""

    added: int = 0
    changed: int = 0
    """Pictures whose content is another than the one that was worked on; each is a new item."""
    known: int = 0

    def plus(self, other: Intake) -> Intake:
        return Intake(self.added + other.added, self.changed + other.changed, self.known + other.known)


def take_in(ledger: Ledger, job: JobRow, found: Iterable[InputItem], *, untold: bool = False) -> Intake:
    """Adds pictures to a job, in pieces; memory does not grow with their number. untold: it is to be said what they
    show before they are segmented.

    One that is there already is left alone if size and time of change are those of then, or its content is; else
    it becomes a new item. A file that was reached before under another name counts once, by its first name. Raises
    InputError (`output-collision`) for two files with one name.
    """
    total = Intake()
    folders: dict[str, str] = {}
    iterator = iter(found)
    while chunk := list(islice(iterator, CHUNK)):
        total = total.plus(_take_chunk(ledger, job, chunk, folders, untold))
        if len(folders) > 10_000:
            folders.clear()
    return total


def set_going(ledger: Ledger, job: JobRow, *, sample: int | None = None) -> None:
    """Deals the new items of a job out to shards, in the order of their names, and lets workers begin.

    sample: so many items, drawn by the digests of their names, are done first, and the rest waits for `resume`.
    """
    size = job.shard_size
    if sample is not None:
        drawn = heapq.nsmallest(sample, ((hashlib.sha256(name.encode()).digest(), name)
                                         for name in _unsharded(ledger, job)))
        names = sorted(name for _, name in drawn)
        with ledger.write() as connection:
            for start in range(0, len(names), size):
                _deal(connection, job, 0, items.c.name.in_(names[start:start + size]))
    names_iterator = _unsharded(ledger, job)
    while chunk := list(islice(names_iterator, size * 64)):
        with ledger.write() as connection:
            for start in range(0, len(chunk), size):
                part = chunk[start:start + size]
                _deal(connection, job, ALL_STAGES, and_(items.c.name >= part[0], items.c.name <= part[-1]))
    with ledger.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job.id, jobs.c.state == JobState.SUBMITTING).values(
            state=JobState.RUNNING, stage=ALL_STAGES if sample is None else 0, error_code=None, error=None,
            finished=None))
    ledger.sync()


def _take_chunk(ledger: Ledger, job: JobRow, chunk: Sequence[InputItem], folders: dict[str, str],
                untold: bool) -> Intake:
    fresh: dict[bytes, InputItem] = {}
    for item in chunk:
        fresh.setdefault(_source(item, folders), item)
    with ledger.write() as connection:
        known = {row.source: row for row in connection.execute(
            select(items.c.source, items.c.id, items.c.name, items.c.size, items.c.mtime_ns, items.c.state,
                   items.c.image_sha256).where(items.c.job_id == job.id, items.c.source.in_(list(fresh))))}
        added = [_row(job, source, item) for source, item in fresh.items() if source not in known]
        changed = []
        for source, row in known.items():
            replacement = _row(job, source, fresh[source]) | {"name": row.name}
            if _is_changed(row, replacement, fresh[source]):
                changed.append((row.id, replacement))
        revived = [row.id for row in known.values() if row.state == ItemState.CANCELLED]
        if revived:
            requeue(connection, items.c.id.in_(revived))
        if changed:
            connection.execute(delete(items).where(items.c.id.in_([item_id for item_id, _ in changed])))
        _refuse_collisions(connection, job, added, fresh)
        rows = added + [replacement for _, replacement in changed]
        if rows:
            connection.execute(insert(items), [row | {"told": None if untold else ""} for row in rows])
    return Intake(len(added), len(changed), len(chunk) - len(added) - len(changed))


def _refuse_collisions(connection: Connection, job: JobRow, rows: list[dict[str, Any]],
                       fresh: dict[bytes, InputItem]) -> None:
    by_name: dict[str, InputItem] = {}
    for row in rows:
        item = fresh[row["source"]]
        if by_name.setdefault(item.name, item) is not item:
            raise _collision(item, by_name[item.name].path)
    taken = connection.execute(select(items.c.name, items.c.root, items.c.relative).where(
        items.c.job_id == job.id, items.c.name.in_(list(by_name)))).first()
    if taken is not None:
        raise _collision(by_name[taken.name], os.path.join(os.fsdecode(taken.root), os.fsdecode(taken.relative)))


def _collision(item: InputItem, other: object) -> InputError:
    return InputError(Code.OUTPUT_COLLISION, f"{other} and {item.path} would both be called {item.name!r} in the "
                      "results.", "One name for one picture.",
                      "Give the folder above both, or a pattern in quotes, or submit two jobs.")


def _source(item: InputItem, folders: dict[str, str]) -> bytes:
    """Stands for the file: the same however it is reached. A link to a file is a file of its own."""
    folder, base = os.path.split(os.path.join(item.root, item.relative))
    real = folders.get(folder)
    if real is None:
        real = folders[folder] = os.path.realpath(folder)
    return hashlib.blake2b(os.fsencode(os.path.join(real, base)), digest_size=16).digest()


def _row(job: JobRow, source: bytes, item: InputItem) -> dict[str, Any]:
    size: int | None
    mtime_ns: int | None
    try:
        status = os.stat(item.path)
        size, mtime_ns = status.st_size, status.st_mtime_ns
    except (OSError, ValueError):  # it fails on its own when its turn comes
        size = mtime_ns = None
    return {"job_id": job.id, "name": item.name, "root": os.fsencode(item.root),
            "relative": os.fsencode(item.relative), "source": source, "size": size, "mtime_ns": mtime_ns,
            "state": ItemState.QUEUED, "attempts": 0, "fence": 0}


def _is_changed(row: Any, now: dict[str, Any], item: InputItem) -> bool:
    if (row.size, row.mtime_ns) == (now["size"], now["mtime_ns"]):
        return False
    if row.image_sha256 is None or now["size"] is None:
        return True
    try:
        return sha256_file(item.path) != row.image_sha256
    except OSError:
        return True


def _unsharded(ledger: Ledger, job: JobRow) -> Iterator[str]:
    return item_names(ledger, job.id, items.c.shard_id.is_(None))


def _deal(connection: Connection, job: JobRow, stage: int, which: Any) -> None:
    shard_id = connection.execute(insert(shards).values(
        job_id=job.id, stage=stage, state=ShardState.WAITING, sent=0).returning(shards.c.id)).scalar_one()
    connection.execute(update(items).where(and_(items.c.job_id == job.id, items.c.shard_id.is_(None), which))
                       .values(shard_id=shard_id))
