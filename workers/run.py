"""One job from its description to its report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agents.parallel import in_order
from parsers.errors import Code, JobError, LexisegError
from parsers.free import merged_vocabulary
from parsers.prepared import PreparedRow
from parsers.vocabulary import Vocabulary
from vision.types import Segmenter
from workers.description import describe_job, load_backend, made_with
from workers.inputs import Inputs, find_inputs
from workers.outputs import (
    LineFile,
    PictureWriter,
    failure,
    ignores_case,
    job_timing,
    prepare_out,
    refuse_equal_names,
    timing,
    write_classes,
    write_job,
)
from workers.pipeline import process
from workers.records import DONE, EMPTY, FAILED, Job, Problem, Result, job_counts
from workers.report import write_report
from workers.spec import CandidateFree, JobSpec
from workers.telling import Own, budget_of, open_telling, own_by_name, try_to_tell

PROGRESS_INTERVAL_S = 0.1
MAX_FAILURES_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is."""

    done: int
    """Pictures finished, failed ones not among them."""
    failed: int
    total: int
    images_per_s: float
    """Since the first picture was begun; 0 before one is finished."""
    eta_s: float | None
    """Seconds left at that rate; None while it is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """How a job went."""

    out: Path
    total: int
    done: int
    """Pictures in which something was found."""
    empty: int
    """Pictures in which nothing was found."""
    failed: int
    seconds: float
    """From the first picture to the last, without loading the model."""
    warnings: tuple[str, ...]
    failures: tuple[Result, ...]
    """The first 20 by name."""
    unreadable: tuple[Problem, ...]
    """Folders that could not be listed."""

    @property
    def images_per_s(self) -> float:
        return self.total / self.seconds if self.seconds > 0 else 0.0

    @property
    def report(self) -> Path:
        return self.out / "report.html"


def run_job(spec: JobSpec, *, on_progress: Callable[[Progress], None] | None = None,
            segmenter: Segmenter | None = None, notes: Sequence[str] = (),
            on_told: Callable[[int, int], None] = lambda told, total: None) -> JobSummary:
    """Does the whole job and writes the folder `spec.out` (docs/output.md).

    on_progress is called at most ten times a second and at the end, in the calling thread. A segmenter that is
    loaded already may be given instead of loading `spec.model` (it must fit the spec). notes: warnings of the caller,
    for job.json and the report. In a job without candidates all pictures are asked about first; on_told hears of how
    many.

    One bad picture never stops the rest, but more of them than `spec.max_failures` stop the job (JobError,
    `too-many-failures`). Raises LexisegError for what concerns the job as a whole; then, and at
    Ctrl-C, finished masks stay whole, nothing half-written stays, and job.json says "stopped".
    """
    out = Path(spec.out)
    inputs = find_inputs(spec.inputs, out=out)
    if segmenter is None:
        segmenter = load_backend(spec)
    vocabulary, own = spec.vocabulary.frozen(), None
    more: list[str] = []
    if spec.free is not None:
        told, more = tell_all(spec.free, inputs, on_told, spec.max_failures)
        vocabulary = merged_vocabulary(said for said in told.values() if isinstance(said, PreparedRow)).frozen()
    if ignores_case(out):
        refuse_equal_names((item.name for item in inputs.items), out)
    prepare_out(out)
    job = _describe(spec, vocabulary, segmenter, inputs, [*notes, *more])
    write_job(out, job)
    vocabulary.save(out / "vocabulary.yaml")
    write_classes(out, vocabulary)
    counts: Counter[str] = Counter()
    try:
        writer = PictureWriter.of(out, vocabulary, overlay=spec.overlay, confidence=spec.confidence)
        if spec.free is not None:
            own = own_by_name(told, writer, {entry.name: entry.id for entry in vocabulary.classes})
        failures, seconds = _process_all(spec, inputs, segmenter, writer, own, counts, on_progress)
        job = job.model_copy(update={"state": "done", "counts": job_counts(counts)})
        paths = {item.name: item for item in inputs.items}
        write_report(out, job, vocabulary, lambda name: paths[name].path)
        write_job(out, job)
    except BaseException as error:
        reason = str(error) if isinstance(error, LexisegError) else type(error).__name__
        _note_stop(out, job.model_copy(update={"state": "stopped", "counts": job_counts(counts), "error": reason}))
        raise
    return JobSummary(out=out, total=len(inputs.items), done=counts[DONE], empty=counts[EMPTY], failed=counts[FAILED],
                      seconds=seconds, warnings=job.warnings, failures=failures, unreadable=job.unreadable_folders)


def tell_all(free: CandidateFree, inputs: Inputs, on_told: Callable[[int, int], None],
             allowed: int | None = None) -> tuple[dict[str, PreparedRow | Exception], list[str]]:
    """What is said of each picture by its name, or why nothing is; and warnings. Raises what concerns all pictures, and
    JobError (`too-many-failures`) where of more than `allowed` nothing is."""
    told: dict[str, PreparedRow | Exception] = {}
    failures: list[Result] = []
    with open_telling(free) as telling:
        budget = budget_of(free.call_limit(len(inputs.items)))
        asked = in_order(lambda item: try_to_tell(telling, item, budget.spend), inputs.items, telling.parallel)
        with closing(asked):  # nobody asks any more when the language model is closed
            for item, said in zip(inputs.items, asked, strict=True):
                told[item.name] = said
                if isinstance(said, Exception):
                    failures.append(failure(item.name, said))
                if allowed is not None and len(failures) > allowed:
                    raise _beyond_allowance(allowed, failures[0])
                on_told(len(told), len(inputs.items))
        return told, telling.warnings()


def _process_all(spec: JobSpec, inputs: Inputs, segmenter: Segmenter, writer: PictureWriter,
                 own: Callable[[str], Own] | None, counts: Counter[str],
                 on_progress: Callable[[Progress], None] | None) -> tuple[tuple[Result, ...], float]:
    """Writes everything that belongs to pictures; adds to `counts`; returns the first failures and the seconds."""
    out, total = Path(spec.out), len(inputs.items)
    failures: list[Result] = []
    started = shown = time.perf_counter()
    outcomes = process(inputs.items, segmenter, spec.vocabulary.frozen(), writer, method=spec.refine, batch=spec.batch,
                       device=spec.device, workers=spec.workers, own=own)
    with (LineFile(out / "results.jsonl") as results, LineFile(out / "timings.jsonl") as timings,
          closing(outcomes)):
        for outcome in outcomes:
            result = outcome.result
            results.write(result.model_dump(mode="json"))
            timings.write(timing(result.name, outcome.decode_s, outcome.score_s, outcome.finish_s))
            counts[result.state] += 1
            if result.state == FAILED and len(failures) < MAX_FAILURES_SHOWN:
                failures.append(result)
            if spec.max_failures is not None and counts[FAILED] > spec.max_failures:
                raise _beyond_allowance(spec.max_failures, failures[0])
            now = time.perf_counter()
            if on_progress is not None and (now - shown >= PROGRESS_INTERVAL_S or counts.total() == total):
                shown = now
                on_progress(_progress(counts, total, now - started))
        seconds = time.perf_counter() - started
        timings.write(job_timing(seconds, total))
    return tuple(failures), seconds


def _beyond_allowance(allowed: int, first: Result) -> JobError:
    return JobError(Code.TOO_MANY_FAILURES, f"{allowed + 1} pictures failed, the first of them {first.name!r}: "
                    f"[{first.code}] {first.message}", f"--max-failures allows {allowed}.",
                    "Mend the pictures or take them away, or allow more, then run the command again.")


def _progress(counts: Counter[str], total: int, seconds: float) -> Progress:
    finished = counts.total()
    rate = finished / seconds if seconds > 0 else 0.0
    return Progress(done=counts[DONE] + counts[EMPTY], failed=counts[FAILED], total=total, images_per_s=rate,
                    eta_s=(total - finished) / rate if rate > 0 else None)


def _describe(spec: JobSpec, vocabulary: Vocabulary, segmenter: Segmenter, inputs: Inputs,
              notes: Sequence[str]) -> Job:
    known = vocabulary if spec.free is None else vocabulary.model_copy(update={"background": ()})
    unreadable = [Problem(path=folder.path, code=folder.code, message=folder.message) for folder in inputs.unreadable]
    return describe_job(spec, vocabulary, made_with(spec, known, segmenter), state="running",
                        total=len(inputs.items), notes=notes, unreadable=unreadable)


def _note_stop(out: Path, job: Job) -> None:
    """Says in job.json that the job stopped; on a full disk the old text stays."""
    try:
        write_job(out, job)
    except LexisegError:
        return
