"""Where ledger and queue are, and how patient everybody is. Read from the environment, so that every process of a site
agrees."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from parsers.errors import Code, SettingError
from parsers.secrets import address

SERVERS = ("redis://", "rediss://", "redis+socket://", "amqp://", "amqps://")
"""How the addresses of brokers begin: Redis and RabbitMQ."""


def data_dir() -> Path:
    """Where lexiseg keeps what must not be lost: LEXISEG_DATA, else `lexiseg` in the user's data folder."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(os.environ.get("LEXISEG_DATA") or Path(base) / "lexiseg")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """Each field is read from LEXISEG_ and its name in capitals."""

    ledger: str = field(default_factory=lambda: str(data_dir() / "ledger.sqlite"))
    """Path of an SQLite file on a local disk, or postgresql://user@host/name."""
    broker: str = "filesystem"
    """`filesystem` (a folder beside the ledger), redis://host:port/number or amqp://user:password@host:port//."""
    lease_s: float = 30.0
    """Seconds after which work is taken from a worker that gives no sign of life; it gives one every third of it."""
    stale_s: float = 120.0
    """Seconds after which a message that nobody has begun is sent again; twice as long after each time."""
    stall_s: float = 300.0
    """Seconds without a result, a description or a step of its end after which a job is reported as stalled, and its
    messages are sent again if they may be lost."""
    window: int = 16
    """Shards of one job that are under way at once. Small, so that pausing and other jobs act fast."""
    shard_limit_s: float = 600.0
    """Seconds after which a shard's process is taken for hung and killed (while its pictures are described: the rest
    of the shard waits for the next message); below the hour after which a broker would send its message a second
    time."""

    min_free_mb: float = 200.0
    """Megabytes that stay free where OUT is and where an SQLite ledger is: with less, a job is stopped before the disk
    is full. 0: never."""

    max_llm_calls: int = 10_000_000
    """Calls of the language model that one job without candidates may make, whatever it asks for itself."""

    def __post_init__(self) -> None:
        if self.max_llm_calls < 1:
            raise SettingError(Code.SETTING_INVALID, f"LEXISEG_MAX_LLM_CALLS is {self.max_llm_calls}.", "1 or more.",
                               "Leave it out for the default.")
        if not 0 <= self.min_free_mb < math.inf:
            raise SettingError(Code.SETTING_INVALID, f"LEXISEG_MIN_FREE_MB is {self.min_free_mb}.",
                               "Megabytes, 0 or more.", "Leave it out for the default.")
        for name in ("lease_s", "stale_s", "stall_s", "window", "shard_limit_s"):
            value, limit = getattr(self, name), 3000
            if not 0 < value <= limit:
                raise SettingError(Code.SETTING_INVALID, f"LEXISEG_{name.upper()} is {value}.",
                                   f"A number above 0 and at most {limit}.", "Leave it out for the default.")
        if self.broker != "filesystem" and not self.broker.startswith(SERVERS):
            raise SettingError(Code.SETTING_INVALID, f"LEXISEG_BROKER is {address(self.broker)!r}.",
                               f"filesystem, or an address that begins with {', '.join(SERVERS)}.",
                               "Leave it out for the default.")

    def environment(self) -> dict[str, str]:
        """The variables from which `read_settings` makes these settings, for the processes that are to share them."""
        return {_variable(entry.name): str(getattr(self, entry.name)) for entry in fields(self)}

    @property
    def broker_folder(self) -> Path:
        """Of the `filesystem` broker: beside an SQLite ledger, else in the data folder."""
        path = self.ledger.removeprefix("sqlite:///")
        return Path(path + ".queue") if "://" not in path else data_dir() / "queue"


def read_settings(environment: Mapping[str, str] | None = None) -> QueueSettings:
    """The settings in the environment. Those of addresses, which may hold passwords, may be in a file that
    LEXISEG_LEDGER_FILE or LEXISEG_BROKER_FILE names. Raises SettingError."""
    environment = os.environ if environment is None else environment
    values: dict[str, str | float | int] = {}
    for entry in fields(QueueSettings):
        text = environment.get(_variable(entry.name))
        if not text and entry.name in ("ledger", "broker"):
            text = _from_file(environment, _variable(entry.name) + "_FILE")
        if not text:
            continue
        try:
            values[entry.name] = int(text) if entry.type == "int" else float(text) if entry.type == "float" else text
        except ValueError as error:
            raise SettingError(Code.SETTING_INVALID, f"{_variable(entry.name)} is {text!r}.", "A number.",
                               "Leave it out for the default.") from error
    return QueueSettings(**values)  # type: ignore[arg-type]


def _from_file(environment: Mapping[str, str], variable: str) -> str | None:
    """What is in the file that a variable names, as container engines hand over secrets."""
    path = environment.get(variable)
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(Code.SETTING_INVALID, f"{variable} is {path!r}, which cannot be read: {error}.",
                           "A file with one address.", "sh deploy/secrets.sh makes those of compose.yaml.") from error


def _variable(name: str) -> str:
    return f"LEXISEG_{name.upper()}"
