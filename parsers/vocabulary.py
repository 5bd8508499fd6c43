"""The knowledge a job runs on: which names to look for, and what is known about each.

A vocabulary is a file that a person can read, edit, version and freeze; docs/vocabulary.md shows one. Whatever a
language model produces for a job goes through this file, so every job can be run again without any language model.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from parsers.documents import Document, document_bytes, read_document
from parsers.errors import Code, VocabularyError
from parsers.files import canonical_json, sha256_bytes, write_atomic
from parsers.matching import Matcher, MatchResult
from parsers.names import ALLOWED, MAX_NAME_LENGTH, name_key, name_problem, normalise_name, shorten
from parsers.vocabulary_checks import Problem, find_problems, find_warnings, problems_error, validation_problems
from parsers.vocabulary_merge import VocabularyDiff, diff, merge

MAX_ID = 65534
IGNORE_ID = 255
"""Means "ignore" in 8-bit masks, as 65535 does in 16-bit ones, so no class may have it."""


def _name(text: str) -> str:
    if problem := name_problem(text):
        raise PydanticCustomError("name", "{reason}", {"reason": f"the name {shorten(text)} {problem}"})
    return normalise_name(text)


def _class_id(value: int) -> int:
    if value == IGNORE_ID:
        raise PydanticCustomError("class_id", "{value} cannot be an id", {"value": value})
    return value


Name = Annotated[StrictStr, AfterValidator(_name)]
ClassId = Annotated[StrictInt, Field(ge=1, le=MAX_ID, json_schema_extra={"not": {"const": IGNORE_ID}}),
                    AfterValidator(_class_id)]


class Provenance(BaseModel):
    """Who wrote an entry: a person, or a language model with the prompt and the day."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["user", "llm"] = Field(description='"user" or "llm"')
    model: StrictStr | None = Field(default=None, description="a text: the language model that answered")
    prompt: StrictStr | None = Field(default=None, description="a text: the prompt, or the sha256 digest of it")
    date: StrictStr | None = Field(default=None, pattern=r"^\d{4}-\d{2}-\d{2}$", description="a day: 2026-11-21")


class VocabularyClass(BaseModel):
    """One class: its number in the masks, its name, and what is known about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: ClassId = Field(description=f"a whole number from 1 to {MAX_ID}, not {IGNORE_ID}; the value in the masks")
    name: Name = Field(description=f"a text of 1 to {MAX_NAME_LENGTH} characters")
    synonyms: tuple[Name, ...] = Field(default=(), description="a list of texts: other names of the same thing")
    gloss: StrictStr | None = Field(default=None, description="a text: which sense of the name is meant")
    parent: Name | None = Field(default=None, description="the name of another class of this vocabulary")
    subclasses: tuple[Name, ...] = Field(default=(), description="a list of texts: finer names of the same thing")
    cluster: Name | None = Field(default=None, description="a text: a group of related classes")
    color: Annotated[StrictStr, Field(pattern=r"^#[0-9a-fA-F]{6}$")] | None = Field(
        default=None, description='a colour in quotes: "#1f77b4"')
    maps_to: Name | None = Field(default=None, description="a text: the name in a target taxonomy")
    provenance: Provenance | None = Field(default=None, description="a mapping with source, model, prompt and date")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green, blue in 0..255: `color`, or one of the id's own. Neighbouring ids get distant hues."""
        if self.color is not None:
            return int(self.color[1:3], 16), int(self.color[3:5], 16), int(self.color[5:7], 16)
        hue = self.id * 0.618033988749895 % 1.0  # the golden ratio spreads any number of hues evenly
        saturation, value = (0.85, 0.5, 0.68)[self.id % 3], (0.95, 0.7, 0.82, 0.58)[self.id // 3 % 4]
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        return round(255 * red), round(255 * green), round(255 * blue)


class Vocabulary(BaseModel):
    """Classes in the order given, and the words that stand for "none of them".

    Building one raises VocabularyError, which names every class at fault, what is allowed and what to do next.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True,
                              serialize_by_alias=True)

    format_version: Literal[1] = Field(default=1, description="1")
    classes: tuple[VocabularyClass, ...] = Field(description="a list of classes, each with an id and a name")
    background: tuple[Name, ...] = Field(
        default=(), description="a list of texts: what a place is called that is none of the classes")
    frozen_digest: StrictStr | None = Field(
        default=None, alias="digest", pattern=r"^[0-9a-f]{64}$",
        description="the sha256 digest that `lexiseg vocabulary freeze` writes")

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        document = info.context if isinstance(info.context, Document) else None
        try:
            vocabulary = handler(data)
        except ValidationError as error:
            raise problems_error(validation_problems(error, data, _ALLOWED_VALUES), document) from error
        if problems := find_problems(vocabulary):
            raise problems_error(problems, document)
        if vocabulary.frozen_digest not in (None, vocabulary.digest):
            raise _changed_error(vocabulary, document)
        return vocabulary

    @classmethod
    def from_names(cls, names: Sequence[str] | str) -> Vocabulary:
        """A vocabulary of plain names with ids from 1 (255 is left out). A text is split at its commas.

        Raises VocabularyError (`class-name-invalid`): no names, empty, too long, control characters, duplicates.
        """
        listed = names.split(",") if isinstance(names, str) else list(names)
        next_step = 'Give names with commas between them, such as --classes "dog, cat".'
        if not "".join(listed).strip():
            raise VocabularyError(Code.CLASS_NAME_INVALID, "No class names were given.", ALLOWED, next_step)
        for position, name in enumerate(listed, start=1):
            if problem := name_problem(name):
                given = f"Class name {position} of {len(listed)}, {shorten(name)}, {problem}."
                raise VocabularyError(Code.CLASS_NAME_INVALID, given, ALLOWED, next_step)
        if len(listed) > MAX_ID - 1:
            raise VocabularyError(Code.CLASS_NAME_INVALID, f"{len(listed):,} class names were given.",
                                  f"At most {MAX_ID - 1:,}.", "Split them into several jobs.")
        ids = (value for value in range(1, MAX_ID + 1) if value != IGNORE_ID)
        pairs = zip(ids, listed, strict=False)
        return cls(classes=tuple(VocabularyClass(id=value, name=name) for value, name in pairs))

    @classmethod
    def load(cls, path: str | Path, *, verify: bool = True) -> Vocabulary:
        """Reads a .yaml, .yml or .json file. With verify=False the digest of a frozen file is left out, not checked:
        the way to freeze a changed file again.

        Raises VocabularyError with the file, the line and the class.
        """
        document = read_document(Path(path))
        if not isinstance(document.value, dict) or not document.value.get("classes"):
            problem = Problem((), "there is no class in it", "A mapping with the key `classes`, a list with an id and "
                              "a name for each class")
            raise problems_error([problem], document)
        if not verify:
            document.value.pop("digest", None)
        return cls.model_validate(document.value, context=document)

    def save(self, path: str | Path) -> None:
        """Writes a .yaml, .yml or .json file, whole or not at all; a frozen vocabulary carries its digest.

        Raises VocabularyError for another suffix, OutputError when it cannot be written.
        """
        path = Path(path)
        value = {"format_version": self.format_version, **self._canonical()}
        comment = _COMMENT
        if self.frozen_digest is not None:
            value["digest"] = self.frozen_digest
            comment += _FROZEN_COMMENT
        write_atomic(path, document_bytes(path, value, comment))

    @property
    def digest(self) -> str:
        """Hexadecimal sha256 of the content: equal vocabularies have equal digests, in YAML and in JSON, with
        comments and without, frozen or not. Order counts, since it is the order in which models see the names."""
        return sha256_bytes(canonical_json({"format_version": self.format_version, **self._canonical()}))

    def frozen(self) -> Vocabulary:
        """The same vocabulary with its digest, which `save` writes and `load` checks."""
        return self.model_copy(update={"frozen_digest": self.digest})

    @property
    def is_frozen(self) -> bool:
        return self.frozen_digest is not None

    @property
    def names(self) -> dict[int, str]:
        """Class id to name, in the order of the classes."""
        return {entry.id: entry.name for entry in self.classes}

    @property
    def background_words(self) -> tuple[str, ...]:
        """The background words that are not also a name or synonym of a class."""
        taken = {name_key(name) for entry in self.classes for name in (entry.name, *entry.synonyms)}
        return tuple(word for word in self.background if name_key(word) not in taken)

    def match(self, text: str, lemma: str | None = None) -> MatchResult:
        """Finds the class that a free name stands for: exactly, by spelling, by `lemma`, by number, or by its head.

        lemma: the dictionary form of the name or of its head where a parser gives it (`ObjectPrior.lemma`); it goes
        before our own rules of singular and plural. Several classes, the background and nothing are results, too.
        Never raises, whatever the text.
        """
        matcher = self.__dict__.get("_matcher")  # a copy with other classes inherits it
        if matcher is None or matcher.vocabulary is not self:
            matcher = self.__dict__["_matcher"] = Matcher(self)
        return matcher.match(text, lemma)

    def merge(self, other: Vocabulary) -> Vocabulary:
        """This vocabulary with what `other` adds: classes, words, and values where this one has none.

        No class gets another id. What both say of a class is kept in the words of this one, its provenance too, but a
        language model's provenance is never lost to a person's. The result is not frozen. Raises VocabularyError
        (`vocabulary-conflict`) that names every contradiction and both its sides.
        """
        return merge(self, other)

    def diff(self, other: Vocabulary) -> VocabularyDiff:
        """What leads from this vocabulary to `other`; empty if and only if both have one digest."""
        return diff(self, other)

    def warnings(self) -> list[str]:
        """What is allowed but probably not meant: names that nearly repeat another, names that are not in Latin
        letters, very long names, a subclass of two classes, one colour for two classes."""
        return find_warnings(self)

    def _canonical(self) -> dict[str, Any]:
        """The content without what is left at its default, so that later additions to the format do not change the
        digest of the files of today."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"format_version", "frozen_digest"})


def _changed_error(vocabulary: Vocabulary, document: Document | None) -> VocabularyError:
    path = document.path if document else "the vocabulary"
    return VocabularyError(
        Code.VOCABULARY_INVALID,
        f"{path} was changed after it was frozen: its content has the digest {vocabulary.digest[:12]}..., the file "
        f"says {str(vocabulary.frozen_digest)[:12]}....",
        "A frozen vocabulary stays as it is, so that jobs can be repeated.",
        f"Undo the change, or accept it with `lexiseg vocabulary freeze {path}`.")


_COMMENT = """\
A lexiseg vocabulary: what to look for. Edit it freely, then run `lexiseg vocabulary check` on it.
An id is the value of the class in the masks: never renumber. The format is explained in docs/vocabulary.md.
"""
_FROZEN_COMMENT = "Frozen: the digest at the end fits the content. After a change run `lexiseg vocabulary freeze`.\n"

_ALLOWED_VALUES = {
    kind: {field.alias or name: field.description or "" for name, field in model.model_fields.items()}
    for kind, model in (("vocabulary", Vocabulary), ("class", VocabularyClass), ("provenance", Provenance))
}
