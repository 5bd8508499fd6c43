"""Two vocabularies: what one has that the other has not, and both as one.

A class keeps its id for ever, since masks refer to it; so nothing here gives a class another id, and two classes that
claim one id, or one class that claims two, are a conflict that a person has to settle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parsers.errors import Code, VocabularyError
from parsers.names import name_key, shorten
from parsers.vocabulary_checks import SHOWN, label

if TYPE_CHECKING:
    from parsers.vocabulary import Provenance, Vocabulary, VocabularyClass

FIELDS = ("name", "synonyms", "gloss", "parent", "subclasses", "cluster", "color", "maps_to", "provenance")
"""What a class may differ in besides its id."""
SINGLE = ("gloss", "parent", "cluster", "color", "maps_to")
"""Fields that hold one value, so that two values contradict each other."""

NEXT_STEP = "Settle it in one of the files, then merge again; `lexiseg vocabulary diff` shows how they differ."


@dataclass(frozen=True, slots=True)
class Change:
    """One field of one class, before and after. The field "id" means that the class was renumbered, which makes
    earlier masks wrong."""

    entry: VocabularyClass
    """The class as it was before."""
    field: str
    before: Any
    after: Any

    def __str__(self) -> str:
        if self.field in ("synonyms", "subclasses"):
            gone = [word for word in self.before if word not in self.after]
            new = [word for word in self.after if word not in self.before]
            said = [f"without {', '.join(map(shorten, gone))}"] if gone else []
            said += [f"with {', '.join(map(shorten, new))}"] if new else []
            return f"{label(self.entry)}: {self.field} {', '.join(said) or 'in another order'}"
        before, after = (_said(value) for value in (self.before, self.after))
        return f"{label(self.entry)}: {self.field} {before} is now {after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyDiff:
    """What leads from one vocabulary to another. Empty if and only if both have the same digest."""

    added: tuple[VocabularyClass, ...] = ()
    removed: tuple[VocabularyClass, ...] = ()
    changed: tuple[Change, ...] = ()
    background_added: tuple[str, ...] = ()
    background_removed: tuple[str, ...] = ()
    reordered: bool = False
    """The same classes or background words in another order, which models see."""

    @property
    def is_empty(self) -> bool:
        return self == VocabularyDiff()

    def lines(self) -> list[str]:
        """One line a difference, beginning with -, + or ~."""
        order = ["~ the same classes and words in another order"] if self.reordered else []
        return [*(f"- {label(entry)}" for entry in self.removed), *(f"+ {label(entry)}" for entry in self.added),
                *(f"~ {change}" for change in self.changed),
                *(f"- background word {shorten(word)}" for word in self.background_removed),
                *(f"+ background word {shorten(word)}" for word in self.background_added), *order]


def diff(before: Vocabulary, after: Vocabulary) -> VocabularyDiff:
    """See `Vocabulary.diff`. Classes are paired by name, whatever the capitals, and those left over by id."""
    pairs = _pairs(before, after)
    changed = [Change(old, field, getattr(old, field), getattr(new, field)) for old, new in pairs
               for field in ("id", *FIELDS) if getattr(old, field) != getattr(new, field)]
    old_ids, new_ids = {old.id for old, _ in pairs}, {new.id for _, new in pairs}
    new_position = {new.id: position for position, new in enumerate(after.classes)}
    positions = [new_position[new.id] for _, new in pairs]
    words = [word for word in before.background if word in after.background]
    return VocabularyDiff(
        added=tuple(entry for entry in after.classes if entry.id not in new_ids),
        removed=tuple(entry for entry in before.classes if entry.id not in old_ids), changed=tuple(changed),
        background_added=tuple(word for word in after.background if word not in before.background),
        background_removed=tuple(word for word in before.background if word not in after.background),
        reordered=positions != sorted(positions) or words != [word for word in after.background if word in words])


def merge(one: Vocabulary, other: Vocabulary) -> Vocabulary:
    """See `Vocabulary.merge`."""
    by_name = {name_key(entry.name): entry for entry in one.classes}
    by_id = {entry.id: entry for entry in one.classes}
    spelling = {name_key(entry.name): entry.name for entry in (*other.classes, *one.classes)}
    conflicts: list[str] = []
    merged, added = dict(by_id), []
    for entry in other.classes:
        if entry.parent is not None:
            entry = entry.model_copy(update={"parent": spelling[name_key(entry.parent)]})
        mine = by_name.get(name_key(entry.name))
        holder = by_id.get(entry.id)
        if mine is None and holder is None:
            added.append(entry)
        elif mine is None and holder is not None:
            conflicts.append(f"{label(holder)} of the first vocabulary and {label(entry)} of the second have one id")
        elif mine is not None and mine.id != entry.id:
            conflicts.append(f"{label(mine)} of the first vocabulary is {label(entry)} in the second")
        elif mine is not None:
            conflicts += _contradictions(mine, entry)
            merged[mine.id] = _union(mine, entry)
    if conflicts:
        raise _conflict_error(conflicts)
    try:
        return type(one)(classes=(*merged.values(), *added), background=_together(one.background, other.background))
    except VocabularyError as error:  # a word that stands for one class here and for another there
        raise VocabularyError(Code.VOCABULARY_CONFLICT, f"The vocabularies contradict each other. {error.given}",
                              error.allowed, NEXT_STEP) from error


def _pairs(before: Vocabulary, after: Vocabulary) -> list[tuple[VocabularyClass, VocabularyClass]]:
    names = {name_key(entry.name): entry for entry in after.classes}
    by_name = {entry.id: names[name_key(entry.name)] for entry in before.classes if name_key(entry.name) in names}
    taken = {entry.id for entry in by_name.values()}
    left = {entry.id: entry for entry in after.classes if entry.id not in taken}
    found = ((entry, by_name.get(entry.id) or left.get(entry.id)) for entry in before.classes)
    return [(old, new) for old, new in found if new is not None]


def _contradictions(one: VocabularyClass, other: VocabularyClass) -> Iterator[str]:
    for field in SINGLE:
        first, second = getattr(one, field), getattr(other, field)
        if None not in (first, second) and name_key(first) != name_key(second):
            yield _contradiction(field, one, first, second)
    first, second = one.provenance, other.provenance
    if first and second and first != second and first.source == second.source:
        yield _contradiction("provenance", one, first, second)


def _contradiction(field: str, entry: VocabularyClass, first: Any, second: Any) -> str:
    return (f"the {field} of {label(entry)} is {_said(first)} in the first vocabulary and {_said(second)} in the "
            "second")


def _union(one: VocabularyClass, other: VocabularyClass) -> VocabularyClass:
    """Both entries of a class as one: what `one` says first. A word that is a synonym here and a subclass there stays
    what it is in `one`."""
    synonyms = _together(one.synonyms, other.synonyms, without=(one.name, *one.subclasses))
    update: dict[str, Any] = {field: getattr(one, field) or getattr(other, field) for field in SINGLE}
    update["synonyms"] = synonyms
    update["subclasses"] = _together(one.subclasses, other.subclasses, without=synonyms)
    update["provenance"] = _provenance(one.provenance, other.provenance)
    return one.model_copy(update=update)


def _provenance(one: Provenance | None, other: Provenance | None) -> Provenance | None:
    """Of a person's record and a language model's the latter: it tells where words came from that nobody chose."""
    return other if one is None or (other is not None and other.source == "llm") else one


def _together(first: tuple[str, ...], second: tuple[str, ...], without: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The words of both, each once, those of the first in front."""
    seen = {name_key(word) for word in (*first, *without)}
    new = [word for word in second if name_key(word) not in seen]
    return (*first, *new)


def _said(value: Any) -> str:
    """A value of a field in a message."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return shorten(value)
    if isinstance(value, int):
        return str(value)
    return " ".join(part for part in (value.source, value.model, value.date) if part)


def _conflict_error(conflicts: list[str]) -> VocabularyError:
    allowed = "Ids are never changed, and a class says one thing in both vocabularies, or nothing in one of them."
    if len(conflicts) == 1:
        return VocabularyError(Code.VOCABULARY_CONFLICT, f"The vocabularies contradict each other: {conflicts[0]}.",
                               allowed, NEXT_STEP)
    listed = [f"- {conflict}" for conflict in conflicts[:SHOWN]]
    if len(conflicts) > SHOWN:
        listed.append(f"- and {len(conflicts) - SHOWN} more")
    return VocabularyError(Code.VOCABULARY_CONFLICT, "\n".join(
        [f"The vocabularies contradict each other in {len(conflicts)} ways.", *listed]) + "\n", allowed, NEXT_STEP)
