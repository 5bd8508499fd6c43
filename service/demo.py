"""`lexiseg demo`: pictogram scenes that no model was trained on, segmented by jobs that go the whole way through
ledger, queue and a worker, and exported."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from agents.model import open_model
from agents.picture import Picture
from agents.source import KnowledgeSource
from agents.telling import tell_picture
from parsers.errors import Code, JobError, MissingPackageError
from parsers.files import pretty_json, write_atomic
from parsers.prepared import write_prepared
from parsers.reader import SceneReader
from parsers.vocabulary import Vocabulary
from service.console import console, progress, say, warn
from service.evaluate import percent
from service.jobs import line_of
from service.options import usual_refinement
from service.up import gpu_devices
from vision.datasets.base import EvalDataset, superclasses_of
from vision.datasets.folder import read_classes, read_labels
from vision.datasets.pictograms import PictogramDataset
from vision.datasets.superclasses import SuperclassView
from vision.evaluate import EvalRun, evaluation_vocabulary, score_masks
from vision.models import models_root, resolve_model
from workers import JobSpec, read_job
from workers.exports import export_job
from workers.ledger import JobState, Ledger, open_ledger
from workers.outputs import prepare_out
from workers.progress import read_progress
from workers.queue.settings import QueueSettings, read_settings
from workers.queue.supervisor import Supervisor
from workers.submit import submit

SCENES = 12
HELD_OUT_SEED = 4242
"""Training draws its scenes from seeds above all of the dataset's, validation from other ones."""
LLMFORMER = "llmformer"
"""The backend that reads descriptions; its task is that of `names`."""
LLAVA = "llava-phi2"
"""What describes the scenes to it."""
SHARD = 4
"""Scenes that one message stands for."""
SUBCLASSES = "pocket/vocabularies/pictogram_superclasses.yaml"
"""Below the models' folder: finer names of the super-classes, not taken from the scenes shown here."""


def run(out: Path, model: str | None = None) -> list[EvalRun]:
    """Makes scenes with their ground truth in OUT/scenes, submits jobs over them, OUT/names, OUT/superclasses,
    OUT/superclasses-with-subclasses, and OUT/llmformer where the pocket LLMFormer is there, works them off as
    `lexiseg up` does, exports the first, prints the mIoU of each and says where things are. Everything is in OUT,
    ledger and queue among it. Raises LexisegError."""
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
    method = usual_refinement(directory)
    specs = {name: JobSpec(inputs=(str(scenes / "images"),), vocabulary=vocabulary, out=str(out / name), backend="clip",
                           model=str(directory), refine=method, overlay=True) for name, _, vocabulary in tasks}
    if (models_root() / "pocket" / LLMFORMER).is_dir():
        tasks.append((LLMFORMER, dataset, fine))
        specs[LLMFORMER] = JobSpec(
            inputs=(str(scenes / "images"),), vocabulary=fine, out=str(out / LLMFORMER), backend=LLMFORMER,
            model=str(resolve_model(None, LLMFORMER)), overlay=True,
            refine=usual_refinement(resolve_model(None, LLMFORMER)),
            settings={"descriptions": str(save_descriptions(dataset, scenes).absolute())})
    settings = replace(read_settings(), ledger=str(out.absolute() / "ledger.sqlite"), broker="filesystem")
    clear(settings, [out / name for name in specs])
    ledger = open_ledger(settings.ledger)
    try:
        job_ids = {name: submit(ledger, spec, shard_size=SHARD).job.id for name, spec in specs.items()}
        work_off(settings, ledger, job_ids)
    finally:
        ledger.close()
    runs = []
    for name, view, _ in tasks:
        warn(f"{name}: {message}" for message in read_job(out / name).warnings)
        runs.append(score_job(name, view, out / name))
    show_runs(runs, directory)
    for name, _, _ in tasks:
        say(f"{name}: {out / name / 'masks'}, {out / name / 'overlays'}, {out / name / 'report.html'}")
    export(out)
    say(f"pictures and ground truth: {scenes} (also: lexiseg eval folder:{scenes} --candidates present+20)")
    say(f"the jobs: LEXISEG_LEDGER={settings.ledger} lexiseg jobs list")
    return runs


def clear(settings: QueueSettings, outs: list[Path]) -> None:
    """Takes away what an earlier demo left, so that this one does everything anew. Raises OutputError where a folder
    holds something else."""
    for out in outs:
        prepare_out(out)
        (out / "job.json").unlink(missing_ok=True)
    for suffix in ("", "-wal", "-shm"):
        Path(settings.ledger + suffix).unlink(missing_ok=True)
    shutil.rmtree(settings.broker_folder, ignore_errors=True)


def work_off(settings: QueueSettings, ledger: Ledger, job_ids: dict[str, str]) -> None:
    """Starts a worker and the embedded queue, shows how far the jobs are, and stops both, at Ctrl-C, too. Raises
    JobError where a job could not be done."""
    say(f"{len(job_ids)} jobs are submitted; a worker is started, which takes a few seconds", "dim", stderr=True)
    with progress("working off the jobs") as update, \
            Supervisor(settings, workers=1, devices=gpu_devices()[:1]) as supervisor:

        def look() -> None:
            now = [read_progress(ledger, job_id) for job_id in job_ids.values()]
            update(sum(one.finished for one in now), sum(one.total for one in now))

        supervisor.run(until_done=True, on_tick=look, on_problem=lambda text: warn([text]))
    for name, job_id in job_ids.items():
        now = read_progress(ledger, job_id)
        say(f"{name}: job {job_id}, {now.job.state}, {line_of(now)}")
        if now.job.state != JobState.DONE:
            raise JobError(Code.JOB_STATE, f"The job {name} is {now.job.state}: {now.job.error}", "",
                           f"LEXISEG_LEDGER={settings.ledger} lexiseg jobs show {job_id}")


def export(out: Path) -> None:
    """The first job as COCO, where the package for it is installed."""
    try:
        record = export_job(out / "names", "coco", out / "coco")
    except MissingPackageError as error:
        warn([str(error)])
        return
    say(f"export: {out / 'coco' / 'annotations.json'}, {record.images} images as COCO")


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


def save_descriptions(dataset: PictogramDataset, folder: Path) -> Path:
    """What the pocket LLaVA-Phi2 says of the scenes, as prepared descriptions."""
    path = folder / "descriptions.jsonl"
    source, reader = KnowledgeSource(open_model(str(models_root() / "pocket" / LLAVA))), SceneReader()
    with progress("describing") as update:
        rows = []
        for i in range(len(dataset)):
            picture = Picture(dataset.scene(i).image_HW3)
            rows.append(tell_picture(source, f"{file_key(i)}.png", picture, reader, views=1))  # names are given: enough
            update(i + 1, len(dataset))
    write_prepared(path, rows)
    return path


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
