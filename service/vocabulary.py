"""`lexiseg vocabulary`: check, show and freeze files."""

from __future__ import annotations

from pathlib import Path

from parsers.documents import read_document
from parsers.vocabulary import Vocabulary
from service.console import console, printable, say, warn


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
