"""From the ledger to the queue: messages for waiting shards, repairs, and the end of jobs. Any number of dispatchers
may run, on any number of machines; `lexiseg up` and `lexiseg dispatch` run one each."""

from __future__ import annotations

import logging
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from celery import Celery
from kombu.exceptions import OperationalError

from parsers.errors import Code, JobError, LexisegError, MissingPackageError
from parsers.secrets import address, without_secrets
from workers.ledger import JobRow, JobState, Ledger
from workers.ledger.allowance import stop_beyond_allowance
from workers.ledger.clock import require_clock
from workers.ledger.dispatch import (
    begin_finalising,
    forget_messages,
    hand_out,
    needs_finaliser,
    note_dispatcher,
    reap,
    take_back,
    untold_shards,
)
from workers.ledger.jobs import active_jobs, counts
from workers.ledger.standstill import send_again
from workers.queue.app import PRIORITIES, queue_name
from workers.queue.settings import QueueSettings
from workers.queue.stall import find_stall

DIGEST_LENGTH = 16
"""Characters of the job's digest in a message; enough to tell a message of another ledger."""
TICK_S = 0.1
END_S_PER_PICTURE = 2.0
"""Of the time after which a process that ends a job is taken for hung: reading the files of a picture, and writing its
mask anew in a job without names, takes far less."""
RETRY_S = 5.0
"""Between attempts to reach a ledger or a queue that does not answer."""

log = logging.getLogger("lexiseg")


class Dispatcher:
    """Calls `tick` as often as it likes; each call does what is due."""

    def __init__(self, ledger: Ledger, app: Celery, settings: QueueSettings) -> None:
        self._ledger, self._app, self._settings = ledger, app, settings
        self._next_reap = 0.0
        self._watched: dict[str, float] = {}
        """Job to the monotonic time of the last look whether it stands still."""
        self.wants_llm = False
        """Somebody is needed who says what pictures show."""
        self._errors = _connection_errors(app)

    def tick(self) -> bool:
        """One round; True while a job is active. Raises JobError (`ledger-unavailable`, `broker-unavailable`); then
        nothing is lost, and the next round tries again."""
        if time.monotonic() >= self._next_reap:
            self._next_reap = time.monotonic() + min(30.0, self._settings.lease_s / 2, self._settings.stale_s / 2)
            note_dispatcher(self._ledger, platform.node())
            require_clock(self._ledger, self._settings.lease_s)
            repairs = reap(self._ledger, self._settings.stale_s)
            if repairs.expired or repairs.republished:
                log.warning("%d pictures were taken back from workers that gave no sign of life; %d messages are sent "
                            "again", repairs.expired, repairs.republished)
            if self._queue_is_empty():
                forget_messages(self._ledger, self._settings.lease_s)
        found = active_jobs(self._ledger)
        self._watch(found)
        for job in found:
            if stop_beyond_allowance(self._ledger, job):
                log.warning("job %s: more pictures failed than it allows; it is stopped", job.id)
                continue
            if job.state == JobState.RUNNING:
                self._publish(job)
                if begin_finalising(self._ledger, job):
                    log.info("job %s: all pictures are done", job.id)
                    continue  # the next round asks for its failures once more, before anybody ends it
            if needs_finaliser(self._ledger, job, self._settings.lease_s):
                pictures = sum(counts(self._ledger, job.id).values())
                self._send("finalise", "export", job, job.id, job.digest[:DIGEST_LENGTH],
                           limit_s=self._settings.shard_limit_s + END_S_PER_PICTURE * pictures)
        return bool(found)

    def _watch(self, found: Sequence[JobRow]) -> None:
        """Reports jobs that stand still, each once in `stall_s`, and sends messages again that may be lost."""
        self._watched = {job.id: self._watched.get(job.id, time.monotonic()) for job in found}
        for job in found:
            if time.monotonic() - self._watched[job.id] < self._settings.stall_s:
                continue
            self._watched[job.id] = time.monotonic()
            stall = find_stall(self._ledger, job, self._settings)
            if stall is not None:
                log.warning("job %s: nothing has moved for %.0f s [%s] %s Next: %s", job.id, stall.seconds,
                            stall.reason, stall.message, stall.next_step)
                if stall.reason == "waiting":
                    send_again(self._ledger, job)

    def run(self, stop: threading.Event, on_problem: Callable[[str], None]) -> None:
        """Round after round until `stop` is set. on_problem hears of what does not answer."""
        wait = 0.0
        while not stop.wait(wait):
            try:
                self.tick()
                wait = TICK_S
            except LexisegError as error:
                on_problem(str(error))
                wait = RETRY_S

    def _queue_is_empty(self) -> bool:
        with self._reaching(), self._app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
            channel = connection.default_channel
            queues = [self._app.amqp.queues[queue_name(kind, priority)].bind(channel)
                      for kind in ("llm", "gpu") for priority in PRIORITIES]
            return all(queue.queue_declare().message_count == 0 for queue in queues)

    def _publish(self, job: JobRow) -> None:
        shard_ids = hand_out(self._ledger, job, self._settings.window)
        untold = untold_shards(self._ledger, shard_ids) if shard_ids else set()
        self.wants_llm = self.wants_llm or bool(untold)
        for number, shard_id in enumerate(shard_ids):
            task, kind = ("tell", "llm") if shard_id in untold else ("shard", "gpu")
            try:
                self._send(task, kind, job, job.id, shard_id, job.digest[:DIGEST_LENGTH])
            except JobError:
                take_back(self._ledger, shard_ids[number:])
                raise

    def _send(self, task: str, kind: str, job: JobRow, *arguments: object, limit_s: float | None = None) -> None:
        """limit_s: after which the process that does it is killed; None: that of the task."""
        priority = job.priority if job.priority in PRIORITIES else "batch"
        with self._reaching():
            self._app.send_task(f"lexiseg.{task}", args=arguments, queue=queue_name(kind, priority),
                                argsrepr="", kwargsrepr="", retry=False, ignore_result=True,
                                time_limit=limit_s)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise JobError(Code.BROKER_UNAVAILABLE, f"The queue {address(self._settings.broker)} does not answer: "
                           f"{without_secrets(str(error))}.", "A server that runs, or the broker filesystem.",
                           "Start it, or correct LEXISEG_BROKER; the ledger keeps every job.") from error


def _connection_errors(app: Celery) -> tuple[type[Exception], ...]:
    """What may be raised where the queue does not answer. Raises MissingPackageError."""
    connection = app.connection_for_write()
    try:
        return (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors)
    except ImportError as error:
        raise MissingPackageError(Code.PACKAGE_MISSING, f"The broker needs a package that is not installed: {error}.",
                                  "LEXISEG_BROKER=filesystem needs none.", "pip install lexiseg[redis]") from error
