"""`lexiseg eval`: one report over one or several passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from parsers.errors import Code, DatasetError
from parsers.vocabulary import Vocabulary
from service.console import console, printable, progress, say, warn
from vision import load_segmenter, make_settings, resolve_model
from vision.datasets import open_dataset
from vision.datasets.base import superclasses_of
from vision.datasets.superclasses import SuperclassView
from vision.evaluate import EvalRun, NameTable, evaluate, parse_candidates, shuffle_subclasses
from vision.metrics import Scores

SHOWN_CLASSES = 40
"""A dataset with more classes than this gets no table of classes on the terminal; JSON has them all."""


class EvalModel(BaseModel):
    """Which model was scored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: str
    name: str
    digest: str


class EvalReport(BaseModel):
    """What `lexiseg eval --json` writes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    dataset: str
    candidates: str
    always: tuple[str, ...]
    model: EvalModel
    settings: dict[str, Any]
    refine: str
    warnings: tuple[str, ...]
    runs: tuple[EvalRun, ...]


def run_eval(dataset_spec: str, candidates: str, *, always: str | None = None, by_superclass: bool = False,
             superclass_file: Path | None = None, vocabulary_file: Path | None = None, limit: int | None = None,
             model: str | None = None, backend: str = "clip", settings: dict[str, Any] | None = None,
             refine: str = "none", device: str = "auto") -> EvalReport:
    """Scores plain names; with a vocabulary file also its subclasses, and its subclass lists exchanged between
    classes. Raises LexisegError."""
    absent = parse_candidates(candidates)
    extra = tuple(Vocabulary.from_names(always).names.values()) if always else ()
    knowledge = Vocabulary.load(vocabulary_file) if vocabulary_file else None
    dataset = open_dataset(dataset_spec)
    if by_superclass:
        superclasses = read_superclasses(superclass_file) if superclass_file else superclasses_of(dataset)
        dataset = SuperclassView(dataset, superclasses)
    backend_settings = make_settings(backend, settings or {})
    segmenter = load_segmenter(backend, resolve_model(model, backend), device=device, settings=backend_settings)
    warnings = tuple(segmenter.warnings(NameTable(dataset, extra, knowledge).vocabulary))
    warn(warnings)
    tasks: list[tuple[str, Vocabulary | None]] = [("names", None)]
    if knowledge:
        tasks += [("names with subclasses", knowledge),
                  ("names with exchanged subclasses", shuffle_subclasses(knowledge))]
    runs = []
    for name, task_knowledge in tasks:
        with progress(f"{dataset.name}, {name}") as update:
            runs.append(evaluate(dataset, segmenter, absent=absent, name=name, knowledge=task_knowledge, always=extra,
                                 refine=refine, batch_size=backend_settings.batch_size, limit=limit,
                                 on_progress=update))
    return EvalReport(dataset=dataset.name, candidates=candidates, always=(*dataset.always, *extra),
                      model=EvalModel(backend=backend, name=segmenter.card.name, digest=segmenter.digest),
                      settings=settings or {}, refine=refine, warnings=warnings, runs=tuple(runs))


def read_superclasses(path: Path) -> dict[str, str]:
    """Name to super-class, from a JSON object. Raises DatasetError."""
    allowed, next_step = 'A JSON object: {"name": "super-class"}.', "Correct the file given with --super-classes."
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(Code.DATASET_INVALID, f"{path} cannot be read: {error.strerror}.", allowed,
                           next_step) from error
    except ValueError as error:
        raise DatasetError(Code.DATASET_INVALID, f"{path} is not JSON: {error}.", allowed, next_step) from error
    if not isinstance(data, dict) or not all(isinstance(value, str) and value.strip() for value in data.values()):
        raise DatasetError(Code.DATASET_INVALID, f"{path} does not map names to super-classes.", allowed, next_step)
    return data


def show_report(report: EvalReport) -> None:
    """Tables for a terminal: the figures with their control, and the classes if they are few."""
    from rich.table import Table

    images = report.runs[0].images
    say(f"{report.dataset}: {images} images, candidates {report.candidates}, model {report.model.name} "
        f"({report.model.digest[:12]}), refine {report.refine}")
    table = Table("", "classes", "mIoU", "control", "pixel accuracy", "mean accuracy", "images/s")
    for run in report.runs:
        add_row(table, run.name, run.scores, run.control, f"{run.images / run.seconds:.1f}" if run.seconds else "")
        for group, scores in run.groups.items():
            add_row(table, f"  {group}", scores, run.control_groups[group], "")
    console().print(table)
    say("control: mIoU of the same masks with the candidate names of each image exchanged", "dim")
    if len(report.runs[0].per_class) <= SHOWN_CLASSES:
        classes = Table("IoU per class", *(run.name for run in report.runs), "pixels")
        for name, score in report.runs[0].per_class.items():
            classes.add_row(printable(name), *(percent(run.per_class[name].iou) for run in report.runs),
                            str(score.truth_pixels))
        console().print(classes)


def add_row(table: Any, name: str, scores: Scores, control: Scores, rate: str) -> None:
    table.add_row(printable(name), str(scores.classes), percent(scores.miou), percent(control.miou),
                  percent(scores.pixel_accuracy), percent(scores.mean_accuracy), rate)


def percent(value: float | None) -> str:
    """A figure in [0, 1] as per cent with one decimal; a dash for None."""
    return "-" if value is None else f"{100 * value:.1f}"
