"""A segmenter against a dataset: which names are looked for in each picture, and how well they are found.

Shapes: H, W picture height and width; N distinct class names of the dataset.

Candidates. A picture is searched for `all` names of the dataset; for the names `present` in its own ground truth;
or for those and N absent ones (`present+N`): the N names with the smallest sha256 of "picture key, zero byte, name",
so they depend neither on the order of pictures nor on what else is evaluated. Names in `always` are looked for
everywhere.

Control. The same masks are scored a second time with the candidate names of each picture exchanged: in the order of
sha256("picture key, zero byte, shuffled, zero byte, name") each name takes the place of the one before it, the last
that of the first. No name keeps its own place (except where there is only one candidate), so the control tells what
the shapes of the masks and the choice of candidates are worth without knowing names.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from parsers.errors import Code, DatasetError, InputError, SettingError, VocabularyError
from parsers.names import name_key, normalise_name
from parsers.vocabulary import Vocabulary, VocabularyClass
from vision.datasets.base import EvalDataset, groups_of
from vision.metrics import IGNORED, ClassScore, Confusion, Scores
from vision.refine import refine as refine_scores
from vision.types import Sample, Segmenter

BACKGROUND = "background"
"""A dataset class of this name is looked for with background words and answered with id 0."""
READERS = 2
"""Threads that read pictures and masks ahead of the model."""


class EvalRun(BaseModel):
    """What one pass over a dataset gave."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    images: int
    scores: Scores
    groups: dict[str, Scores]
    control: Scores
    """The same masks with the candidate names of each picture exchanged."""
    control_groups: dict[str, Scores]
    per_class: dict[str, ClassScore]
    skipped: dict[str, int] = {}
    """Reason code to number of pictures that were left out."""
    seconds: float
    stages: dict[str, float] = {}
    """Seconds in each stage: `read` (picture and mask, ahead of the rest, summed over threads), `score`, `refine`,
    `count`."""


def parse_candidates(text: str) -> int | None:
    """How many absent names are added to a picture's own: "present" 0, "present+20" 20; None for "all".

    Raises SettingError.
    """
    if text == "all":
        return None
    match = re.fullmatch(r"present(?:\+(\d{1,5}))?", text)
    if not match:
        raise SettingError(Code.SETTING_INVALID, f"--candidates {text!r}.",
                           "all, present, or present+N with a whole number N.",
                           "Try: --candidates present+20")
    return int(match[1] or 0)


def choose_candidates(key: str, present: Iterable[str], names: Sequence[str], absent: int | None,
                      always: Iterable[str] = ()) -> list[str]:
    """The names to look for in the picture `key`, in the order of `names`: see the top of this file."""
    if absent is None:
        return list(names)
    chosen = {*present, *always}
    rest = sorted((name for name in names if name not in chosen), key=lambda name: digest(key, name))
    chosen.update(rest[:absent])
    return [name for name in names if name in chosen]


def exchange_names(key: str, names: Iterable[str]) -> dict[str, str]:
    """Each name to the one that takes its place in the control: see the top of this file."""
    order = sorted(names, key=lambda name: digest(key, "shuffled", name))
    return dict(zip(order, order[1:] + order[:1], strict=True))


def digest(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()


def shuffle_subclasses(vocabulary: Vocabulary) -> Vocabulary:
    """The same classes with each subclass list at another class: the control for what the lists say. The lists of the
    classes that have one move on by one place in the order of sha256("subclasses, zero byte, name")."""
    listed = {entry.name: entry.subclasses for entry in vocabulary.classes if entry.subclasses}
    own_names = {name_key(entry.name) for entry in vocabulary.classes}
    source = exchange_names("subclasses", listed)
    moved = {name: tuple(sub for sub in listed[source[name]] if name_key(sub) not in own_names) for name in listed}
    return vocabulary.model_copy(update={"classes": tuple(
        entry.model_copy(update={"subclasses": moved.get(entry.name, ())}) for entry in vocabulary.classes)})


def evaluation_vocabulary(names: Sequence[str], background: bool, knowledge: Vocabulary | None = None) -> Vocabulary:
    """A vocabulary with a class for each of `names`, in order, and background words if `background`. Synonyms, gloss
    and subclasses come from the class of the same name in `knowledge`.

    Raises VocabularyError if `knowledge` has none of the names.
    """
    known = {name_key(entry.name): entry for entry in knowledge.classes} if knowledge else {}
    if knowledge and not known.keys() & {name_key(name) for name in names}:
        raise VocabularyError(Code.VOCABULARY_INVALID, "The vocabulary has none of the names that are evaluated.",
                              f"Entries for names such as {', '.join(names[:5])}.",
                              "Look: lexiseg vocabulary show FILE")
    classes: list[VocabularyClass] = []
    for entry in Vocabulary.from_names(list(names)).classes:
        source = known.get(name_key(entry.name))
        update = {"synonyms": source.synonyms, "gloss": source.gloss, "subclasses": source.subclasses} if source else {}
        classes.append(entry.model_copy(update=update))
    words = (knowledge.background if knowledge and knowledge.background else (BACKGROUND,)) if background else ()
    return Vocabulary(classes=tuple(classes), background=words)


def with_subclasses(names: Vocabulary, knowledge: Vocabulary) -> Vocabulary:
    """A protocol's names and background words, with what `knowledge` says of the classes of the same names. Where it
    has synonyms or background words, they replace the protocol's. Without a common name: `knowledge` itself."""
    known = {name_key(entry.name): entry for entry in knowledge.classes}
    if not known.keys() & {name_key(entry.name) for entry in names.classes}:
        return knowledge
    classes = []
    for entry in names.classes:
        source = known.get(name_key(entry.name))
        if source is not None:
            finer = {name_key(name) for name in source.subclasses}
            synonyms = tuple(name for name in source.synonyms or entry.synonyms if name_key(name) not in finer)
            entry = entry.model_copy(update={"synonyms": synonyms, "gloss": source.gloss,
                                             "subclasses": source.subclasses})
        classes.append(entry)
    return names.model_copy(update={"classes": tuple(classes),
                                    "background": knowledge.background or names.background})


class NameTable:
    """The names of an evaluation: rows of the confusion matrix, ids of the vocabulary."""

    def __init__(self, dataset: EvalDataset, always: Sequence[str], knowledge: Vocabulary | None) -> None:
        self._spelling = {BACKGROUND: BACKGROUND}
        self.row = {name: row for row, name in enumerate(
            dict.fromkeys(self.spelled(name) for _, name in sorted(dataset.classes.items())))}
        self.always = tuple(dict.fromkeys(self.spelled(name) for name in (*dataset.always, *always)))
        self.names = [*self.row, *(name for name in self.always if name not in self.row)]
        self.groups = {group: [self.row[self.spelled(member)] for member in members if self.spelled(member) in self.row]
                       for group, members in groups_of(dataset).items()}
        self.row_of_id = np.full(65536, IGNORED, np.int32)
        for id, name in dataset.classes.items():
            self.row_of_id[id] = self.row[self.spelled(name)]
        if dataset.ignore_id is not None:
            self.row_of_id[dataset.ignore_id] = IGNORED
        sought = [name for name in self.names if name != BACKGROUND]
        self.vocabulary = evaluation_vocabulary(sought, BACKGROUND in self.names, knowledge)
        self._entry = dict(zip(sought, self.vocabulary.classes, strict=True))
        self.ids = {BACKGROUND: 0} | {name: entry.id for name, entry in self._entry.items()}

    def spelled(self, name: str) -> str:
        """One spelling for what is the same name: that of its first place."""
        return self._spelling.setdefault(name_key(name), normalise_name(name))

    def sub_vocabulary(self, names: Sequence[str]) -> Vocabulary | None:
        """The vocabulary of one picture; None if nothing but background is looked for."""
        if len(names) == len(self.names):
            return self.vocabulary
        classes = tuple(self._entry[name] for name in names if name != BACKGROUND)
        background = self.vocabulary.background if BACKGROUND in names else ()
        return Vocabulary(classes=classes, background=background) if classes else None

    def column_of_id(self, ids: Mapping[str, int], meaning: Mapping[str, str]) -> NDArray[np.int32]:
        """(65536,) predicted id to column of the confusion matrix, where the id of name `a` stands for
        `meaning[a]`; an id of no name, or of a name that the dataset has not, is the last column."""
        columns = np.full(65536, len(self.row), np.int32)
        for name, meant in meaning.items():
            columns[ids[name]] = self.row.get(meant, len(self.row))
        return columns

    def truth(self, labels_HW: NDArray[np.uint16]) -> NDArray[np.int32]:
        """Rows of the confusion matrix for the dataset's ids."""
        return self.row_of_id[labels_HW]


class Tally:
    """Two confusion matrices of the same masks: as found, and with the candidate names of each picture exchanged."""

    def __init__(self, table: NameTable) -> None:
        self.table = table
        self.found, self.control = Confusion(len(table.row)), Confusion(len(table.row))

    def add(self, key: str, truth_HW: NDArray[np.int32], labels_HW: NDArray[np.uint16], ids: Mapping[str, int]) -> None:
        """One picture; `ids` are the candidates' ids in `labels_HW`."""
        same = {name: name for name in ids}
        self.found.add(truth_HW, self.table.column_of_id(ids, same)[labels_HW])
        self.control.add(truth_HW, self.table.column_of_id(ids, exchange_names(key, ids))[labels_HW])

    def run(self, name: str, images: int, seconds: float, *, skipped: Mapping[str, int] | None = None,
            stages: Mapping[str, float] | None = None) -> EvalRun:
        groups = self.table.groups.items()
        return EvalRun(name=name, images=images, seconds=seconds,
                       skipped=dict(skipped or {}), stages=dict(stages or {}),
                       scores=self.found.scores(), control=self.control.scores(),
                       groups={group: self.found.scores(rows) for group, rows in groups},
                       control_groups={group: self.control.scores(rows) for group, rows in groups},
                       per_class=dict(zip(self.table.row, self.found.per_class(), strict=True)))


def evaluate(dataset: EvalDataset, segmenter: Segmenter, *, absent: int | None, name: str = "names",
             knowledge: Vocabulary | None = None, always: Sequence[str] = (), refine: str = "none",
             device: str = "cpu", batch_size: int = 16, limit: int | None = None, skip_bad: bool = False,
             on_progress: Callable[[int, int], None] | None = None) -> EvalRun:
    """Segments the first `limit` pictures (None: all), `batch_size` at a time, and scores the masks.

    absent: names added to each picture's own, None for all names of the dataset (see `parse_candidates`).
    knowledge: synonyms, glosses and subclasses for the names. always: names to look for everywhere, in addition to
    the dataset's; they may be names that the dataset has not, then they can only be wrong. device: where refinement
    in torch computes.
    skip_bad: leave out pictures that cannot be read or whose masks do not fit, and count them by reason code;
    otherwise the first one raises InputError or DatasetError. on_progress(done, total) is called after each batch.
    """
    started = time.perf_counter()
    table = NameTable(dataset, always, knowledge)
    tally, row_names = Tally(table), list(table.row)
    total = len(dataset) if limit is None else min(limit, len(dataset))
    stages, skipped = dict.fromkeys(("read", "score", "refine", "count"), 0.0), Counter[str]()
    done = images = 0
    with closing(_read_ahead(dataset, total, 2 * batch_size)) as reading:
        while group := list(islice(reading, batch_size)):
            done += len(group)
            samples, answers = [], []
            for i, loaded in group:
                stages["read"] += loaded.seconds
                if loaded.error is not None:
                    if not skip_bad or not _concerns_one_picture(loaded.error):
                        raise loaded.error
                    skipped[loaded.error.code.value] += 1
                    continue
                truth_HW = table.truth(loaded.labels_HW)
                present = [row_names[row] for row in np.flatnonzero(np.bincount(truth_HW[truth_HW != IGNORED]))]
                names = choose_candidates(dataset.key(i), present, table.names, absent, table.always)
                vocabulary = table.sub_vocabulary(names)
                samples.append(Sample(image_HW3=loaded.image_HW3, vocabulary=vocabulary, key=dataset.key(i))
                               if vocabulary else None)
                answers.append((dataset.key(i), truth_HW, {name: table.ids[name] for name in names}))
            if not answers:
                continue
            images += len(answers)
            with _timed(stages, "score"):
                score_maps = iter(segmenter.score([sample for sample in samples if sample]))
            for sample, (key, truth_HW, ids) in zip(samples, answers, strict=True):
                with _timed(stages, "refine"):
                    labels_HW = (refine_scores(sample.image_HW3, next(score_maps), refine, device=device).labels_HW
                                 if sample else np.zeros(truth_HW.shape, np.uint16))
                with _timed(stages, "count"):
                    tally.add(key, truth_HW, labels_HW, ids)
            if on_progress:
                on_progress(done, total)
    return tally.run(name, images, time.perf_counter() - started, skipped=skipped, stages=stages)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A picture with its ground truth, or why there is none."""

    image_HW3: NDArray[np.uint8]
    labels_HW: NDArray[np.uint16]
    seconds: float
    error: Exception | None = None


def _load(dataset: EvalDataset, i: int) -> _Loaded:
    started = time.perf_counter()
    try:
        image_HW3, labels_HW = dataset.load(i)
        return _Loaded(image_HW3, labels_HW, time.perf_counter() - started)
    except Exception as error:  # told where the result is asked for
        nothing = np.zeros((0, 0), np.uint16)
        return _Loaded(np.zeros((0, 0, 3), np.uint8), nothing, time.perf_counter() - started, error)


def _read_ahead(dataset: EvalDataset, total: int, depth: int) -> Generator[tuple[int, _Loaded], None, None]:
    """The first `total` pictures in order, read in threads, at most `depth` of them ahead."""
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
    try:
        waiting: deque[Future[_Loaded]] = deque()
        for i in range(total):
            while len(waiting) < depth and i + len(waiting) < total:
                waiting.append(pool.submit(_load, dataset, i + len(waiting)))
            yield i, waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _concerns_one_picture(error: Exception) -> TypeGuard[InputError | DatasetError]:
    return isinstance(error, InputError | DatasetError) and error.code != Code.DATASET_INVALID


@contextmanager
def _timed(stages: dict[str, float], stage: str) -> Iterator[None]:
    """Adds the seconds of its block to a stage."""
    started = time.perf_counter()
    try:
        yield
    finally:
        stages[stage] += time.perf_counter() - started


def score_masks(dataset: EvalDataset, read_mask: Callable[[int], NDArray[np.uint16]], names: Mapping[int, str], *,
                name: str) -> EvalRun:
    """Scores masks that are already made: `read_mask(i)` gives labels_HW of picture `i`, `names` say what its ids
    mean. All names count as the candidates of every picture (0 only if the dataset has that name)."""
    started = time.perf_counter()
    table = NameTable(dataset, tuple(names.values()), None)
    ids = {table.spelled(name): id for id, name in names.items() if id or table.spelled(name) in table.row}
    tally = Tally(table)
    for i in range(len(dataset)):
        tally.add(dataset.key(i), table.truth(dataset.load(i)[1]), read_mask(i), ids)
    return tally.run(name, len(dataset), time.perf_counter() - started)
