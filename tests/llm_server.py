"""A small HTTP server on loopback with the OpenAI interface that answers, and misbehaves, as a test tells it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """One answer: a completion with `text`, or whatever else the fields say."""

    text: str = ""
    finish: str = "stop"
    status: int = 200
    body: str | None = None
    """In place of a completion."""
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    drop: bool = False
    """The connection breaks in the middle of the body."""
    drip: str = ""
    """"body" or "headers": a byte of it every 20 ms, and no end."""


Answerer = Callable[[dict[str, Any]], "str | Reply"]


class LlmServer:
    """Gives the replies of `script` one after the other, then what `answer` makes of the request."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self.script: deque[str | Reply] = deque()
        self.answer: Answerer = lambda request: "{}"
        self.models: Any = {"object": "list", "data": [{"id": "stub", "object": "model", "owned_by": "tests"}]}
        self.requests: list[dict[str, Any]] = []
        """Bodies of the chat calls, in order."""
        self.headers: list[dict[str, str]] = []
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()

    def says(self, *replies: str | Reply) -> None:
        """The next replies."""
        self.script.extend(replies)

    @property
    def calls(self) -> int:
        return len(self.requests)

    def question(self, call: int = -1) -> str:
        """The text of the last turn of a call."""
        content = self.requests[call]["messages"][-1]["content"]
        return content if isinstance(content, str) else content[-1]["text"]

    def reply(self, request: dict[str, Any], headers: dict[str, str]) -> Reply:
        with self.lock:
            self.requests.append(request)
            self.headers.append(headers)
            scripted = self.script.popleft() if self.script else None
        found = scripted if scripted is not None else self.answer(request)
        return found if isinstance(found, Reply) else Reply(found)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    stub: LlmServer

    def do_GET(self) -> None:
        self._send(200 if self.path == "/v1/models" else 404, json.dumps(self.stub.models), {})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.stub.lock:
            self.stub.in_flight += 1
            self.stub.most_in_flight = max(self.stub.most_in_flight, self.stub.in_flight)
        try:
            reply = self.stub.reply(request, dict(self.headers))
            time.sleep(reply.wait_s)
        finally:
            with self.stub.lock:
                self.stub.in_flight -= 1
        if reply.drip:
            self._drip(reply.drip)
            return
        self._send(reply.status, completion(reply) if reply.body is None else reply.body, reply.headers, reply.drop)

    def _drip(self, part: str) -> None:
        with contextlib.suppress(OSError):  # a client that gave up
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
            self.wfile.write(b"Content-Length: 1000000\r\n\r\n{" if part == "body" else b"X-Name: ")
            self.wfile.flush()
            for _ in range(500):
                time.sleep(0.02)
                self.wfile.write(b" " if part == "body" else b"x")
                self.wfile.flush()
        self.close_connection = True

    def _send(self, status: int, body: str, headers: dict[str, str], drop: bool = False) -> None:
        data = body.encode()
        with contextlib.suppress(OSError):  # a client that gave up
            self.send_response(status)
            fields = {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}
            for name, value in fields.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data[:len(data) // 2] if drop else data)
        self.close_connection = self.close_connection or drop

    def log_message(self, format: str, *args: Any) -> None:
        pass


def completion(reply: Reply) -> str:
    """The body of a chat completion."""
    return json.dumps({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "stub",
        "choices": [{"index": 0, "finish_reason": reply.finish,
                     "message": {"role": "assistant", "content": reply.text}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})


@contextlib.contextmanager
def llm_server() -> Iterator[LlmServer]:
    """A server that is running."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    stub = handler.stub = LlmServer(server.server_address[1])
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
