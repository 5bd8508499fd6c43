"""`lexiseg demo`: pictogram scenes that no model was trained on, segmented several ways."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from parsers import parse_scenes
from parsers.files import pretty_json, write_atomic
from parsers.vocabulary import Vocabulary
from service.console import console, say, warn
from service.evaluate import percent
from service.segment import run_with_progress
from vision import ClipSettings, load_segmenter, make_settings
from vision.datasets.base import EvalDataset, superclasses_of
from vision.datasets.folder import read_classes, read_labels
from vision.datasets.pictograms import PictogramDataset
from vision.datasets.superclasses import SuperclassView
from vision.evaluate import EvalRun, evaluation_vocabulary, score_masks
from vision.llmformer.prepared import PreparedRow, write_prepared
from vision.models import models_root, resolve_model
from workers import JobSpec

SCENES = 12
HELD_OUT_SEED = 4242
"""Training draws its scenes from seeds above all of the dataset's, validation from other ones."""
LLMFORMER = "llmformer"
SUBCLASSES = "pocket/vocabularies/pictogram_superclasses.yaml"
"""Below the models' folder: finer names of the super-classes, not taken from the scenes shown here."""


def run(out: Path, model: str | None = None) -> list[EvalRun]:
    """Makes scenes with their ground truth in OUT/scenes, segments them into OUT/names, OUT/superclasses and
    OUT/superclasses-with-subclasses, with the pocket LLMFormer (if it is there) into OUT/llmformer, prints the mIoU of
    each and says where things are. Raises LexisegError."""
    dataset = PictogramDataset(count=SCENES, seed=HELD_OUT_SEED)
    scenes = out / "scenes"
    save_scenes(dataset, scenes)
    wide = SuperclassView(dataset, superclasses_of(dataset))
    known = Vocabulary.load(models_root() / SUBCLASSES)
    own_names = sorted({name for i in range(len(dataset)) for name in dataset.scene(i).names})
    fine = evaluation_vocabulary(with_always(own_names, dataset), False)
    super_names = with_always(sorted(set(superclasses_of(dataset).values())), wide)
    tasks: list[tuple[str, EvalDataset, Vocabulary]] = [
        ("names", dataset, fine),
        ("superclasses", wide, evaluation_vocabulary(super_names, False)),
        ("superclasses-with-subclasses", wide, evaluation_vocabulary(super_names, False, known)),
    ]
    directory = resolve_model(model, "clip")
    segmenter = load_segmenter("clip", directory, settings=ClipSettings())
    runs = []
    for name, view, vocabulary in tasks:
        spec = JobSpec(inputs=(str(scenes / "images"),), vocabulary=vocabulary, out=str(out / name), backend="clip",
                       model=str(directory), overlay=True)
        summary = run_with_progress(spec, segmenter, name)
        warn(f"{name}: {message}" for message in summary.warnings)
        runs.append(score_job(name, view, out / name))
    names = [name for name, _, _ in tasks]
    if (models_root() / "pocket" / LLMFORMER).is_dir():
        runs.append(run_llmformer(dataset, scenes, fine, out))
        names.append(LLMFORMER)
    show_runs(runs, directory)
    for name in names:
        say(f"{name}: {out / name / 'masks'}, {out / name / 'overlays'}, {out / name / 'report.html'}")
    say(f"pictures and ground truth: {scenes} (also: lexiseg eval folder:{scenes} --candidates present+20)")
    return runs


def run_llmformer(dataset: PictogramDataset, scenes: Path, vocabulary: Vocabulary, out: Path) -> EvalRun:
    """The same names by the backend that reads descriptions, here the captions of the scenes."""
    told = scenes / "descriptions.jsonl"
    captions = parse_scenes(dataset.scene(i).caption.text for i in range(len(dataset)))
    write_prepared(told, (PreparedRow(image_id=f"{file_key(i)}.png", prompt_id="caption", model_id="template",
                                      priors=priors) for i, priors in enumerate(captions)))
    directory, settings = resolve_model(None, LLMFORMER), {"descriptions": str(told)}
    segmenter = load_segmenter(LLMFORMER, directory, settings=make_settings(LLMFORMER, settings))
    spec = JobSpec(inputs=(str(scenes / "images"),), vocabulary=vocabulary, out=str(out / LLMFORMER),
                   backend=LLMFORMER, model=str(directory), settings=dict(settings), overlay=True)
    summary = run_with_progress(spec, segmenter, LLMFORMER)
    warn(f"{LLMFORMER}: {message}" for message in summary.warnings)
    return score_job(f"names, {LLMFORMER} with descriptions", dataset, out / LLMFORMER)


def with_always(names: list[str], dataset: EvalDataset) -> list[str]:
    """The names, then those that are looked for everywhere."""
    return list(dict.fromkeys((*names, *dataset.always)))


def save_scenes(dataset: PictogramDataset, folder: Path) -> None:
    """The scenes as a dataset folder, and their captions."""
    for i in range(len(dataset)):
        image_HW3, labels_HW = dataset.load(i)
        write_atomic(folder / "images" / f"{file_key(i)}.png", png_bytes(image_HW3))
        write_atomic(folder / "labels" / f"{file_key(i)}.png", png_bytes(labels_HW))
    classes = {str(id): name for id, name in sorted(dataset.classes.items())}
    write_atomic(folder / "classes.json", pretty_json(classes | {"ignore_id": dataset.ignore_id}))
    captions = {file_key(i): dataset.scene(i).caption.text for i in range(len(dataset))}
    write_atomic(folder / "captions.json", pretty_json(captions))


def file_key(i: int) -> str:
    return f"scene-{i + 1:02}"


def png_bytes(array: np.ndarray) -> bytes:
    """A PNG of uint8 RGB or uint16 grey values."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def score_job(name: str, dataset: EvalDataset, job: Path) -> EvalRun:
    """The masks of a job over the saved scenes against their ground truth."""
    names, _ = read_classes(job / "classes.json")
    return score_masks(dataset, lambda i: read_labels(job / "masks" / f"{file_key(i)}.png.png"), names, name=name)


def show_runs(runs: list[EvalRun], model: Any) -> None:
    from rich.table import Table

    table = Table("task", "classes", "mIoU", "control", title=f"{runs[0].images} pictogram scenes, model {model}",
                  title_justify="left")
    for run in runs:
        table.add_row(run.name, str(run.scores.classes), percent(run.scores.miou), percent(run.control.miou))
    console().print(table)
    say("control: mIoU of the same masks with the candidate names of each picture exchanged", "dim")
