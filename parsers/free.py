"""No candidates given: what is said of a picture is the vocabulary of that picture.

Of a thing that a description names the dictionary form becomes the class, and its attributes further names of it: "red
car" beside "car". Names that the description denies, and those that a question by yes or no denied, are left out. In a
job each class gets one id for all pictures, in the order of the names; its colour depends on its name alone.
"""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Iterable, Mapping

from parsers.names import name_key, name_problem, shape_key
from parsers.prepared import PreparedRow
from parsers.priors import ScenePriors
from parsers.vocabulary import IGNORE_ID, MAX_ID, Provenance, Vocabulary, VocabularyClass

PLACES = ("background", "grass", "sand", "water", "sky", "snow", "wall", "floor", "ground", "road")
"""What a place may be that is none of the names; those among the names do not count."""


def things_named(priors: ScenePriors | None) -> dict[str, tuple[str, ...]]:
    """The different things of a description and what they are called with their attributes, sorted by name; without
    those that it denies, and without what cannot be the name of a class or could be taken for another one's."""
    denied = {name_key(name) for name in priors.absent} if priors else set()
    found: dict[str, list[str]] = {}
    for item in priors.objects if priors else ():
        name = name_key(item.lemma)
        if not can_be_class(name) or denied & {name, name_key(item.name)}:
            continue
        phrases = found.setdefault(name, [])
        phrases += [name_key(f"{attribute} {name}") for attribute in item.attributes]
    taken = set(found)
    kept: dict[str, tuple[str, ...]] = {}
    for name in sorted(found):
        own = tuple(dict.fromkeys(phrase for phrase in found[name]
                                  if phrase not in taken and not name_problem(phrase)))
        taken.update(own)
        kept[name] = own
    return kept


def names_of(row: PreparedRow) -> dict[str, tuple[str, ...]]:
    """Those of `things_named` that no answer denies."""
    return {name: phrases for name, phrases in things_named(row.priors).items() if row.presence.get(name) is not False}


def can_be_class(name: str) -> bool:
    """Whether a name in small letters can be one of many; also not one with letters that look like others: two names of
    a job must not look the same."""
    return not name_problem(name) and name != "background" and shape_key(name) == name


def own_vocabulary(named: Mapping[str, tuple[str, ...]], ids: Mapping[str, int] | None = None) -> Vocabulary:
    """The vocabulary of one picture; it may have no class. ids: the classes' ids in the job; None: from 1, in order."""
    ids = ids or _numbered(named)
    return Vocabulary(background=PLACES, classes=tuple(
        VocabularyClass(id=ids[name], name=name, subclasses=phrases, color=_colour(name))
        for name, phrases in sorted(named.items())))


def merged_vocabulary(rows: Iterable[PreparedRow]) -> Vocabulary:
    """The names of all pictures as one vocabulary, sorted, whatever the order of the rows; it may have no class.
    Phrases with attributes belong to their pictures and are not part of it. Raises VocabularyError for more than
    65,533 names."""
    tellers: dict[str, tuple[str, str]] = {}
    for row in rows:
        teller = (row.model_id, row.prompt_id)
        for name in names_of(row):
            tellers[name] = min(tellers.get(name, teller), teller)
    ids = _numbered(tellers)
    return Vocabulary(background=PLACES, classes=tuple(
        VocabularyClass(id=ids[name], name=name, color=_colour(name),
                        provenance=Provenance(source="llm", model=tellers[name][0], prompt=tellers[name][1]))
        for name in sorted(tellers)))


def _numbered(names: Iterable[str]) -> dict[str, int]:
    listed = sorted(names)
    if len(listed) >= MAX_ID:
        Vocabulary.from_names(listed)  # raises
    return {name: place + (place >= IGNORE_ID) for place, name in enumerate(listed, start=1)}


def _colour(name: str) -> str:
    """A bright colour of the name's own."""
    hue, saturation, value = (part / 255 for part in hashlib.sha256(name.encode()).digest()[:3])
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.5 + saturation / 2, 0.55 + 0.4 * value)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
