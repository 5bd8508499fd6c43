"""Lists of pictures in a file: JSONL (`{"path": "a/b.jpg"}` or `"a/b.jpg"` a line) and CSV with a column `path`.

Paths are relative to the manifest's folder and stay inside of it, links included. A path whose file is missing is a
picture that fails on its own; a path that cannot be meant is an error that names the line. Lines are read one by one.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from parsers.errors import Code, InputError
from workers.inputs import InputItem

SUFFIXES = (".jsonl", ".csv")
MAX_LINE = 65_536
"""Bytes."""


def read_manifest(path: Path) -> Iterator[InputItem]:
    """The pictures that a manifest names, in its order, each named by its path there.

    Raises InputError: `file-missing`, `file-unreadable`, `manifest-invalid`.
    """
    root = os.path.realpath(path.parent)
    try:
        with path.open("rb") as file:
            lines = _lines(path, file)
            paths = _csv_paths(path, lines) if path.suffix.lower() == ".csv" else _json_paths(path, lines)
            for number, given in paths:
                yield _item(path, number, given, root)
    except OSError as error:
        code = Code.FILE_MISSING if isinstance(error, FileNotFoundError) else Code.FILE_UNREADABLE
        raise InputError(code, f"{path} cannot be read: {error.strerror}.", "A manifest that you may read.",
                         "Check the path.") from error


def _lines(path: Path, file: IO[bytes]) -> Iterator[tuple[int, str]]:
    number = 0
    while data := file.readline(MAX_LINE + 1):
        number += 1
        if len(data) > MAX_LINE:
            raise _invalid(path, number, f"is longer than {MAX_LINE:,} bytes")
        try:
            text = data.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise _invalid(path, number, "is not UTF-8; files whose names are not UTF-8 can only be reached through "
                           "their folder") from None
        yield number, text


def _json_paths(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    for number, text in lines:
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _invalid(path, number, f"is not JSON: {error}") from None
        given = value.get("path") if isinstance(value, dict) else value
        if not isinstance(given, str):
            raise _invalid(path, number, 'has no "path" with a text')
        yield number, given


def _csv_paths(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    reader = csv.reader((text for _, text in lines), strict=True)
    try:
        header = next(reader, [])
        if "path" not in header:
            raise _invalid(path, 1, "names no column `path`")
        column = header.index("path")
        for row in reader:
            if not row:
                continue
            if len(row) <= column:
                raise _invalid(path, reader.line_num, "has fewer columns than the first line")
            yield reader.line_num, row[column]
    except csv.Error as error:
        raise _invalid(path, reader.line_num, f"is not CSV: {error}") from None


def _item(path: Path, number: int, given: str, root: str) -> InputItem:
    shown = given if len(given) <= 100 else given[:100] + "…"
    if not given or "\0" in given:
        raise _invalid(path, number, "has an empty path" if not given else "has a path with a NUL character")
    if "\\" in given or PureWindowsPath(given).drive:
        raise _invalid(path, number, f"has {shown!r}, a path as Windows writes it; write a/b.jpg")
    pure = PurePosixPath(given)
    if pure.is_absolute():
        raise _invalid(path, number, f"has the absolute path {shown!r}; write it relative to the manifest's folder")
    if ".." in pure.parts or not pure.parts:
        raise _invalid(path, number, f"has {shown!r}, which leaves the manifest's folder")
    try:
        os.fsencode(given)
        real = os.path.realpath(os.path.join(root, str(pure)))
    except (UnicodeEncodeError, OSError):
        raise _invalid(path, number, f"has {shown!r}, which cannot be the name of a file") from None
    if not real.startswith(root.rstrip(os.sep) + os.sep):
        raise _invalid(path, number, f"has {shown!r}, a link that leads out of the manifest's folder")
    return InputItem(str(pure), str(path.parent), str(pure))


def _invalid(path: Path, number: int, what: str) -> InputError:
    return InputError(Code.MANIFEST_INVALID, f"Line {number} of {path} {what}.",
                      'JSONL with {"path": "a/b.jpg"} or CSV with a column path; paths inside the manifest\'s folder.',
                      "Correct the line and submit again; nothing was begun.")
