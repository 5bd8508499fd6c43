"""The stage before the masks in a job without candidates: what the pictures of a shard show."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

from agents.parallel import in_order
from parsers.errors import JobError, LexisegError, LlmError
from parsers.prepared import PreparedRow
from workers.failpoints import reach
from workers.ledger import Claim, Finished, Ledger, claim, commit, hand_on
from workers.ledger.claims import settle
from workers.ledger.jobs import JobRow, counts, get_job, give_back_calls, note_problem, stop_job, take_calls
from workers.ledger.states import JobState
from workers.outputs import failure
from workers.queue.app import process_name
from workers.queue.lease import held
from workers.spec import CandidateFree, JobSpec
from workers.telling import CallBudget, Telling, concerns_all, open_telling, try_to_tell

COMMIT_ITEMS, COMMIT_S = 16, 2.0
"""Answers are handed in together: at most so many, and none is kept for longer than this."""

log = logging.getLogger("lexiseg")


class TellingWorker:
    """Asks about the pictures of shards, several shards at a time in threads, and keeps the language model between
    them. What is said is in the ledger with the picture, and the answers of the language model are in its store, so
    that none is asked for twice."""

    def __init__(self, ledger: Ledger, *, lease_s: float, is_stopping: Callable[[], bool],
                 max_calls: int = sys.maxsize, limit_s: float = math.inf) -> None:
        """max_calls: of the language model that one job may make, whatever it asks for itself. limit_s: for a message;
        then the answers that are there are handed in and the rest of its shard waits for another one."""
        self._ledger, self._lease_s, self._is_stopping, self._max_calls = ledger, lease_s, is_stopping, max_calls
        self._limit_s = limit_s
        self._open: dict[CandidateFree, Telling] = {}
        self._stack = ExitStack()
        self._opening = threading.Lock()

    def work(self, job_id: str, shard_id: int, digest: str) -> None:
        """Claims, asks and hands in until nothing in the shard is left to be said, the job is halted, or we are to
        stop. A picture of which nothing can be said fails with the reason; what concerns all pictures stops the job
        and is raised as LexisegError."""
        job = get_job(self._ledger, job_id)
        if job is None or not job.digest.startswith(digest) or job.state not in (JobState.RUNNING, JobState.SUBMITTING):
            return
        free = JobSpec.model_validate_json(job.spec).free
        if free is None:
            return
        try:
            until = time.monotonic() + self._limit_s
            while not self._is_over(until) and self._work_claim(job, shard_id, free, until):
                pass
        except JobError as error:
            note_problem(self._ledger, job_id, error.code, str(error))
            raise
        except LexisegError as error:
            stop_job(self._ledger, job_id, error.code, str(error))
            raise
        finally:
            settle(self._ledger, shard_id)
            reach("settled")

    def close(self) -> None:
        """Gives up the language model."""
        self._stack.close()

    def _is_over(self, until: float) -> bool:
        return self._is_stopping() or time.monotonic() >= until

    def _work_claim(self, job: JobRow, shard_id: int, free: CandidateFree, until: float) -> bool:
        """One claim; True if another one may follow. until: monotonic time."""
        owner = f"{process_name()}:{uuid.uuid4().hex[:12]}"
        claims = claim(self._ledger, shard_id, owner, self._lease_s, untold=True)
        if not claims:
            return False
        reach("claimed")
        ready: list[tuple[Claim, PreparedRow | Exception]] = []
        since, state = time.monotonic(), str(JobState.RUNNING)
        with held(self._ledger, owner, self._lease_s), self._budget(job, free) as budget:
            ask, parallel = self._asker(free, budget)
            with closing(in_order(ask, claims, parallel)) as answers:
                try:
                    for entry, said in zip(claims, answers, strict=True):
                        reach("told")
                        ready.append((entry, said))
                        if (len(ready) >= COMMIT_ITEMS or time.monotonic() - since >= COMMIT_S
                                or time.monotonic() >= until):
                            state = self._hand_in(job, ready)
                            ready, since = [], time.monotonic()
                            if state not in (JobState.RUNNING, JobState.SUBMITTING) or self._is_over(until):
                                return False
                except LlmError:
                    self._hand_in(job, ready)
                    raise
                if ready:
                    state = self._hand_in(job, ready)
        return state in (JobState.RUNNING, JobState.SUBMITTING)

    @contextmanager
    def _budget(self, job: JobRow, free: CandidateFree) -> Iterator[CallBudget]:
        """The calls that are left to the job, as the ledger counts them; what is not made is given back."""
        limit = min(free.call_limit(sum(counts(self._ledger, job.id).values())), self._max_calls)
        budget = CallBudget(lambda wanted: take_calls(self._ledger, job.id, wanted, limit), limit)
        try:
            yield budget
        finally:
            if unused := budget.give_back():
                give_back_calls(self._ledger, job.id, unused)

    def _asker(self, free: CandidateFree,
               budget: CallBudget) -> tuple[Callable[[Claim], PreparedRow | Exception], int]:
        """What says something of a picture, and of how many at once. A language model that does not answer even to be
        opened is the failure of each picture."""
        try:
            telling = self._telling(free)
        except LexisegError as error:
            if concerns_all(error):
                raise
            unopened = error
            return lambda entry: unopened, 1
        return lambda entry: try_to_tell(telling, entry.item, budget.spend), telling.parallel

    def _telling(self, free: CandidateFree) -> Telling:
        """The language model of a job; kept, since other threads and further jobs may ask the same."""
        free = free.model_copy(update={"max_calls": None})
        with self._opening:
            if free not in self._open:
                self._open[free] = self._stack.enter_context(open_telling(free))
            return self._open[free]

    def _hand_in(self, job: JobRow, ready: Sequence[tuple[Claim, PreparedRow | Exception]]) -> str:
        """What was said into the ledger, and failures where they end; the state of the job then."""
        reach("telling")
        told = [(entry, said.model_dump_json()) for entry, said in ready if isinstance(said, PreparedRow)]
        failed = [Finished(entry, failure(entry.item.name, said), (), 0.0, 0.0, 0.0)
                  for entry, said in ready if isinstance(said, Exception)]
        lost: list[int] = []
        state: str | None = None
        if told:
            handed = hand_on(self._ledger, job.id, told)
            lost, state = [*handed.lost], handed.job_state
        if failed:
            committed = commit(self._ledger, job.id, failed)
            lost, state = [*lost, *committed.lost], committed.job_state
        reach("handed-on")
        if lost:
            log.warning("job %s: what was said of %d pictures came too late", job.id, len(lost))
        return state or ""
