"""INPUTS become a sorted list of pictures, each with a name of its own under which its results are kept."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from parsers.errors import Code, InputError
from vision.images import IMAGE_SUFFIXES


@dataclass(frozen=True, slots=True)
class InputItem:
    """One picture of a job. A million of them fit into memory: the root is shared."""

    name: str
    """Path below its root with `/` and with its suffix; valid UTF-8 (other bytes as `\\xNN`); unique in a job."""
    root: str
    """The folder of the input that led here, as given."""
    relative: str
    """Path below `root` as the file system has it."""

    @property
    def path(self) -> Path:
        return Path(self.root, self.relative)


@dataclass(frozen=True, slots=True)
class UnreadableFolder:
    """A folder below an input that could not be listed; its pictures are not part of the job."""

    path: str
    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a job works on: `items` in the order of their names (code points), and what was out of reach."""

    items: tuple[InputItem, ...]
    unreadable: tuple[UnreadableFolder, ...]


def find_inputs(inputs: Sequence[str], *, out: Path | None = None) -> Inputs:
    """The pictures that files, folders and patterns stand for.

    * A folder is searched to any depth for picture suffixes, without hidden files and folders and without `out`.
      Links are followed, each folder is entered once. Names are relative to the folder given.
    * A pattern (`*`, `?`, `[...]`, `**`) gives the picture files it matches, named relative to its fixed beginning.
    * A file is taken whatever its suffix, named by its last part; if it is missing, and looks like a picture, it
      becomes an item all the same and fails on its own.
    * A file reached twice counts once, by its first name. A link to a file is a file of its own.

    Raises InputError: `no-inputs`, `file-missing` (a folder or pattern's beginning that does not exist),
    `folder-unreadable` (nothing else was found), `output-collision` (two files would share one name, or an input
    lies inside `out`).
    """
    if not inputs:
        raise InputError(Code.NO_INPUTS, "No inputs were given.", "Files, folders or patterns.",
                         "Name at least one, for example: lexiseg segment photos/")
    unreadable: list[UnreadableFolder] = []
    by_name: dict[str, InputItem] = {}
    seen: set[str] = set()
    folders: dict[str, str] = {}
    for item in iter_inputs(inputs, out=out, unreadable=unreadable):
        folder, base = os.path.split(os.path.join(item.root, item.relative))
        identity = os.path.join(folders.setdefault(folder, os.path.realpath(folder)), base)
        if identity in seen:
            continue
        seen.add(identity)
        other = by_name.setdefault(item.name, item)
        if other is not item:
            raise InputError(Code.OUTPUT_COLLISION,
                             f"{other.path} and {item.path} would both be called {item.name!r} in the results.",
                             "One name for one picture.",
                             "Give the folder above both, or a pattern in quotes, or run two jobs.")
    if not by_name and unreadable:
        raise InputError(Code.FOLDER_UNREADABLE, unreadable[0].message, "", "Check the permissions.")
    if not by_name:
        raise InputError(Code.NO_INPUTS, f"No pictures in {', '.join(inputs)}.",
                         f"Files with one of the suffixes {' '.join(sorted(IMAGE_SUFFIXES))}.",
                         "Name a folder or pattern that holds pictures.")
    return Inputs(tuple(by_name[name] for name in sorted(by_name)), tuple(unreadable))


def iter_inputs(inputs: Sequence[str], *, out: Path | None, unreadable: list[UnreadableFolder]) -> Iterator[InputItem]:
    """The pictures one by one as they are met: unsorted, and twice where they are reached twice. What cannot be listed
    is added to `unreadable`. Raises InputError as `find_inputs`, `output-collision` for two equal names excepted."""
    out_real = os.path.realpath(out) if out is not None else None
    for given in inputs:
        yield from _expand(given, out_real, unreadable)


def _expand(given: str, out_real: str | None, unreadable: list[UnreadableFolder]) -> Iterator[InputItem]:
    path = os.path.expanduser(given)
    if out_real is not None and _is_inside(os.path.realpath(path), out_real):
        raise InputError(Code.OUTPUT_COLLISION, f"{given} lies in the place for the results, {out_real}.",
                         "Inputs outside of --out.", "Choose another --out.")
    if os.path.isdir(path):
        yield from _walk(path, out_real, unreadable)
    elif os.path.lexists(path) or (not glob.has_magic(path) and _is_image_name(path)):
        folder, base = os.path.split(path)
        yield _item(folder or ".", base)
    elif glob.has_magic(path):
        yield from _match(path, out_real)
    else:
        raise InputError(Code.FILE_MISSING, f"{given!r} does not exist.", "A file, a folder or a pattern.",
                         "Check the path.")


def _walk(root: str, out_real: str | None, unreadable: list[UnreadableFolder]) -> Iterator[InputItem]:
    """Pictures below a folder. A stack instead of recursion: depth is the user's business."""
    visited: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        relative = waiting.pop()
        folder = os.path.join(root, relative)
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited or _is_inside(os.path.realpath(folder), out_real):
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            message = f"The folder {os.path.join(root, relative)} cannot be read: {error.strerror}."
            unreadable.append(UnreadableFolder(_printable(folder), Code.FOLDER_UNREADABLE, _printable(message)))
            continue
        for entry in listed:
            if entry.name.startswith("."):
                continue
            below = os.path.join(relative, entry.name)
            if _is_folder(entry):
                waiting.append(below)
            elif _is_image_name(entry.name):
                yield _item(root, below)


def _match(pattern: str, out_real: str | None) -> Iterator[InputItem]:
    parts = pattern.split(os.sep)
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = os.sep.join(parts[:fixed]) or (os.sep if pattern.startswith(os.sep) else ".")
    if not os.path.isdir(root):
        raise InputError(Code.FILE_MISSING, f"{pattern!r} begins with {root!r}, which is not a folder.", "",
                         "Check the path.")
    for relative in glob.iglob(os.sep.join(parts[fixed:]), root_dir=root, recursive=True):
        path = os.path.join(root, relative)
        if _is_image_name(relative) and not os.path.isdir(path) and not _is_inside(os.path.realpath(path), out_real):
            yield _item(root, relative)


def _item(root: str, relative: str) -> InputItem:
    return InputItem(_printable(relative.replace(os.sep, "/")), root, relative)


def item_of(name: str, root: bytes, relative: bytes) -> InputItem:
    """An item whose paths were kept as the file system's bytes."""
    return InputItem(name, os.fsdecode(root), os.fsdecode(relative))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _is_inside(path: str, folder: str | None) -> bool:
    return folder is not None and (path == folder or path.startswith(folder.rstrip(os.sep) + os.sep))


def _printable(text: str) -> str:
    """File names are bytes; those that are not UTF-8 are shown as `\\xNN`."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
