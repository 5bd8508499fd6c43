"""HTTP whose answers come whole in time or not at all: the client's time-out is of each read alone, so a server that
sends a byte now and then would hold a call for ever, and one that never ends would fill the memory."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any

import httpcore2
import httpx2

from parsers.errors import Code, LlmError

MAX_ANSWER = 4_000_000
"""Bytes, with its headers. The longest answers that we ask for are a hundred times smaller."""


class BoundedTransport(httpx2.HTTPTransport):
    """The client's transport, with its time-out as the time of a whole attempt, from the connection to the last byte.
    An attempt is made and read in one thread, so the bounds are kept by threads."""

    def __init__(self, limits: httpx2.Limits) -> None:
        super().__init__(trust_env=False, limits=limits)
        self._pool._network_backend = _Backend()  # the pool takes one, but the transport passes none on

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Begins an attempt. Raises what the transport does, and LlmError (`llm-protocol`) for an endless answer."""
        _attempt.until = time.monotonic() + request.extensions["timeout"]["read"]
        _attempt.left = MAX_ANSWER
        return super().handle_request(request)


class _Attempt(threading.local):
    """The bounds of the attempt that a thread makes."""

    until = 0.0
    """Monotonic time."""
    left = 0
    """Bytes."""


_attempt = _Attempt()


class _Backend(httpcore2.SyncBackend):
    """Connections that keep to the bounds."""

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
                    socket_options: Iterable[Any] | None = None) -> httpcore2.NetworkStream:
        return _Stream(super().connect_tcp(host, port, _seconds_left(httpcore2.ConnectTimeout), local_address,
                                           socket_options))


class _Stream(httpcore2.NetworkStream):
    """A connection that keeps to the bounds."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._stream.read(max_bytes, _seconds_left(httpcore2.ReadTimeout))
        _attempt.left -= len(data)
        if _attempt.left < 0:
            raise LlmError(Code.LLM_PROTOCOL, f"A language model's answer has more than {MAX_ANSWER:,} bytes.",
                           "An answer of the OpenAI interface.", "Look at the server behind --llm.")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _seconds_left(httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, ssl_context: ssl.SSLContext, server_hostname: str | None = None,
                  timeout: float | None = None) -> httpcore2.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _seconds_left(httpcore2.ConnectTimeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _seconds_left(error: type[Exception]) -> float:
    """Of the attempt. Raises `error` where it is over."""
    left = _attempt.until - time.monotonic()
    if left <= 0:
        raise error("the attempt is over")
    return left
