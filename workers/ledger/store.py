"""Opening the ledger, and its transactions."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from parsers.errors import Code, JobError
from parsers.secrets import address, without_secrets
from workers.ledger.schema import migrate

_MARK = "INSERT INTO meta VALUES ('synced', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
"""It has to change something: a commit that changes nothing flushes nothing."""
BUSY_S = 60
"""Seconds that one writer of SQLite waits for another."""


class Ledger:
    """A ledger that is open. The functions beside this file take it as their first argument."""

    def __init__(self, engine: Engine, where: str, file: Path | None = None) -> None:
        self._engine = engine
        self.where = where
        """The path or URL, without a password."""
        self._file = file
        self._identity: tuple[int, int] | None = None
        self._writing: AbstractContextManager[Any] = nullcontext() if file is None else threading.Lock()
        """Threads of one process wait here for SQLite's one write lock: its own waiting is by sleeping and looking
        again, which lets some of many writers wait for seconds."""

    @property
    def folder(self) -> Path | None:
        """Where an SQLite file is."""
        return None if self._file is None else self._file.parent

    @property
    def is_postgresql(self) -> bool:
        return self._engine.dialect.name == "postgresql"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only looks. Raises JobError where the database does not answer."""
        self._look_at_file()
        with self._explained(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that changes something: all of it, or nothing if an exception leaves the block.

        In SQLite it takes the one write lock at its beginning, so it never fails half way because another writer was
        faster. Raises JobError where the database does not answer.
        """
        self._look_at_file()
        with self._explained(), self._writing, self._engine.connect() as connection:
            connection = connection.execution_options(lexiseg_write=True)
            with connection.begin():
                yield connection

    def sync(self) -> None:
        """Makes what was committed survive a power cut at once. Without it SQLite may lose the last transactions of
        before the cut, never a part of one.

        A commit with `synchronous=FULL` flushes the whole log, whoever wrote it. A checkpoint would do so too, but it
        waits for readers, and everybody who writes waits for it.
        """
        if self._engine.dialect.name == "sqlite":
            with self._explained(), self._writing, closing(self._engine.raw_connection()) as connection:
                cursor = connection.cursor()
                cursor.execute("PRAGMA synchronous=FULL")
                try:
                    cursor.execute(_MARK, (repr(time.time()),))  # commits by itself
                finally:
                    cursor.execute("PRAGMA synchronous=NORMAL")

    def close(self) -> None:
        self._engine.dispose()

    def _look_at_file(self) -> None:
        """SQLite would go on in a file that was removed, where nobody can find it, or begin an empty one. Raises
        JobError as long as the file is missing; one that took its place is opened anew."""
        if self._file is None:
            return
        identity = _identity(self._file)
        if identity is None and self._identity is not None:
            self._engine.dispose()
            raise JobError(Code.LEDGER_UNAVAILABLE, f"The ledger {self._file} was removed while it was in use.",
                           "The file with the jobs that were entered.", "Put it back; without it, submit the pictures "
                           "again into another --out.")
        if identity != self._identity:
            self._engine.dispose()
            self._identity = identity

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if isinstance(cause, sqlite3.OperationalError) and "full" in str(cause):
                raise JobError(Code.DISK_FULL, f"No space left for the ledger {self.where}.", "",
                               "Free space, then run again.") from error
            raise unavailable(self.where, str(cause)) from error
        except PoolTimeoutError as error:
            raise unavailable(self.where, "all connections of this process are busy") from error


def open_ledger(url: str, *, connections: int = 2) -> Ledger:
    """The ledger at a path, `sqlite:///path` or `postgresql://user@host/name`, made if missing and brought up to the
    present schema. connections: that are kept open; up to ten more are made for a moment when all of them are busy.
    Raises JobError (`ledger-unavailable`)."""
    ledger = connect(url, connections=connections)
    with ledger.write() as connection:
        if ledger.is_postgresql:  # two may come at once to an empty database
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7283945)")
        migrate(connection)
    return ledger


def connect(url: str, *, connections: int = 2) -> Ledger:
    """The ledger as it is: nothing is made or changed but the folder of an SQLite file. Raises JobError."""
    url, file = normal_url(url), None
    try:
        if url.startswith("sqlite"):
            file = Path(url.removeprefix("sqlite:///"))
            file.parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(url, pool_size=connections,
                                   connect_args={"timeout": BUSY_S, "check_same_thread": False})
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        else:
            engine = create_engine(url, pool_pre_ping=True, pool_size=connections,
                                   connect_args={"connect_timeout": 10})
    except (OSError, ArgumentError, NoSuchModuleError, ImportError) as error:
        raise unavailable(address(url), str(error)) from error
    return Ledger(engine, address(engine.url.render_as_string(hide_password=True)), file)


def normal_url(url: str) -> str:
    """A path becomes the URL of an SQLite file, a PostgreSQL URL names its driver."""
    if "://" not in url:
        return f"sqlite:///{Path(url).expanduser().absolute()}"
    scheme, rest = url.split("://", 1)
    return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else url


def unavailable(where: str, why: str) -> JobError:
    """The error for a database that does not answer."""
    why = " ".join(without_secrets(why).split())[:300]
    return JobError(Code.LEDGER_UNAVAILABLE, f"The ledger {where} cannot be used: {why}.",
                    "A path in a folder in which you may write, or the URL of a PostgreSQL that answers.",
                    "Check LEXISEG_LEDGER and the server, then run the command again.")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say so
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    is_write = connection.get_execution_options().get("lexiseg_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")
