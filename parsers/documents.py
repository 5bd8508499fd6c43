"""YAML and JSON files that people edit, read strictly: plain values, and the line each of them stands on.

YAML is read as JSON is: texts, whole numbers, true, false, null, lists and mappings. What surprises people is left
out (`no` is a text and not False, a date is a text) or refused (a key given twice, anchors, tags).
"""

from __future__ import annotations

import json
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from parsers.errors import Code, VocabularyError
from parsers.files import pretty_json

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 16
SUFFIXES = (".yaml", ".yml", ".json")

Location = tuple[int | str, ...]
"""The keys and list positions that lead to a value: ("classes", 2, "name")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a file says, before anyone asks whether it makes sense."""

    path: Path
    value: Any
    lines: dict[Location, int]
    """Line, from 1, per location; empty for JSON."""

    def line(self, location: Location) -> int | None:
        """The line of `location`, or of the nearest thing around it."""
        for end in range(len(location), 0, -1):
            if location[:end] in self.lines:
                return self.lines[location[:end]]
        return None


def read_document(path: Path) -> Document:
    """Reads a UTF-8 file that ends in .yaml, .yml or .json.

    Raises VocabularyError: another suffix, missing, unreadable, over MAX_BYTES, not UTF-8, a syntax error (with its
    line), a key given twice, anchors or tags.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise _file_error(path, f"{path} ends in {path.suffix or 'nothing'!r}.", f"Allowed: {', '.join(SUFFIXES)}.")
    text = _read_text(path)
    lines: dict[Location, int] = {}
    try:
        if path.suffix.lower() == ".json":
            value = json.loads(text, object_pairs_hook=_unique_pairs, parse_constant=_no_constant)
        else:
            value, lines = _read_yaml(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _file_error(path, f"{path}{where}: {error.problem or error.context}.") from error
    except yaml.YAMLError as error:
        raise _file_error(path, f"{path}: {' '.join(str(error).split())}.") from error
    except json.JSONDecodeError as error:
        raise _file_error(path, f"{path}, line {error.lineno}, column {error.colno}: {error.msg}.") from error
    except (RecursionError, ValueError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _file_error(path, f"{path}: {reason}.") from error
    return Document(path=path, value=value, lines=lines)


def document_bytes(path: Path, value: Any, comment: str) -> bytes:
    """`value` in the format that the suffix of `path` names; `comment` (lines) goes to the top of a YAML file.

    Raises VocabularyError for another suffix.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        return pretty_json(value)
    if suffix not in SUFFIXES:
        raise _file_error(path, f"{path} ends in {path.suffix or 'nothing'!r}.", f"Allowed: {', '.join(SUFFIXES)}.")
    top = "".join(f"# {line}\n" for line in comment.splitlines())
    body = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return (top + body).encode()


def _read_text(path: Path) -> str:
    allowed, next_step = "A vocabulary file (.yaml or .json).", "Check the path, or give names with --classes."
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _file_error(path, f"{path} is not a file.", allowed, next_step)
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _file_error(path, f"{path} cannot be read: {error.strerror}.", allowed, next_step) from error
    if len(data) > MAX_BYTES:
        raise _file_error(path, f"{path} is larger than {MAX_BYTES // 2**20} MiB.",
                          "A vocabulary of 65,000 names fits in less.", "Check that it is the file you meant.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _file_error(path, f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8.",
                          "UTF-8 text.", f"Convert it: iconv -f LATIN1 -t UTF-8 {path}") from error


def _file_error(path: Path, given: str, allowed: str = "", next_step: str = "") -> VocabularyError:
    next_step = next_step or (f"Mend it, then run `lexiseg vocabulary check {path}`; the format is in "
                              "docs/vocabulary.md.")
    return VocabularyError(Code.VOCABULARY_INVALID, given, allowed, next_step)


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} is given twice in one mapping")
        result[key] = value
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a value that JSON knows")


def _read_yaml(text: str) -> tuple[Any, dict[Location, int]]:
    """The one value of a YAML text, and the line of everything in it. Built from the parser's events, so that depth
    costs no recursion."""
    lines: dict[Location, int] = {}
    root: list[Any] = []
    open_values: list[Any] = [root]
    pending: list[str | None] = [None]  # per open mapping the key whose value comes next
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            open_values.pop()
            pending.pop()
            pending[-1] = None
            continue
        if not isinstance(event, yaml.NodeEvent):
            if isinstance(event, yaml.DocumentStartEvent) and root:
                raise _refused("a second document (---) is not allowed", event)
            continue
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _refused("anchors and aliases (&, *) are not allowed; write it out", event)
        if (tag := getattr(event, "tag", None)) is not None:
            raise _refused(f"the tag {tag!r} is not allowed", event)
        line = event.start_mark.line + 1 if event.start_mark else 1
        inside = open_values[-1]
        if isinstance(inside, dict) and pending[-1] is None:
            if not isinstance(event, yaml.ScalarEvent):
                raise _refused("a key must be a word", event)
            if event.value in inside:
                raise _refused(f"the key {event.value!r} is given twice in one mapping", event)
            pending[-1] = event.value
            lines[_location(open_values, pending)] = line
            inside[event.value] = None
            continue
        value: Any = _scalar(event) if isinstance(event, yaml.ScalarEvent) else (
            {} if isinstance(event, yaml.MappingStartEvent) else [])
        if isinstance(inside, dict):
            inside[pending[-1]] = value
        else:
            inside.append(value)
            lines[_location(open_values, pending)] = line
        if isinstance(event, yaml.ScalarEvent):
            pending[-1] = None
        elif len(open_values) > MAX_DEPTH:
            raise _refused(f"more than {MAX_DEPTH} levels of nesting", event)
        else:
            open_values.append(value)
            pending.append(None)
    return (root[0] if root else None), lines


def _location(open_values: list[Any], pending: list[str | None]) -> Location:
    """Where the value that was read last stands, without the outermost list, which is ours."""
    return tuple(len(value) - 1 if isinstance(value, list) else str(key)
                 for value, key in zip(open_values, pending, strict=True))[1:]


def _scalar(event: yaml.ScalarEvent) -> str | int | bool | None:
    """A text in quotes is a text; without quotes it may be a whole number, true, false or null."""
    text: str = event.value
    if not event.implicit[0]:
        return text
    if _WHOLE_NUMBER.fullmatch(text):
        return int(text)
    return _WORDS.get(text, text)


def _refused(problem: str, event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The C parser where PyYAML has it (ten times faster)."""


class _Dumper(yaml.SafeDumper):
    """Mappings line by line, lists of words on one line."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _represent_list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    words = not any(isinstance(item, dict | list) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=words)


_Dumper.add_representer(list, _represent_list)
