"""The place of an export: a folder that appears whole, or not at all, and JSON that grows without being held."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from parsers.errors import Code, OutputError
from parsers.files import output_error

RECORD = "export.json"
"""Marks a folder as an export, which a later one may replace."""


@contextmanager
def building(to: Path, names: Sequence[str]) -> Iterator[Path]:
    """A new folder to write into, which becomes `to` at the end: an empty folder or an export that has nothing but
    `names` in it is replaced. After an error nothing is left and `to` is as it was.

    What a killed process left half-written beside `to` is removed first; what a living one is writing is not (it holds
    a lock on its folder). Raises OutputError: `output-collision`, `disk-full`, `output-unwritable`.
    """
    to = to.absolute()
    mark = f".export-{hashlib.sha256(os.fsencode(to.name)).hexdigest()[:12]}-"
    _check(to, names)
    temporary, lock = None, None
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        _sweep(to.parent, mark)
        temporary = Path(tempfile.mkdtemp(dir=to.parent, prefix=mark, suffix=".part"))
        lock = _lock(temporary)
        yield temporary
        _flush(temporary)
        temporary.chmod(0o755)
        _check(to, names)
        if to.is_dir() and any(to.iterdir()):
            os.replace(to, tempfile.mkdtemp(dir=to.parent, prefix=mark, suffix=".part"))
        os.replace(temporary, to)
        _sync(to.parent)
        _sweep(to.parent, mark)
    except OSError as error:
        failed = output_error(to, error)
        raise OutputError(failed.code, failed.given, failed.allowed,
                          failed.next_step.replace("--out", "--to")) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def write_lists(path: Path, head: Mapping[str, Any], lists: Iterable[tuple[str, Iterable[Any]]]) -> None:
    """A JSON object with the members of `head` and then `lists`, each of whose items has a line of its own."""
    with path.open("wb") as file:
        file.write(b"{" + b",\n".join(_json(key) + b":" + _json(value) for key, value in head.items()))
        for key, items in lists:
            file.write(b",\n" + _json(key) + b":")
            _write_items(file, items)
        file.write(b"}\n")


def write_list(path: Path, items: Iterable[Any]) -> None:
    """A JSON array with a line for each item."""
    with path.open("wb") as file:
        _write_items(file, items)
        file.write(b"\n")


def _write_items(file: IO[bytes], items: Iterable[Any]) -> None:
    separator = b"[\n"
    for item in items:
        file.write(separator + _json(item))
        separator = b",\n"
    file.write(b"[]" if separator == b"[\n" else b"\n]")


def _json(value: Any) -> bytes:
    """JSON in ASCII: readers that open a file in the machine's own encoding get the same text."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def _check(to: Path, names: Sequence[str]) -> None:
    """Raises OutputError if `to` is there and is neither empty nor an export of the same kind and nothing else."""
    allowed = "A new or empty folder, or an earlier export in the same format, which is replaced."
    if not os.path.lexists(to):
        return
    if not to.is_dir() or to.is_symlink():
        raise OutputError(Code.OUTPUT_COLLISION, f"{to} is there and is no folder.", allowed, "Choose another --to.")
    found = sorted(path.name for path in to.iterdir())
    others = [name for name in found if name not in (*names, RECORD)]
    if others or (found and RECORD not in found):
        listed = ", ".join((others or found)[:5])
        raise OutputError(Code.OUTPUT_COLLISION, f"{to} holds {listed}, which this export did not write.", allowed,
                          "Choose another --to.")


def _lock(folder: Path) -> int:
    """A locked handle of a folder; the lock goes when the handle is closed or the process ends. Raises OSError
    (BlockingIOError where another process has it)."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _sweep(parent: Path, mark: str) -> None:
    """Removes half-written folders that nobody holds."""
    for leftover in sorted(parent.glob(f"{mark}*.part")):
        try:
            handle = _lock(leftover)
        except OSError:
            continue
        shutil.rmtree(leftover, ignore_errors=True)
        os.close(handle)


def _flush(folder: Path) -> None:
    """Brings every file of a folder to the disk."""
    for root, _, files in os.walk(folder):
        for name in files:
            _sync(Path(root, name))
        _sync(Path(root))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
