"""Quality and cost of the refinement methods: `python -m benchmarks.refinement [pictograms] [camvid] [speed]`.

pictograms: score maps of the pocket CLIP on validation scenes, candidates present+20 with all textures. camvid: soft
labels made from the ground truth by `degrade`. Both compare with the dense CRF of pydensecrf at full resolution over
all classes: how much of its gain in mIoU is kept, at which share of its cost. A cost is CPU time of one core per
picture beyond `none`. speed: the CRFs on one photo of 500 x 375 pixels at stride 2, on one core and, where there is
one, on a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.pictograms import percent
from vision import ClipSettings, LabelMap, Sample, ScoreMap, load_segmenter, refine, resolve_model
from vision.datasets.camvid import DEVELOPMENT_ROOT, camvid
from vision.datasets.pictograms import PictogramDataset
from vision.evaluate import NameTable, choose_candidates
from vision.metrics import Confusion
from vision.refine.settings import BILATERAL, SPATIAL

TASKS = ("pictograms", "camvid", "speed")
FULL = "pydensecrf:stride=1,floor=0,largest_side=100000,iterations=3"
METHODS = {
    "none": "none",
    "full": FULL,
    "full, 10 steps": FULL.replace("=3", "=10"),
    "pydensecrf": "pydensecrf",
    "pydensecrf, stride 1": "pydensecrf:stride=1",
    "pydensecrf binary": "pydensecrf:binary=true",
    "torch-crf": "torch-crf",
    "pamr": "pamr",
}
"""`full` is what the others are measured by."""
BATCH = 16
CELL = 16
"""Pixels of a cell of the soft labels made from CamVid's ground truth: those of a patch of ViT-B/16."""
NOISE = 1.7
"""Standard deviation of the noise on the logits; chosen so that a CRF has something to gain."""


def pictogram_maps(count: int) -> Iterator[tuple[NDArray, ScoreMap, NDArray, dict[str, int], NameTable]]:
    """Image, scores, ground truth as rows, and the candidates' ids, scene by scene."""
    dataset = PictogramDataset(count=count, seed=1)
    table = NameTable(dataset, (), None)
    rows = list(table.row)
    segmenter = load_segmenter("clip", resolve_model(None, "clip"), settings=ClipSettings())
    for start in range(0, count, BATCH):
        samples, answers = [], []
        for i in range(start, min(start + BATCH, count)):
            image_HW3, labels_HW = dataset.load(i)
            truth_HW = table.truth(labels_HW)
            present = [rows[row] for row in np.unique(truth_HW[truth_HW >= 0])]
            names = choose_candidates(dataset.key(i), present, table.names, 20, table.always)
            vocabulary = table.sub_vocabulary(names)
            assert vocabulary is not None
            samples.append(Sample(image_HW3=image_HW3, vocabulary=vocabulary))
            answers.append((truth_HW, {name: table.ids[name] for name in names}))
        for sample, scores, (truth_HW, ids) in zip(samples, segmenter.score(samples), answers, strict=True):
            yield sample.image_HW3, scores, truth_HW, ids, table


def degrade(labels_HW: NDArray, classes: int, generator: np.random.Generator) -> ScoreMap:
    """Soft labels as a patch model might give them: the share of each class in a cell, and noise on its logarithm.
    Pixels that are ignored count for no class."""
    height, width = (-(-side // CELL) for side in labels_HW.shape)
    padded_HW = np.full((height * CELL, width * CELL), classes, np.int64)
    padded_HW[:labels_HW.shape[0], :labels_HW.shape[1]] = np.minimum(labels_HW, classes)
    cells_hwP = padded_HW.reshape(height, CELL, width, CELL).swapaxes(1, 2).reshape(height, width, -1)
    share_Chw = np.stack([(cells_hwP == index).mean(axis=2) for index in range(classes)])
    logits_Chw = np.log(share_Chw + 0.01) + generator.normal(0, NOISE, share_Chw.shape)
    return ScoreMap(scores_CHW=logits_Chw.astype(np.float16), class_ids=tuple(range(1, classes + 1)),
                    names=tuple(map(str, range(classes))), image_scores_C=np.ones(classes, np.float32))


class Row:
    """One method: its confusion matrix and seconds."""

    def __init__(self, method: str, classes: int) -> None:
        self.method = method
        self.confusion = Confusion(classes)
        self.seconds: list[float] = []

    def label(self, image_HW3: NDArray, scores: ScoreMap) -> LabelMap:
        """Refines one picture; its CPU time is kept."""
        started = time.process_time()
        result = refine(image_HW3, scores, self.method)
        self.seconds.append(time.process_time() - started)
        return result


def compared(rows: dict[str, Row]) -> list[dict]:
    """mIoU and milliseconds of each method, and what is kept of the gain of `full` at which share of its cost."""
    miou = {name: row.confusion.scores().miou or 0.0 for name, row in rows.items()}
    ms = {name: 1000 * statistics.median(row.seconds) for name, row in rows.items()}
    return [{"method": name, "mIoU": percent(miou[name]), "gain": percent(miou[name] - miou["none"]),
             "of the full gain": round((miou[name] - miou["none"]) / ((miou["full"] - miou["none"]) or 1), 3),
             "CPU ms": round(ms[name], 2),
             "of the full cost": round((ms[name] - ms["none"]) / ((ms["full"] - ms["none"]) or 1), 3)}
            for name in rows]


def pictograms_table(count: int) -> list[dict]:
    rows: dict[str, Row] = {}
    for image_HW3, scores, truth_HW, ids, table in pictogram_maps(count):
        rows = rows or {name: Row(method, len(table.row)) for name, method in METHODS.items()}
        columns = table.column_of_id(ids, {name: name for name in ids})
        for row in rows.values():
            row.confusion.add(truth_HW, columns[row.label(image_HW3, scores).labels_HW])
    return compared(rows)


def camvid_table(root: Path, count: int) -> list[dict]:
    dataset = camvid(root)
    classes = len(dataset.classes)
    generator = np.random.default_rng(0)
    rows = {name: Row(method, classes) for name, method in METHODS.items()}
    for i in range(min(count, len(dataset))):
        image_HW3, labels_HW = dataset.load(i)
        truth_HW = np.where(labels_HW < classes, labels_HW.astype(np.int64), -1)
        scores = degrade(labels_HW, classes, generator)
        for row in rows.values():
            row.confusion.add(truth_HW, row.label(image_HW3, scores).labels_HW.astype(np.int64) - 1)
    return compared(rows)


def speed_table(root: Path, rounds: int) -> list[dict]:
    """Milliseconds for one photo, medians; and of a batch of 16 on a GPU."""
    dataset = camvid(root)
    image_HW3, labels_HW = dataset.load(0)
    scores = degrade(labels_HW, len(dataset.classes), np.random.default_rng(0))
    photo_HW3 = np.asarray(Image.fromarray(image_HW3).resize((500, 375), Image.Resampling.BICUBIC))
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    table = []
    for method, device in [("none", "cpu"), ("pydensecrf:stride=2", "cpu"),
                           *(("torch-crf:stride=2", device) for device in devices),
                           *(("pamr", device) for device in devices)]:
        wall, cpu = [], []
        for _ in range(rounds + 1):
            started, cpu_started = time.perf_counter(), time.process_time()
            refine(photo_HW3, scores, method, device=device)
            wall.append(time.perf_counter() - started)
            cpu.append(time.process_time() - cpu_started)
        table.append({"method": method, "device": device, "ms": round(1000 * statistics.median(wall[1:]), 1),
                      "CPU ms": round(1000 * statistics.median(cpu[1:]), 1),
                      "least CPU ms": round(1000 * min(cpu[1:]), 1)})
    if len(devices) > 1:
        table.append(batch_on_gpu(photo_HW3, rounds))
    return table


def batch_on_gpu(photo_HW3: NDArray, rounds: int, batch: int = 16, classes: int = 5) -> dict:
    """Milliseconds per picture of a batch at stride 2."""
    from vision.refine.torch_crf import mean_field

    small_hw3 = np.array(Image.fromarray(photo_HW3).reduce(2))
    images_BHW3 = torch.from_numpy(small_hw3)[None].repeat(batch, 1, 1, 1).cuda()
    maps_BKHW = torch.rand(batch, classes, *small_hw3.shape[:2], device="cuda").softmax(dim=1)
    seconds = []
    for _ in range(rounds + 1):
        torch.cuda.synchronize()
        started = time.perf_counter()
        mean_field(images_BHW3, maps_BKHW, spatial_sxy=SPATIAL["sxy"] / 2, spatial_compat=SPATIAL["compat"],
                   bilateral_sxy=BILATERAL["sxy"] / 2, bilateral_srgb=BILATERAL["srgb"],
                   bilateral_compat=BILATERAL["compat"], iterations=3)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return {"method": f"torch-crf, {batch} at once", "device": "cuda",
            "ms": round(1000 * statistics.median(seconds[1:]) / batch, 2)}


def main() -> None:
    """Reads the command line and prints one JSON object per task."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.refinement", description=__doc__)
    parser.add_argument("tasks", nargs="*", default=TASKS, metavar="TASK", help=f"of {', '.join(TASKS)}")
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--photos", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--camvid", type=Path, default=DEVELOPMENT_ROOT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for task in given.tasks:
        if task == "pictograms":
            result = pictograms_table(given.scenes)
        elif task == "camvid":
            result = camvid_table(given.camvid, given.photos)
        elif task == "speed":
            result = speed_table(given.camvid, given.rounds)
        else:
            parser.error(f"unknown task {task}; allowed: {', '.join(TASKS)}")
        print(json.dumps({task: result}, indent=2), flush=True)


if __name__ == "__main__":
    main()
