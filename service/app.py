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

ClickException = typer.BadParameter.__mro__[2]
"""What bad options raise. Typer carries click inside itself in newer versions and beside itself in older ones."""

EXIT_CHECK_FAILED, EXIT_USER_ERROR, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 1, 2, 3, 130


class LexisegGroup(TyperGroup):
    """Turns exceptions into messages. `--json` anywhere among the arguments asks for errors as JSON, too."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        ctx.meta["lexiseg.json"] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: typer.Context) -> Any:
        from parsers.errors import Code, LexisegError, SettingError
        from service.console import say, show_error

        as_json = ctx.meta["lexiseg.json"]
        try:
            return super().invoke(ctx)
        except LexisegError as error:
            show_error(error, as_json)
            raise typer.Exit(EXIT_USER_ERROR) from error
        except KeyboardInterrupt:
            say("Stopped. What was finished is kept; nothing is left half-written.", stderr=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except ClickException as error:
            if not as_json:
                raise
            show_error(SettingError(Code.SETTING_INVALID, error.format_message(), "", "lexiseg COMMAND --help"), as_json)
            raise typer.Exit(EXIT_USER_ERROR) from error
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except Exception as error:
            where = save_traceback()
            message = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            show_error(LexisegError(Code.INTERNAL, f"Unexpected: {message}", "",
                                    f"The details are in {where}; then try: lexiseg doctor"), as_json)
            raise typer.Exit(1) from error


def cache_dir() -> Path:
    """Where lexiseg keeps what it can make again: LEXISEG_CACHE, else `lexiseg` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("LEXISEG_CACHE") or Path(base) / "lexiseg")


def save_traceback() -> Path:
    """Writes the present exception's traceback to a file and says where; the temporary folder serves if the cache
    cannot be written."""
    for folder in (cache_dir(), Path(tempfile.gettempdir())):
        path = folder / "lexiseg-error.txt"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return path
    return Path(os.devnull)
