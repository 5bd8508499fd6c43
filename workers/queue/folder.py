"""The embedded broker: a folder with one file for each message, for the processes of one machine.

A message appears whole, under a name that sorts by the time of day, and belongs to the one reader that removes its
file. A reader that dies with it loses it: the ledger sends another. A routing key is the name of a queue, so nothing
but messages is kept, and nothing in the folder can be stale or half-written.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.utils.json import dumps, loads

SCHEME = "lexiseg-folder"
POLLING_S = 0.05
MAX_MESSAGE = 65_536
"""Bytes; ours have less than 1 KB."""
_number = itertools.count()
log = logging.getLogger("lexiseg")


class Channel(virtual.Channel):
    """Messages as files `<time>_<number>_<random>.<queue>.msg`."""

    def __init__(self, connection: Any, **options: Any) -> None:
        super().__init__(connection, **options)
        self.folder = Path(connection.client.transport_options["folder"])

    def _put(self, queue: str, message: Any, **_: Any) -> None:
        name = f"{time.time_ns():020}_{next(_number) % 10**6:06}_{uuid.uuid4().hex}"
        temporary = self.folder / f"{name}.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_text(dumps(message))
            os.replace(temporary, self.folder / f"{name}.{queue}.msg")
        except OSError as error:
            raise ChannelError(f"Cannot add a message to {self.folder}: {error.strerror}") from error

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        for name in sorted(self._names(queue)):
            path = self.folder / name
            try:
                with path.open("rb") as file:
                    data = file.read(MAX_MESSAGE)
                path.unlink()
            except FileNotFoundError:  # another reader was faster
                continue
            message = _message_of(data)
            if message is not None:
                return message
            log.warning("%s was no message and was thrown away", path)
        raise Empty

    def _poll(self, cycle: Any, callback: Callable[..., None], timeout: float | None = None) -> None:
        """A message of the first queue that has one: what is urgent is consumed first."""
        for queue in self._active_queues:
            with contextlib.suppress(Empty):
                return self._get_and_deliver(queue, callback)
        raise Empty

    def _size(self, queue: str) -> int:
        return len(self._names(queue))

    def _purge(self, queue: str) -> int:
        names = self._names(queue)
        for name in names:
            (self.folder / name).unlink(missing_ok=True)
        return len(names)

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return True

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> list[str]:
        return [routing_key]

    def _names(self, queue: str) -> list[str]:
        try:
            return [name for name in os.listdir(self.folder) if name.endswith(f".{queue}.msg")]
        except FileNotFoundError:  # somebody removed it; the next message makes it again
            return []

    def basic_ack(self, delivery_tag: Any, multiple: bool = False) -> None:
        super().basic_ack(delivery_tag, multiple)
        if self.connection is not None:  # else it is being closed
            self.connection.look_soon()


class Transport(virtual.Transport):
    """Looks into the folder from Celery's event loop.

    A transport outside of that loop makes Celery share one pipe among the processes of a pool, which a process that is
    killed while it waits locks for ever, and lets acknowledgements wait for up to two seconds.
    """

    Channel = Channel
    implements = virtual.Transport.implements.extend(asynchronous=True, exchange_type=frozenset(["direct"]))
    driver_type = driver_name = "folder"
    default_port: Any = 0
    _call_soon: Callable[[Callable[[], None]], Any] | None = None

    def driver_version(self) -> str:
        return "1"

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        self._call_soon = loop.call_soon
        loop.call_repeatedly(POLLING_S, self._look)

    def look_soon(self) -> None:
        """Somebody has time for another message."""
        if self._call_soon is not None:
            self._call_soon(self._look)

    def _look(self) -> None:
        cycle: Any = self.cycle
        with contextlib.suppress(Empty):
            while True:  # until there is no message, or nobody has time for one
                cycle.get(self._deliver)


def options(folder: Path) -> dict[str, Any]:
    """What Celery needs to know of a broker's folder, which is made."""
    messages = folder / "messages"
    messages.mkdir(parents=True, exist_ok=True)
    return {"folder": str(messages), "polling_interval": POLLING_S}


def _message_of(data: bytes) -> Any:
    """The message in a file; None if what is there can be none."""
    try:
        message = loads(data.decode())
    except ValueError:
        return None
    properties = message.get("properties") if isinstance(message, dict) else None
    is_message = isinstance(properties, dict) and "delivery_tag" in properties and "delivery_info" in properties
    return message if is_message else None


TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"
