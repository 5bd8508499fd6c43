"""What a job would take, before it is begun: pictures, unreadable files, time from a measured sample, disk."""

from __future__ import annotations

import hashlib
import heapq
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from agents.parallel import in_order
from parsers.errors import Code
from vision.images import MAX_PIXELS
from vision.types import Segmenter
from workers.description import load_backend
from workers.inputs import InputItem
from workers.outputs import PictureWriter, free_mb
from workers.pipeline import process
from workers.spec import JobSpec
from workers.submit import find_items
from workers.telling import open_telling, own_by_name, try_to_tell

EXAMPLES = 5
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What was counted, measured and reckoned."""

    images: int
    bytes: int
    """Of the picture files."""
    unreadable: int
    """Files whose beginning already shows that they will fail."""
    examples: tuple[tuple[str, str], ...]
    """Name and reason code of the first of them."""
    measured: int
    """Pictures that were segmented for the measurement."""
    images_per_s: float
    """Of one worker, the models being loaded, language model and masks one after the other; 0 where nothing could be
    measured."""
    seconds: float
    """For all, with one worker."""
    disk_bytes: int
    """Of masks, overlays and confidence maps, reckoned from the sample."""
    free_bytes: int
    device: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate(spec: JobSpec, *, measured: int = 32, segmenter: Segmenter | None = None) -> Estimate:
    """Looks at every file's beginning and segments a sample of `measured` pictures, drawn by the digests of their
    names, into a folder that is removed. Raises LexisegError."""
    drawn: list[tuple[int, str, InputItem]] = []

    def draw(item: InputItem) -> None:
        entry = (-int.from_bytes(hashlib.sha256(item.name.encode()).digest()[:8]), item.name, item)
        if len(drawn) < measured:
            heapq.heappush(drawn, entry)
        else:
            heapq.heappushpop(drawn, entry)

    found = count_files(find_items(spec.inputs, Path(spec.out), []), draw)
    sample = [item for _, _, item in sorted(drawn, key=lambda entry: entry[1])]
    number, seconds, written = _measure(spec, sample, segmenter) if sample else (0, 0.0, 0)
    good = found.images - found.unreadable
    rate = number / seconds if seconds else 0.0
    return Estimate(images=found.images, bytes=found.bytes, unreadable=found.unreadable, examples=found.examples,
                    measured=number, images_per_s=rate, seconds=good / rate if rate else 0.0,
                    disk_bytes=round(good * written / number) if number else 0,
                    free_bytes=round(free_mb(Path(spec.out)) * 1e6), device=spec.device)


@dataclass(frozen=True)
class Found:
    """Picture files as their beginnings show them."""

    images: int
    bytes: int
    unreadable: int
    """Files that will fail."""
    examples: tuple[tuple[str, str], ...]
    """The first of those: name and error code."""


def count_files(items: Iterable[InputItem], on_good: Callable[[InputItem], None] = lambda _item: None) -> Found:
    """Looks at the beginning of every file. on_good: hears of each that looks well."""
    images = size = unreadable = 0
    examples: list[tuple[str, str]] = []
    for item in items:
        images += 1
        try:
            size += os.stat(item.path).st_size
            problem = problem_of(item.path)
        except OSError:
            problem = Code.FILE_MISSING
        if problem is None:
            on_good(item)
            continue
        unreadable += 1
        if len(examples) < EXAMPLES:
            examples.append((item.name, problem))
    return Found(images, size, unreadable, tuple(examples))


def problem_of(path: Path) -> Code | None:
    """Why a file will fail, as far as its beginning shows it; None where it looks well."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                return Code.IMAGE_TOO_LARGE if image.width * image.height > MAX_PIXELS else None
    except Image.DecompressionBombError:
        return Code.IMAGE_TOO_LARGE
    except PermissionError:
        return Code.FILE_UNREADABLE
    except Exception:  # a damaged header may raise anything
        return Code.FILE_EMPTY if path.stat().st_size == 0 else Code.NOT_AN_IMAGE


def _measure(spec: JobSpec, sample: list[InputItem], segmenter: Segmenter | None) -> tuple[int, float, int]:
    """Pictures segmented, seconds they took, bytes written. The first pass loads and warms up and is not counted."""
    segmenter = segmenter or load_backend(spec)
    vocabulary = spec.vocabulary.frozen()
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="lexiseg-estimate-") as folder:
        writer = PictureWriter.of(Path(folder), vocabulary, overlay=spec.overlay, confidence=spec.confidence)
        telling = None if spec.free is None else stack.enter_context(open_telling(spec.free))

        def run(items: list[InputItem]) -> int:
            own = None
            if telling is not None:
                said = in_order(lambda item: try_to_tell(telling, item), items, telling.parallel)
                own = own_by_name(dict(zip([item.name for item in items], said, strict=True)), writer)
            outcomes = process(items, segmenter, vocabulary, writer, method=spec.refine, batch=spec.batch,
                               device=spec.device, workers=spec.workers, own=own)
            with closing(outcomes):
                return sum(bool(outcome.files) for outcome in outcomes)

        run(sample[:1])
        started = time.perf_counter()
        number = run(sample)
        seconds = time.perf_counter() - started
        return number, seconds, sum(path.stat().st_size for path in _files(Path(folder)))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
