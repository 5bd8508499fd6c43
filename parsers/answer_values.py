"""Lists and groups of names in the many shapes of JSON that language models give them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parsers.answer_text import answer_error, listed
from parsers.errors import Code
from parsers.lenient_json import Found, find_values
from parsers.names import shorten
from parsers.written_lists import read_list

NAMES_EXPECTED = 'A list of names, such as ["poodle", "husky"].'
LABEL_KEYS = ("name", "cluster", "group", "category", "label", "title", "class", "subclass")
"""Keys under which models put what an object is called."""


def json_values(text: str) -> list[Found]:
    """The first JSON in the text and what follows it at once, as in JSON Lines. A list without any quotes counts only
    if it begins a line, since [prose] has brackets, too."""
    values: list[Found] = []
    for found in find_values(text):
        begins_line = not text[text.rfind("\n", 0, found.start) + 1:found.start].strip()
        if not values:
            if found.is_quoted or begins_line:
                values.append(found)
        elif text[values[-1].end:found.start].strip(" \t\n,;"):
            break
        else:
            values.append(found)
    return values


def names_in(value: Any, answer: str, is_item: bool = False) -> Iterator[Any]:
    """The names in a JSON value, in whatever wrapping: a list of them, also under one key among others, or objects that
    each have a name. `is_item` tells that the value stands in a list."""
    if isinstance(value, list):
        for item in value:
            yield from names_in(item, answer, is_item=True)
        return
    if not isinstance(value, dict):
        yield value
        return
    called = next((value[key] for key in LABEL_KEYS if isinstance(value.get(key), str)), None)
    held = [item for item in value.values() if isinstance(item, list | dict)]
    if called is not None and (is_item or not held):
        yield called  # {"name": "poodle", "colors": ["brown"]}
    elif len(held) == 1:
        yield from names_in(held[0], answer)  # {"class": "dog", "subclasses": ["poodle"]}
    elif all(item is None for item in value.values()):
        yield from value  # {"poodle", "husky"}
    elif not held and (len(value) == 1 or all(key[-1:].isdigit() for key in value)):
        yield from value.values()  # {"1": "poodle", "2": "husky"}
    else:
        keys = ", ".join(listed([shorten(key) for key in value]))
        raise answer_error(Code.ANSWER_UNFIT, answer, f"it is an object with {keys}", NAMES_EXPECTED)


def groups_in(value: Any) -> dict[str, list[Any]]:
    """The groups in a JSON value: {"animals": ["dog"]}, [{"name": "animals", "members": ["dog"]}], {"dog": "animals",
    "cat": "animals"}, and these in a list or under one key."""
    groups: dict[str, list[Any]] = {}
    if isinstance(value, list):
        for item in value:
            for name, members in groups_in(item).items():
                groups.setdefault(name, []).extend(members)
        return groups
    if not isinstance(value, dict):
        return {}
    lists = [item for item in value.values() if isinstance(item, list)]
    called = next((value[key] for key in LABEL_KEYS if isinstance(value.get(key), str)), None)
    if called is not None and len(lists) == 1:
        return {called: lists[0]}
    if len(value) == 1 and any((inner := groups_in(*value.values())).values()):
        return inner
    texts = [item for item in value.values() if isinstance(item, str)]
    if len(texts) == len(value) > len(set(texts)):
        for name, cluster in value.items():
            groups.setdefault(cluster, []).append(name)
        return groups
    return {label: members if isinstance(members, list) else [*members] if isinstance(members, dict) else
            read_list(members) if isinstance(members, str) else [] for label, members in value.items()}


def objects_in(value: Any) -> Iterator[dict[str, Any]]:
    """The mappings in a JSON value that may be meant: itself, what a list holds, what stands under a single key."""
    if isinstance(value, list):
        for item in value:
            yield from objects_in(item)
    elif isinstance(value, dict):
        yield value
        if len(value) == 1:
            yield from objects_in(*value.values())


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_in(item)
