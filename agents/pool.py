"""Several servers of one language model: calls go round, and around those that fail."""

from __future__ import annotations

import agents.offline  # isort: skip  # noqa: F401  # before the libraries below

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict

from agents.endpoint import (
    FIRST_WAIT_S,
    START,
    EndpointChat,
    Served,
    checked_url,
    language_model,
    make_chat,
    served_model,
)
from agents.model import LanguageModel
from agents.prompt import Style
from agents.settings import CallSettings
from parsers.errors import Code, LexisegError, LlmError, MissingPackageError, SettingError

try:
    import httpx2
    from langchain_core.language_models import BaseChatModel
    from langchain_core.outputs import ChatResult
except ImportError as error:
    raise MissingPackageError(Code.PACKAGE_MISSING, f"Language models need a package that is not installed: {error}.",
                              "", "pip install 'lexiseg[agents]'") from error

PAUSE_S = 30.0
"""For so long a server that failed is left out; then one call tries it."""
log = logging.getLogger("lexiseg")


@dataclass(slots=True)
class Endpoint:
    """One of the servers."""

    url: str
    chat: EndpointChat
    is_known: bool = False
    """It was asked which model it serves, and that is ours."""
    out_until: float = 0.0
    """Monotonic time until which it is left out."""
    failed: int = 0
    """Failures in a row."""
    is_other: bool = False
    """It serves another model under the name of ours, so it is never asked."""


class Rounds:
    """Whose turn it is. Safe in threads."""

    def __init__(self, endpoints: Sequence[Endpoint], pause_s: float) -> None:
        self._endpoints, self._pause_s = endpoints, pause_s
        self._next = 0
        self._lock = threading.Lock()

    def take(self, left_out: set[int]) -> int | None:
        """The next endpoint that is well; None if there is none. One whose pause is over is given to one call, and to
        the others when that has succeeded. left_out: those that this call has tried."""
        with self._lock:
            return self._take(left_out, time.monotonic())

    def take_any(self, left_out: set[int]) -> int | None:
        """As `take`, also of those that are left out for now: the one that has waited longest."""
        with self._lock:
            found = [place for place, one in enumerate(self._endpoints) if place not in left_out and not one.is_other]
            return min(found, key=lambda place: self._endpoints[place].out_until, default=None)

    def _take(self, left_out: set[int], now: float) -> int | None:
        count = len(self._endpoints)
        for step in range(count):
            place = (self._next + step) % count
            one = self._endpoints[place]
            if place in left_out or one.is_other or one.out_until > now:
                continue
            if one.failed:
                one.out_until = now + self._pause_s
            self._next = place + 1
            return place
        return None

    def worked(self, place: int) -> None:
        with self._lock:
            one = self._endpoints[place]
            if one.failed:
                log.warning("the language model at %s answers again", one.url)
            one.failed, one.out_until = 0, 0.0

    def failed(self, place: int, why: str) -> None:
        with self._lock:
            one = self._endpoints[place]
            if not one.failed:
                log.warning("the language model at %s is left out for %g s: %s", one.url, self._pause_s, why)
            one.failed, one.out_until = one.failed + 1, time.monotonic() + self._pause_s


class EndpointPool(BaseChatModel):
    """A chat model that asks one of several servers, and another one where that fails."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    endpoints: list[Any]
    """Of Endpoint."""
    rounds: Any
    attempts: int
    known: Any
    """What every server has to serve; a Served."""

    @property
    def _llm_type(self) -> str:
        return "lexiseg-pool"

    def close(self) -> None:
        """Gives up the connections."""
        for one in self.endpoints:
            one.chat.close()

    def _generate(self, messages: list[Any], stop: list[str] | None = None, run_manager: Any = None,
                  **kwargs: Any) -> ChatResult:
        return self._ask(lambda chat: chat._generate(messages, stop=stop, run_manager=run_manager, **kwargs))

    def _ask(self, ask: Callable[[EndpointChat], ChatResult]) -> ChatResult:
        """What one of the servers answers. A server that was too slow is not asked again for this call; the others
        are, as often as the settings say. Raises LlmError."""
        problems: dict[str, str] = {}
        too_slow: set[int] = set()
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(FIRST_WAIT_S * 2 ** (attempt - 1))
            for place in self._each(too_slow):
                one: Endpoint = self.endpoints[place]
                try:
                    self._look(one)
                    result = ask(one.chat)
                except LlmError as error:
                    if error.code is not Code.LLM_UNAVAILABLE and not one.is_other:
                        raise
                    problems[one.url] = error.given
                    self.rounds.failed(place, error.given)
                    if isinstance(error.__cause__, httpx2.TimeoutException):
                        too_slow.add(place)
                else:
                    self.rounds.worked(place)
                    return result
        said = " ".join(f"{text.rstrip('.')}." for text in problems.values())
        raise LlmError(Code.LLM_UNAVAILABLE, f"None of the {len(self.endpoints)} language models answers. {said}",
                       "One server with the OpenAI interface that runs.", START)

    def _each(self, too_slow: set[int]) -> Iterator[int]:
        """Servers to try, one after the other: those that are well; if there is none, each of the others once."""
        tried = set(too_slow)
        begun = len(tried)
        while (place := self.rounds.take(tried)) is not None:
            tried.add(place)
            yield place
        if len(tried) == begun:
            while (place := self.rounds.take_any(tried)) is not None:
                tried.add(place)
                yield place

    def _look(self, one: Endpoint) -> None:
        """Asks a server that was away so far what it serves. Raises LlmError if it is another model than ours."""
        if one.is_known:
            return
        found = served_model(one.chat, one.url, self.known.name)
        if found.digest != self.known.digest:
            one.is_other = True
            raise other_model(one.url, self.known.name)
        one.is_known = True


def open_pool(urls: Sequence[str], *, name: str | None, style: Style | None, api_key: str | None,
              settings: CallSettings, pause_s: float = PAUSE_S) -> LanguageModel:
    """The model that all of `urls` serve, as one. Those that do not answer now are left out until they do; they must
    serve the same model then.

    Raises LlmError where none answers, or two serve different models; SettingError for an address given twice.
    """
    bases = [checked_url(url) for url in urls]
    if len(set(bases)) != len(bases):
        raise SettingError(Code.SETTING_INVALID, "The address of a language model is given twice.",
                           "Different addresses.", "For example: --llm http://one:8000,http://two:8000")
    endpoints = [Endpoint(base, make_chat(base, name or "", api_key, settings)) for base in bases]
    for one in endpoints:
        one.chat.attempts = 1
    rounds = Rounds(endpoints, pause_s)
    known: Served | None = None
    problems: list[LlmError] = []
    try:
        for place, one in enumerate(endpoints):
            try:
                found = served_model(one.chat, one.url, name)
            except LlmError as error:
                if error.code is not Code.LLM_UNAVAILABLE:
                    raise
                problems.append(error)
                rounds.failed(place, error.given)
                continue
            if known is not None and (found.name, found.digest) != (known.name, known.digest):
                raise other_model(one.url, known.name)
            known, one.is_known = found, True
        if known is None:
            raise LlmError(Code.LLM_UNAVAILABLE, " ".join(error.given for error in problems),
                           "One server with the OpenAI interface that runs.", START)
    except LexisegError:
        for one in endpoints:
            with suppress(Exception):
                one.chat.close()
        raise
    for one in endpoints:
        one.chat.model_name = known.name
    pool = EndpointPool(endpoints=endpoints, rounds=rounds, attempts=settings.retries + 1, known=known)
    return language_model(pool, known, style, settings)


def other_model(url: str, name: str) -> LlmError:
    """The error for a server whose model is another than that of the others."""
    return LlmError(Code.LLM_MODEL_MISSING, f"{url} serves another model as {name!r} than the servers beside it.",
                    "The same model directory and context on all of them, so that answers do not depend on chance.",
                    "Start it with the same model, or leave it out of --llm.")
