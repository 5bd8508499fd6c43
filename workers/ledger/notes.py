"""Notes beside the tables: who dispatches, what GPUs there are, and when jobs got on."""

from __future__ import annotations

import time

from sqlalchemy import Connection, delete, select, text

from workers.ledger.schema import meta

NOTE = text("INSERT INTO meta (key, value) VALUES (:key, :value) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value")
MOVED = "moved:"
"""How the keys of these notes begin."""


def note_moved(connection: Connection, job_id: str) -> None:
    """A job got on in a way that leaves no result: something was said of pictures, it goes on after a pause, or a step
    of its end was done."""
    connection.execute(NOTE, {"key": MOVED + job_id, "value": repr(time.time())})


def noted_move(connection: Connection, job_id: str) -> float:
    """When that was last noted, in seconds since 1970; 0: never."""
    found = connection.execute(select(meta.c.value).where(meta.c.key == MOVED + job_id)).scalar_one_or_none()
    return 0.0 if found is None else float(found)


def forget_moves(connection: Connection, job_id: str) -> None:
    """Takes the note away."""
    connection.execute(delete(meta).where(meta.c.key == MOVED + job_id))
