"""What the classes of a job are called in an export: `maps_to` joins classes into the names of a target taxonomy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parsers.errors import Code, SettingError
from parsers.names import shorten
from parsers.vocabulary import Vocabulary, VocabularyClass
from workers.drawing import Colour

UNMATCHED = ("keep", "drop", "error")
"""What may become of a class without `maps_to`: it keeps its own name; it is left out; nothing is exported."""
_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """One name of the export and the classes behind it."""

    id: int
    """The lowest id of its classes: at least 1, never shared, and the class's own where nothing is joined."""
    name: str
    colour: Colour
    """Of the class with the lowest id."""
    group: str
    """The parent or cluster of that class where it stands for itself; else empty."""
    class_ids: tuple[int, ...]

    @property
    def css(self) -> str:
        """The colour as #rrggbb."""
        return "#{:02x}{:02x}{:02x}".format(*self.colour)


def categories_of(vocabulary: Vocabulary, unmatched: str) -> tuple[Category, ...]:
    """The categories by id. Classes with one `maps_to` are one category, together with a class that has this name and
    no `maps_to` of its own. Names count as equal only when they are written alike.

    Raises SettingError: an unknown policy, `error` where a class has no `maps_to`, `drop` where none has one.
    """
    if unmatched not in UNMATCHED:
        raise SettingError(Code.SETTING_INVALID, f"--unmatched {unmatched!r}.", f"One of: {', '.join(UNMATCHED)}.",
                           "Leave it out for keep.")
    lacking = [entry for entry in vocabulary.classes if entry.maps_to is None]
    if unmatched == "error" and lacking:
        raise SettingError(Code.SETTING_INVALID,
                           f"{len(lacking)} of {len(vocabulary.classes)} classes have no maps_to: {_listed(lacking)}.",
                           "With --unmatched error every class has one.",
                           "Use --unmatched keep (they keep their names) or drop (they are left out).")
    if unmatched == "drop" and len(lacking) == len(vocabulary.classes):
        raise SettingError(Code.SETTING_INVALID, "No class of the vocabulary has a maps_to.",
                           "--unmatched drop leaves out what has none, which is everything.",
                           "Leave --unmatched out.")
    members: dict[str, list[VocabularyClass]] = {}
    for entry in sorted(vocabulary.classes, key=lambda entry: entry.id):
        if entry.maps_to is not None or unmatched != "drop":
            members.setdefault(entry.maps_to or entry.name, []).append(entry)
    return tuple(_category(name, entries) for name, entries in members.items())


def dropped_classes(vocabulary: Vocabulary, categories: Sequence[Category]) -> tuple[str, ...]:
    """Names of the classes that no category stands for, by id."""
    kept = {class_id for category in categories for class_id in category.class_ids}
    return tuple(entry.name for entry in sorted(vocabulary.classes, key=lambda entry: entry.id)
                 if entry.id not in kept)


def _category(name: str, entries: list[VocabularyClass]) -> Category:
    first = entries[0]
    group = (first.parent or first.cluster or "") if name == first.name else ""
    return Category(id=first.id, name=name, colour=first.rgb, group=group,
                    class_ids=tuple(entry.id for entry in entries))


def _listed(entries: Sequence[VocabularyClass]) -> str:
    text = ", ".join(shorten(entry.name) for entry in entries[:_SHOWN])
    return text if len(entries) <= _SHOWN else f"{text} and {len(entries) - _SHOWN} more"
