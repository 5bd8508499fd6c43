"""Clients that send the head of a request slowly, or never: their connection is closed."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class PatientProtocol(H11Protocol):
    """As uvicorn's, but a head has to be there in time. (Bodies are watched by `guard.BodyLimit`, connections without a
    request by the keep-alive timer of uvicorn.)"""

    head_timeout_s = 20.0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_watch()
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


def patient_protocol(head_timeout_s: float) -> type[PatientProtocol]:
    """The protocol with that patience, in seconds."""
    return type("PatientProtocol", (PatientProtocol,), {"head_timeout_s": head_timeout_s})
