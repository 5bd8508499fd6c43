"""Finer names of a class: kinds of it that look different, for the text side of a segmenter."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from agents.calls import RawAnswer
from agents.prompt import quoted, sense
from agents.records import Subclasses
from agents.schemas import names_schema
from agents.source import Answer, KnowledgeSource, Question
from parsers.answers import NameList, read_names
from parsers.errors import AnswerError, Code, VocabularyError
from parsers.lenient_json import find_values
from parsers.matching import singular_forms, spelling_key
from parsers.names import ALLOWED, name_key, name_problem, normalise_name, scripts, shorten

MAX_WORDS = 3
"""Of a subclass: "American Staffordshire terrier"; one more than its class has, where that is more."""
MAX_COUNT = 10
SPARE = 3
"""Names that are asked for beyond those wanted, since some are left out."""


def generate_subclasses(source: KnowledgeSource, name: str, count: int = 7, *, gloss: str | None = None,
                        others: Collection[str] = ()) -> Answer[Subclasses]:
    """At most `count` (1 to 10) subclasses of the class `name`, for example poodle, husky and beagle for dog.

    gloss: which sense of the name is meant. others: names of other classes, which are left out. An answer is valid if
    half of what was asked for can be used; after a repair whatever can be used counts, be it nothing.

    Follows the subclass prompt of LLM-Supervision; wording, filter and spare names are ours. The question does not
    depend on `others`, so a class that is added to a vocabulary does not change what is known of the others.
    Raises VocabularyError for a name that is none, LlmError.
    """
    name = checked_name(name)
    count = max(1, min(count, MAX_COUNT))
    asked = min(count + SPARE, MAX_COUNT)

    def read(answer: RawAnswer) -> Subclasses:
        found = usable(read_names(answer.text, count=2 * asked).names, name)
        if 2 * len(found) < count:
            raise AnswerError(Code.ANSWER_UNFIT, f"Only {len(found)} of {count} kinds of {shorten(name)} can be used: "
                              f"names of at most {most_words(name)} words are wanted, each once, and not the class "
                              "itself.")
        return Subclasses(subclasses=found[:asked])

    def fallback(answers: Sequence[RawAnswer]) -> Subclasses:
        found = (one for answer in answers for one in _any_names(answer).names)
        return Subclasses(subclasses=usable(found, name)[:asked])

    answer = source.answer(Question(
        task="subclasses", record=Subclasses, read=read, fallback=fallback, schema=names_schema(asked), max_tokens=192,
        values={"name": quoted(name), "sense": sense(gloss), "count": str(asked)}))
    kept = usable(answer.record.subclasses, name, others)[:count]
    return replace(answer, record=Subclasses(subclasses=kept))


def usable(found: Iterable[str], name: str, others: Collection[str] = ()) -> tuple[str, ...]:
    """Those of `found` that can be subclasses of `name`: of no more than `most_words`, in the letters of the class or
    in Latin ones, each once, neither the class itself nor one of `others`, whatever the spelling and number."""
    taken = {form for other in (name, *others) for form in _forms(other)}
    letters = scripts(name) | {"LATIN"}
    kept: list[str] = []
    for one in found:
        one = normalise_name(one)
        plain = all(unicodedata.category(char)[0] in "LMN" or char in " -'’." for char in one)
        if (plain and not name_problem(one) and len(one.split()) <= most_words(name)
                and scripts(one) <= letters and scripts(one) and not taken & _forms(one)):
            kept.append(one)
            taken |= _forms(one)
    return tuple(kept)


def most_words(name: str) -> int:
    """How many words a subclass of `name` may have."""
    return max(MAX_WORDS, len(name.split()) + 1)


def checked_name(name: str) -> str:
    """The name in its one spelling. Raises VocabularyError (`class-name-invalid`)."""
    if problem := name_problem(name):
        raise VocabularyError(Code.CLASS_NAME_INVALID, f"The class name {shorten(name)} {problem}.", ALLOWED,
                              "Give another name.")
    return normalise_name(name)


def _any_names(answer: RawAnswer) -> NameList:
    """The names in an answer that was refused. Prose does not count: "no idea" would be a name."""
    if next(find_values(answer.text), None) is None:
        return NameList(names=())
    try:
        return read_names(answer.text, count=2 * MAX_COUNT)
    except AnswerError:
        return NameList(names=())


def _forms(name: str) -> set[str]:
    return {spelling_key(name), *map(spelling_key, singular_forms(name_key(name)))}
