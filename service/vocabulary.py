"""`lexiseg vocabulary`: check, show, match, merge, compare and freeze files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parsers.documents import read_document
from parsers.matching import MatchResult
from parsers.vocabulary import Vocabulary, VocabularyClass
from parsers.vocabulary_merge import VocabularyDiff
from service.console import console, printable, say, say_json, warn


def check(file: Path) -> None:
    """Says what the file holds and warns of what looks unintended. Raises VocabularyError if it cannot be used."""
    vocabulary = Vocabulary.load(file)
    warn(vocabulary.warnings())
    say(f"{file}: {summary(vocabulary)}; sha256 {vocabulary.digest}{frozen_mark(vocabulary)}")


def show(file: Path) -> None:
    """A table of the classes."""
    from rich.table import Table
    from rich.text import Text

    vocabulary = Vocabulary.load(file)
    table = Table("id", "", "name", "synonyms", "subclasses", "parent", "maps to")
    for entry in vocabulary.classes:
        swatch = Text("  ", style="on #{:02x}{:02x}{:02x}".format(*entry.rgb))
        cells = [entry.name, ", ".join(entry.synonyms), ", ".join(entry.subclasses), entry.parent or "",
                 entry.maps_to or ""]
        table.add_row(str(entry.id), swatch, *(Text(printable(cell)) for cell in cells))
    console().print(table)
    if vocabulary.background:
        say(f"background: {', '.join(vocabulary.background)}")
    say(f"{summary(vocabulary)}; sha256 {vocabulary.digest}{frozen_mark(vocabulary)}")


def match(file: Path, names: list[str], as_json: bool = False) -> bool:
    """Says which class each name stands for; True if each stands for one class or the background."""
    vocabulary = Vocabulary.load(file)
    results = [vocabulary.match(name) for name in names]
    if as_json:
        say_json({"format_version": 1, "matches": [match_record(result) for result in results]})
    else:
        for result in results:
            say(str(result))
    return all(len(result.candidates) == 1 for result in results)


def merge(files: list[Path], out: Path) -> None:
    """Writes the first vocabulary with what the others add to it."""
    merged, *others = (Vocabulary.load(file) for file in files)
    for other in others:
        merged = merged.merge(other)
    merged.save(out)
    warn(merged.warnings())
    say(f"{out}: {summary(merged)}; sha256 {merged.digest}")


def diff(before: Path, after: Path, as_json: bool = False) -> bool:
    """Says what leads from one vocabulary to the other; True if they are the same."""
    found = Vocabulary.load(before).diff(Vocabulary.load(after))
    if as_json:
        say_json({"format_version": 1, **diff_record(found)})
    else:
        for line in found.lines() or ["The same."]:
            say(line, {"+": "green", "-": "red"}.get(line[0], ""))
    return found.is_empty


def match_record(result: MatchResult) -> dict[str, Any]:
    """A match as plain values."""
    return {
        "text": result.text, "how": result.how, "part": result.part,
        "candidates": [{"class": class_record(one.entry) if one.entry else None, "role": one.role, "word": one.word}
                       for one in result.candidates],
        "mentioned": [class_record(entry) for entry in result.mentioned], "reason": result.reason}


def diff_record(found: VocabularyDiff) -> dict[str, Any]:
    """A difference as plain values."""
    return {
        "same": found.is_empty, "added": [class_record(entry) for entry in found.added],
        "removed": [class_record(entry) for entry in found.removed],
        "changed": [{"class": class_record(change.entry), "field": change.field, "before": plain(change.before),
                     "after": plain(change.after)} for change in found.changed],
        "background_added": list(found.background_added), "background_removed": list(found.background_removed),
        "reordered": found.reordered}


def class_record(entry: VocabularyClass) -> dict[str, Any]:
    return {"id": entry.id, "name": entry.name}


def plain(value: Any) -> Any:
    """A field of a class as JSON has it."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_defaults=True)
    return list(value) if isinstance(value, tuple) else value


def freeze(file: Path, out: Path | None = None) -> None:
    """Writes the digest into the file (or a copy). A frozen file that was changed is frozen again."""
    vocabulary = load_whatever_its_digest(file).frozen()
    target = out or file
    vocabulary.save(target)
    say(f"{target}: frozen, sha256 {vocabulary.digest}")


def load_whatever_its_digest(file: Path) -> Vocabulary:
    """The vocabulary in the file, which may have been frozen in an earlier state."""
    document = read_document(file)
    if not isinstance(document.value, dict) or "digest" not in document.value:
        return Vocabulary.load(file)
    del document.value["digest"]
    return Vocabulary.model_validate(document.value, context=document)


def summary(vocabulary: Vocabulary) -> str:
    subclasses = sum(len(entry.subclasses) for entry in vocabulary.classes)
    return f"{len(vocabulary.classes)} classes, {subclasses} subclasses, {len(vocabulary.background)} background words"


def frozen_mark(vocabulary: Vocabulary) -> str:
    return " (frozen)" if vocabulary.is_frozen else ""
