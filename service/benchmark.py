"""`lexiseg benchmark`: how fast a model is on this machine, stage by stage.

Every stage is timed alone on the same pictures, in one thread, the model's stages with all threads of torch; the whole
job then runs as `lexiseg segment` does, with reading, device and writing overlapped. Beside it stands the bare image
encoder: the library's own forward on ready tensors in batches of the same size.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict

from parsers.errors import Code, SettingError
from parsers.vocabulary import Vocabulary, VocabularyClass
from service.console import console, progress, say
from vision import ClipSettings, resolve_model
from vision.clip.segmenter import load as load_clip
from vision.datasets.protocol import class_table, vocabulary_id
from vision.refine import refine as refine_scores
from vision.types import Sample
from workers.drawing import encode_mask
from workers.inputs import InputItem
from workers.outputs import PictureWriter
from workers.pipeline import process, whole
from workers.prefetch import Loaded, load_item

SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
KINDS = ("small", "large", "old", "new", "red", "white", "dark", "broken", "wet", "striped", "wooden", "round", "young",
         "distant", "blue", "grey")
"""Invented subclasses: "small dog", "large dog"."""
TEXTS = 64
"""Names whose text vectors are timed."""


class Stage(BaseModel):
    """One stage alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds_per_image: float
    images_per_s: float


class Benchmark(BaseModel):
    """What `lexiseg benchmark --json` writes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    machine: str
    cores: int
    threads: int
    """Of torch."""
    device: str
    model: str
    variant: str
    precision: str
    width: int
    height: int
    images: int
    classes: int
    """The background among them."""
    subclasses: int
    refine: str
    settings: dict[str, Any]
    windows_per_image: float
    stages: dict[str, Stage]
    """`decode`; `score` (windows, encoder, names); of it `encode`; `refine`; `write` (compressing the mask)."""
    end_to_end: Stage
    """Everything overlapped, files written; the median of the rounds."""
    bare_encoder: Stage
    ratio: float
    """End to end / bare encoder; the median of the rounds, which alternate."""
    device_busy: float
    """Share of the time end to end that the bare encoder needs for the same windows, at most 1."""
    texts_per_s: float
    """Names with one template each; done once per vocabulary."""
    memory_mb: float
    """Largest resident memory of this process."""
    device_memory_mb: float | None
    hours_per_100k: float
    price_per_100k: float | None


def run_benchmark(*, model: str | None = None, backend: str = "clip", size: str = "500x375", images: int = 32,
                  classes: int = 21, subclasses: int = 7, rounds: int = 3, settings: dict[str, Any] | None = None,
                  refine: str = "none", device: str = "auto", price: float | None = None,
                  quiet: bool = False) -> Benchmark:
    """Measures on `images` invented photos of `size` ("WIDTHxHEIGHT"). classes: the background among them;
    subclasses: of each class; rounds: of the whole job and the bare encoder. price: of an hour of this machine.

    Raises LexisegError.
    """
    if backend != "clip":
        raise SettingError(Code.SETTING_INVALID, f"--backend {backend}.", "This command measures the backend clip.",
                           "python -m benchmarks.llmformer speed")
    width, height = read_size(size)
    vocabulary = invented_vocabulary(classes, subclasses)
    chosen = ClipSettings(**(settings or {}) | {"templates": "plain"})  # texts are done once and timed apart
    with tempfile.TemporaryDirectory(prefix="lexiseg-benchmark-") as folder, empty_cache(Path(folder) / "cache"), \
            progress("measuring", "steps", hidden=quiet) as update:
        segmenter = load_clip(resolve_model(model, "clip"), device=device, settings=chosen)
        files = list(save_photos(Path(folder) / "images", images, width, height))
        update(1, rounds + 3)
        texts_per_s = text_rate(segmenter)
        items = [InputItem(name=path.name, root=str(path.parent), relative=path.name) for path in files]
        stages, windows_per_image = measure_stages(segmenter, items, vocabulary, refine, chosen.batch_size,
                                                   device)
        update(2, rounds + 3)
        writer = PictureWriter.of(Path(folder) / "out", vocabulary, overlay=False, confidence=False)

        def job() -> None:
            with closing(process(items, segmenter, vocabulary, writer, method=refine, batch=chosen.batch_size,
                                 device=device)) as outcomes:
                for _ in outcomes:
                    pass

        job()  # starts processes and threads, and is not counted
        whole, bare, ratios = [], [], []
        for number in range(rounds):
            whole.append(seconds_of(job) / images)
            bare.append(windows_per_image / bare_windows_per_s(segmenter, chosen.batch_size, images))
            ratios.append(bare[-1] / whole[-1])
            update(3 + number, rounds + 3)
        memory_mb, device_memory_mb = memory(segmenter)
    end_to_end, bare_encoder = stage(statistics.median(whole)), stage(statistics.median(bare))
    hours = end_to_end.seconds_per_image * 100_000 / 3600
    return Benchmark(machine=processor(), cores=len(os.sched_getaffinity(0)), threads=torch_threads(),
                     device=str(segmenter.encoder.device), model=segmenter.card.name, variant=segmenter.encoder.variant,
                     precision="bfloat16" if segmenter.encoder.half else "float32", width=width, height=height,
                     images=images, classes=classes, subclasses=subclasses, refine=refine,
                     settings=settings or {}, windows_per_image=windows_per_image, stages=stages,
                     end_to_end=end_to_end, bare_encoder=bare_encoder, ratio=statistics.median(ratios),
                     device_busy=min(1.0, statistics.median(ratios)), texts_per_s=texts_per_s, memory_mb=memory_mb,
                     device_memory_mb=device_memory_mb, hours_per_100k=hours,
                     price_per_100k=None if price is None else hours * price)


def read_size(text: str) -> tuple[int, int]:
    """"500x375" as width and height. Raises SettingError."""
    match = SIZE.fullmatch(text)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(width, height) < 8 or width * height > 100_000_000:
        raise SettingError(Code.SETTING_INVALID, f"--size {text!r}.", "Width and height in pixels, from 8x8 to 100 "
                           "million pixels.", "Try: --size 500x375")
    return width, height


def invented_vocabulary(classes: int, subclasses: int) -> Vocabulary:
    """`classes` classes, the first of them the background, with `subclasses` invented ones each. Raises
    SettingError."""
    names = [entry.name for entry in class_table("voc").classes]
    names += [entry.name for entry in class_table("ade847").classes if entry.name not in names]
    if not 2 <= classes <= len(names) + 1 or not 0 <= subclasses <= len(KINDS):
        raise SettingError(Code.SETTING_INVALID, f"--classes {classes}, --subclasses {subclasses}.",
                           f"2 to {len(names) + 1} classes, 0 to {len(KINDS)} subclasses.",
                           "Try: --classes 21 --subclasses 7")
    return Vocabulary(background=("background",), classes=tuple(
        VocabularyClass(id=vocabulary_id(number), name=name,
                        subclasses=tuple(f"{kind} {name}" for kind in KINDS[:subclasses]))
        for number, name in enumerate(names[:classes - 1], start=1)))


def save_photos(folder: Path, count: int, width: int, height: int) -> Iterator[Path]:
    """Invented photos as JPEG: soft shapes with grain, about as large as a camera's file of that size."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8))
        soft_HW3 = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
        grain_HW3 = random.integers(-12, 13, (height, width, 3), np.int16)
        path = folder / f"{number:05d}.jpg"
        Image.fromarray(np.clip(soft_HW3 + grain_HW3, 0, 255).astype(np.uint8)).save(path, quality=90)
        yield path


@contextmanager
def empty_cache(folder: Path) -> Iterator[None]:
    """Text vectors of invented names do not get into a person's cache."""
    before = os.environ.get("LEXISEG_CACHE")
    os.environ["LEXISEG_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["LEXISEG_CACHE"]
        else:
            os.environ["LEXISEG_CACHE"] = before


def measure_stages(segmenter: Any, items: Sequence[InputItem], vocabulary: Vocabulary, refine: str,
                   batch: int, device: str) -> tuple[dict[str, Stage], float]:
    """Each stage alone, and the windows per image."""
    count = len(items)
    loaded: list[Loaded] = []
    decode_s = seconds_of(lambda: loaded.extend(load_item(item, segmenter.draft_side) for item in items))
    samples = [Sample(image_HW3=one.image_HW3, vocabulary=vocabulary) for one in loaded if one.image_HW3 is not None]
    segmenter.score(samples[:1])
    score_maps: list = []
    with watched(segmenter.encoder) as seen:
        score_s = seconds_of(lambda: score_maps.extend(chain.from_iterable(
            segmenter.score(samples[start:start + batch]) for start in range(0, count, batch))))
    label_maps: list = []
    refine_s = seconds_of(lambda: label_maps.extend(
        refine_scores(whole(sample.image_HW3, one.size), score_map, refine, device=device)
        for sample, one, score_map in zip(samples, loaded, score_maps, strict=True)))
    colours = {entry.id: entry.rgb for entry in vocabulary.classes}
    write_s = seconds_of(lambda: [encode_mask(label_map.labels_HW, colours) for label_map in label_maps])
    seconds = {"decode": decode_s, "score": score_s, "encode": seen["seconds"], "refine": refine_s, "write": write_s}
    return {name: stage(value / count) for name, value in seconds.items()}, seen["windows"] / count


@contextmanager
def watched(encoder: Any) -> Iterator[dict[str, float]]:
    """Counts the windows that go through an encoder and the seconds that they take."""
    seen, encode = {"windows": 0, "seconds": 0.0}, encoder.encode_windows

    def counted(windows: Sequence[NDArray[np.uint8]], *rest: Any, **options: Any) -> Any:
        seen["windows"] += len(windows)
        started = time.perf_counter()
        answer = encode(windows, *rest, **options)
        wait_for(encoder)
        seen["seconds"] += time.perf_counter() - started
        return answer

    encoder.encode_windows = counted
    try:
        yield seen
    finally:
        del encoder.encode_windows


def bare_windows_per_s(segmenter: Any, batch: int, count: int) -> float:
    """Windows per second of the image encoder alone, in batches that are on the device; at least `count` windows."""
    import torch

    encoder = segmenter.encoder
    side = segmenter.card.window
    images_B3SS = torch.zeros(batch, 3, side, side, device=encoder.device)
    rounds = max(1, count // batch)

    def run() -> None:
        with torch.inference_mode(), torch.autocast(encoder.device.type, torch.bfloat16, enabled=encoder.half):
            for _ in range(rounds):
                encoder.image_tower(images_B3SS)
        wait_for(encoder)

    run()
    return rounds * batch / seconds_of(run)


def text_rate(segmenter: Any) -> float:
    """Names per second that become text vectors."""
    names = [f"{kind} {entry.name}" for entry, kind in zip(islice(cycle(class_table("voc").classes), TEXTS),
                                                           cycle(KINDS), strict=False)]
    segmenter.encoder.encode_prompts(names[:1])
    return TEXTS / seconds_of(lambda: segmenter.encoder.encode_prompts(names))


def wait_for(encoder: Any) -> None:
    """Until a GPU has done what it was given."""
    if encoder.device.type == "cuda":
        import torch

        torch.cuda.synchronize(encoder.device)


def seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return max(time.perf_counter() - started, 1e-9)


def stage(seconds_per_image: float) -> Stage:
    return Stage(seconds_per_image=seconds_per_image, images_per_s=1 / max(seconds_per_image, 1e-9))


def memory(segmenter: Any) -> tuple[float, float | None]:
    """MB: the most this process had, and the most on the GPU, None without one."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    if segmenter.encoder.device.type != "cuda":
        return peak, None
    import torch

    return peak, torch.cuda.max_memory_allocated(segmenter.encoder.device) / 1e6


def torch_threads() -> int:
    import torch

    return torch.get_num_threads()


def processor() -> str:
    """What the machine calls its processor."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    match = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def show_benchmark(report: Benchmark) -> None:
    """The stages as a table, and what they mean for 100,000 images."""
    from rich.table import Table

    say(f"{report.model} ({report.variant}) on {report.device}; {report.machine}, {report.cores} cores, "
        f"{report.threads} threads, {report.precision}")
    say(f"{report.images} images of {report.width}x{report.height}, {report.classes} classes with {report.subclasses} "
        f"subclasses, refine {report.refine}, {report.windows_per_image:.1f} windows per image")
    table = Table("stage, alone", "ms/image", "images/s")
    for name, one in report.stages.items():
        label = "  encode (of score)" if name == "encode" else name
        table.add_row(label, f"{1000 * one.seconds_per_image:.2f}", f"{one.images_per_s:.1f}")
    for name, one in (("end to end, overlapped", report.end_to_end), ("bare encoder", report.bare_encoder)):
        table.add_row(name, f"{1000 * one.seconds_per_image:.2f}", f"{one.images_per_s:.1f}")
    console().print(table)
    say(f"end to end / bare encoder: {report.ratio:.2f}; device busy {100 * report.device_busy:.0f} %; "
        f"{report.texts_per_s:.0f} texts/s, once per vocabulary")
    say(f"memory: {report.memory_mb:.0f} MB" + (
        f", on the device {report.device_memory_mb:.0f} MB" if report.device_memory_mb is not None else ""))
    say(f"100,000 images: {report.hours_per_100k:.2f} hours" + (
        f", {report.price_per_100k:.2f} at the price given" if report.price_per_100k is not None else ""))
