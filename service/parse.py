"""`lexiseg parse`: descriptions as scene priors, a tree for a person or JSON for a program."""

from __future__ import annotations

import itertools
import json
import os
import stat
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from parsers.errors import Code, InputError, SettingError
from parsers.priors import ObjectPrior, ScenePriors
from parsers.reader import SceneReader
from service.console import console, printable, progress, say_json, warn

if TYPE_CHECKING:
    from rich.tree import Tree

BATCH = 256
"""Texts that are parsed together; results come out after each batch."""
STDIN = "-"


def run_parse(text: str | None, file: str | None, *, as_json: bool, jsonl: bool, pipeline: Path | None,
              use_head: bool | None) -> None:
    """Parses one text, or each line of a file, and writes what it says to standard output.

    Raises SettingError, InputError (a file that cannot be read), ModelError, MissingPackageError.
    """
    if (text is None) == (file is None):
        given = "Neither TEXT nor --file." if text is None else "TEXT and --file."
        raise SettingError(Code.SETTING_INVALID, given, "One of the two.", 'For example: lexiseg parse "two red dogs"')
    if as_json and (jsonl or file is not None):
        raise SettingError(Code.SETTING_INVALID, f"--json and {'--jsonl' if jsonl else '--file'}.",
                           "--json for one text; --jsonl for the lines of a file.", "Leave --json out.")
    reader = SceneReader(pipeline, use_head)
    if text is not None:
        write([os.fsencode(text).decode("utf-8", "replace")], reader, as_json=as_json, jsonl=jsonl)
        return
    with open_input(str(file)) as lines:
        parse_lines(lines, reader, jsonl)


def parse_lines(lines: BinaryIO, reader: SceneReader, jsonl: bool) -> None:
    """Parses a file line by line; an empty line is an empty text, so that line N of the results belongs to line N.
    Bytes that are not UTF-8 become U+FFFD, with a warning at the end."""
    damaged = done = 0
    total = None if sys.stdout.isatty() or not sys.stderr.isatty() else count_lines(lines)
    with progress("parsing", "texts", hidden=sys.stdout.isatty()) as update:
        while batch := list(itertools.islice(lines, BATCH)):
            texts = [line.rstrip(b"\r\n").decode("utf-8", "replace") for line in batch]
            damaged += sum("\ufffd" in text and "\ufffd".encode() not in line
                           for text, line in zip(texts, batch, strict=True))
            texts[0] = texts[0].removeprefix("\ufeff") if done == 0 else texts[0]
            write(texts, reader, as_json=False, jsonl=jsonl)
            done += len(texts)
            update(done, total)
    if damaged:
        warn([f"{damaged} of {done} lines are not UTF-8; what could not be read became U+FFFD."])


def write(texts: list[str], reader: SceneReader, *, as_json: bool, jsonl: bool) -> None:
    """Parses the texts and writes their priors in one of the three ways."""
    for priors in reader.read(texts):
        if as_json:
            say_json(priors.model_dump(mode="json"))
        elif jsonl:
            sys.stdout.write(json.dumps(priors.model_dump(mode="json"), ensure_ascii=False, allow_nan=False) + "\n")
        else:
            console().print(scene_tree(priors), soft_wrap=False)
    sys.stdout.flush()


def scene_tree(priors: ScenePriors) -> Tree:
    """The objects with their counts, attributes and relations, below the text:

        two dogs chase a red ball, no cars
        |-- dogs (dog) x2
        |   `-- chase > ball
        |-- ball: red
        `-- not there: cars
    """
    from rich.text import Text
    from rich.tree import Tree

    names = Counter(thing.name for thing in priors.objects)
    labels = [printable(thing.name if names[thing.name] == 1 else f"{thing.name} #{number}")
              for number, thing in enumerate(priors.objects, start=1)]
    tree = Tree(Text(printable(priors.text), style="bold"))
    for number, thing in enumerate(priors.objects):
        branch = tree.add(Text(labels[number] + printable(details(thing))))
        for relation in priors.relations:
            if relation.subject == number:
                branch.add(Text(f"{printable(relation.predicate)} > {labels[relation.object]}"))
    if priors.absent:
        tree.add(Text(f"not there: {printable(', '.join(priors.absent))}"))
    if priors.reason is not None or not tree.children:
        reason = f" ({priors.reason})" if priors.reason else ""
        tree.add(Text(f"{'not all was read' if tree.children else 'nothing found'}{reason}"))
    return tree


def details(thing: ObjectPrior) -> str:
    """What follows the name of an object: its lemma if it is another word, its count above one, its attributes."""
    lemma = "" if thing.lemma == thing.name else f" ({thing.lemma})"
    count = f" x{thing.count}" if thing.count > 1 else ""
    return lemma + count + (f": {', '.join(thing.attributes)}" if thing.attributes else "")


def open_input(name: str) -> BinaryIO:
    """The file called `name`, or standard input for "-". Raises InputError."""
    if name == STDIN:
        return sys.stdin.buffer
    try:
        file = open(name, "rb")  # noqa: SIM115  # the caller closes it
    except OSError as error:
        code = Code.FILE_MISSING if isinstance(error, FileNotFoundError) else Code.FILE_UNREADABLE
        raise InputError(code, f"{name} cannot be read: {error.strerror}.", "A text file with one description a line.",
                         "Check the path; - reads standard input.") from error
    return file


def count_lines(file: BinaryIO) -> int | None:
    """The lines of a file that can be read twice; None for a pipe."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return None
    start = file.tell()
    count, last = 0, b"\n"
    while block := file.read(2**20):
        count, last = count + block.count(b"\n"), block[-1:]
    file.seek(start)
    return count + (last != b"\n")

