"""One job from its description to its report."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parsers.errors import Code, LexisegError, SettingError
from parsers.vocabulary import Vocabulary
from vision.types import Segmenter
from workers.inputs import Inputs, find_inputs
from workers.outputs import LineFile, PictureWriter, prepare_out, write_classes, write_job
from workers.pipeline import process
from workers.records import DONE, EMPTY, FAILED, Job, ModelRecord, Problem, Result, VocabularyRecord
from workers.report import write_report
from workers.spec import JobSpec

SETTINGS = {"clip": "ClipSettings"}
"""Backend to the name in `vision` of the class of its options."""
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
            segmenter: Segmenter | None = None, notes: Sequence[str] = ()) -> JobSummary:
    """Does the whole job and writes the folder `spec.out` (docs/output.md).

    on_progress is called at most ten times a second and at the end, in the calling thread. A segmenter that is
    loaded already may be given instead of loading `spec.model` (it must fit the spec). notes: warnings of the caller,
    for job.json and the report.

    One bad picture never stops the rest. Raises LexisegError for what concerns the job as a whole; then, and at
    Ctrl-C, finished masks stay whole, nothing half-written stays, and job.json says "stopped".
    """
    out = Path(spec.out)
    inputs = find_inputs(spec.inputs, out=out)
    if segmenter is None:
        segmenter = _load(spec)
    vocabulary = spec.vocabulary.frozen()
    prepare_out(out)
    job = _describe(spec, vocabulary, segmenter, inputs, notes)
    write_job(out, job)
    vocabulary.save(out / "vocabulary.yaml")
    write_classes(out, vocabulary)
    counts: Counter[str] = Counter()
    try:
        failures, seconds = _process_all(spec, inputs, segmenter, vocabulary, counts, on_progress)
        job = job.model_copy(update={"state": "done", "counts": _by_state(counts)})
        paths = {item.name: item for item in inputs.items}
        write_report(out, job, vocabulary, lambda name: paths[name].path)
        write_job(out, job)
    except BaseException as error:
        reason = str(error) if isinstance(error, LexisegError) else type(error).__name__
        _note_stop(out, job.model_copy(update={"state": "stopped", "counts": _by_state(counts), "error": reason}))
        raise
    return JobSummary(out=out, total=len(inputs.items), done=counts[DONE], empty=counts[EMPTY], failed=counts[FAILED],
                      seconds=seconds, warnings=job.warnings, failures=failures, unreadable=job.unreadable_folders)


def _process_all(spec: JobSpec, inputs: Inputs, segmenter: Segmenter, vocabulary: Vocabulary, counts: Counter[str],
                 on_progress: Callable[[Progress], None] | None) -> tuple[tuple[Result, ...], float]:
    """Writes everything that belongs to pictures; adds to `counts`; returns the first failures and the seconds."""
    out, total = Path(spec.out), len(inputs.items)
    writer = PictureWriter.of(out, vocabulary, overlay=spec.overlay, confidence=spec.confidence)
    failures: list[Result] = []
    started = shown = time.perf_counter()
    outcomes = process(inputs.items, segmenter, vocabulary, writer, method=spec.refine, batch=spec.batch,
                       workers=spec.workers)
    with (LineFile(out / "results.jsonl") as results, LineFile(out / "timings.jsonl") as timings,
          closing(outcomes)):
        for outcome in outcomes:
            result = outcome.result
            results.write(result.model_dump(mode="json"))
            timings.write({"name": result.name, "decode_s": round(outcome.decode_s, 6),
                           "score_s": round(outcome.score_s, 6), "finish_s": round(outcome.finish_s, 6)})
            counts[result.state] += 1
            if result.state == FAILED and len(failures) < MAX_FAILURES_SHOWN:
                failures.append(result)
            now = time.perf_counter()
            if on_progress is not None and (now - shown >= PROGRESS_INTERVAL_S or counts.total() == total):
                shown = now
                on_progress(_progress(counts, total, now - started))
        seconds = time.perf_counter() - started
        timings.write({"job": {"seconds": round(seconds, 3), "images": total,
                               "images_per_s": round(total / seconds, 3)}})
    return tuple(failures), seconds


def _progress(counts: Counter[str], total: int, seconds: float) -> Progress:
    finished = counts.total()
    rate = finished / seconds if seconds > 0 else 0.0
    return Progress(done=counts[DONE] + counts[EMPTY], failed=counts[FAILED], total=total, images_per_s=rate,
                    eta_s=(total - finished) / rate if rate > 0 else None)


def _load(spec: JobSpec) -> Segmenter:
    import vision

    settings: Any = None
    if spec.backend in SETTINGS:
        kind = getattr(vision, SETTINGS[spec.backend])
        try:
            settings = kind(**spec.settings)
        except TypeError as error:
            raise SettingError(Code.SETTING_INVALID, f"settings are {spec.settings}: {error}.",
                               f"The options of the backend {spec.backend!r}.", "lexiseg segment --help") from error
    return vision.load_segmenter(spec.backend, Path(spec.model), device=spec.device, settings=settings)


def _describe(spec: JobSpec, vocabulary: Vocabulary, segmenter: Segmenter, inputs: Inputs,
              notes: Sequence[str]) -> Job:
    # a backend of the tests or of a user need not know of cards, words and warnings
    card = getattr(segmenter, "card", None)
    known_words = getattr(card, "known_words", None)
    lacks: list[str] = getattr(segmenter, "warnings", lambda vocabulary: [])(vocabulary)
    unreadable = tuple(Problem(path=folder.path, code=folder.code, message=folder.message)
                       for folder in inputs.unreadable)
    warnings = (*vocabulary.warnings(), *lacks, *notes, *(problem.message for problem in unreadable))
    return Job(
        state="running", spec=spec.model_dump(mode="json", exclude={"vocabulary"}), total=len(inputs.items),
        counts=_by_state(Counter()), warnings=tuple(dict.fromkeys(warnings)), unreadable_folders=unreadable,
        vocabulary=VocabularyRecord(sha256=vocabulary.digest, classes=len(vocabulary.classes),
                                    warnings=tuple(vocabulary.warnings())),
        model=ModelRecord(path=spec.model, sha256=getattr(segmenter, "digest", ""), name=getattr(card, "name", None),
                          licence=getattr(card, "licence", None),
                          known_words=None if known_words is None else len(known_words)),
        versions=_versions())


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in ("lexiseg", "numpy", "pillow", "torch", "open_clip_torch", "pydensecrf2"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _by_state(counts: Counter[str]) -> dict[str, int]:
    return {state: counts[state] for state in (DONE, EMPTY, FAILED)}


def _note_stop(out: Path, job: Job) -> None:
    """Says in job.json that the job stopped; on a full disk the old text stays."""
    try:
        write_job(out, job)
    except LexisegError:
        return
