"""`lexiseg doctor` of the HTTP API: does it answer, who may come in, and can its folders be used from here?"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from parsers.errors import LexisegError
from service.check import Check
from service.serve import is_loopback
from service.site import api_problem

if TYPE_CHECKING:
    from service.api.settings import ApiSettings

PREFIX = "LEXISEG_API_"
ADDRESS = f"{PREFIX}URL"
"""Where the API of the site listens, as this machine sees it; nothing but `lexiseg doctor` reads it."""
PROBE = os.urandom(16)


def check_api() -> list[Check]:
    """All of it; empty where nothing says that this machine has to do with an API."""
    try:
        from service.api.settings import read_api_settings
    except ImportError:  # a machine without 'lexiseg[api]'
        return []
    try:
        settings = read_api_settings()
    except LexisegError as error:
        return [Check(name="api settings", state="missing", found=error.given, next_step=error.next_step)]
    if not any(name.startswith(PREFIX) for name in os.environ) and not os.path.exists(settings.tokens) \
            and not os.path.exists(settings.outputs):
        return []
    url = os.environ.get(ADDRESS)
    return [*(check_address(url) if url else []), check_tokens(settings.tokens, url), *check_folders(settings)]


def check_address(url: str) -> list[Check]:
    """Does an API answer there?"""
    try:
        problem = api_problem(url)
    except LexisegError as error:
        return [Check(name="api", state="missing", found=f"{ADDRESS} is {url!r}, which is no http://HOST:PORT",
                      next_step=error.next_step)]
    if problem is not None:
        return [Check(name="api", state="missing", found=problem,
                      next_step=f"lexiseg serve there (docker compose up --detach api), or correct {ADDRESS}")]
    return [Check(name="api", state="ok", found=f"{url} answers")]


def check_tokens(path: Path, url: str | None) -> Check:
    """Is the list of tokens its owner's alone, and is there one where others than this machine may ask?"""
    from service.api.tokens import read_tokens

    try:
        number = len(read_tokens(path))
    except LexisegError as error:
        next_step = error.next_step
        if isinstance(error.__cause__, PermissionError):
            next_step = f"As its owner: chown {process_owner()} {path}; the API reads it as the user who runs it."
        return Check(name="tokens", state="missing", found=error.given, next_step=next_step)
    if not number:
        host = urlsplit(url).hostname if url else None
        if host is None or is_loopback(host):
            return Check(name="tokens", state="ok", found=f"none in {path}; the API serves this machine alone")
        return Check(name="tokens", state="missing", found=f"none in {path}, and {url} can be reached from other "
                     "machines", next_step="lexiseg tokens add NAME --scope submit")
    rights = stat.S_IMODE(path.stat().st_mode)
    if rights & 0o077:
        return Check(name="tokens", state="warning", found=f"{number} in {path}, whose mode is {rights:o}: others may "
                     "look at it or change it", next_step=f"chmod 600 {path}")
    return Check(name="tokens", state="ok", found=f"{number} in {path}")


def check_folders(settings: ApiSettings) -> list[Check]:
    """Those of results, uploads and vocabularies, with a small file that is taken away again; those of pictures."""
    checks = [check_written(name, folder) for name, folder in (
        ("results", settings.outputs), ("uploads", settings.uploads), ("vocabularies", settings.vocabularies))]
    for folder in settings.readable:
        if folder != settings.uploads.resolve() and not os.access(folder, os.R_OK | os.X_OK):
            checks.append(Check(name="pictures", state="missing", found=f"{folder} cannot be read", next_step="Mount "
                                f"it, correct its rights, or take it out of {PREFIX}ROOTS."))
    return checks


def check_written(name: str, folder: Path) -> Check:
    """Does a folder give back what is written into it?"""
    title = f"folder of {name}"
    there = next(one for one in (folder, *folder.absolute().parents) if os.path.exists(one))
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".lexiseg-doctor-") as file:
            file.write(PROBE)
            file.flush()
            os.fsync(file.fileno())
            whole = Path(file.name).read_bytes() == PROBE
    except OSError as error:
        return Check(name=title, state="missing", found=f"{there} cannot be written: {error.strerror}",
                     next_step=f"Mount it writable, chown {process_owner()} {there}, or set {PREFIX}"
                     f"{'OUTPUTS' if name == 'results' else name.upper()}.")
    if not whole:
        return Check(name=title, state="missing", found=f"{there} does not give back what was written",
                     next_step="Look at that disk or share: dmesg, mount")
    return Check(name=title, state="ok", found=str(folder) if there == folder else f"{folder}, to be made")


def process_owner() -> str:
    """The user and group that this process runs as, for chown."""
    return f"{os.geteuid()}:{os.getegid()}"
