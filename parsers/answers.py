"""What a language model answered, as typed values: names, clusters, a description, a pydantic model.

Every reader takes any text and returns a value or raises AnswerError, whose message can be put into the next prompt.
JSON is read leniently (parsers/lenient_json.py), where there is none written lists are (parsers/written_lists.py).

An answer that ends in the middle: of a list of names what is whole is kept, and the result says that it is not
complete; clusters, which have to cover everything, descriptions in JSON and models are refused (`answer-truncated`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from parsers.answer_text import (
    answer_error,
    clean_text,
    is_nothing,
    listed,
    prepared,
    prose,
    refuses,
    truncated_error,
    unreadable_error,
)
from parsers.answer_values import NAMES_EXPECTED, groups_in, json_values, names_in, objects_in, texts_in
from parsers.errors import Code
from parsers.lenient_json import find_values
from parsers.matching import singular_forms, spelling_key
from parsers.names import name_key, name_problem, normalise_name, shorten
from parsers.written_lists import clean_item, is_prose, read_groups, read_list

CLUSTERS_EXPECTED = 'A JSON object of cluster to names, such as {"animals": ["dog", "cat"]}, with every name once.'

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class NameList:
    """Names from an answer, each once, in the order given."""

    names: tuple[str, ...]
    asked: int | None = None
    """How many were asked for."""
    complete: bool = True
    """False if the answer ends in the middle."""
    repeats: int = 0
    """Names that came again, left out."""
    surplus: int = 0
    """Names beyond those asked for, left out."""
    refused: tuple[str, ...] = ()
    """What was left out because it is no name, or none of those allowed, with the reason."""

    def notes(self) -> list[str]:
        """What is not as it was asked for, one sentence each."""
        notes = []
        if self.asked is not None and len(self.names) < self.asked:
            notes.append(f"asked for {self.asked} names, got {len(self.names)}")
        if not self.complete:
            notes.append("the answer ends in the middle")
        if self.repeats:
            notes.append(f"names repeated: {self.repeats}")
        if self.surplus:
            notes.append(f"names beyond the {self.asked} asked for: {self.surplus}")
        return [*notes, *listed(self.refused)]


def read_names(answer: str, *, count: int | None = None, at_least: int = 1,
               allowed: Collection[str] | None = None) -> NameList:
    """A list of names: subclasses of a class or, with `allowed`, a choice among names that are given.

    count: how many were asked for; more are left out, fewer are noted. at_least: how many there must be. allowed: the
    only names that count, found whatever their capitals, punctuation and number, and returned as they are written
    here. Raises AnswerError: no list, or fewer than `at_least` names that can be used.
    """
    text = prepared(answer)
    values = json_values(text)
    items: list[Any] = [item for found in values for item in names_in(found.value, answer)]
    if not values:
        items += read_list(text)
    complete = all(found.complete for found in values)
    index = None if allowed is None else _index(allowed)
    if values and len(items) == 1 and isinstance(items[0], str) and not (index and name_key(items[0]) in index):
        items = [*read_list(items[0])] or items  # one text that holds all: {"names": "poodle, husky"}
    if not values and (_is_refusal(text) or not (items or is_nothing(text))):
        raise unreadable_error(answer, text, NAMES_EXPECTED)
    names: dict[str, str] = {}
    refused: list[str] = []
    repeats = 0
    for item in items:
        name, problem = _name(item, index)
        if problem:
            refused.append(f"{_said(item)} {problem}")
        elif name and names.setdefault(spelling_key(name), name) is not name:
            repeats += 1
    kept = tuple(names.values())[:count]
    result = NameList(names=kept, asked=count, complete=complete, repeats=repeats, surplus=len(names) - len(kept),
                      refused=tuple(refused))
    if len(kept) < at_least:
        wanted = f"At least {at_least} {'name' if at_least == 1 else 'names'}{' of those given' if index else ''}."
        raise answer_error(Code.ANSWER_UNFIT if complete else Code.ANSWER_TRUNCATED, answer,
                     "; ".join(result.notes()) or "it holds no name", wanted)
    return result


def read_clusters(answer: str, *, names: Collection[str] | None = None,
                  clusters: Collection[str] | None = None) -> dict[str, tuple[str, ...]]:
    """Names in groups: cluster to names.

    names: what the clusters have to hold, every name in exactly one of them, and no other. clusters: what the clusters
    have to be called, all of them. Both are found and returned as in `read_names`. Raises AnswerError: no groups, an
    answer that ends in the middle, or names that are missing, unknown or in two clusters, all of them told.
    """
    text = prepared(answer)
    values = json_values(text)
    if not all(found.complete for found in values):
        raise truncated_error(answer, CLUSTERS_EXPECTED)
    groups = groups_in([found.value for found in values]) if values else read_groups(text)
    if not groups or (not values and _is_refusal(text)):
        raise unreadable_error(answer, text, CLUSTERS_EXPECTED)
    name_index, cluster_index = (None if given is None else _index(given) for given in (names, clusters))
    problems: list[str] = []
    result: dict[str, list[str]] = {}
    places: dict[str, str] = {}
    for label, members in groups.items():
        cluster, problem = _name(label, cluster_index)
        if problem or not cluster:
            problems.append(f"the cluster {shorten(label)} {problem or 'has no name'}")
            continue
        for member in members:
            name, problem = _name(member, name_index)
            if problem:
                problems.append(f"{_said(member)} {problem}")
            elif name and (places.setdefault(name, cluster) == cluster or name_index is None):
                result.setdefault(cluster, []).append(name)
            elif name:
                problems.append(f"{shorten(name)} is in both {shorten(places[name])} and {shorten(cluster)}")
    problems += [f"{shorten(name)} is in no cluster" for name in names or () if name not in places]
    problems += [f"the cluster {shorten(name)} is missing" for name in clusters or () if name not in result]
    if problems or not result:
        problem = "; ".join(listed(problems)) or "no cluster holds a name"
        raise answer_error(Code.ANSWER_UNFIT, answer, problem, CLUSTERS_EXPECTED)
    return {cluster: tuple(dict.fromkeys(members)) for cluster, members in result.items()}


def read_text(answer: str) -> str:
    """A description in prose as one line, without labels, marks and quotes around it; the items of a list become
    sentences. Raises AnswerError: no word, a refusal, or JSON that is not one text alone."""
    text = prepared(answer)
    expected = "A description in prose."
    found = next(find_values(text), None)
    if found is not None and found.is_quoted and not text[:found.start].strip(" \n`json"):
        if not found.complete:
            raise truncated_error(answer, expected)
        texts = [*texts_in(found.value)]
        if len(texts) != 1:
            raise answer_error(Code.ANSWER_UNFIT, answer, f"it is JSON with {len(texts)} texts", expected)
        text = clean_text(texts[0]).strip()
    if refuses(text):
        raise unreadable_error(answer, text, expected)
    described = prose(text)
    if not any(char.isalnum() for char in described):
        raise answer_error(Code.ANSWER_EMPTY, answer, "it holds no word", expected)
    return described


def read_model(answer: str, model: type[Model]) -> Model:
    """The first JSON object of the answer that fits a pydantic model, also inside a list or under a single key.
    Raises AnswerError: no object, one that ends in the middle, or every field that does not fit."""
    text = prepared(answer)
    expected = f"A JSON object with {', '.join(model.model_fields)}."
    objects = [(value, found.complete) for found in find_values(text) for value in objects_in(found.value)]
    if not objects:
        raise unreadable_error(answer, text, expected)
    problem = ""
    for value, complete in objects:
        if not complete:
            raise truncated_error(answer, expected)
        try:
            return model.model_validate(value)
        except ValidationError as error:
            problem = problem or "; ".join(listed([f"{'.'.join(map(str, one['loc'])) or 'the object'}: {one['msg']}"
                                                   for one in error.errors(include_url=False)]))
        except Exception as error:  # a validator of the model stumbled
            problem = problem or f"{type(error).__name__}: {error}"
    raise answer_error(Code.ANSWER_UNFIT, answer, problem, expected)


def _is_refusal(text: str) -> bool:
    """Whether the whole answer is a refusal: one that is polite first and gives the list below is none."""
    return refuses(text) and "\n" not in text


def _index(names: Collection[str]) -> dict[str, str]:
    """What a model may write to the name that it stands for: first the names themselves, then what is like one of
    them and no other in its spelling, as its singular, or without what is in brackets or behind a dash."""
    index = {name_key(name): name for name in names}
    for forms in (lambda name: [spelling_key(name)], lambda name: singular_forms(name_key(name)),
                  lambda name: [name_key(clean_item(name))]):
        owners: dict[str, set[str]] = {}
        for name in names:
            for form in forms(name):
                owners.setdefault(form, set()).add(name)
        index = {form: next(iter(found)) for form, found in owners.items() if len(found) == 1} | index
    return index


def _name(item: Any, index: dict[str, str] | None) -> tuple[str, str]:
    """An item as a name, and what is wrong with it. Both are empty for words that mean "none"."""
    if not isinstance(item, str):
        return "", "is no text"
    text = clean_text(item)
    name = normalise_name(clean_item(text))
    if index is not None:
        for key in filter(None, (name_key(text), name_key(name))):
            for form in (key, spelling_key(key), *singular_forms(key)):
                if form in index:
                    return index[form], ""
    if is_nothing(text):
        return "", ""
    if index is not None:
        return "", "is none of the given names"
    return name, "is a sentence and no name" if is_prose(name) else name_problem(name) or ""


def _said(item: Any) -> str:
    return shorten(item if isinstance(item, str) else str(item))
