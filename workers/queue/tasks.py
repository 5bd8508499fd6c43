"""What a message asks for. A message says where there may be work; the ledger says whether there is."""

from __future__ import annotations

import functools
import logging
import mmap
import os
import threading
import time
from typing import Any

from celery import shared_task
from celery.signals import worker_process_shutdown, worker_shutting_down

from parsers.errors import Code, JobError, LexisegError
from workers.failpoints import reach
from workers.ledger import Ledger, open_ledger
from workers.ledger.clock import require_clock
from workers.queue.devices import DeviceNotes
from workers.queue.finalise import finalise
from workers.queue.settings import read_settings
from workers.queue.shard import ShardWorker
from workers.queue.telling import TellingWorker

GO_ON_S = 5.0
"""A worker goes on with the next shards of a job by itself for so long, then it asks the queue, where another job may
wait its turn."""

ASIDE_S = 2.0
"""A worker that may not work on a job, or cannot reach the ledger, leaves its messages to the others for so long."""

log = logging.getLogger("lexiseg")
_first = threading.Lock()
_stopping = mmap.mmap(-1, 1)
"""Shared with the child that works, where there is one: 1 when the worker was asked to stop."""


@worker_shutting_down.connect
def note_stop(**_: Any) -> None:
    """In the parent, when it is asked to stop: the child finishes its batch and gives back the rest."""
    _stopping[0] = 1


def is_stopping() -> bool:
    return _stopping[0] == 1


@functools.cache
def child_ledger(pid: int) -> Ledger:
    """The ledger of this process, opened in its first task: no connection is inherited."""
    return open_ledger(read_settings().ledger)


@functools.cache
def child_worker(pid: int) -> ShardWorker:
    """The models of this process, loaded in its first task."""
    settings = read_settings()
    return ShardWorker(child_ledger(pid), lease_s=settings.lease_s, min_free_mb=settings.min_free_mb, go_on_s=GO_ON_S,
                       is_stopping=is_stopping)


_devices = DeviceNotes()


@worker_process_shutdown.connect
def end_child(**_: Any) -> None:
    """In the child, when it ends as it should."""
    if child_worker.cache_info().currsize:
        child_worker(os.getpid()).close()


@shared_task(name="lexiseg.shard", ignore_result=True)
def work_shard(job_id: str, shard_id: int, digest: str) -> None:
    """Works off what is to be done in a shard."""
    _check(job_id, shard_id, digest)
    reach("delivered")
    try:
        require_clock(child_ledger(os.getpid()), read_settings().lease_s)
        child_worker(os.getpid()).work(job_id, shard_id, digest)
        _devices.tell(child_ledger(os.getpid()))  # the model is loaded by now
    except LexisegError as error:  # the ledger knows of it, or cannot be reached; the reaper comes back to the shard
        log.error("job %s, shard %s: %s", job_id, shard_id, error)
        if error.code in (Code.WORKER_DIFFERS, Code.LEDGER_UNAVAILABLE, Code.CLOCK_SKEW):
            time.sleep(ASIDE_S)


@functools.cache
def teller(pid: int) -> TellingWorker:
    """The language models of this process."""
    settings = read_settings()
    return TellingWorker(child_ledger(pid), lease_s=settings.lease_s, is_stopping=is_stopping,
                         max_calls=settings.max_llm_calls, limit_s=settings.shard_limit_s)


@shared_task(name="lexiseg.tell", ignore_result=True)
def tell_shard(job_id: str, shard_id: int, digest: str) -> None:
    """Says what the pictures of a shard show, in a job without candidates."""
    _check(job_id, shard_id, digest)
    reach("delivered")
    try:
        with _first:
            require_clock(child_ledger(os.getpid()), read_settings().lease_s)
            worker = teller(os.getpid())
        worker.work(job_id, shard_id, digest)
    except LexisegError as error:
        log.error("job %s, shard %s: %s", job_id, shard_id, error)
        if error.code in (Code.WORKER_DIFFERS, Code.LEDGER_UNAVAILABLE, Code.CLOCK_SKEW):
            time.sleep(ASIDE_S)


@shared_task(name="lexiseg.finalise", ignore_result=True)
def finalise_job(job_id: str, digest: str) -> None:
    """Writes what is written once at the end of a job."""
    _check(job_id, 0, digest)
    settings = read_settings()
    try:
        require_clock(child_ledger(os.getpid()), settings.lease_s)
        finalise(child_ledger(os.getpid()), job_id, lease_s=settings.lease_s, min_free_mb=settings.min_free_mb)
    except LexisegError as error:
        log.error("job %s: %s", job_id, error)


def _check(job_id: object, shard_id: object, digest: object) -> None:
    if not (isinstance(job_id, str) and isinstance(shard_id, int) and isinstance(digest, str)
            and len(job_id) <= 16 and len(digest) <= 64):
        raise JobError(Code.JOB_MISSING, "A message names no job as it should.", "", "lexiseg jobs list")
