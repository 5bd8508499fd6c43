"""One shard, from claim to commit."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from parsers.errors import Code, JobError, LexisegError
from parsers.prepared import PreparedRow
from parsers.vocabulary import Vocabulary
from vision.types import Segmenter
from workers.description import describe_job, load_backend, made_with
from workers.failpoints import reach
from workers.inputs import InputItem
from workers.ledger import Claim, Finished, Ledger, claim, commit
from workers.ledger.claims import settle
from workers.ledger.dispatch import unbegun_shard
from workers.ledger.jobs import JobRow, get_job, note_problem, set_made_with, stop_job
from workers.ledger.states import JobState
from workers.outputs import PictureWriter, require_room, write_job
from workers.pipeline import Finishers, Outcome, default_workers, needs_processes, process
from workers.queue.app import process_name
from workers.queue.lease import held
from workers.records import MadeWith
from workers.spec import JobSpec
from workers.telling import Own, own_of

COMMIT_ITEMS, COMMIT_S = 16, 1.0
"""Results are handed in together: at most so many, and none is kept for longer than this."""

log = logging.getLogger("lexiseg")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the shards of one job have in common."""

    spec: JobSpec
    vocabulary: Vocabulary
    segmenter: Segmenter
    writer: PictureWriter
    finishers: Finishers


class ClaimStream:
    """Claims as pictures to be read. When they run out, further ones are asked for, so that the pictures of the next
    shard are read while the last ones of this shard are written."""

    def __init__(self, first: tuple[Claim, ...], further: Callable[[], tuple[Claim, ...]]) -> None:
        self._first, self._further = first, further
        self.begun: deque[Claim] = deque()
        """Those that were given out, in order."""
        self.told: dict[str, str] = {}
        """What is said of each by its name, in a job without candidates."""

    def __len__(self) -> int:
        return len(self._first)

    def __iter__(self) -> Iterator[InputItem]:
        claims = self._first
        while claims:
            for entry in claims:
                self.begun.append(entry)
                if entry.told:
                    self.told[entry.item.name] = entry.told
                yield entry.item
            claims = self._further()


class ShardWorker:
    """Works off shards, one at a time, and keeps the model between them."""

    def __init__(self, ledger: Ledger, *, lease_s: float, is_stopping: Callable[[], bool], min_free_mb: float = 0,
                 go_on_s: float = 0) -> None:
        """min_free_mb: what must be free on the disk. go_on_s: for so long a message is also taken for those of the
        job's next shards."""
        self._ledger, self._lease_s, self._is_stopping = ledger, lease_s, is_stopping
        self._min_free_mb, self._go_on_s = min_free_mb, go_on_s
        self._prepared: tuple[str, Prepared] | None = None
        self._segmenter: tuple[str, Segmenter] | None = None
        self._pools: dict[tuple[str, int], Finishers] = {}

    def work(self, job_id: str, shard_id: int, digest: str) -> None:
        """Claims, works and hands in until nothing in the shard is left for us, the job is halted, or we are to stop.

        What concerns all pictures stops the job and is raised as LexisegError.
        """
        job = get_job(self._ledger, job_id)
        if job is None or not job.digest.startswith(digest) or job.state not in (JobState.RUNNING, JobState.SUBMITTING):
            return
        try:
            prepared = self._prepare(job)
            while not self._is_stopping() and self._work_claim(job, shard_id, prepared):
                pass
        except JobError:
            raise
        except LexisegError as error:
            stop_job(self._ledger, job_id, error.code, str(error))
            raise
        finally:
            settle(self._ledger, shard_id)
            reach("settled")

    def close(self) -> None:
        """Ends the pools."""
        for finishers in self._pools.values():
            finishers.close()

    def _work_claim(self, job: JobRow, shard_id: int, prepared: Prepared) -> bool:
        """One claim; True if another one may follow."""
        for folder in (Path(job.out), self._ledger.folder):
            if folder is not None:
                require_room(folder, self._min_free_mb)
        owner = f"{process_name()}:{uuid.uuid4().hex[:12]}"
        claims = claim(self._ledger, shard_id, owner, self._lease_s)
        if not claims:
            return False
        reach("claimed")
        spec, until = prepared.spec, time.monotonic() + self._go_on_s
        state: str | None = JobState.RUNNING
        further: list[int] = []

        def claim_further() -> tuple[Claim, ...]:
            if claims[0].attempts > 1 or self._is_stopping() or time.monotonic() >= until:
                return ()
            next_id = unbegun_shard(self._ledger, job)
            if next_id is None:
                return ()
            further.append(next_id)
            return claim(self._ledger, next_id, owner, self._lease_s, only_new=True)

        stream = ClaimStream(claims, claim_further)

        def own(name: str) -> Own:
            return own_of(PreparedRow.model_validate_json(stream.told.pop(name)), prepared.writer)

        outcomes = process(stream, prepared.segmenter, prepared.vocabulary, prepared.writer,
                           method=spec.refine, batch=spec.batch, device=spec.device, workers=spec.workers,
                           finishers=prepared.finishers, own=own if spec.free is not None else None)
        try:
            with held(self._ledger, owner, self._lease_s), closing(outcomes):
                for finished in _together(stream.begun, outcomes):
                    reach("committing")
                    committed = commit(self._ledger, job.id, finished)
                    reach("committed")
                    state = committed.job_state
                    if committed.lost:
                        log.warning("job %s: %d results came too late", job.id, len(committed.lost))
                    if state not in (JobState.RUNNING, JobState.SUBMITTING) or self._is_stopping():
                        return False
        finally:
            settle(self._ledger, *further)
        return state in (JobState.RUNNING, JobState.SUBMITTING)

    def _prepare(self, job: JobRow) -> Prepared:
        if self._prepared is not None and self._prepared[0] == job.id:
            return self._prepared[1]
        spec = JobSpec.model_validate_json(job.spec)
        segmenter = self._load(spec)
        vocabulary = spec.vocabulary.frozen()
        self._agree(job, spec, vocabulary if spec.free is None else Vocabulary(classes=()), segmenter)
        count = spec.workers or default_workers(spec.refine)
        key = ("processes" if needs_processes(spec.refine) else "threads", count)
        if key not in self._pools:
            self._pools[key] = Finishers.of(spec.refine, count)
        writer = PictureWriter.of(Path(spec.out), vocabulary, overlay=spec.overlay, confidence=spec.confidence)
        prepared = Prepared(spec, vocabulary, segmenter, writer, self._pools[key])
        self._prepared = (job.id, prepared)
        return prepared

    def _load(self, spec: JobSpec) -> Segmenter:
        """The model of a job; the one of the job before is kept if it is the same, else it goes first."""
        key = json.dumps([spec.backend, spec.model, spec.device, spec.settings], sort_keys=True)
        if self._segmenter is None or self._segmenter[0] != key:
            self._prepared = self._segmenter = None
            self._segmenter = (key, load_backend(spec))
        return self._segmenter[1]

    def _agree(self, job: JobRow, spec: JobSpec, vocabulary: Vocabulary, segmenter: Segmenter) -> None:
        """The first worker of a job says what it is made with; every other one must have the same."""
        ours = made_with(spec, vocabulary, segmenter)
        if job.made_with is None:
            job = set_made_with(self._ledger, job.id, ours.model_dump(mode="json"))
            reach("described")
            write_job(Path(spec.out), describe_job(spec, vocabulary, ours, state="running"))
        theirs = MadeWith.model_validate(job.made_with)
        differing = ["another version of the code or a library"] * (theirs.code_sha256 != ours.code_sha256) \
            + ["another model"] * (theirs.model.sha256 != ours.model.sha256)
        if differing:
            what = " and ".join(differing)
            error = JobError(Code.WORKER_DIFFERS, f"The worker {process_name()} has {what} than the job {job.id} "
                             "began with; it leaves the job to others.", "Equal workers, so that masks are equal.",
                             "Bring it to the same version, or submit into another --out.")
            note_problem(self._ledger, job.id, error.code, str(error))
            raise error


def _together(begun: deque[Claim], outcomes: Iterator[Outcome]) -> Iterator[list[Finished]]:
    """Groups of results that are handed in at once."""
    ready: list[Finished] = []
    since = time.monotonic()
    for outcome in outcomes:
        ready.append(Finished(begun.popleft(), outcome.result, outcome.files, outcome.decode_s, outcome.score_s,
                              outcome.finish_s))
        if len(ready) >= COMMIT_ITEMS or time.monotonic() - since >= COMMIT_S:
            yield ready
            ready, since = [], time.monotonic()
    if ready:
        yield ready
