"""The states of jobs and items, as closed lists.

An item::

    queued -> running -> done | done-empty | failed
    running -> queued         its worker died or gave it back
    running -> quarantined    its worker died once too often
    queued -> cancelled

A job::

    submitting -> running -> finalising -> done
    running -> paused -> running        by a person
    running -> stopped -> running       by what concerns all pictures, such as a full disk; then by a person
    running -> finalising -> sampled    its sample is done; `resume` goes on with the rest
    anything but done -> cancelled
"""

from __future__ import annotations

from enum import StrEnum


class ItemState(StrEnum):
    """What may become of a picture."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    DONE_EMPTY = "done-empty"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"


OPEN_ITEMS = (ItemState.QUEUED, ItemState.RUNNING)
"""States in which something is left to do."""
FINISHED_ITEMS = (ItemState.DONE, ItemState.DONE_EMPTY, ItemState.FAILED, ItemState.QUARANTINED)
"""States with a line in results.jsonl."""


class JobState(StrEnum):
    """What may become of a job."""

    SUBMITTING = "submitting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    FINALISING = "finalising"
    SAMPLED = "sampled"
    DONE = "done"
    CANCELLED = "cancelled"


class ShardState(StrEnum):
    """What may become of a shard, a group of pictures that one message stands for."""

    WAITING = "waiting"
    """It has work and no message is known to be under way."""
    PUBLISHED = "published"
    CLOSED = "closed"
    """None of its items is open."""
