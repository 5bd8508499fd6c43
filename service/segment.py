"""`lexiseg segment`: from the options to a job, and its outcome to the terminal."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

from PIL import Image

from agents.offline import require_offline
from parsers.vocabulary import Vocabulary
from service.console import progress, say, say_json, warn
from vision import Segmenter, load_segmenter, make_settings
from vision.models import ModelCard, resolve_model
from workers import JobSpec, JobSummary, find_inputs, run_job
from workers.spec import DEFAULT_BATCH, CandidateFree

LOOKED_AT = 20
"""Pictures whose headers are read to tell photographs from pictogram scenes."""
FAILURES_SHOWN = 5
LARGE_WINDOWS = 4
"""A picture whose shorter side is more windows than this is not what a pocket model was made for."""


def run_segment(inputs: list[str], vocabulary: Vocabulary, out: Path, *, model: str | None = None,
                backend: str = "clip", settings: dict[str, Any] | None = None, preset: str = "lexiseg",
                refine: str = "none", overlay: bool = False, confidence: bool = False, device: str = "auto",
                as_json: bool = False, free: CandidateFree | None = None, max_failures: int | None = None,
                batch: int | None = None) -> int:
    """Runs the job and says how it went, as text or as JSON; the number of pictures that failed. Raises
    LexisegError."""
    directory = resolve_model(model, backend)
    spec = JobSpec(inputs=tuple(inputs), vocabulary=vocabulary, free=free, out=str(out), backend=backend,
                   model=str(directory), settings=settings or {}, preset=preset, refine=cast(Any, refine),
                   overlay=overlay, confidence=confidence, device=device,
                   max_failures=max_failures, batch=batch or DEFAULT_BATCH)
    require_offline()
    segmenter = load_segmenter(backend, directory, device=device, settings=make_settings(backend, settings or {}))
    photos: list[str] = []
    if segmenter.card.known_words is not None:
        pictures = (item.path for item in islice(find_inputs(inputs, out=out).items, LOOKED_AT))
        photos = photo_warnings(segmenter.card, pictures)
    known = [*vocabulary.warnings(), *(segmenter.warnings(vocabulary) if free is None else ()), *photos]
    warn(known)
    summary = run_with_progress(spec, segmenter, f"segmenting into {out}", photos, hidden=as_json)
    warn(message for message in summary.warnings if message not in known)
    if as_json:
        say_json(summary_as_dict(summary))
    else:
        show_summary(summary)
    return summary.failed


def summary_as_dict(summary: JobSummary) -> dict[str, Any]:
    """What `lexiseg segment --json` writes. stages: seconds summed over pictures and threads, so together they may be
    more than `seconds`."""
    return {"format_version": 1, "out": str(summary.out), "report": str(summary.report), "total": summary.total,
            "done": summary.done, "empty": summary.empty, "failed": summary.failed,
            "seconds": round(summary.seconds, 3), "images_per_s": round(summary.images_per_s, 3),
            "stages": stage_seconds(summary.out / "timings.jsonl"), "warnings": list(summary.warnings),
            "failures": [{"name": failure.name, "code": failure.code, "message": failure.message}
                         for failure in summary.failures]}


def stage_seconds(timings: Path) -> dict[str, float]:
    """Seconds per stage from a job's timings.jsonl: `decode`, `score`, `finish` (labels, refinement and files)."""
    total = dict.fromkeys(("decode", "score", "finish"), 0.0)
    with timings.open(encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            for name in total:
                total[name] += line.get(f"{name}_s", 0.0)
    return {name: round(seconds, 3) for name, seconds in total.items()}


def run_with_progress(spec: JobSpec, segmenter: Segmenter, description: str, notes: Sequence[str] = (), *,
                      hidden: bool = False) -> JobSummary:
    """The job with a bar on a terminal, unless it is `hidden`."""
    with progress(description, hidden=hidden) as update:
        return run_job(spec, segmenter=segmenter, notes=notes, on_told=update,
                       on_progress=lambda now: update(now.done + now.failed, now.total))


def show_summary(summary: JobSummary) -> None:
    """Counts, the first failures with their reasons, and where the results are."""
    segmented = summary.done + summary.empty
    say(f"{segmented} of {summary.total} images segmented in {summary.seconds:.1f} s "
        f"({summary.images_per_s:.1f} images/s)"
        + (f"; nothing was found in {summary.empty}" if summary.empty else ""))
    if summary.failed:
        say(f"{summary.failed} failed; all of them are in {summary.out / 'results.jsonl'}. The first:", "red",
            stderr=True)
        for failure in summary.failures[:FAILURES_SHOWN]:
            say(f"  [{failure.code}] {failure.name}: {failure.message}", stderr=True)
    say(f"masks:  {summary.out / 'masks'}\nreport: {summary.report}")


def photo_warnings(card: ModelCard, pictures: Iterable[Path]) -> list[str]:
    """One sentence if what is shown to a model of pictogram scenes looks like photographs: JPEG files, or pictures many
    times the size of its window."""
    looked_at, photos = 0, []
    for path in pictures:
        looked_at += 1
        header = read_header(path)
        if header and (header[0] in ("JPEG", "MPO") or min(header[1:]) > LARGE_WINDOWS * card.window):
            photos.append(f"{path.name}, {header[0]} of {header[1]}x{header[2]}")
    if not photos:
        return []
    return [f"The model {card.name} was made for pictogram scenes of {card.window} pixels, to see and test lexiseg "
            f"with. {len(photos)} of the first {looked_at} pictures "
            f"look like photographs ({photos[0]}): expect poor masks. "
            "Photographs need a full model: --model DIR."]


def read_header(path: Path) -> tuple[str, int, int] | None:
    """Format, width and height; None for a file that is no picture (the job will say so itself)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return image.format or "", *image.size
    except Exception:  # a damaged header may raise anything
        return None
