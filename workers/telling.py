"""What is said of the pictures of a job without candidates: by a language model, or in a file; and what follows of it
for the masks of one picture."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.store import NO_STORE
from parsers.errors import (
    Code,
    JobError,
    LexisegError,
    LlmError,
    MissingPackageError,
    ModelError,
    SettingError,
)
from parsers.files import sha256_file
from parsers.free import names_of, own_vocabulary
from parsers.prepared import PreparedPriors, PreparedRow
from parsers.vocabulary import Vocabulary
from workers.inputs import InputItem
from workers.outputs import PictureWriter
from workers.spec import CandidateFree

LASTING = (Code.LLM_MODEL_MISSING, Code.STORE_UNAVAILABLE, Code.LLM_CALLS)
"""What is wrong with a language model for one picture and so for all. That it takes no pictures is not among it: it was
shown one before the job began (`check_free`), so a server that says so of another one means that picture."""

CALLS_AT_ONCE = 16
"""Calls that are counted in the ledger together, before they are made. A worker that is killed leaves at most so many
counted that it did not make."""

_log = logging.getLogger("lexiseg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """Somebody who says what is in pictures."""

    tell: Callable[[InputItem, Callable[[], None]], PreparedRow]
    """Given what is to be done before each call of a language model. Safe in threads. Raises LexisegError."""
    parallel: int
    """Pictures that are asked about at once."""
    warnings: Callable[[], list[str]] = list
    """How often the language model had to be replaced so far."""


class CallBudget:
    """The calls of the language model that a job may still make. Safe in threads."""

    def __init__(self, take: Callable[[int], int], limit: int) -> None:
        """take: asked for so many calls, says how many are granted; limit: of the job, for the message."""
        self._take, self._limit = take, limit
        self._left = 0
        self._lock = threading.Lock()

    def spend(self) -> None:
        """To be done before each call. Raises LlmError (`llm-calls`)."""
        with self._lock:
            if not self._left:
                self._left = self._take(CALLS_AT_ONCE)
            if not self._left:
                raise LlmError(Code.LLM_CALLS, f"The job has made the {self._limit:,} calls of the language model that "
                               "it may make.", "A larger --llm-calls, and LEXISEG_MAX_LLM_CALLS of the site.",
                               "The same lexiseg jobs submit with a larger --llm-calls (over HTTP: max_calls) goes on "
                               "with the rest.")
            self._left -= 1

    def give_back(self) -> int:
        """How many were granted and not made; they cannot be made any more."""
        with self._lock:
            left, self._left = self._left, 0
        return left


def budget_of(limit: int) -> CallBudget:
    """For a job in one process."""
    left = limit

    def take(wanted: int) -> int:
        nonlocal left
        granted = min(wanted, left)
        left -= granted
        return granted

    return CallBudget(take, limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What is a picture's own in a job without candidates."""

    told: PreparedRow
    vocabulary: Vocabulary
    writer: PictureWriter


@contextmanager
def open_telling(free: CandidateFree) -> Iterator[Telling]:
    """The language model, or the file, of a job. Raises LlmError, ModelError, SettingError, DatasetError,
    MissingPackageError, and JobError (`worker-differs`) where it is not the one that the job began with."""
    if free.descriptions is not None:
        yield _telling_of_file(Path(free.descriptions), free.descriptions_sha256)
        return
    from agents import CallSettings, KnowledgeSource, Picture, open_model, open_store, tell_picture
    from parsers.reader import SceneReader
    from vision.images import read_image

    given: dict[str, Any] = {"timeout_s": free.timeout_s, "concurrency": free.parallel}
    settings = CallSettings(**{name: value for name, value in given.items() if value is not None})
    with ExitStack() as stack:
        store = None if free.store == NO_STORE else open_store(free.store)
        if store is not None:
            stack.callback(store.close)
        model = open_model(free.llm or "pocket", name=free.llm_model, api_key=os.environ.get("LEXISEG_LLM_KEY"),
                           settings=settings)
        stack.callback(model.close)
        if free.llm_digest not in (None, model.digest):
            raise JobError(Code.WORKER_DIFFERS, f"The language model {model.name} at {free.llm} is another one than "
                           "the job began with.", "Equal answers, so that masks are equal.",
                           "Serve the model of then, or submit into another --out.")
        source, reader = KnowledgeSource(model, store), SceneReader()

        def tell(item: InputItem, before_call: Callable[[], None]) -> PreparedRow:
            return tell_picture(source.counted(before_call), item.name, Picture(read_image(item.path)), reader,
                                free.detail, free.views)

        yield Telling(tell=tell, parallel=settings.concurrency, warnings=source.tally.warnings)


def check_free(free: CandidateFree) -> CandidateFree:
    """The same with the digest of the language model or of the file, as it is when a job begins, and with the number of
    views. Raises LlmError (`llm-blind`: a model that takes no pictures; it is shown one) and as `open_telling`."""
    if free.descriptions is not None:
        PreparedPriors.read(Path(free.descriptions))
        return free.model_copy(update={"descriptions_sha256": sha256_file(Path(free.descriptions))})
    import numpy as np

    from agents import CallSettings, KnowledgeSource, Picture, check_presence, open_model

    settings = CallSettings() if free.timeout_s is None else CallSettings(timeout_s=free.timeout_s)
    model = open_model(free.llm or "pocket", name=free.llm_model, api_key=os.environ.get("LEXISEG_LLM_KEY"),
                       settings=settings)
    try:
        check_presence(KnowledgeSource(model), Picture(np.zeros((32, 32, 3), np.uint8)), "dog")
        return free.model_copy(update={"llm_model": model.name if free.llm and "://" in free.llm else None,
                                       "llm_digest": model.digest, "views": free.views or model.views})
    finally:
        model.close()


def try_to_tell(telling: Telling, item: InputItem,
                before_call: Callable[[], None] = lambda: None) -> PreparedRow | Exception:
    """What is said of a picture, or why nothing is. Raises what concerns all pictures."""
    try:
        return telling.tell(item, before_call)
    except Exception as error:
        if concerns_all(error):
            raise
        if not isinstance(error, LexisegError):
            _log.exception("%s failed", item.name)
        error.__cause__ = error.__context__ = None  # their frames hold pictures
        return error.with_traceback(None)


def concerns_all(error: Exception) -> bool:
    """Whether a job cannot go on: with no picture would it be otherwise."""
    if isinstance(error, LlmError):
        return error.code in LASTING
    return isinstance(error, ModelError | SettingError | MissingPackageError | JobError)


def own_of(told: PreparedRow, writer: PictureWriter, ids: dict[str, int] | None = None) -> Own:
    """What follows of what is said of a picture. ids: of the classes of the job; None: the picture's own from 1, which
    the end of the job makes the job's (`workers.queue.numbers`)."""
    vocabulary = own_vocabulary(names_of(told), ids)
    if ids is None:
        writer = writer.named_by(vocabulary)
    return Own(told=told, vocabulary=vocabulary, writer=replace(writer, told=told))


def own_by_name(told: Mapping[str, PreparedRow | Exception], writer: PictureWriter,
                ids: dict[str, int] | None = None) -> Callable[[str], Own]:
    """`own_of` by the names of pictures; raises why nothing is said of one."""
    def own(name: str) -> Own:
        said = told[name]
        if isinstance(said, Exception):
            raise said
        return own_of(said, writer, ids)

    return own


def _telling_of_file(path: Path, digest: str | None) -> Telling:
    if digest is not None and (not path.is_file() or sha256_file(path) != digest):
        raise SettingError(Code.SETTING_INVALID, f"The descriptions {path} are gone or were changed since the job "
                           "began.", "The file as it was.", "Put it back, or submit into another --out.")
    prepared = PreparedPriors.read(path)
    return Telling(tell=lambda item, before_call: prepared.row(item.name), parallel=1)
