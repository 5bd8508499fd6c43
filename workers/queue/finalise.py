"""What is written once at the end of a job: results.jsonl, timings.jsonl, report.html and job.json, from the ledger.

Before that every file of every picture is compared with the digest that was handed in. What is not as it should be,
after a power cut or a late worker with an older picture, goes back to the queue.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

from sqlalchemy import delete, update

from agents.source import replaced_warning
from parsers.errors import Code, LexisegError
from parsers.files import sha256_file
from parsers.vocabulary import Vocabulary
from workers.description import describe_job, name_warnings
from workers.failpoints import reach
from workers.ledger import JobRow, JobState, Ledger
from workers.ledger.dispatch import hold_finalising
from workers.ledger.jobs import (
    counts,
    failed_with,
    finished_rows,
    get_job,
    last_finished,
    locate,
    requeue,
    stop_job,
    told_rows,
)
from workers.ledger.notes import forget_moves
from workers.ledger.schema import items, jobs, results
from workers.outputs import FOLDERS, LineFile, job_timing, require_room, timing, write_classes, write_job
from workers.queue.numbers import job_vocabulary, number_masks
from workers.records import Job, MadeWith, ModelRecord, Problem
from workers.report import write_report
from workers.spec import CandidateFree, JobSpec

WRITTEN = ("results.jsonl", "timings.jsonl", "vocabulary.yaml", "classes.json", "report.html", "job.json")

log = logging.getLogger("lexiseg")


def finalise(ledger: Ledger, job_id: str, *, lease_s: float, min_free_mb: float = 0) -> bool:
    """Ends a job that is being finalised; True if it is done (or its sample is). Whoever is killed in the middle is
    followed by another one, who writes the same. min_free_mb: what must be free on the disk.

    What is wrong with the folder stops the job and is raised as LexisegError.
    """
    job = get_job(ledger, job_id)
    if job is None or job.state != JobState.FINALISING:
        return False
    alive = _Lease(ledger, job_id, lease_s)
    spec = JobSpec.model_validate_json(job.spec)
    try:
        alive.hold()
        reach("finalising")
        require_room(Path(spec.out), min_free_mb)
        vocabulary = spec.vocabulary.frozen()
        if spec.free is not None:
            vocabulary = job_vocabulary(ledger, job_id).frozen()
            number_masks(ledger, job_id, Path(spec.out), vocabulary, alive.hold_sometimes)
        if _requeue_damaged(ledger, job, Path(spec.out), alive):
            return False
        reach("checked")
        _sweep(Path(spec.out))
        files = _write(ledger, job, spec, vocabulary, alive)
    except _Over:
        return False
    except LexisegError as error:
        stop_job(ledger, job_id, error.code, str(error))
        raise
    with ledger.write() as connection:
        done = connection.execute(
            update(jobs).where(jobs.c.id == job_id, jobs.c.state == JobState.FINALISING)
            .values(state=JobState.SAMPLED if job.stage == 0 else JobState.DONE, finished=time.time(),
                    files=json.dumps(files), lease_until=None)).rowcount
        forget_moves(connection, job_id)
    ledger.sync()
    reach("finalised")
    return bool(done)


def damaged_files(out: Path, files: dict[str, str]) -> list[str]:
    """Those of the files (path below OUT to sha256) that are missing or other than they were written."""
    return [path for path, digest in files.items() if _digest(out / path) != digest]


def _requeue_damaged(ledger: Ledger, job: JobRow, out: Path, alive: _Lease) -> int:
    bad = []
    for row in finished_rows(ledger, job.id):
        alive.hold_sometimes()
        if damaged_files(out, json.loads(row.files)):
            bad.append(row.item_id)
    if bad:
        log.warning("job %s: files of %d pictures are not as they were written; they are made again", job.id, len(bad))
        with ledger.write() as connection:
            for start in range(0, len(bad), 500):
                part = bad[start:start + 500]
                connection.execute(delete(results).where(results.c.item_id.in_(part)))
                requeue(connection, items.c.id.in_(part))
            connection.execute(update(jobs).where(jobs.c.id == job.id, jobs.c.state == JobState.FINALISING)
                               .values(state=JobState.RUNNING, lease_until=None))
    return len(bad)


def _sweep(out: Path) -> None:
    """Removes what killed workers left half-written. A late one whose file goes away here is refused by its fence."""
    for folder in (out, *(out / name for name in FOLDERS)):
        for leftover in folder.glob(".*.part") if folder == out else folder.rglob(".*.part"):
            leftover.unlink(missing_ok=True)


def _write(ledger: Ledger, job: JobRow, spec: JobSpec, vocabulary: Vocabulary, alive: _Lease) -> dict[str, str]:
    """Writes everything; path below OUT to sha256."""
    out = Path(spec.out)
    vocabulary.save(out / "vocabulary.yaml")
    write_classes(out, vocabulary)
    number = _write_lines(ledger, job, out, alive)
    reach("lines-written")
    described = done_job(ledger, job, spec, vocabulary, number)
    write_report(out, described, vocabulary, lambda name: locate(ledger, job.id, name).path)
    reach("report-written")
    alive.hold()
    write_job(out, described)
    return {name: sha256_file(out / name) for name in WRITTEN}


def _write_lines(ledger: Ledger, job: JobRow, out: Path, alive: _Lease) -> int:
    number = 0
    with LineFile(out / "results.jsonl") as lines, LineFile(out / "timings.jsonl") as timings:
        for row in finished_rows(ledger, job.id):
            alive.hold_sometimes()
            lines.write_line(row.line.encode())
            timings.write(timing(row.name, row.decode_s, row.score_s, row.finish_s))
            number += 1
        seconds = max((last_finished(ledger, job.id) or 0.0) - job.created, 1e-3)  # two who finalise write the same
        timings.write(job_timing(seconds, number))
    return number


def done_job(ledger: Ledger, job: JobRow, spec: JobSpec, vocabulary: Vocabulary, total: int) -> Job:
    """job.json of a job that is done."""
    made_with = MadeWith.model_validate(job.made_with) if job.made_with is not None else \
        MadeWith(model=ModelRecord(path=spec.model, sha256=""), versions={})  # every picture killed its worker
    notes = list(job.notes.get("warnings", []))
    if spec.free is not None:
        made_with = made_with.model_copy(update={"warnings": name_warnings(spec, vocabulary)})
        notes += replaced_warnings(ledger, job, spec.free)
    return describe_job(spec, vocabulary, made_with, state="done", total=total, counts=counts(ledger, job.id),
                        notes=notes,
                        unreadable=[Problem.model_validate(problem) for problem in job.notes.get("unreadable", [])])


def replaced_warnings(ledger: Ledger, job: JobRow, free: CandidateFree) -> list[str]:
    """How often the language model had to be replaced, from what the ledger has of each picture: workers come and go,
    and none of them knows of all answers."""
    if free.descriptions is not None:
        return []
    told = asked = unknown = 0
    for row in told_rows(ledger, job.id):
        answers = json.loads(row)["presence"].values()
        told, asked, unknown = told + 1, asked + len(answers), unknown + list(answers).count(None)
    unfit = failed_with(ledger, job.id, Code.ANSWER_UNFIT)
    return [replaced_warning(task, failed, number) for task, failed, number in (
        (f"describe-{free.detail}", unfit, told + unfit), ("presence", unknown, asked)) if failed]


class _Over(Exception):
    """The job is not being finalised any more: somebody stopped it, or it has more failures than it allows."""


class _Lease:
    """Says now and then that somebody finalises. Raises _Over where nobody is to do so any more."""

    def __init__(self, ledger: Ledger, job_id: str, lease_s: float) -> None:
        self._ledger, self._job_id, self._lease_s = ledger, job_id, lease_s
        self._next = 0.0

    def hold(self) -> None:
        if not hold_finalising(self._ledger, self._job_id, self._lease_s):
            raise _Over
        self._next = time.monotonic() + self._lease_s / 3

    def hold_sometimes(self) -> None:
        if time.monotonic() > self._next:
            self.hold()


def _digest(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        return None
