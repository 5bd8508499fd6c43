"""`lexiseg jobs`: submit, look, steer, and prove."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from parsers.errors import Code, JobError
from parsers.vocabulary import Vocabulary
from service.console import console, printable, progress, say, say_json, warn
from service.segment import LOOKED_AT, photo_warnings
from vision.models import load_card, resolve_model
from workers import JobSpec, Result
from workers.estimate import estimate as make_estimate
from workers.ledger import JobRow, JobState, Ledger, open_ledger
from workers.ledger import jobs as ledger_jobs
from workers.progress import JobProgress, read_progress
from workers.queue.settings import read_settings
from workers.queue.stall import find_stall
from workers.spec import DEFAULT_BATCH, CandidateFree
from workers.submit import Submitted, find_items
from workers.submit import submit as enter
from workers.verify import Verification
from workers.verify import verify as verify_files

OVER = (JobState.DONE, JobState.SAMPLED, JobState.CANCELLED, JobState.STOPPED, JobState.PAUSED)
"""States in which `watch` has nothing to wait for."""
REFRESH_S = 0.5
FAILURES_SHOWN = 20


@contextmanager
def the_ledger() -> Iterator[Ledger]:
    ledger = open_ledger(read_settings().ledger)
    try:
        yield ledger
    finally:
        ledger.close()


def make_spec(inputs: list[str], vocabulary: Vocabulary, out: Path, *, model: str | None, backend: str,
              settings: dict[str, Any], preset: str, refine: str, overlay: bool, confidence: bool,
              device: str, free: CandidateFree | None = None, max_failures: int | None = None,
              batch: int | None = None) -> JobSpec:
    """The description of a job from the options of a command. Raises LexisegError."""
    return JobSpec(inputs=tuple(inputs), vocabulary=vocabulary, free=free, out=str(out), backend=backend,
                   model=str(resolve_model(model, backend)), settings=settings, preset=preset,
                   refine=cast(Any, refine), overlay=overlay, confidence=confidence, device=device,
                   max_failures=max_failures, batch=batch or DEFAULT_BATCH)


def submit(spec: JobSpec, *, priority: str, sample: int | None = None, as_json: bool = False) -> Submitted:
    """Enters a job into the ledger and says what came of it."""
    notes = photographs(spec)
    warn([*spec.vocabulary.warnings(), *notes])
    with the_ledger() as ledger:
        submitted = enter(ledger, spec, priority=cast(Any, priority), sample=sample, notes=notes)
    job, intake = submitted.job, submitted.intake
    if as_json:
        say_json({"format_version": 1, "job": job.id, "out": job.out, "state": job.state, "added": intake.added,
                  "changed": intake.changed, "known": intake.known, "open": submitted.open})
        return submitted
    say(f"job {job.id}: {intake.added} pictures added"
        + (f", {intake.changed} changed" if intake.changed else "")
        + (f", {intake.known} known already" if intake.known else "") + f"; {submitted.open} to do, into {job.out}")
    if submitted.open:
        say(f"next: lexiseg up (if no worker runs), lexiseg jobs watch {job.id}", "dim", stderr=True)
    else:
        say("nothing to do: every picture is finished and unchanged", "dim", stderr=True)
    return submitted


def photographs(spec: JobSpec) -> list[str]:
    """The warning about photographs before a pocket model."""
    if spec.backend not in ("clip", "llmformer"):
        return []
    card = load_card(spec.model)
    if card.known_words is None:
        return []
    found = find_items(spec.inputs, Path(spec.out), [])
    return photo_warnings(card, (item.path for item, _ in zip(found, range(LOOKED_AT), strict=False)))


def show_list(as_json: bool) -> None:
    """All jobs, the newest first."""
    with the_ledger() as ledger:
        rows = [(job, ledger_jobs.counts(ledger, job.id)) for job in ledger_jobs.list_jobs(ledger)]
    if as_json:
        say_json({"format_version": 1, "jobs": [job_json(job, counts) for job, counts in rows]})
        return
    if not rows:
        say("No jobs. Next: lexiseg jobs submit photos/ --classes \"dog, cat\" --out out")
        return
    from rich.table import Table

    table = Table("job", "state", "pictures", "done", "failed", "priority", "since", "out")
    for job, counts in rows:
        table.add_row(job.id, job.state, str(sum(counts.values())), str(counts["done"] + counts["done-empty"]),
                      str(counts["failed"] + counts["quarantined"]), job.priority, moment(job.created),
                      printable(job.out))
    console().print(table)


def show(given: str, as_json: bool) -> None:
    """One job: states, rate, what went wrong."""
    with the_ledger() as ledger:
        job = ledger_jobs.find_job(ledger, given)
        now = read_progress(ledger, job.id)
        stall = find_stall(ledger, now.job, read_settings())
        failures = [Result.model_validate_json(line)
                    for line in ledger_jobs.failures(ledger, job.id, FAILURES_SHOWN)]
    if as_json:
        say_json(job_json(now.job, now.counts) | {
            "format_version": 1, "described": now.described or 0, "llm_calls": now.job.llm_calls,
            "images_per_s": now.images_per_s, "eta_s": now.eta_s,
            "stalled": None if stall is None else stall.as_dict(),
            "failures": [{"name": result.name, "code": result.code, "message": result.message}
                         for result in failures]})
        return
    say(f"job {job.id}: {now.job.state}, {line_of(now)}\nout:   {job.out}\nsince: {moment(job.created)}")
    for state, number in now.counts.items():
        if number:
            say(f"  {state:12} {number}")
    if now.described:
        say(f"  {'described':12} {now.described}")
    if now.job.llm_calls:
        say(f"  {'llm calls':12} {now.job.llm_calls}")
    if now.job.error:
        say(f"[{now.job.error_code}] {now.job.error}", "red")
    if stall is not None:
        say(f"nothing has moved for {duration(stall.seconds)} [{stall.reason}] {stall.message}", "red")
        say(f"next: {stall.next_step}", "bold")
    for result in failures:
        say(f"  [{result.code}] {result.name}: {result.message}")
    hint = {JobState.PAUSED: f"lexiseg jobs resume {job.id}", JobState.STOPPED: f"lexiseg jobs resume {job.id}",
            JobState.SAMPLED: f"look at {job.out}/report.html, then lexiseg jobs resume {job.id}",
            JobState.SUBMITTING: "the submission was not finished: submit again"}.get(JobState(now.job.state))
    if hint:
        say(f"next: {hint}", "bold")
    elif failures and stall is None:
        say(f"next: lexiseg jobs retry {job.id} --failed", "bold")


def watch(given: str) -> bool:
    """Shows a job until it is over; True if all its pictures could be done. On a terminal a bar moves; elsewhere a
    line appears whenever something changed, at most every ten seconds."""
    with the_ledger() as ledger:
        job = ledger_jobs.find_job(ledger, given)
        shown = 0.0
        with progress(f"job {job.id}") as update:
            while True:
                now = read_progress(ledger, job.id)
                update(now.finished, now.total)
                is_over = now.job.state in OVER
                if is_over or time.monotonic() - shown >= 10:
                    shown = time.monotonic()
                    if is_over or not console(stderr=True).is_terminal:
                        say(f"job {job.id}: {now.job.state}, {line_of(now)}", stderr=not is_over)
                if is_over:
                    break
                time.sleep(REFRESH_S)
    if now.job.error:
        say(f"[{now.job.error_code}] {now.job.error}", "red", stderr=True)
    return not (now.counts["failed"] + now.counts["quarantined"]) and now.job.state in (JobState.DONE, JobState.SAMPLED)


def steer(given: str, verb: str) -> None:
    """pause, resume or cancel. Raises JobError where the job's state does not allow it."""
    with the_ledger() as ledger:
        job = ledger_jobs.find_job(ledger, given)
        if verb == "pause":
            ledger_jobs.pause_job(ledger, job)
            say(f"job {job.id}: paused. Batches under way are finished. Next: lexiseg jobs resume {job.id}")
        elif verb == "resume":
            ledger_jobs.resume_job(ledger, job)
            say(f"job {job.id}: running")
        else:
            number = ledger_jobs.cancel_job(ledger, job)
            say(f"job {job.id}: cancelled, {number} pictures not begun. Finished masks stay in {job.out}")


def retry(given: str) -> None:
    """Queues failed and quarantined pictures again."""
    with the_ledger() as ledger:
        job = ledger_jobs.find_job(ledger, given)
        number = ledger_jobs.retry_failed(ledger, job)
    say(f"job {job.id}: {number} pictures are tried again" if number else f"job {job.id}: nothing failed")


def estimate(spec: JobSpec, measured: int, as_json: bool) -> None:
    """Counts, reads headers, measures a sample, and says what the whole would take."""
    found = make_estimate(spec, measured=measured)
    if as_json:
        say_json({"format_version": 1, **found.as_dict()})
        return
    say(f"{found.images:,} pictures, {found.bytes / 1e6:,.1f} MB; {found.unreadable:,} cannot be read")
    for name, code in found.examples:
        say(f"  [{code}] {name}")
    if found.images_per_s:
        say(f"{found.images_per_s:.1f} images/s with one worker, measured on {found.measured}; "
            f"{duration(found.seconds)} for all, on {found.device}")
    say(f"about {found.disk_bytes / 1e6:,.1f} MB of results; {found.free_bytes / 1e6:,.0f} MB are free in {spec.out}")
    if found.disk_bytes > found.free_bytes:
        warn([f"There is not enough room in {spec.out}."])


def export(given: str, format: str, to: Path, **options: Any) -> None:
    """Exports what a job left, in this process: nothing waits for a worker. options: those of `run_export`. Raises
    JobError (`job-state`) for a job whose folder is not whole, or is being changed."""
    from service.export import run_export

    with the_ledger() as ledger:
        job = ledger_jobs.find_job(ledger, given)
    if job.state not in (JobState.DONE, JobState.SAMPLED):
        raise JobError(Code.JOB_STATE, f"The job {job.id} is {job.state} and cannot be exported.",
                       "A job that is done, or whose sample is.", f"lexiseg jobs watch {job.id}")
    run_export(Path(job.out), format, to, **options)


def verify(given: str, as_json: bool) -> bool:
    """Compares every file of a job with its digest in the ledger; True if all are as they were written."""
    with the_ledger() as ledger:
        found = verify_files(ledger, ledger_jobs.find_job(ledger, given))
    if as_json:
        say_json({"format_version": 1, **found.as_dict()})
    else:
        show_verification(found)
    return found.is_whole


def show_verification(found: Verification) -> None:
    say(f"{found.images:,} pictures in the ledger: {found.states()}; {found.files:,} files compared")
    for path in found.damaged[:FAILURES_SHOWN]:
        say(f"  not as it was written: {path}", "red")
    for path in found.strange[:FAILURES_SHOWN]:
        say(f"  of no picture of the job: {path}", "yellow")
    say("whole" if found.is_whole else f"{len(found.damaged)} files are not as they were written, "
        f"{found.unfinished} pictures are not finished", "green" if found.is_whole else "red")


def job_json(job: JobRow, counts: dict[str, int]) -> dict[str, Any]:
    return {"job": job.id, "out": job.out, "state": job.state, "priority": job.priority, "total": sum(counts.values()),
            "counts": counts, "created": job.created, "finished": job.finished, "error_code": job.error_code,
            "error": job.error}


def line_of(now: JobProgress) -> str:
    text = f"{now.finished:,} of {now.total:,} pictures"
    if now.images_per_s:
        text += f", {now.images_per_s:.1f} images/s"
    return text if now.eta_s is None else f"{text}, about {duration(now.eta_s)} left"


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
