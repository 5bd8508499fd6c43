"""What the routes stand on, and who may come in."""

from __future__ import annotations

import asyncio
import glob
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import func, select

from parsers.errors import Code, InputError, JobError, OutputError
from service.api.errors import ApiError
from service.api.settings import ApiSettings
from service.api.tokens import RANK, Scope, Token, read_tokens
from workers.ledger import JobRow, Ledger
from workers.ledger.jobs import get_job
from workers.ledger.schema import jobs
from workers.ledger.states import JobState
from workers.progress import JobProgress, read_progress
from workers.queue.health import broker_problem
from workers.queue.settings import QueueSettings
from workers.spec import CandidateFree

FRESH_S = 0.5
"""Progress that is not older is given again: many people look at one job."""
BROKER_FRESH_S = 5.0
"""What the broker's server said is good for so long: strangers may ask for readiness, and each question is a
connection."""
ENTERING = 2
"""Jobs that are entered at once. Each is a dozen statements and a flush of the disk, and all wait for one lock in
SQLite: more of them would only take the threads and the processor from those who look at their jobs."""
SINGLES = ".now-"
"""Folders of single pictures that somebody waits for begin so; no job may."""
OPEN = (JobState.SUBMITTING, JobState.RUNNING, JobState.FINALISING)
_bearer = HTTPBearer(auto_error=False, description="A token of: lexiseg tokens add NAME --scope read|submit|admin")


@dataclass(slots=True)
class _Look:
    """The last look at a job. Who looks holds the lock, so that many who ask at once cause one look, and those who ask
    for another job do not wait."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    at: float = float("-inf")
    seen: JobProgress | None = None


@dataclass(slots=True)
class Site:
    """One API process."""

    settings: ApiSettings
    ledger: Ledger
    open_to_all: bool
    """No token is asked for. Only for servers that listen on loopback."""
    streams: threading.Semaphore
    """How many may follow jobs at once."""
    singles: threading.Semaphore
    """How many may wait for one picture at once."""
    entering: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ENTERING))
    """Who enters a job."""
    llm: tuple[float, CandidateFree | None] = (0.0, None)
    """When the language model was last asked whether it is there (monotonic seconds), and what it is."""
    _tokens: tuple[float, tuple[Token, ...]] = (-1.0, ())
    _looks: dict[str, _Look] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _broker: tuple[str, float, str | None] = ("", float("-inf"), None)
    _broker_lock: threading.Lock = field(default_factory=threading.Lock)
    _alone: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For what takes long or much memory, such as asking whether the language model is there and reading a whole
        file of descriptions: one request at a time does it. Raises ApiError (429)."""
        if not self._alone.acquire(blocking=False):
            raise ApiError(429, "too-many", "Descriptions are being read, or the language model is being asked whether "
                           "it is there.", "Ask again in half a minute.")
        try:
            yield
        finally:
            self._alone.release()

    def tokens(self) -> tuple[Token, ...]:
        """The tokens of the file as it is now."""
        try:
            changed = self.settings.tokens.stat().st_mtime_ns
        except OSError:
            return ()
        if changed != self._tokens[0]:
            self._tokens = (changed, read_tokens(self.settings.tokens))
        return self._tokens[1]

    def progress(self, job_id: str) -> JobProgress:
        """How far a job is, at most half a second ago. Raises ApiError (404), JobError."""
        with self._lock:
            if len(self._looks) > 1000:
                self._looks.clear()
            look = self._looks.setdefault(job_id, _Look())
        with look.lock:
            if look.seen is None or time.monotonic() - look.at > FRESH_S:
                began = time.monotonic()
                try:
                    look.seen = read_progress(self.ledger, job_id)
                except JobError as error:
                    self.forget(job_id)
                    raise (_no_job(job_id) if error.code == Code.JOB_MISSING else error) from error
                look.at = began
            return look.seen

    def fresh_progress(self, job_id: str) -> JobProgress | None:
        """What `progress` would say without asking the ledger; None if it would ask."""
        look = self._looks.get(job_id)
        return None if look is None or time.monotonic() - look.at > FRESH_S else look.seen

    def forget(self, job_id: str) -> None:
        """The next look at a job is a new one."""
        with self._lock:
            self._looks.pop(job_id, None)

    def job(self, job_id: str) -> JobRow:
        """A job by its whole id. Raises ApiError (404)."""
        job = get_job(self.ledger, job_id)
        if job is None:
            raise _no_job(job_id)
        return job

    def broker_problem(self, settings: QueueSettings) -> str | None:
        """None if the queue answered in the last seconds, else why it did not."""
        if settings.broker == "filesystem":
            return broker_problem(settings)
        with self._broker_lock:
            if self._broker[0] != settings.broker or time.monotonic() - self._broker[1] > BROKER_FRESH_S:
                problem = broker_problem(settings)
                self._broker = (settings.broker, time.monotonic(), problem)
            return self._broker[2]

    def check_disk(self) -> None:
        """Raises ApiError (507) where the disk is nearly full."""
        folder = self.settings.outputs
        while not folder.exists():
            folder = folder.parent
        if shutil.disk_usage(folder).free < self.settings.disk_floor:
            raise ApiError(507, Code.DISK_FULL, "The disk of the results is nearly full.",
                           "Free space, or lower LEXISEG_API_DISK_FLOOR.")

    def check_room(self) -> None:
        """Whether another job may come in. Raises ApiError: 507 where the disk is nearly full, 429 where too many jobs
        are open."""
        self.check_disk()
        with self.ledger.read() as connection:
            number = connection.execute(select(func.count()).where(jobs.c.state.in_(OPEN))).scalar_one()
        if number >= self.settings.max_open_jobs:
            raise ApiError(429, "too-many", f"{self.settings.max_open_jobs} jobs are open already.",
                           "Come back when some are done.")

    def inside(self, text: str) -> Path:
        """A path that a person gave, absolute or relative to one of the roots, links resolved; or a pattern (`*`, `?`,
        `[...]`, `**`) that begins in one of them and matches something. Raises InputError."""
        refused = InputError(Code.FILE_MISSING, f"{text[:200]!r} is not in a folder that the API may read.",
                             "A path below one of LEXISEG_API_ROOTS, or an upload.", "Ask who runs the site.")
        if "\0" in text or "://" in text:
            raise refused
        for root in self.settings.readable:
            path = Path(os.path.realpath(root / text))
            if path.is_relative_to(root) and path.exists():
                return path
        parts = PurePath(text).parts
        fixed = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))
        rest = os.path.join(*parts[fixed:], "")[:-1]
        for root in self.settings.readable if rest and ".." not in parts else ():
            folder = os.path.realpath(root.joinpath(*parts[:fixed]))
            if Path(folder).is_relative_to(root) and next(glob.iglob(rest, root_dir=folder, recursive=True), None):
                return Path(glob.escape(folder), rest)
        raise refused

    def is_readable(self, path: str) -> bool:
        """Whether a file lies below a root after links are resolved."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(root) for root in self.settings.readable)

    def output(self, name: str) -> Path:
        """The folder for results of that name, below `outputs`. Raises OutputError."""
        path = Path(os.path.realpath(self.settings.outputs / name)) if "\0" not in name else None
        outputs = Path(os.path.realpath(self.settings.outputs))
        if path is None or path == outputs or not path.is_relative_to(outputs) or Path(name).is_absolute() \
                or path.relative_to(outputs).parts[0].startswith(SINGLES):
            raise OutputError(Code.OUTPUT_UNWRITABLE, f"out is {name[:200]!r}.", "A name such as ward-7/june.",
                              "Leave it out for a name of its own.")
        return path


def _no_job(job_id: str) -> ApiError:
    return ApiError(404, Code.JOB_MISSING, f"There is no job {job_id[:40]!r}.", "GET /v1/jobs lists all.")


def the_site(request: Request) -> Site:
    return request.app.state.site


def allowed(scope: Scope) -> Callable[..., Any]:
    """A dependency: the site, for who holds a token of that scope; `guard.Door` has looked whose it is. Raises
    ApiError (403)."""

    async def check(request: Request,
                    _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)] = None) -> Site:
        site = the_site(request)
        if site.open_to_all:
            return site
        token: Token = request.state.token
        if RANK[token.scope] < RANK[scope]:
            raise ApiError(403, "token-scope", f"The token {token.name!r} may {token.scope}; this needs {scope}.",
                           f"Ask for: lexiseg tokens add NAME --scope {scope}")
        return site

    return check


Reader = Annotated[Site, Depends(allowed("read"))]
Submitter = Annotated[Site, Depends(allowed("submit"))]
Admin = Annotated[Site, Depends(allowed("admin"))]
