"""What the pocket LLaVA is told about the world of pictogram scenes: names, their super-classes, and wider groups.

Only `seen` names are ever written down here; names of the `unseen` split stay out of every training text.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from parsers.vocabulary import Vocabulary
from vision.datasets.pictograms import COLOURS
from vision.datasets.sprites import concepts, texture_names

SIZES = ("small", "large")
COLOUR_NAMES = tuple(COLOURS)
TEXTURE_GROUP = "background"
"""The cluster of the textures."""
UNKNOWN_GROUP = "other object"
"""The cluster of names that the model does not know: the world's own super-class for what fits nowhere else."""
VOCABULARY = Path(__file__).resolve().parents[2] / "models" / "pocket" / "vocabularies" / "pictogram_superclasses.yaml"

WIDER = {
    "animal": ("mammal", "bird", "amphibian", "reptile", "marine animal", "bug"),
    "food": ("prepared food", "asian food", "fruit", "vegetable", "sweet"),
    "vehicle": ("ground transport", "watercraft", "aircraft"),
    "device": ("computer device", "light or video device", "sound device", "phone"),
}
"""Everyday words for several super-classes; ours, since the world has no names for them."""


@cache
def superclasses() -> dict[str, tuple[str, ...]]:
    """Super-class to its seen names; those that the pictogram vocabulary lists come first, in its order."""
    listed = {entry.name: entry.subclasses for entry in Vocabulary.load(VOCABULARY).classes}
    members: dict[str, list[str]] = {}
    for concept in concepts():
        if concept.seen:
            members.setdefault(concept.superclass, []).append(concept.name)
    return {name: tuple(sorted(names, key=lambda one: _place(listed.get(name, ()), one)))
            for name, names in members.items()}


@cache
def superclass_of() -> dict[str, str]:
    """Seen name to super-class; textures are a group of their own."""
    found = {name: group for group, names in superclasses().items() for name in names}
    return found | dict.fromkeys(texture_names(), TEXTURE_GROUP)


KIND_WORDS = ("small", "large", "red", "blue", "green", "yellow", "black", "brown", "pink", "purple")
"""Where a class has few finer names, these before its name are kinds of it, too: things in scenes are so dyed."""


@cache
def finer_names(name: str) -> tuple[str, ...]:
    """The finer names of a class that the world has, best known first: of a super-class its names, of a wider word some
    of each of its super-classes in turn, of a name the names that end in it."""
    if name in superclasses():
        return tuple(one for one in superclasses()[name] if one != name)
    if name in WIDER:
        columns = [superclasses()[group] for group in WIDER[name]]
        longest = max(map(len, columns))
        return tuple(column[i] for i in range(longest) for column in columns if i < len(column))
    return tuple(one for one in superclass_of() if one.endswith(f" {name}"))


def kinds_of(name: str, count: int) -> tuple[str, ...]:
    """At most `count` kinds of a class: its finer names, and where they are less than half of `count`, so many sizes
    and colours of it."""
    finer = finer_names(name)[:count]
    return (*finer, *(f"{word} {name}" for word in KIND_WORDS[: max(0, -(-count // 2) - len(finer))]))


def seen_names() -> tuple[str, ...]:
    """The names of things that may be written down."""
    return tuple(concept.name for concept in concepts() if concept.seen)


def _place(listed: tuple[str, ...], name: str) -> int:
    return listed.index(name) if name in listed else len(listed)
