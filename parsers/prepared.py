"""Descriptions of pictures, prepared once: a JSON Lines file, one row per picture.

    {"format_version": 1, "image_id": "scene_0001_00000.png", "prompt_id": "simple", "model_id": "...", "priors": {...},
     "presence": {"dog": true, "cat": false}}

`priors` are `parsers.ScenePriors`. Whoever wrote the description, a language model or a person, the rows look the same.
A job without candidates keeps the row of each picture in its results.jsonl, which can be read as such a file, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from parsers.errors import Code, DatasetError
from parsers.files import canonical_json, write_atomic
from parsers.names import name_key
from parsers.priors import ScenePriors

_ALLOWED = ("One JSON object a line: image_id, prompt_id, model_id, priors; or the results.jsonl of a job, or what "
            "lexiseg describe --jsonl writes.")


class PreparedRow(BaseModel):
    """One picture's description."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    image_id: str = Field(min_length=1, description="the key of the picture in its dataset, its name in its job")
    prompt_id: str = Field(description="what was asked: simple, detailed, or the way the text was made")
    model_id: str = Field(description="who answered")
    priors: ScenePriors
    presence: dict[str, bool | None] = Field(default={}, description="what was asked about by yes or no, and the "
                                             "answer; null: there was none that could be used")


class PreparedPriors:
    """A file of prepared descriptions."""

    def __init__(self, rows: Mapping[str, PreparedRow], where: str) -> None:
        self.rows, self.where = rows, where
        self._by_stem = _only_ones(rows)

    @classmethod
    def read(cls, path: Path) -> PreparedPriors:
        """Raises DatasetError: a file that cannot be read, a row that is not one, or a picture that occurs twice."""
        try:
            with path.open(encoding="utf-8") as file:
                return cls.parse(file, str(path))
        except OSError as error:
            raise _invalid(f"{path} cannot be read: {error.strerror}.", _ALLOWED) from error

    @classmethod
    def parse(cls, lines: Iterable[str], where: str) -> PreparedPriors:
        """The lines of a file that messages are to call `where`. Raises DatasetError."""
        rows: dict[str, PreparedRow] = {}
        try:
            for number, line in enumerate(lines, start=1):
                try:
                    value = _row_in(json.loads(line))
                    if value is None:
                        continue
                    row = PreparedRow.model_validate(value)
                except ValidationError as error:
                    problem = error.errors()[0]
                    raise _invalid(f"{where}, line {number}: {'.'.join(map(str, problem['loc']))} {problem['msg']}.",
                                   _ALLOWED) from error
                except (ValueError, RecursionError) as error:
                    raise _invalid(f"{where}, line {number} is not JSON.", _ALLOWED) from error
                if row.image_id in rows:
                    raise _invalid(f"{where}, line {number}: {row.image_id!r} occurs a second time.", _ALLOWED)
                rows[row.image_id] = row
        except UnicodeDecodeError as error:
            raise _invalid(f"{where} is not UTF-8.", _ALLOWED) from error
        return cls(rows, where)

    def row(self, image_id: str) -> PreparedRow:
        """Of the picture of that name, or, since keys of data sets have no suffix, of the only one of that name and any
        suffix. Raises DatasetError that names the picture, if it has no row."""
        if image_id not in self.rows and (name := self._by_stem.get(image_id)):
            return self.rows[name]
        if image_id not in self.rows:
            raise _invalid(f"{self.where} has no description of {image_id!r}.", "A row for every picture.")
        return self.rows[image_id]

    def of(self, image_id: str) -> ScenePriors:
        """The priors alone; raises as `row`."""
        return self.row(image_id).priors

    def __len__(self) -> int:
        return len(self.rows)


def write_prepared(path: Path, rows: Iterable[PreparedRow]) -> None:
    """Writes the file as a whole."""
    write_atomic(path, b"".join(canonical_json(row.model_dump(mode="json")) + b"\n" for row in rows))


def named_classes(priors: ScenePriors, classes: Iterable[str], meaning: Mapping[str, str] | None = None) -> set[str]:
    """Which of the classes a description names, as name or lemma. meaning: class to a wider name that counts too."""
    said = {name_key(text) for item in priors.objects for text in (item.name, item.lemma)}
    wider = meaning or {}
    return {name for name in classes if name_key(name) in said or name_key(wider.get(name, name)) in said}


def recall(present: Iterable[tuple[ScenePriors, Iterable[str]]], meaning: Mapping[str, str] | None = None) -> float:
    """Share of the ground-truth classes of pictures that their descriptions name, in [0, 1]; 0 without classes."""
    found = total = 0
    for priors, classes in present:
        names = set(classes)
        found += len(named_classes(priors, names, meaning))
        total += len(names)
    return found / total if total else 0.0


def _only_ones(names: Iterable[str]) -> dict[str, str]:
    """Each name without its suffix to the name, where that is one name alone."""
    found: dict[str, str] = {}
    for name in names:
        stem = str(PurePosixPath(name).with_suffix(""))
        found[stem] = "" if stem in found else name
    return found


def _row_in(line: Any) -> Any:
    """A row as it is, or the one in a line of results.jsonl or of `lexiseg describe --jsonl`: None for a picture of
    which nothing was said."""
    if not isinstance(line, dict):
        return line
    if "picture" in line:
        return None if line.get("state") == "failed" else {
            "image_id": line["picture"], "prompt_id": line.get("prompt"), "model_id": line.get("model"),
            "priors": line.get("priors")}
    return line.get("told", line)


def _invalid(given: str, allowed: str) -> DatasetError:
    return DatasetError(Code.DATASET_INVALID, given, allowed, "Prepare it again: docs/llmformer.md says how.")
