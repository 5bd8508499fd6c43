"""What a person sees: results on standard output; errors, warnings and progress on standard error.

Colours and moving bars appear on a terminal only; what is piped is plain text without control characters.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from parsers.errors import LexisegError


def console(stderr: bool = False) -> Console:
    """A Rich console on the present standard output or error."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, soft_wrap=True, force_terminal=None if stream.isatty() else False)


def printable(text: str) -> str:
    """`text` with escapes in place of characters that would steer a terminal or cannot be written."""
    return "".join(char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
                   for char in text)


def say(text: str, style: str = "", stderr: bool = False) -> None:
    """One line (or several) in one style; square brackets mean nothing special."""
    from rich.text import Text

    console(stderr).print(Text(printable(text), style=style))


def say_json(value: Any) -> None:
    """`value` as JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def warn(messages: Iterable[str]) -> None:
    """Warnings, each on a line of its own."""
    for message in messages:
        say(f"warning: {message}", "yellow", stderr=True)


def show_error(error: LexisegError, as_json: bool = False) -> None:
    """What was given, what is allowed and what to do next."""
    if as_json:
        say_json({"format_version": 1, "error": {"code": str(error.code), "given": error.given,
                                                 "allowed": error.allowed, "next_step": error.next_step}})
        return
    say(f"error [{error.code}]: {error.given}", "bold red", stderr=True)
    if error.allowed:
        say(f"  allowed: {error.allowed}", stderr=True)
    if error.next_step:
        say(f"  next:    {error.next_step}", "bold", stderr=True)


@contextmanager
def progress(description: str, unit: str = "images", *, hidden: bool = False,
             ) -> Iterator[Callable[[int, int | None], None]]:
    """A bar with rate and time left, on a terminal; nothing elsewhere or if `hidden`. Gives update(done, total); the
    total may be unknown (None)."""
    if hidden or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
               TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bars:
        task = bars.add_task(description, total=None, rate="")
        started = time.monotonic()

        def update(done: int, total: int | None) -> None:
            rate = done / max(time.monotonic() - started, 1e-9)
            bars.update(task, completed=done, total=total, rate=f"{rate:.1f} {unit}/s")

        yield update
