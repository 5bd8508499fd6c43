"""What can be wrong with a vocabulary beyond the form of its parts, and how that is said to a person."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from parsers.documents import Document, Location
from parsers.errors import Code, VocabularyError
from parsers.names import (
    ALLOWED,
    LONG_NAME_LENGTH,
    mixed_words,
    name_key,
    plain_key,
    scripts,
    shape_key,
    shorten,
)

if TYPE_CHECKING:
    from parsers.vocabulary import Vocabulary, VocabularyClass

SHOWN = 8
"""Problems that one message lists; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where."""

    location: Location
    given: str
    allowed: str
    subject: str = ""
    """The class it is about: "class 3 'dog'"."""
    code: Code = Code.VOCABULARY_INVALID


def problems_error(problems: list[Problem], document: Document | None) -> VocabularyError:
    """One error that tells all `problems`, with the file and the lines if there is a file."""
    path = str(document.path) if document else ""
    codes = {problem.code for problem in problems}
    code = codes.pop() if len(codes) == 1 else Code.VOCABULARY_INVALID
    next_step = (f"Mend it, then run `lexiseg vocabulary check {path}`." if document else
                 "Mend the class names or the vocabulary; docs/vocabulary.md explains the format.")
    places = [_place(problem, document) for problem in problems]
    if len(problems) == 1:
        given = ": ".join(part for part in (", ".join(filter(None, (path, places[0]))), problems[0].given) if part)
        return VocabularyError(code, f"{given}.", f"{problems[0].allowed}.", next_step)
    listed = [f"- {place + ': ' if place else ''}{problem.given}. {problem.allowed}."
              for place, problem in zip(places[:SHOWN], problems[:SHOWN], strict=True)]
    if len(problems) > SHOWN:
        listed.append(f"- and {len(problems) - SHOWN} more")
    given = "\n".join([f"{path or 'The vocabulary'} has {len(problems)} problems.", *listed]) + "\n"
    return VocabularyError(code, given, "", next_step)


def validation_problems(error: ValidationError, data: Any, allowed: dict[str, dict[str, str]]) -> list[Problem]:
    """Pydantic's findings in `data` as problems.

    allowed: for each kind of mapping ("vocabulary", "class", "provenance") its keys and what each may hold.
    """
    problems = []
    for found in error.errors(include_url=False):
        location = tuple(part for part in found["loc"])
        kind = "vocabulary" if len(location) < 3 else "provenance" if "provenance" in location[2:-1] else "class"
        keys, key = allowed[kind], str(location[-1]) if location else ""
        if found["type"] == "extra_forbidden":
            given, hint = f"the key {key!r} is not known", nearest(key, keys)
            wanted = f"{hint}Known keys: {', '.join(keys)}"
        elif found["type"] == "missing":
            given, wanted = f"the key {key!r} is missing", f"It holds {keys[key]}"
        elif found["type"] == "name":
            given, wanted = found["msg"], ALLOWED.removesuffix(".")
        else:
            field = next((str(part) for part in reversed(location) if part in keys), "classes")
            quotes = " (quotes would make it a text)" if found["type"] == "string_type" else ""
            given, wanted = f"{field} holds {_describe(found['input'])}{quotes}", f"Allowed: {keys[field]}"
        code = Code.CLASS_NAME_INVALID if found["type"] == "name" else Code.VOCABULARY_INVALID
        problems.append(Problem(location, given, wanted, _subject(location, data), code))
    return problems


def find_problems(vocabulary: Vocabulary) -> list[Problem]:
    """Everything that makes the classes contradict each other."""
    return [*_id_problems(vocabulary), *_name_problems(vocabulary), *_word_problems(vocabulary),
            *_parent_problems(vocabulary)]


def find_warnings(vocabulary: Vocabulary) -> list[str]:
    """What is allowed but probably not meant, as sentences."""
    warnings = []
    plain: dict[str, VocabularyClass] = {}
    owners: dict[str, VocabularyClass] = {}
    colors: dict[str, VocabularyClass] = {}
    for entry in vocabulary.classes:
        first = plain.setdefault(plain_key(entry.name), entry)
        if first is not entry:
            warnings.append(f"{label(entry)} and {label(first)} differ only in punctuation.")
        for name in (entry.name, *entry.synonyms, *entry.subclasses):
            what = label(entry) if name == entry.name else f"{shorten(name)} of {label(entry)}"
            if len(name) > LONG_NAME_LENGTH:
                warnings.append(f"{what} has {len(name)} characters; text encoders cut long names.")
            if words := mixed_words(name):
                warnings.append(f"{what} mixes alphabets in {', '.join(map(repr, words))}; was one letter pasted?")
            elif foreign := sorted(scripts(name) - {"LATIN"}):
                warnings.append(f"{what} is written in {', '.join(foreign)}; most text encoders know only English.")
        for name in entry.subclasses:
            if name_key(name) == name_key(entry.name):
                warnings.append(f"{label(entry)} is also its own subclass, which gives the name more weight.")
            owner = owners.setdefault(name_key(name), entry)
            if owner is not entry:
                warnings.append(f"The subclass {shorten(name)} belongs to both {label(owner)} and {label(entry)}.")
        if entry.color and (same := colors.setdefault(entry.color.lower(), entry)) is not entry:
            warnings.append(f"{label(same)} and {label(entry)} have the same color {entry.color}.")
    return warnings


def label(entry: VocabularyClass) -> str:
    return f"class {entry.id} {shorten(entry.name)}"


def nearest(word: str, known: Iterator[str] | dict[str, Any] | list[str]) -> str:
    """ "Did you mean 'color'? " if one of the known words is near, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}? " if close else ""


def _place(problem: Problem, document: Document | None) -> str:
    line = document.line(problem.location) if document else None
    return ", ".join(part for part in (f"line {line}" if line else "", problem.subject) if part)


def _subject(location: Location, data: Any) -> str:
    """The class that `location` is inside of, as far as the raw data tells."""
    if location[:1] != ("classes",) or len(location) < 2:
        return ""
    try:
        entry = data["classes"][location[1]]
        return f"class {entry['id']} {shorten(str(entry['name']))}"
    except (KeyError, IndexError, TypeError):
        return f"entry {int(location[1]) + 1} of classes"


def _describe(value: Any) -> str:
    """What was found instead of the right thing, in the words of the file."""
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, str):
        return shorten(value)
    return {dict: "a mapping", list: "a list", type(None): "nothing"}.get(type(value), type(value).__name__)


def _id_problems(vocabulary: Vocabulary) -> Iterator[Problem]:
    owners: dict[int, VocabularyClass] = {}
    for index, entry in enumerate(vocabulary.classes):
        if (first := owners.setdefault(entry.id, entry)) is not entry:
            yield Problem(("classes", index, "id"), f"the id {entry.id} is already used by {label(first)}",
                          "Every class has an id of its own", label(entry))


def _name_problems(vocabulary: Vocabulary) -> Iterator[Problem]:
    owners: dict[str, VocabularyClass] = {}
    shapes: dict[str, VocabularyClass] = {}
    for index, entry in enumerate(vocabulary.classes):
        first, twin = owners.setdefault(name_key(entry.name), entry), shapes.setdefault(shape_key(entry.name), entry)
        location = ("classes", index, "name")
        if name_key(entry.name) == "background":
            yield Problem(location, "the name 'background' is taken by the value 0 of the masks",
                          "Put words for the background under the key `background`", label(entry),
                          Code.CLASS_NAME_INVALID)
        elif first is not entry:
            yield Problem(location, f"{label(first)} has the same name", "Every class has a name of its own; capital "
                          "letters make no difference", label(entry), Code.CLASS_NAME_INVALID)
        elif twin is not entry:
            letters = ", ".join(sorted(scripts(entry.name) ^ scripts(twin.name))) or "other"
            yield Problem(location, f"it looks the same as {label(twin)} but has other letters ({letters})",
                          "Names that a person can tell apart; type the name again", label(entry),
                          Code.CLASS_NAME_INVALID)


def _word_problems(vocabulary: Vocabulary) -> Iterator[Problem]:
    """Synonyms and subclasses that repeat something; background words given twice."""
    names = {name_key(entry.name): entry for entry in vocabulary.classes}
    synonyms: dict[str, VocabularyClass] = {}
    for entry in vocabulary.classes:
        for word in entry.synonyms:
            synonyms.setdefault(name_key(word), entry)
    for index, entry in enumerate(vocabulary.classes):
        seen = {name_key(entry.name)}
        for key, one, words in (("synonyms", "synonym", entry.synonyms), ("subclasses", "subclass", entry.subclasses)):
            for position, word in enumerate(words):
                location, folded = ("classes", index, key, position), name_key(word)
                own = key == "subclasses" and folded == name_key(entry.name)
                if own and folded not in map(name_key, words[:position]):
                    continue  # a warning: language models and people begin a list with the name itself
                if folded in seen:
                    yield Problem(location, f"the {one} {shorten(word)} repeats another word of the class",
                                  "The synonyms and subclasses of a class are all different", label(entry))
                elif (owner := names.get(folded) or synonyms.get(folded, entry)) is not entry:
                    yield Problem(location, f"the {one} {shorten(word)} also names {label(owner)}",
                                  "A word stands for one class; remove it here or there", label(entry))
                else:
                    seen.add(folded)
    background: set[str] = set()
    for position, word in enumerate(vocabulary.background):
        if name_key(word) in background:
            yield Problem(("background", position), f"the background word {shorten(word)} is given twice",
                          "Every background word once")
        background.add(name_key(word))


def _parent_problems(vocabulary: Vocabulary) -> Iterator[Problem]:
    parents = {entry.name: entry.parent for entry in vocabulary.classes}
    reported: set[str] = set()
    for index, entry in enumerate(vocabulary.classes):
        location = ("classes", index, "parent")
        if entry.parent is not None and entry.parent not in parents:
            yield Problem(location, f"the parent {shorten(entry.parent)} is not a class",
                          f"{nearest(entry.parent, parents)}A parent is the name of another class, written alike",
                          label(entry))
        chain = [entry.name]
        while (parent := parents.get(chain[-1])) is not None and parent in parents and parent not in chain:
            chain.append(parent)
        if parent == entry.name and entry.name not in reported:
            reported.update(chain)
            yield Problem(location, f"its parents lead back to itself ({' > '.join([*chain, entry.name])})",
                          "Parents form a tree", label(entry))
