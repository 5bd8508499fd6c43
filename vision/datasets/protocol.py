"""What a published protocol fixes for a dataset: its ids, its names, how many pictures it has, and constants.

All of it stands in the readable files of `protocols/`. A class has names under several lists:

* `plain`: one name as people say it ("dining table"); `synonyms`: that name and others;
* `sclip`: the strings of the SCLIP protocol, which NACLIP, ResCLIP and SC-CLIP share; a class's best string counts;
* `simseg`: the names of SimSeg and LLM-Supervision.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from parsers.names import name_key
from parsers.vocabulary import Vocabulary, VocabularyClass

FOLDER = Path(__file__).with_name("protocols")
BACKGROUND_ID = 0
IGNORE_ID = 65535
"""What every reader gives to pixels that do not count."""


class ProtocolClass(BaseModel):
    """One class of a dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int
    """From 1, in the order of the protocol."""
    name: str
    official: str | None = None
    """How the archive spells it, where that is not `name`."""
    raw: int | None = None
    """The number in the official archive, where that is not `id`."""
    synonyms: tuple[str, ...] = ()
    sclip: tuple[str, ...] = ()
    """Where the list is not just `name`."""
    simseg: str | None = None

    @property
    def stored(self) -> int:
        """The number in the official archive."""
        return self.id if self.raw is None else self.raw

    def names(self, kind: str) -> tuple[str, ...]:
        """Its names under the list `kind`, the most important first."""
        if kind == "sclip" and self.sclip:
            return self.sclip
        if kind == "simseg" and self.simseg:
            return (self.simseg,)
        return (self.name, *self.synonyms) if kind == "synonyms" else (self.name,)


class ClassTable(BaseModel):
    """A file of `protocols/`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lists: tuple[str, ...]
    """The lists of names that there are; `plain` comes first."""
    images: dict[str, int]
    """Pictures per split, as published."""
    ignored: tuple[int, ...] = ()
    """Stored values that do not count."""
    aliases: dict[str, str] = {}
    """Another spelling to the official one."""
    background: dict[str, tuple[str, ...]] = {}
    """Words for the background per list; `synonyms` has those of `plain`."""
    classes: tuple[ProtocolClass, ...]

    def names(self, kind: str) -> dict[int, str]:
        """Id to the first name of the list `kind`."""
        return {entry.id: entry.names(kind)[0] for entry in self.classes}

    def vocabulary(self, kind: str) -> Vocabulary:
        """The list `kind` as a vocabulary: first names, the others as synonyms, background words. A string that two
        classes share stays with the first of them."""
        taken = {name_key(name) for name in self.names(kind).values()}
        classes = []
        for entry in self.classes:
            first, *others = entry.names(kind)
            own = [name for name in others if name_key(name) not in taken]
            taken.update(map(name_key, own))
            classes.append(VocabularyClass(id=vocabulary_id(entry.id), name=first, synonyms=tuple(own)))
        words = self.background.get("plain" if kind == "synonyms" else kind, ())
        return Vocabulary(classes=tuple(classes), background=words)


def vocabulary_id(id: int) -> int:
    """A class id as a vocabulary has it, where 255 is taken."""
    return id if id < 255 else id + 1


@cache
def class_table(name: str) -> ClassTable:
    """The file `protocols/NAME.yaml`."""
    return ClassTable.model_validate(_read(name))


def protocol_constants(method: str, dataset: str) -> dict[str, Any]:
    """What the published code of `method` (sclip, naclip, resclip, sc-clip, simseg,
    llm-supervision) sets for a dataset such as "voc21"; empty where nothing is published."""
    table = _read("constants").get(method, {})
    return table["common"] | table[dataset] if dataset in table else {}


@cache
def _read(name: str) -> Any:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
