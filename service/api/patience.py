"""Clients that send the head of a request slowly, read no answer, or are too many: their connection is closed."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.api.errors import Failure, answer


class PatientProtocol(H11Protocol):
    """As uvicorn's, but a head has to be there in time, an answer has to be taken, and connections above the number
    that is allowed are told so in the shape of every other failure. (Bodies are watched by `guard.BodyLimit`,
    connections without a request by the keep-alive timer of uvicorn.)"""

    head_timeout_s = 20.0
    write_timeout_s = 60.0
    max_connections = 1000
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self.app = _crowded
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def pause_writing(self) -> None:
        """The buffers are full: the client has so long to read some of what it asked for."""
        super().pause_writing()
        self._watch_reading(None)

    def _watch_reading(self, unread: int | None) -> None:
        """Looks again and again whether the client took something. unread: bytes at the last look."""
        now = self.transport.get_write_buffer_size()
        if unread is not None and now >= unread:
            self.transport.abort()
        else:
            self._write_timer = self.loop.call_later(self.write_timeout_s, self._watch_reading, now)

    def resume_writing(self) -> None:
        self._end_write_watch()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_watch()
        self._end_write_watch()
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        """The time runs while a head is being waited for, from its first byte, or from the connection on."""
        if self.conn.their_state is not h11.IDLE:
            self._end_watch()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self.transport.close)

    def _end_watch(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_write_watch(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


async def _crowded(scope: Any, receive: Any, send: Any) -> None:
    """What a connection above the number that is allowed is told."""
    response = answer(503, Failure(code="too-many", message="Too many connections are open.",
                                   next_step="Ask again in ten seconds."))
    response.headers["Connection"] = "close"
    await response(scope, receive, send)


def patient_protocol(head_timeout_s: float, *, write_timeout_s: float = PatientProtocol.write_timeout_s,
                     max_connections: int = PatientProtocol.max_connections) -> type[PatientProtocol]:
    """The protocol with that patience, in seconds, and for so many connections at once."""
    return type("PatientProtocol", (PatientProtocol,), {
        "head_timeout_s": head_timeout_s, "write_timeout_s": write_timeout_s, "max_connections": max_connections})
