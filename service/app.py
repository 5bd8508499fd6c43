"""The Typer group behind `lexiseg`: every failure ends in a short message and an exit code that means something.

    0    all done
    1    a check found something wrong, or an unexpected error
    2    what was given cannot be used; the message says what is allowed and what to do next
    3    the job is done, but some pictures failed
    130  stopped with Ctrl-C
"""

from __future__ import annotations

import os
import tempfile
import traceback
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

ClickException: Any = typer.BadParameter.__mro__[2]
"""What bad options raise. Typer carries click inside itself in newer versions and beside itself in older ones."""

EXIT_CHECK_FAILED, EXIT_USER_ERROR, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 1, 2, 3, 130


class LexisegGroup(TyperGroup):
    """Turns exceptions into messages. `--json` anywhere among the arguments asks for errors as JSON, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["lexiseg.json"] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:
            as_json = ctx.meta["lexiseg.json"]
            if isinstance(error, ClickException) and not as_json:
                raise
            raise typer.Exit(report_failure(error, as_json)) from error


def report_failure(error: BaseException, as_json: bool) -> int:
    """Says what went wrong and returns the exit code. Imports what it needs, since `--help` needs none of it."""
    from parsers.errors import Code, LexisegError
    from service.console import say, show_error

    if isinstance(error, KeyboardInterrupt):
        say("Stopped. What was finished is kept; nothing is left half-written.", stderr=True)
        return EXIT_INTERRUPTED
    if isinstance(error, LexisegError):
        show_error(error, as_json)
        return EXIT_USER_ERROR
    if isinstance(error, ClickException):
        given = getattr(error, "format_message", error.__str__)()
        show_error(LexisegError(Code.SETTING_INVALID, given, "", "lexiseg COMMAND --help"), as_json)
        return EXIT_USER_ERROR
    message = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    next_step = f"The details are in {save_traceback(error)}; then try: lexiseg doctor"
    show_error(LexisegError(Code.INTERNAL, f"Unexpected: {message}", "", next_step), as_json)
    return 1


def cache_dir() -> Path:
    """Where lexiseg keeps what it can make again: LEXISEG_CACHE, else `lexiseg` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("LEXISEG_CACHE") or Path(base) / "lexiseg")


def save_traceback(error: BaseException) -> Path:
    """Writes the traceback of an exception to a file and says where; the temporary folder serves if the cache
    cannot be written."""
    for folder in (cache_dir(), Path(tempfile.gettempdir())):
        path = folder / "lexiseg-error.txt"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return path
    return Path(os.devnull)
