"""Where knowledge comes from: the store first, then the language model. Its answer is checked; it is asked once more if
the answer cannot be used, and replaced if that fails, too."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from agents.calls import RawAnswer, complete
from agents.model import LanguageModel
from agents.picture import Picture, data_uri, picture_digest
from agents.prompt import Message, Prompt, load_prompt
from agents.records import Outcome, Record
from agents.schemas import Schema, schema_digest
from agents.store import Entry, Store, entry_key
from parsers.errors import AnswerError, Code, LlmError
from parsers.files import canonical_json, sha256_bytes

R = TypeVar("R", bound=Record)
SHOWN = 1000
"""Characters of an answer that a repair shows to the model again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Generic[R]):
    """What is asked, how the answer is read, and what stands in for it."""

    task: str
    """A prompt file; see `agents.prompt.TASKS`."""
    record: type[R]
    read: Callable[[RawAnswer], R]
    """The record in an answer. Raises AnswerError, whose message a repair tells the model."""
    fallback: Callable[[Sequence[RawAnswer]], R]
    """A record without the model, from whatever can be used of the answers that were refused."""
    values: Mapping[str, str]
    """What the prompt's placeholders stand for."""
    schema: Schema | None = None
    """None: an answer in prose."""
    picture: Picture | None = None
    max_tokens: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[R]):
    """A record that is valid in any case."""

    record: R
    outcome: Outcome
    stored: bool = False
    """It came from the store; no model was asked."""
    problems: tuple[str, ...] = ()
    """Why answers were refused."""
    made_at: str = ""
    """When the model answered, ISO 8601 in UTC; of a stored answer the first time."""


class Tally:
    """Counts of what happened, by task: {"subclasses": {"first": 19, "stored": 1}}. Safe in threads."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}
        self._lock = threading.Lock()

    def add(self, task: str, *events: str) -> None:
        """Events: an outcome, "stored", "call", or what a tool counts besides."""
        with self._lock:
            self._counts.setdefault(task, Counter()).update(events)

    def counts(self) -> dict[str, dict[str, int]]:
        with self._lock:
            return {task: dict(counts) for task, counts in self._counts.items()}

    def total(self, event: str) -> int:
        with self._lock:
            return sum(counts[event] for counts in self._counts.values())

    def warnings(self) -> list[str]:
        """One sentence for each task in which the language model had to be replaced."""
        said = []
        for task, counts in sorted(self.counts().items()):
            asked = sum(counts.get(outcome, 0) for outcome in ("first", "repaired", "fallback"))
            if failed := counts.get("fallback", 0):
                said.append(replaced_warning(task, failed, asked))
            if lost := counts.get("not kept", 0):
                said.append(f"{task}: {lost} answers were not kept, since another process held the store all the time.")
            if unsettled := counts.get("unsettled", 0):
                said.append(f"{task}: {unsettled} did not settle; the last valid answer was taken.")
        return said


class KnowledgeSource:
    """A language model, the store of its answers, and counts of how the answers came about. Safe in threads."""

    def __init__(self, model: LanguageModel, store: Store | None = None) -> None:
        self.model, self.store, self.tally = model, store, Tally()
        self._before_call: Callable[[], None] = lambda: None

    def counted(self, before_call: Callable[[], None]) -> KnowledgeSource:
        """The same source, which does something before each call of the model. What that raises is raised."""
        source = copy(self)
        source._before_call = before_call
        return source

    def answer(self, question: Question[R]) -> Answer[R]:
        """The record for a question: from the store, or by one call of the model and at most one repair.

        Raises LlmError: the server fails (nothing is stored then), a model without eyes is asked about a picture, the
        store is damaged.
        """
        prompt = load_prompt(question.task, self.model.style)
        url, digest = self._picture(question.picture)
        entry = self._entry(question, prompt, digest)
        if (found := self._stored(question, entry)) is not None:
            self.tally.add(question.task, found.outcome, "stored")
            return found
        answer, raw = self._ask(question, prompt.render(question.values, url))
        self.tally.add(question.task, answer.outcome)
        filled = entry.filled(outcome=answer.outcome, problems=answer.problems,
                              record=answer.record.model_dump(mode="json"), raw=[one.text for one in raw])
        if self.store is not None and not self.store.put(filled):
            self.tally.add(question.task, "not kept")
        return replace(answer, made_at=filled.made_at)

    def _ask(self, question: Question[R], messages: list[Message]) -> tuple[Answer[R], list[RawAnswer]]:
        settings = self.model.settings
        raw: list[RawAnswer] = []
        problems: list[str] = []
        outcomes: tuple[tuple[Outcome, float], ...] = (
            ("first", settings.temperature), ("repaired", settings.repair_temperature))
        for outcome, temperature in outcomes:
            asked = messages if not raw else self._repair(messages, raw[-1], problems[-1], question)
            try:
                self._before_call()
                raw.append(complete(self.model, asked, task=question.task, schema=question.schema,
                                    max_tokens=min(question.max_tokens, settings.max_tokens), temperature=temperature))
                self.tally.add(question.task, "call")
                record = question.read(raw[-1])
            except AnswerError as error:
                problems.append(str(error.given))
            except LlmError as error:
                if not raw or error.code is not Code.LLM_CONTEXT:
                    raise
                problems.append("The repair is too long for the model.")
            else:
                return Answer(record=record, outcome=outcome, problems=tuple(problems)), raw
        return Answer(record=question.fallback(raw), outcome="fallback", problems=tuple(problems)), raw

    def _repair(self, messages: list[Message], refused: RawAnswer, problem: str,
                question: Question[R]) -> list[Message]:
        """The question again: with the refused answer and what is wrong with it, for models that read such a thing; the
        same question for those that were trained on it alone, which answer otherwise at a temperature above 0."""
        if self.model.style == "short":
            return messages
        how = "in plain sentences" if question.schema is None else "with one JSON object and nothing else"
        return [*messages, {"role": "assistant", "content": _harmless(refused.text[:SHOWN]) or "(nothing)"},
                {"role": "user", "content": f"{_harmless(problem)} Answer the last question again, {how}."}]

    def _picture(self, picture: Picture | None) -> tuple[str | None, str | None]:
        """Data URI and digest of a picture."""
        if picture is None:
            return None, None
        if not self.model.sees_images:
            raise LlmError(Code.LLM_BLIND, f"The language model {self.model.name!r} takes no pictures.",
                           "A model that sees, such as LLaVA-Phi2.", "Give another --llm or --llm-model.")
        media_type, data = picture.encoded(self.model.settings.picture_side)
        return data_uri(media_type, data), picture_digest(data)

    def _entry(self, question: Question[R], prompt: Prompt, picture: str | None) -> Entry:
        inputs = {"values": dict(question.values), "picture": picture}
        return Entry(task=question.task, model=self.model.name, model_digest=self.model.digest,
                     prompt_digest=prompt.digest, schema_digest=schema_digest(question.schema),
                     input_digest=sha256_bytes(canonical_json(inputs)),
                     sampling=self.model.settings.sampling(question.max_tokens))

    def _stored(self, question: Question[R], entry: Entry) -> Answer[R] | None:
        found = self.store.get(entry_key(entry)) if self.store is not None else None
        if found is None:
            return None
        try:
            record = question.record.model_validate(found.record)
        except ValueError:  # written by a version with other records
            return None
        return Answer(record=record, outcome=found.outcome, stored=True, problems=found.problems,
                      made_at=found.made_at)


def replaced_warning(task: str, failed: int, asked: int) -> str:
    """The sentence for answers that something had to stand in for."""
    return (f"{task}: {failed} of {asked} answers could not be used, not even after one repair; what needs no language "
            "model stands in for them.")


def _harmless(text: str) -> str:
    """`text` without what a tokenizer would take for a special token."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e")
