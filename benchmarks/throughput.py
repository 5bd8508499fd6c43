"""Speed and memory: `python -m benchmarks.throughput [scenes] [pocket] [vit-b-16] [memory]`.

A ratio compares `run_job` (decode, score, refine, write, report) with the bare encoder of the same model on tensors
that are ready, in batches of the same size, in one process and alternating, so that the machine's mood cancels out.
CPU milliseconds are those of this process, which do not depend on what else the machine does; with `pydensecrf` the
refinement runs in other processes and is not among them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from open_clip import create_model, get_model_config
from PIL import Image
from safetensors.torch import save_file

from parsers.vocabulary import Vocabulary
from vision import ClipSettings, load_segmenter, resolve_model
from vision.datasets.pictograms import PictogramDataset
from vision.datasets.sprites import concepts, texture_names
from workers import JobSpec, run_job

BATCH = 16
CLASSES = (*texture_names(), *(concept.name for concept in concepts() if concept.seen))[:28]


def save_scenes(folder: Path, count: int, side: int) -> None:
    """Pictogram scenes as PNG files of `side` pixels."""
    folder.mkdir(parents=True)
    dataset = PictogramDataset(count=count, seed=9)
    for i in range(count):
        picture = Image.fromarray(dataset.load(i)[0])
        if side != picture.width:
            picture = picture.resize((side, side), Image.Resampling.BICUBIC)
        picture.save(folder / dataset.key(i), compress_level=1)


def random_vit(folder: Path) -> Path:
    """An open_clip directory with ViT-B/16 at 224 pixels and random weights."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = create_model("ViT-B-16")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    preprocess = {"mean": (0.48, 0.46, 0.41), "std": (0.27, 0.26, 0.28)}
    config = {"model_cfg": get_model_config("ViT-B-16"), "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


@torch.inference_mode()
def bare_rate(model: torch.nn.Module, side: int, count: int) -> tuple[float, float]:
    """Images per second and CPU milliseconds per image of `encode_image` on ready batches."""
    images_B3SS = torch.randn(BATCH, 3, side, side)
    model.encode_image(images_B3SS)
    started, cpu_started = time.perf_counter(), time.process_time()
    for _ in range(count // BATCH):
        model.encode_image(images_B3SS)
    images = count // BATCH * BATCH
    return images / (time.perf_counter() - started), 1000 * (time.process_time() - cpu_started) / images


def ratios(model_dir: Path, side: int, count: int, rounds: int, work: Path) -> dict[str, dict[str, float]]:
    """Per refinement: medians of the job's and the bare encoder's images/s, of their ratio, and of CPU milliseconds per
    image."""
    save_scenes(work / "images", count, side)
    segmenter = load_segmenter("clip", model_dir, settings=ClipSettings(templates="plain", batch_size=BATCH))
    model = create_model(f"local-dir:{model_dir}").eval()
    vocabulary = Vocabulary.from_names(list(CLASSES))
    table = {}
    for method in ("none", "pydensecrf"):
        rows = []
        for number in range(rounds + 1):
            bare, bare_ms = bare_rate(model, side, count)
            spec = JobSpec(inputs=(str(work / "images"),), vocabulary=vocabulary, out=str(work / f"{method}{number}"),
                           model=str(model_dir), refine=method, batch=BATCH, settings={"templates": "plain"})
            cpu_started = time.process_time()
            job = run_job(spec, segmenter=segmenter).images_per_s
            rows.append((job, bare, job / bare, 1000 * (time.process_time() - cpu_started) / count, bare_ms))
        rows = rows[1:]  # the first one warms up
        job, bare, ratio, job_ms, bare_ms = (statistics.median(column) for column in zip(*rows, strict=True))
        table[method] = {"job images/s": round(job, 1), "bare images/s": round(bare, 1), "ratio": round(ratio, 2),
                         "lowest": round(min(row[2] for row in rows), 2),
                         "job CPU ms": round(job_ms, 1), "bare CPU ms": round(bare_ms, 1)}
    return table


def memory_growth(model_dir: Path, work: Path, first: int = 1000, last: int = 5000) -> dict[str, float]:
    """Resident memory of this process in MB at image `first` and at the end of a job of `last` images."""
    save_scenes(work / "images", last, 128)
    seen: dict[int, float] = {}

    def watch(progress) -> None:
        seen[progress.done] = resident_mb()

    spec = JobSpec(inputs=(str(work / "images"),), vocabulary=Vocabulary.from_names(list(CLASSES)),
                   out=str(work / "out"), model=str(model_dir), batch=BATCH)
    run_job(spec, on_progress=watch)
    early = np.mean([mb for done, mb in seen.items() if abs(done - first) <= 100])
    late = np.mean([mb for done, mb in seen.items() if done >= last - 200])
    return {"MB at 1000": round(float(early), 1), "MB at 5000": round(float(late), 1),
            "growth %": round(100 * float(late / early - 1), 2)}


def scene_rate(count: int = 1000) -> dict[str, float]:
    """Scenes per second of one core, after the drawings are loaded."""
    dataset = PictogramDataset(count=count, seed=9)
    for i in range(100):
        dataset.load(i)
    started = time.process_time()
    for i in range(count):
        dataset.load(i)
    return {"scenes/s": round(count / (time.process_time() - started), 1)}


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Reads the command line and prints JSON."""
    tasks = ("scenes", "pocket", "vit-b-16", "memory")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument("tasks", nargs="*", default=tasks, metavar="TASK", help=f"of {', '.join(tasks)}")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    pocket = resolve_model(None, "clip")
    for task in given.tasks:
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            if task == "scenes":
                result = scene_rate()
            elif task == "pocket":
                result = ratios(pocket, 128, 800, given.rounds, work)
            elif task == "vit-b-16":
                result = ratios(random_vit(work / "model"), 224, 96, given.rounds, work)
            elif task == "memory":
                result = memory_growth(pocket, work)
            else:
                parser.error(f"unknown task {task}; allowed: {', '.join(tasks)}")
        print(json.dumps({task: result, "threads": torch.get_num_threads()}, indent=2), flush=True)


if __name__ == "__main__":
    main()
