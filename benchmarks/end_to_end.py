"""A whole job against the bare encoder and a plain loop: `python -m benchmarks.end_to_end [--precision bfloat16]`.

Invented photos of 500 x 375 pixels, ViT-B/16 with random weights, 21 classes with 7 subclasses each. In every round,
one after the other, so that the machine's mood cancels out:

* job: `run_job` as a site runs it; decode, windows, encoder, names, refinement, masks and report.
* bare: the library's own image encoder on as many ready windows, in batches of the same size and precision.
* plain: what a person writes first. One picture at a time, float32, the text vectors ready; every class enlarged to
  the size of the picture, a dense CRF over all of them (pydensecrf), the largest wins, saved as PNG.

Printed are medians over the rounds: images per second; processor seconds per image, of this process and of those that
the job began, which depend less on what else the machine does; and the ratios that are asked for, in both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.throughput import random_vit
from parsers.vocabulary import Vocabulary
from service.benchmark import empty_cache, invented_vocabulary, read_size, save_photos, watched
from vision import ClipSettings
from vision.clip.segmenter import ClipSegmenter, load
from vision.refine.enlarge import softmax
from vision.refine.settings import BILATERAL, SPATIAL
from vision.types import Sample
from workers import JobSpec, run_job

Cost = tuple[float, float]
"""Seconds by the clock and of the processor, per image."""


def clocked(work: Callable[[], object], images: int) -> Cost:
    """What `work` on `images` pictures costs, processes that it began and ended among it."""
    began, cpu_began = time.perf_counter(), cpu_seconds()
    work()
    return (time.perf_counter() - began) / images, (cpu_seconds() - cpu_began) / images


def cpu_seconds() -> float:
    """Of this process, its threads, and its processes that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


class Bare:
    """The library's image encoder on windows that are on the device."""

    def __init__(self, segmenter: ClipSegmenter) -> None:
        side, encoder = segmenter.card.window, segmenter.encoder
        self._encoder = encoder
        self._windows_B3SS = torch.randn(encoder.batch_size, 3, side, side, device=encoder.device)

    @torch.inference_mode()
    def encode(self, windows: int) -> None:
        encoder, batch = self._encoder, self._encoder.batch_size
        with torch.autocast(encoder.device.type, torch.bfloat16, enabled=encoder.half):
            for start in range(0, windows, batch):
                encoder.image_tower(self._windows_B3SS[:min(batch, windows - start)])
        if encoder.device.type == "cuda":
            torch.cuda.synchronize(encoder.device)


class Plain:
    """One picture at a time."""

    def __init__(self, segmenter: ClipSegmenter, vocabulary: Vocabulary, steps: int) -> None:
        """segmenter: float32, whose batch is the windows of one picture."""
        self._segmenter, self._vocabulary, self._steps = segmenter, vocabulary, steps
        segmenter.prepare(vocabulary)

    def label(self, path: Path, out: Path) -> None:
        with Image.open(path) as picture:
            image_HW3 = np.array(picture.convert("RGB"))
        (found,) = self._segmenter.score([Sample(image_HW3=image_HW3, vocabulary=self._vocabulary)])
        maps_1Chw = torch.from_numpy(softmax(found.scores_CHW))[None]
        maps_CHW = torch.nn.functional.interpolate(maps_1Chw, image_HW3.shape[:2], mode="bilinear")[0].numpy()
        winner_HW = self._field(image_HW3, maps_CHW).argmax(axis=0)
        Image.fromarray(np.array(found.class_ids, np.uint8)[winner_HW]).save(out / f"{path.stem}.png")

    def _field(self, image_HW3: NDArray[np.uint8], maps_CHW: NDArray[np.float32]) -> NDArray[np.float32]:
        from pydensecrf import densecrf

        classes, height, width = maps_CHW.shape
        field = densecrf.DenseCRF2D(width, height, classes)
        field.setUnaryEnergy(-np.log(maps_CHW.clip(1e-8)).reshape(classes, -1))
        field.addPairwiseGaussian(sxy=SPATIAL["sxy"], compat=SPATIAL["compat"])
        field.addPairwiseBilateral(sxy=BILATERAL["sxy"], srgb=BILATERAL["srgb"], rgbim=image_HW3,
                                   compat=BILATERAL["compat"])
        return np.array(field.inference(self._steps), np.float32).reshape(maps_CHW.shape)


@dataclass(frozen=True, slots=True)
class Round:
    """What each way costs per image."""

    job: Cost
    bare: Cost
    plain: Cost


def rounds_of(given: argparse.Namespace, work: Path) -> tuple[list[Round], dict[str, object]]:
    """The rounds, after a short one of each that only warms up, and what was run."""
    width, height = read_size(given.size)
    vocabulary = invented_vocabulary(given.classes, given.subclasses)
    model = given.model or random_vit(work / "model")
    settings = {"templates": "plain", "precision": given.precision}
    segmenter = load(model, device=given.device, settings=ClipSettings(**settings, batch_size=given.batch))
    segmenter.prepare(vocabulary)
    photos = list(save_photos(work / "photos", given.images, width, height))
    few = work / "few"
    few.mkdir()
    for path in photos[:2]:
        (few / path.name).symlink_to(path)
    with watched(segmenter.encoder) as seen:
        segmenter.score([Sample(image_HW3=np.zeros((height, width, 3), np.uint8), vocabulary=vocabulary)])
    windows = int(seen["windows"])
    alone = load(model, device=given.device,
                 settings=ClipSettings(templates="plain", precision="float32", batch_size=windows))
    bare, plain = Bare(segmenter), Plain(alone, vocabulary, given.plain_steps)
    (work / "plain").mkdir()

    def job(folder: Path, number: int) -> None:
        run_job(JobSpec(inputs=(str(folder),), vocabulary=vocabulary, out=str(work / f"job{number}"), model=str(model),
                        refine=given.refine, batch=given.batch, device=given.device, settings=settings),
                segmenter=segmenter)

    def loop(paths: list[Path]) -> None:
        for path in paths:
            plain.label(path, work / "plain")

    def measured() -> Iterator[Round]:
        for number in range(1, given.rounds + 1):
            yield Round(bare=clocked(lambda: bare.encode(windows * given.images), given.images),
                        job=clocked(partial(job, work / "photos", number), given.images),
                        plain=clocked(lambda: loop(photos[:given.plain_images]), given.plain_images))

    bare.encode(given.batch)
    job(few, 0)
    loop(photos[:1])
    facts = {"images": given.images, "size": given.size, "classes": given.classes, "subclasses": given.subclasses,
             "windows per image": windows, "variant": segmenter.encoder.variant, "refine": given.refine,
             "precision": "bfloat16" if segmenter.encoder.half else "float32",
             "device": str(segmenter.encoder.device), "threads": torch.get_num_threads(), "batch": given.batch,
             "plain: images, CRF steps": [given.plain_images, given.plain_steps], "rounds": given.rounds}
    return list(measured()), facts


def summary(rounds: list[Round]) -> dict[str, dict[str, float]]:
    """Medians; every ratio is taken within its round."""
    table: dict[str, dict[str, float]] = {}
    for name in ("job", "bare", "plain"):
        wall, cpu = (statistics.median(getattr(one, name)[kind] for one in rounds) for kind in (0, 1))
        table[name] = {"images/s": round(1 / wall, 2), "CPU s/image": round(cpu, 3)}
    for name, other in (("job / bare, asked 0.8", "bare"), ("job / plain, asked 2", "plain")):
        by_clock, by_cpu = ([getattr(one, other)[kind] / one.job[kind] for one in rounds] for kind in (0, 1))
        table[name] = {"by the clock": round(statistics.median(by_clock), 2), "lowest round": round(min(by_clock), 2),
                       "by processor time": round(statistics.median(by_cpu), 2)}
    return table


def main() -> None:
    """Reads the command line and prints JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--plain-images", type=int, default=12, help="of the plain loop, whose cost is per picture")
    parser.add_argument("--plain-steps", type=int, default=10, help="of the plain loop's CRF")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", default="500x375")
    parser.add_argument("--classes", type=int, default=21, help="the background among them")
    parser.add_argument("--subclasses", type=int, default=7)
    parser.add_argument("--refine", default="pydensecrf")
    parser.add_argument("--precision", default="auto", help="of the job and the bare encoder")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", type=Path, help="model directory; ViT-B/16 with random weights if left out")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, empty_cache(Path(name) / "cache"):
        rounds, facts = rounds_of(given, Path(name))
    print(json.dumps(facts | summary(rounds), indent=2))


if __name__ == "__main__":
    main()
