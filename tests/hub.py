"""A hub of models on loopback: what `lexiseg models pull` asks of a real one, and no more."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"
TAGGED = "89abcdef0123456789abcdef0123456789abcdef"
TAG = "v1"
"""A name of the revision TAGGED; every other name, such as main, is one of REVISION."""


class Hub:
    """Repositories with files. Files of 1 KiB and more are "large": the hub gives their sha256."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.lies: set[str] = set()
        """Names of files whose bytes are not what their digest says."""
        self.asked: list[str] = []

    def put(self, repository: str, folder: Path, *left_out: str) -> None:
        self.repositories[repository] = {path.name: path.read_bytes() for path in sorted(folder.iterdir())
                                         if path.is_file() and path.name not in left_out}

    def describe(self, repository: str, revision: str = "main") -> dict[str, Any]:
        """What the hub says of a repository."""
        siblings = []
        for name, data in self.repositories[repository].items():
            sibling: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git_digest(data)}
            if len(data) >= 1024:
                sibling["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            siblings.append(sibling)
        return {"id": repository, "modelId": repository, "sha": TAGGED if revision in (TAG, TAGGED) else REVISION,
                "siblings": siblings, "private": False,
                "tags": [], "downloads": 0, "likes": 0, "cardData": {"license": "mit"}}


def git_digest(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        for repository, files in self.hub.repositories.items():
            if path.startswith(f"/api/models/{repository}/revision/") or path == f"/api/models/{repository}":
                told = self.hub.describe(repository, path.rpartition("/revision/")[2])
                self._send(200, json.dumps(told).encode(), {}, with_body)
                return
            revision, _, name = path.removeprefix(f"/{repository}/resolve/").partition("/")
            if revision in (REVISION, TAGGED) and name in files:
                data = files[name]
                digest = hashlib.sha256(data).hexdigest() if len(data) >= 1024 else git_digest(data)
                sent = b"\0" * len(data) if name in self.hub.lies else data
                self._send(200, sent, {"ETag": f'"{digest}"', "X-Repo-Commit": revision}, with_body)
                return
        self._send(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"}, with_body)

    def _send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            with contextlib.suppress(OSError):
                self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub that is running."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub = handler.hub = Hub(server.server_address[1])
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
