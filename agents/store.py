"""The store of answers: what a language model said once is not asked again. An SQLite file by default, a PostgreSQL
database for several machines.

An answer is found by the digest of everything that it depends on: model, prompt, schema, input, sampling. Beside the
record the store keeps the text that the model wrote and how the record came about, so a person can look it up.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from agents.records import Outcome
from parsers.errors import Code, LlmError, MissingPackageError
from parsers.files import canonical_json, sha256_bytes
from parsers.secrets import address, without_secrets

FORMAT_VERSION = 1
NO_STORE = "none"
"""In place of a store: answers are not kept."""
BUSY_S = 10.0
"""Seconds that one process waits for another that is writing."""
KEY_PARTS = ("task", "model_digest", "prompt_digest", "schema_digest", "input_digest", "sampling")
COLUMNS = ("answer_key", "task", "model", "model_digest", "prompt_digest", "schema_digest", "input_digest", "sampling",
           "outcome", "problems", "record", "raw", "made_at")
_AS_JSON = ("sampling", "problems", "record", "raw")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One answer and everything that it depends on."""

    task: str
    model: str
    """Its name, for people; the digest counts."""
    model_digest: str
    prompt_digest: str
    schema_digest: str
    input_digest: str
    sampling: Mapping[str, float | int]
    outcome: Outcome = "first"
    problems: tuple[str, ...] = ()
    """Why answers were refused."""
    record: Mapping[str, Any] = field(default_factory=dict)
    raw: tuple[str, ...] = ()
    """What the model wrote: one text, or two after a repair."""
    made_at: str = ""
    """ISO 8601 in UTC."""

    def filled(self, *, outcome: Outcome, problems: tuple[str, ...], record: Mapping[str, Any],
               raw: list[str]) -> Entry:
        """The entry of an answer that was just given."""
        return replace(self, outcome=outcome, problems=problems, record=record, raw=tuple(raw),
                       made_at=datetime.now(UTC).isoformat(timespec="seconds"))


def entry_key(entry: Entry) -> str:
    """Hexadecimal sha256 over KEY_PARTS. The model's name, the answer and its time do not count."""
    return sha256_bytes(canonical_json({name: getattr(entry, name) for name in KEY_PARTS}))


class Store(Protocol):
    """Where answers are kept. Safe in threads and between processes."""

    def get(self, key: str) -> Entry | None:
        """The answer under a key. Raises LlmError (`store-unavailable`)."""

    def put(self, entry: Entry) -> bool:
        """Keeps an answer; one that is there already stays. False if another process held the store all the time.
        Raises LlmError (`store-unavailable`)."""

    def entries(self) -> Iterator[Entry]:
        """All answers in the order of their keys. Raises LlmError (`store-unavailable`)."""

    def outcomes(self) -> dict[tuple[str, str], int]:
        """How many answers there are, by task and outcome. Raises LlmError (`store-unavailable`)."""

    def close(self) -> None: ...


def open_store(where: str | Path, *, busy_s: float = BUSY_S) -> Store:
    """The store in an SQLite file (made if missing) or at a URL `postgresql://user@host/name`.

    Raises LlmError (`store-unavailable`): damaged, of another version, not to be read or written;
    MissingPackageError for PostgreSQL without its driver.
    """
    text, path = str(where), store_file(where)
    if path is not None:
        return SqlStore(lambda: _open_sqlite(path, busy_s), "?", str(path))
    if not text.startswith(("postgresql://", "postgres://")):
        raise unavailable(address(text), "this kind of address is not known")
    return SqlStore(lambda: _open_postgres(text), "%s", address(text))


def store_file(where: str | Path) -> Path | None:
    """The file of a store in SQLite; None for one at another kind of address."""
    text = str(where).removeprefix("sqlite:///")
    return None if "://" in text else Path(text).expanduser()


def is_store(path: Path) -> bool:
    """Whether a file is a store of answers; nothing is written. Raises LlmError (`store-unavailable`)."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'knowledge_info'").fetchone())
    except sqlite3.Error as error:
        raise unavailable(str(path), str(error)) from error


class SqlStore:
    """One connection, used by one thread at a time; a statement takes far less than a call of a model. A connection
    that the database gave up, as when it was started again, is made anew once for each statement."""

    def __init__(self, connect: Callable[[], Any], mark: str, where: str) -> None:
        self._connect, self._mark, self._where = connect, mark, where
        self._connection = connect()
        self._lock = threading.Lock()
        with self._statements() as run:
            self._prepare(run)

    def get(self, key: str) -> Entry | None:
        with self._statements() as run:
            row = run(f"SELECT {', '.join(COLUMNS)} FROM knowledge_answers WHERE answer_key = {self._mark}",
                      (key,)).fetchone()
        return None if row is None else self._entry(row)

    def put(self, entry: Entry) -> bool:
        values = asdict(entry) | {"answer_key": entry_key(entry)}
        row = [json.dumps(values[name], ensure_ascii=True) if name in _AS_JSON else values[name] for name in COLUMNS]
        try:
            with self._statements() as run:
                run(f"INSERT INTO knowledge_answers ({', '.join(COLUMNS)}) "
                    f"VALUES ({', '.join([self._mark] * len(COLUMNS))}) ON CONFLICT DO NOTHING", row)
        except LlmError as error:
            if _is_busy(error.__cause__):
                return False
            raise
        return True

    def entries(self) -> Iterator[Entry]:
        with self._statements() as run:
            rows = run(f"SELECT {', '.join(COLUMNS)} FROM knowledge_answers ORDER BY answer_key").fetchall()
        return (self._entry(row) for row in rows)

    def outcomes(self) -> dict[tuple[str, str], int]:
        with self._statements() as run:
            rows = run("SELECT task, outcome, count(*) FROM knowledge_answers GROUP BY task, outcome").fetchall()
        return {(task, outcome): number for task, outcome, number in rows}

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _prepare(self, run: Any) -> None:
        if self._mark == "%s":  # two machines may come at once to an empty database
            run("SELECT pg_advisory_lock(7283946)")
        for statement in _SCHEMA:
            run(statement)
        run(f"INSERT INTO knowledge_info (name, value) VALUES ('format_version', '{FORMAT_VERSION}') "
            "ON CONFLICT DO NOTHING")
        version = run("SELECT value FROM knowledge_info WHERE name = 'format_version'").fetchone()[0]
        if self._mark == "%s":
            run("SELECT pg_advisory_unlock(7283946)")
        if version != str(FORMAT_VERSION):
            self._connection.close()
            raise LlmError(Code.STORE_UNAVAILABLE, f"The store of answers {self._where} has format_version {version}.",
                           f"This lexiseg reads format_version {FORMAT_VERSION}.",
                           "Use the lexiseg that wrote it, or give another --store.")

    def _entry(self, row: Any) -> Entry:
        values = dict(zip(COLUMNS[1:], row[1:], strict=True))
        try:
            values |= {name: json.loads(values[name]) for name in _AS_JSON}
        except ValueError as error:
            raise unavailable(self._where, f"the answer {row[0][:12]} is damaged") from error
        return Entry(**values | {"problems": tuple(values["problems"]), "raw": tuple(values["raw"])})

    @contextmanager
    def _statements(self) -> Iterator[Any]:
        """Runs statements, each a transaction of its own, with what a database raises explained."""
        with self._lock:
            try:
                yield self._run
            except LlmError:
                raise
            except Exception as error:  # each driver has its own
                raise unavailable(self._where, str(error)) from error


    def _run(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """Runs one statement. All of them can be repeated: nobody knows what became of one that broke off."""
        try:
            return self._connection.execute(statement, values)
        except Exception:
            if not getattr(self._connection, "closed", False):  # a file is never given up
                raise
            self._connection = self._connect()
            return self._connection.execute(statement, values)


def unavailable(where: str, why: str) -> LlmError:
    """The error for a store that cannot be used."""
    said = " ".join(without_secrets(why).split())[:200]
    return LlmError(Code.STORE_UNAVAILABLE, f"The store of answers {where} cannot be used: {said}.",
                    "An SQLite file that lexiseg made, a new path, or the URL of a PostgreSQL that answers.",
                    "Give another --store, or --store none to ask the model each time.")


def _open_sqlite(path: Path, busy_s: float) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise unavailable(str(path), str(error)) from error
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
    except sqlite3.Error as error:
        connection.close()
        raise unavailable(str(path), str(error)) from error
    return connection


def _open_postgres(url: str) -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise MissingPackageError(Code.PACKAGE_MISSING, "A store in PostgreSQL needs the package psycopg.", "",
                                  "pip install 'lexiseg[postgres]'") from error
    try:
        return psycopg.connect(url, autocommit=True, connect_timeout=10)
    except psycopg.Error as error:
        raise unavailable(address(url), str(error)) from error


def _is_busy(error: BaseException | None) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS knowledge_info (name VARCHAR(40) PRIMARY KEY, value TEXT NOT NULL)",
    f"CREATE TABLE IF NOT EXISTS knowledge_answers ({COLUMNS[0]} VARCHAR(64) PRIMARY KEY, "
    f"{', '.join(f'{name} TEXT NOT NULL' for name in COLUMNS[1:])})",
)
