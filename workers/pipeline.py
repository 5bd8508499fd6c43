"""From pictures to results: read ahead, score in batches, refine and write behind, in order and in bounded memory."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from PIL import Image

from parsers.errors import (
    Code,
    LexisegError,
    MissingPackageError,
    ModelError,
    OutputError,
    SettingError,
    VocabularyError,
)
from parsers.vocabulary import Vocabulary
from vision.refine import refine
from vision.types import ConcurrentSegmenter, Sample, ScoreMap, Segmenter
from workers.failpoints import reach
from workers.outputs import PictureWriter, Written, failure
from workers.prefetch import Items, Loaded, prefetch
from workers.records import Result
from workers.telling import Own

_BACKGROUND = ScoreMap(scores_CHW=np.zeros((1, 1, 1), np.float16), class_ids=(0,), names=("background",),
                       image_scores_C=np.ones(1, np.float32))
STAGE_PIXELS = 48_000_000
"""Pixels that may wait before and after the model, and be in each of its threads (144 MB as RGB); one picture may
exceed it."""

SCORERS = 2
"""Threads that score, where the segmenter allows it and there are as many cores."""

_log = logging.getLogger("lexiseg")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one picture and how long each stage took, in seconds."""

    result: Result
    decode_s: float
    score_s: float
    finish_s: float
    files: tuple[tuple[str, str], ...] = ()
    """Path below OUT and sha256 of each file written for it."""


@dataclass(slots=True)
class Waiting:
    """A picture that is scored; its result is there already, or is being made."""

    loaded: Loaded
    score_s: float
    own: Own | None = None
    """In a job without candidates."""
    result: Result | None = None
    arguments: tuple = ()
    future: Future | None = None


def process(items: Items, segmenter: Segmenter, vocabulary: Vocabulary, writer: PictureWriter, *,
            method: str, batch: int, device: str = "cpu", workers: int | None = None,
            finishers: Finishers | None = None,
            own: Callable[[str], Own] | None = None) -> Generator[Outcome, None, None]:
    """Yields one Outcome for each item, in order; its files are written by then.

    What concerns one picture becomes a failed Result. What concerns all of them (a full disk, a missing package, a
    model or setting at fault) is raised. Closing the iterator lets running pictures finish and drops the rest.
    device: for the refinement methods that use torch. workers: processes for `pydensecrf`, which holds the
    interpreter's lock, else threads; None: one per core, at least two threads. finishers: a pool for them that is
    there already, and stays. own: in a job without candidates, what is the own of the picture of a name; raises where
    nothing could be said of it, which is its failure.
    """
    count = workers or default_workers(method)
    scorers = Scorers(segmenter, vocabulary, own)
    reading = prefetch(items, threads=min(count, 8, len(items)), depth=(1 + scorers.count) * batch,
                       max_pixels=STAGE_PIXELS, draft_side=getattr(segmenter, "draft_side", None))
    made = Finishers.of(method, count) if finishers is None else None
    finishers = finishers or made
    assert finishers is not None
    waiting: deque[Waiting] = deque()
    with closing(made or _Kept(finishers)), closing(reading), closing(scorers):
        for entries in scorers.run(_groups(reading, batch)):
            reach("scored")
            for entry in entries:
                if entry.result is None:
                    entry.arguments = (entry.loaded.item.name, entry.loaded.image_HW3, entry.loaded.sha256,
                                       *entry.arguments, method, device, entry.own.writer if entry.own else writer,
                                       entry.loaded.size)
                    finishers.begin(entry)
                waiting.append(entry)
            while waiting and (_is_over(waiting, 2 * batch) or _is_ready(waiting[0])):
                yield finishers.end(waiting)
        while waiting:
            yield finishers.end(waiting)


def default_workers(method: str) -> int:
    """Processes or threads beside the model's own: one per core that we may use, at least two threads."""
    return max(len(os.sched_getaffinity(0)), 1 if needs_processes(method) else 2)


def needs_processes(method: str) -> bool:
    """Does the refinement hold the interpreter's lock?"""
    return method.partition(":")[0] == "pydensecrf"


def finish(name: str, image_HW3: np.ndarray, sha256: str, score_map: ScoreMap, method: str, device: str,
           writer: PictureWriter, size: tuple[int, int] | None = None) -> tuple[Written, float]:
    """Labels one scored picture and writes its files; returns what was written and the seconds it took. size: height
    and width of the picture, where `image_HW3` may be a draft of it.

    Raises only what concerns all pictures; either way no part of a failed picture stays.
    """
    started = time.perf_counter()
    try:
        image_HW3 = whole(image_HW3, size)
        label_map = refine(image_HW3, score_map, method, confidence=writer.confidence, device=device)
        written = writer.write(name, image_HW3, label_map, image_sha256=sha256)
        reach("written")
    except Exception as error:
        writer.remove(name)
        if _concerns_all(error):
            raise
        if not isinstance(error, LexisegError):
            _log.exception("%s failed", name)
        written = Written(failure(name, error), ())
    return written, time.perf_counter() - started


def whole(image_HW3: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """A draft enlarged to the height and width of its picture; None, or a picture of that size: itself."""
    if size is None or image_HW3.shape[:2] == size:
        return image_HW3
    return np.array(Image.fromarray(image_HW3).resize(size[::-1], Image.Resampling.BILINEAR))


def _concerns_all(error: Exception) -> bool:
    if isinstance(error, OutputError):
        return error.code == Code.DISK_FULL
    return isinstance(error, ModelError | SettingError | VocabularyError | MissingPackageError)


def _groups(reading: Iterator[Loaded], batch: int) -> Iterator[list[Loaded]]:
    """Groups with `batch` pictures that can be scored (fewer when they are large or the last), failures between."""
    group: list[Loaded] = []
    good = pixels = 0
    for loaded in reading:
        group.append(loaded)
        good += loaded.error is None
        pixels += loaded.pixels
        if good >= batch or pixels >= STAGE_PIXELS or len(group) >= 4 * batch:
            yield group
            group, good, pixels = [], 0, 0
    if group:
        yield group


def _score(segmenter: Segmenter, vocabulary: Vocabulary, group: list[Loaded],
           own: Callable[[str], Own] | None = None) -> list[Waiting]:
    """Scores a group; when the batch fails each picture is tried alone, so that only the culprit is lost. Where a GPU
    has not the memory for one alone, the setting is at fault. A picture of which nothing is said is background, and no
    model is asked."""
    entries = [Waiting(loaded, 0.0) for loaded in group]
    good = []
    for entry in entries:
        name, error = entry.loaded.item.name, entry.loaded.error
        try:
            entry.own = own(name) if own is not None else None
        except Exception as unsaid:  # it comes before the masks, so its reason comes first
            error = unsaid
        if error is not None:
            entry.result = failure(name, error)
        elif entry.own is not None and not entry.own.vocabulary.classes:
            entry.arguments = (_BACKGROUND,)
        else:
            good.append(entry)
    if not good:
        return entries
    started = time.perf_counter()
    try:
        for entry, score_map in zip(good, _score_maps(segmenter, vocabulary, good), strict=True):
            entry.arguments = (score_map,)
    except Exception as error:
        if _concerns_all(error):
            raise
        for entry in good:
            try:
                entry.arguments = tuple(_score_maps(segmenter, vocabulary, [entry]))
            except Exception as own:
                if _concerns_all(own):
                    raise
                if type(own).__name__ == "OutOfMemoryError":  # of a GPU, which computes as many windows for one picture
                    raise SettingError(
                        Code.SETTING_INVALID, "The GPU has not enough memory for the model, even for one picture: "
                        f"{entry.loaded.item.name}.", "A batch_size (windows that go through the model at once) whose "
                        "windows fit.", 'Less: --preset FILE.json with {"preset": "lexiseg", "batch_size": 4}; or free '
                        "the GPU, or --device cpu.") from own
                if not isinstance(own, LexisegError):
                    _log.exception("%s failed", entry.loaded.item.name)
                entry.result = failure(entry.loaded.item.name, own)
    seconds = (time.perf_counter() - started) / len(good)
    for entry in good:
        entry.score_s = seconds
    return entries


def _score_maps(segmenter: Segmenter, vocabulary: Vocabulary, entries: list[Waiting]) -> list[ScoreMap]:
    samples = []
    for entry in entries:
        assert entry.loaded.image_HW3 is not None
        samples.append(Sample(
            image_HW3=entry.loaded.image_HW3, vocabulary=entry.own.vocabulary if entry.own else vocabulary,
            priors=entry.own.told.priors if entry.own else None, key=entry.loaded.item.name))
    score_maps = segmenter.score(samples)
    if len(score_maps) != len(samples):
        raise RuntimeError(f"The backend returned {len(score_maps)} score maps for {len(samples)} pictures.")
    return score_maps


class Scorers:
    """Scores groups, in order: in two threads with half of the processor's cores each where the segmenter allows it,
    else in the caller's.

    A thread that multiplies matrices on all cores stands still whenever one of them does something else, such as
    decoding or writing. Two of them with half of the cores each do not wait for each other. How many cores a group has
    is the same for every group of a process, so that no result depends on it.
    """

    def __init__(self, segmenter: Segmenter, vocabulary: Vocabulary, own: Callable[[str], Own] | None = None) -> None:
        self._segmenter, self._vocabulary, self._own = segmenter, vocabulary, own
        self._pool: ThreadPoolExecutor | None = None
        self.count = 1
        if isinstance(segmenter, ConcurrentSegmenter):
            import torch

            segmenter.prepare(vocabulary)
            self._threads = torch.get_num_threads()
            self.count = min(SCORERS, self._threads)
            self._pool = ThreadPoolExecutor(self.count, "scorer", _use_cores, (self._threads // self.count,))

    def run(self, groups: Iterator[list[Loaded]]) -> Iterator[list[Waiting]]:
        running: deque[Future[list[Waiting]]] = deque()
        for group in groups:
            reach("decoded")
            if self._pool is None:
                yield _score(self._segmenter, self._vocabulary, group, self._own)
                continue
            running.append(self._pool.submit(_score, self._segmenter, self._vocabulary, group, self._own))
            if len(running) > self.count:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()

    def close(self) -> None:
        """Lets running groups finish and drops those that wait."""
        if self._pool is not None:
            import torch

            self._pool.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(self._threads)


def _is_over(waiting: deque[Waiting], limit: int) -> bool:
    return len(waiting) > limit or sum(entry.loaded.pixels for entry in waiting) > STAGE_PIXELS


def _is_ready(entry: Waiting) -> bool:
    return entry.result is not None or (entry.future is not None and entry.future.done())


class _Kept:
    """Stands for a pool that is only emptied at the end, not ended."""

    def __init__(self, finishers: Finishers) -> None:
        self._finishers = finishers

    def close(self) -> None:
        self._finishers.drop()


class Finishers:
    """A pool that runs `finish`. When a process of it dies, each picture that was under way is tried again alone; the
    one that dies alone is the culprit."""

    def __init__(self, count: int, *, in_processes: bool) -> None:
        self._count, self._in_processes = count, in_processes
        self._pool = self._start(count)
        self._running: set[Future] = set()

    @classmethod
    def of(cls, method: str, count: int) -> Finishers:
        """Processes for `pydensecrf`, which holds the interpreter's lock, else threads."""
        return cls(count, in_processes=needs_processes(method))

    def begin(self, entry: Waiting) -> None:
        try:
            entry.future = self._pool.submit(finish, *entry.arguments)
        except BrokenExecutor:
            self._restart()
            entry.future = self._pool.submit(finish, *entry.arguments)
        self._running.add(entry.future)
        entry.future.add_done_callback(self._running.discard)

    def end(self, waiting: deque[Waiting]) -> Outcome:
        """Takes the first entry, waits for it, and gives its outcome."""
        entry, seconds, written = waiting.popleft(), 0.0, None
        if entry.future is not None:
            try:
                written, seconds = entry.future.result()
            except BrokenExecutor:
                written, seconds = self._alone(entry)
                for other in waiting:
                    if other.future is not None and other.future.done() and other.future.exception() is not None:
                        self.begin(other)
        if written is None:
            assert entry.result is not None
            written = Written(entry.result, ())
        return Outcome(written.result, entry.loaded.seconds, entry.score_s, seconds, written.files)

    def drop(self) -> None:
        """Lets running pictures finish and drops those that wait."""
        running = list(self._running)
        for future in running:
            future.cancel()
        wait(running)

    def close(self) -> None:
        """Ends the pool, as `drop` does with what is in it."""
        for future in list(self._running):
            future.cancel()
        self._pool.shutdown(wait=True)

    def _alone(self, entry: Waiting) -> tuple[Written, float]:
        self._restart()
        try:
            return self._pool.submit(finish, *entry.arguments).result()
        except BrokenExecutor as error:
            self._restart()
            *_, writer, _size = entry.arguments
            writer.remove(entry.loaded.item.name)
            _log.error("%s: a refinement process died: %s", entry.loaded.item.name, error)
            return Written(failure(entry.loaded.item.name, MemoryError()), ()), 0.0

    def _restart(self) -> None:
        self._pool.shutdown(wait=True)
        self._pool = self._start(self._count)

    def _start(self, count: int) -> Executor:
        if not self._in_processes:
            return ThreadPoolExecutor(count, "writer", _use_cores, (1,))  # refinement: a picture per core
        from loky import ProcessPoolExecutor

        return ProcessPoolExecutor(count, initializer=_begin_process, initargs=(os.getpid(),))


def _begin_process(parent: int) -> None:
    """In a process of the pool: Ctrl-C is its parent's affair, and it ends when the parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _use_cores(count: int) -> None:
    """With how many cores this thread computes in torch, if torch is in use. A thread that has not computed yet takes
    the number that any thread set last, when it first computes or asks; so it asks before it is told."""
    if torch := sys.modules.get("torch"):
        torch.get_num_threads()
        torch.set_num_threads(count)
