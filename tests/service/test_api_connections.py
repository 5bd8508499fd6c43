"""Clients that break off, lie, dawdle or are too many, against a server that listens."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable
from unittest.mock import MagicMock
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import update

from service.api.patience import PatientProtocol
from service.api.segment import sweep
from workers.ledger.jobs import list_jobs
from workers.ledger.schema import jobs

DOG = {"classes": [{"id": 1, "name": "dog"}]}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
PATIENCE_S = 60.0


def connect(url: str) -> socket.socket:
    place = urlsplit(url)
    connection = socket.create_connection((place.hostname, place.port))
    connection.settimeout(PATIENCE_S)
    return connection


def wait_until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


@pytest.mark.parametrize(("head", "body"), [
    ("PUT /v1/uploads/anna/a.png", PNG), ("PUT /v1/uploads/anna/said.jsonl", b'{"name": "a'),
    ("POST /v1/segment?classes=dog", PNG), ("POST /v1/jobs", b'{"inputs": ["."]'), ("PUT /v1/uploads/anna/b.png", b"")])
def test_a_body_that_is_cut_off_is_no_defect_and_leaves_nothing(serve, data, caplog, head, body):
    """The head announces more than is sent; then the client is gone."""
    caplog.set_level(logging.INFO)
    connection = connect(serve())
    connection.sendall(f"{head} HTTP/1.1\r\nHost: site\r\nContent-Type: application/json\r\n"
                       "Content-Length: 5000\r\n\r\n".encode() + body)
    time.sleep(0.2)  # some of it is there
    connection.close()
    wait_until(lambda: any(record.message == "request" for record in caplog.records))
    assert [record.fields["status"] for record in caplog.records if record.message == "request"] == [400]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert [path for name in ("uploads", "outputs") for path in (data / name).rglob("*") if path.is_file()] == []


def test_a_head_that_never_ends_and_a_connection_without_one_are_closed(serve):
    """Slow clients hold no connection for long; those that ask are answered beside them."""
    url = serve(patience={"head_timeout_s": 0.3})
    silent, slow = connect(url), connect(url)
    slow.sendall(b"GET /health/live HTTP/1.1\r\nHost: site\r\nX-Slow: ")
    for connection in (silent, slow):
        assert connection.recv(100) == b""
        connection.close()
    with httpx.Client(trust_env=False) as quick:
        for _ in range(2):
            assert quick.get(f"{url}/health/live").status_code == 200
            time.sleep(0.1)


def test_who_reads_no_answer_holds_no_connection(serve):
    """Many questions at once, whose answers are more than all buffers hold, and none of which is taken."""
    url, number = serve(patience={"write_timeout_s": 0.3}), 500
    whole = number * len(httpx.get(f"{url}/openapi.json", trust_env=False).content)
    lazy = connect(url)
    lazy.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: site\r\n\r\n" * number)
    time.sleep(3)
    taken = 0
    with contextlib.suppress(ConnectionResetError):
        while piece := lazy.recv(1 << 16):
            taken += len(piece)
    lazy.close()
    assert 0 < taken < whole


def test_who_reads_slowly_is_waited_for():
    """A connection is closed when between two looks not a byte was taken."""
    class Transport:
        left = 2_000_000
        aborted = False

        def get_write_buffer_size(self) -> int:
            return self.left

        def abort(self) -> None:
            self.aborted = True

    class Loop:
        def __init__(self) -> None:
            self.due: list[Callable[[], None]] = []

        def call_later(self, _seconds: float, act: Callable[..., None], *given: object) -> None:
            self.due.append(lambda: act(*given))

    protocol = PatientProtocol.__new__(PatientProtocol)
    protocol.transport, protocol.loop, protocol.flow = Transport(), Loop(), MagicMock()
    protocol.pause_writing()
    for _ in range(5):
        protocol.transport.left -= 30_000
        protocol.loop.due.pop()()
    assert not protocol.transport.aborted
    protocol.loop.due.pop()()
    assert protocol.transport.aborted


def test_connections_above_the_number_that_is_allowed_are_told_when_to_come_back(serve):
    url = serve(patience={"max_connections": 2})
    held = [connect(url) for _ in range(2)]
    with httpx.Client(trust_env=False, timeout=PATIENCE_S) as http:
        answer = http.get(f"{url}/health/live")
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "too-many", answer.text
        assert answer.json()["error"]["next_step"] and int(answer.headers["Retry-After"]) > 0
        for connection in held:
            connection.close()
        wait_until(lambda: http.get(f"{url}/health/live").status_code == 200)


def test_what_a_killed_process_left_of_pictures_that_nobody_waits_for_is_taken_away(open_site, data, pictures):
    """Its folder and its job; neither those of a request that is under way nor what people asked for."""
    client = open_site(segment_timeout_s=1, body_timeout_s=1)
    site = client.app.state.site
    for name, age_s in ((".now-old", 3600), (".now-new", 0), ("june", 3600)):
        folder = data / "outputs" / name
        folder.mkdir()
        (folder / "picture").write_bytes(PNG)
        os.utime(folder, (time.time() - age_s,) * 2)
        job = client.post("/v1/jobs", json={"inputs": ["."], "vocabulary": DOG}).json()["job"]
        with site.ledger.write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job).values(out=str(folder / "out"),
                                                                           created=time.time() - age_s))
    sweep(site)
    assert [name for name in (".now-old", ".now-new", "june") if (data / "outputs" / name).exists()] == [
        ".now-new", "june"]
    assert sorted(job.out.split("/")[-2] for job in list_jobs(site.ledger)) == [".now-new", "june"]


def test_a_disk_that_fails_while_it_is_taken_away_harms_nothing(open_site, caplog, monkeypatch):
    def fail(_site: object) -> None:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr("service.api.segment.sweep", fail)
    client = open_site()
    wait_until(lambda: any("Stale file handle" in record.getMessage() for record in caplog.records))
    assert client.get("/v1/jobs").status_code == 200


def test_it_is_taken_away_when_the_next_process_begins(open_site, data):
    left = data / "outputs" / ".now-left"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    open_site()
    wait_until(lambda: not left.exists())
