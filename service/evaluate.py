"""`lexiseg eval`: one report over one or several passes."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from agents.offline import require_offline
from parsers.errors import Code, DatasetError
from parsers.vocabulary import Vocabulary
from service.console import console, printable, progress, say, warn
from vision import ClipSettings, load_segmenter, make_settings, resolve_model
from vision.datasets import PROTOCOLS, open_dataset
from vision.datasets.base import EvalDataset, check_files, knowledge_of, superclasses_of, warnings_of
from vision.datasets.listed import ListedDataset
from vision.datasets.protocol import class_table, protocol_constants
from vision.datasets.superclasses import SuperclassView
from vision.evaluate import EvalRun, NameTable, evaluate, parse_candidates, shuffle_subclasses, with_subclasses
from vision.metrics import Scores

SHOWN_CLASSES = 40
"""A dataset with more classes than this gets no table of classes on the terminal; JSON has them all."""


class EvalModel(BaseModel):
    """Which model was scored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: str
    name: str
    digest: str
    device: str | None = None
    """Where it computed: `cpu` or `cuda`; null for a backend that does not say."""
    precision: str | None = None
    """Of its image tower: `float32` or `bfloat16`; null for a backend that does not say."""


PRESET_NAMES = {"sclip": "sclip", "simseg": "simseg", "llm-supervision": "simseg"}
"""Preset to the list of names with which its figures were published; `plain` for the others."""


class EvalProtocol(BaseModel):
    """The published protocol of the dataset, and what its method's code sets for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    names: str
    """The list of names that were looked for."""
    constants: dict[str, Any]


class EvalReport(BaseModel):
    """What `lexiseg eval --json` writes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    dataset: str
    protocol: EvalProtocol | None
    candidates: str
    always: tuple[str, ...]
    model: EvalModel
    settings: dict[str, Any]
    refine: str
    warnings: tuple[str, ...]
    runs: tuple[EvalRun, ...]


def run_eval(dataset_spec: str, candidates: str = "all", *, always: str | None = None, by_superclass: bool = False,
             superclass_file: Path | None = None, vocabulary_file: Path | None = None, limit: int | None = None,
             skip_bad: bool = False, model: str | None = None, backend: str = "clip", preset: str = "lexiseg",
             settings: dict[str, Any] | None = None, given: Collection[str] = (), refine: str = "none",
             device: str = "auto", batch: int | None = None, quiet: bool = False) -> EvalReport:
    """Scores plain names; with a vocabulary file also its subclasses, and its subclass lists exchanged between
    classes.

    For a dataset with a published protocol the preset chooses the list of names (`PRESET_NAMES`) and adds the
    constants that its published code has for the dataset, except for the settings that are `given` by a person. preset:
    one of `PRESETS`; of a file, the one that it builds on.
    batch: pictures given to the model at once; None: as many as windows. quiet: no bar. Raises LexisegError.
    """
    absent = parse_candidates(candidates)
    extra = tuple(Vocabulary.from_names(always).names.values()) if always else ()
    knowledge = Vocabulary.load(vocabulary_file) if vocabulary_file else None
    dataset = open_for_preset(dataset_spec, preset)
    if not skip_bad:
        check_files(dataset)
    own_names, notes = knowledge_of(dataset), warnings_of(dataset)
    if own_names and knowledge and not by_superclass:
        knowledge = with_subclasses(own_names, knowledge)
    protocol, settings = with_constants(dataset, preset, settings or {}, given)
    if by_superclass:
        superclasses = read_superclasses(superclass_file) if superclass_file else superclasses_of(dataset)
        dataset = SuperclassView(dataset, superclasses)
        own_names = None
    backend_settings = make_settings(backend, settings)
    require_offline()
    segmenter = load_segmenter(backend, resolve_model(model, backend), device=device, settings=backend_settings)
    warnings = (*notes, *segmenter.warnings(NameTable(dataset, extra, knowledge or own_names).vocabulary))
    warn(warnings)
    tasks: list[tuple[str, Vocabulary | None]] = [("names", own_names)]
    if knowledge:
        tasks += [("names with subclasses", knowledge),
                  ("names with exchanged subclasses", shuffle_subclasses(knowledge))]
    runs = []
    for name, task_knowledge in tasks:
        with progress(f"{dataset.name}, {name}", hidden=quiet) as update:
            runs.append(evaluate(dataset, segmenter, absent=absent, name=name, knowledge=task_knowledge, always=extra,
                                 refine=refine, device=device, batch_size=batch or backend_settings.batch_size,
                                 limit=limit, skip_bad=skip_bad, on_progress=update))
    return EvalReport(dataset=dataset.name, protocol=protocol, candidates=candidates, always=(*dataset.always, *extra),
                      model=EvalModel(backend=backend, name=segmenter.card.name, digest=segmenter.digest,
                                      device=getattr(segmenter, "device", None),
                                      precision=getattr(segmenter, "precision", None)),
                      settings=settings, refine=refine, warnings=warnings, runs=tuple(runs))


def open_for_preset(spec: str, preset: str) -> EvalDataset:
    """The dataset; a published protocol with the preset's list of names unless the text chooses one."""
    kind, _, rest = spec.partition(":")
    names = PRESET_NAMES.get(preset, "plain")
    if kind not in PROTOCOLS or not rest or ",names=" in rest or names not in class_table(PROTOCOLS[kind][2]).lists:
        return open_dataset(spec)
    return open_dataset(f"{spec},names={names}")


def with_constants(dataset: EvalDataset, preset: str, settings: dict[str, Any],
                   given: Collection[str]) -> tuple[EvalProtocol | None, dict[str, Any]]:
    """What the report says of the protocol, and the settings with the constants of the method's published code: that of
    the variant under the preset `sclip`, SCLIP's where the variant has none."""
    if not isinstance(dataset, ListedDataset):
        return None, settings
    variant = settings.get("variant", preset) if preset == "sclip" else preset
    constants = protocol_constants(variant, dataset.protocol) or protocol_constants(preset, dataset.protocol)
    known = {field.name for field in fields(ClipSettings)}
    added = {name: value for name, value in constants.items() if name in known and name not in given}
    return EvalProtocol(name=dataset.protocol, names=dataset.names, constants=constants), settings | added


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
    if report.protocol:
        constants = ", ".join(f"{name} {value}" for name, value in report.protocol.constants.items())
        say(f"protocol {report.protocol.name}, names {report.protocol.names}; {constants or 'no constants'}; "
            f"mIoU over all classes that occur or are predicted: {percent(report.runs[0].scores.miou_all)}")
    if report.runs[0].skipped:
        counted = ", ".join(f"{code} {count}" for code, count in report.runs[0].skipped.items())
        say(f"left out: {counted}; docs/reasons.md explains the codes", "yellow", stderr=True)
    table = Table("", "classes", "mIoU", "control", "pixel accuracy", "mean accuracy", "images/s")
    for run in report.runs:
        add_row(table, run.name, run.scores, run.control, f"{run.images / run.seconds:.1f}" if run.seconds else "")
        for group, scores in run.groups.items():
            add_row(table, f"  {group}", scores, run.control_groups[group], "")
    console().print(table)
    say("control: mIoU of the same masks with the candidate names of each image exchanged", "dim")
    say("seconds: " + "; ".join(f"{run.name}: " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds
                                                            in run.stages.items()) for run in report.runs), "dim")
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
