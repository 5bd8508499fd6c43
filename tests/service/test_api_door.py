"""What the API does before it does anything: who may come in, one look for many, and a place for everyone."""

from __future__ import annotations

import asyncio
import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest

import service.api.site
import service.api.uploads
from parsers.errors import Code, JobError
from service.api.app import create_app
from service.api.errors import ApiError
from service.api.settings import ApiSettings, read_api_settings
from service.api.site import Site
from service.api.tokens import add_token
from workers.ledger import open_ledger
from workers.queue.settings import QueueSettings

DOG = {"classes": [{"id": 1, "name": "dog"}]}


@pytest.fixture
def app(tmp_path, monkeypatch, models):
    monkeypatch.setenv("LEXISEG_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LEXISEG_API_ROOTS", str(tmp_path / "pictures"))

    def make(*, open_to_all: bool = False, **settings: Any):
        return create_app(ApiSettings(**settings), open_to_all=open_to_all)

    return make


def ask(app: Any, method: str, path: str, *messages: dict[str, Any], **headers: str) -> tuple[int, bytes, int]:
    """A request by hand: status, body, and how many of the messages of its body were taken."""
    left, sent = list(messages), []

    async def receive() -> dict[str, Any]:
        return left.pop(0) if left else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
             "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http",
             "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
             "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent), len(messages) - len(left)


@pytest.mark.parametrize(("method", "path"), [
    ("POST", "/v1/jobs"), ("PUT", "/v1/uploads/a/a.png"), ("POST", "/v1/segment"), ("PUT", "/v1/vocabularies/a"),
    ("GET", "/nowhere"), ("GET", "/metrics")])
@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Bearer ", "Basic YTpi", "Bearer \u00e9"])
def test_of_a_stranger_not_a_byte_is_read(app, method, path, authorization):
    body = {"type": "http.request", "body": b"{" * 1000, "more_body": True}
    headers = {"content-type": "application/json"} | ({} if authorization is None else {"authorization": authorization})
    status, text, taken = ask(app(), method, path, *[body] * 3, **headers)
    assert (status, taken) == (401, 0)
    assert "tokens add" in json.loads(text)["error"]["next_step"]


def test_a_list_of_tokens_that_cannot_be_read_lets_nobody_in_and_says_no_path(app, caplog):
    path = read_api_settings().tokens
    secret = add_token(path, "anna", "admin")
    path.write_text("{}}")
    status, text, _ = ask(app(), "GET", "/v1/jobs", authorization=f"Bearer {secret}")
    assert status == 503 and str(path) not in text.decode() and "who runs the site" in text.decode()
    assert str(path) in caplog.text and secret not in caplog.text


def test_a_stream_gives_its_place_back_even_if_nobody_reads_it(app, pictures):
    site = app(open_to_all=True, max_waiting=1)
    request = json.dumps({"inputs": ["."], "vocabulary": DOG}).encode()
    _, made, _ = ask(site, "POST", "/v1/jobs", {"type": "http.request", "body": request},
                     **{"content-type": "application/json"})
    for _ in range(3):
        status, _, _ = ask(site, "GET", f"/v1/jobs/{json.loads(made)['job']}/events", {"type": "http.request"})
        assert status == 200
        assert site.state.site.streams._value == 1


def test_a_disk_that_fills_up_during_an_upload_ends_it(app, tmp_path, monkeypatch):
    monkeypatch.setattr(service.api.uploads, "CHECKED_BYTES", 1000)
    free = iter([1 << 40, 1 << 40, 0])
    monkeypatch.setattr(service.api.site.shutil, "disk_usage", lambda _: SimpleNamespace(free=next(free)))
    pieces = [b"\x89PNG\r\n\x1a\n" + bytes(100)] + [bytes(900)] * 10
    status, text, taken = ask(app(open_to_all=True), "PUT", "/v1/uploads/a/a.png",
                              *({"type": "http.request", "body": piece, "more_body": True} for piece in pieces))
    assert status == 507 and json.loads(text)["error"]["code"] == "disk-full" and taken < len(pieces)
    assert [path for path in (tmp_path / "data" / "uploads").rglob("*") if path.is_file()] == []


def test_a_job_that_takes_long_to_look_at_holds_up_no_other_and_is_looked_at_once(monkeypatch):
    is_looking, may_end, looks = threading.Event(), threading.Event(), []

    def look(_ledger: object, job_id: str) -> str:
        looks.append(job_id)
        if job_id == "a":
            is_looking.set()
            assert may_end.wait(60)
        return f"seen {job_id}"

    monkeypatch.setattr(service.api.site, "read_progress", look)
    monkeypatch.setattr(service.api.site, "FRESH_S", 60)
    site = Site(settings=ApiSettings(), ledger=None, open_to_all=True, streams=None, singles=None)
    seen: list[object] = []
    threads = [threading.Thread(target=lambda: seen.append(site.progress("a"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert is_looking.wait(60)
    assert site.progress("b") == "seen b" and site.fresh_progress("b") == "seen b"
    assert site.fresh_progress("a") is None
    may_end.set()
    for thread in threads:
        thread.join()
    assert seen == ["seen a"] * 4 and looks == ["a", "b"]
    site.forget("a")
    site.progress("a")
    assert looks == ["a", "b", "a"]


def test_a_job_that_is_not_there_leaves_no_trace_and_a_ledger_that_is_away_is_another_failure(tmp_path, monkeypatch):
    site = Site(settings=ApiSettings(), ledger=open_ledger(str(tmp_path / "l.sqlite")), open_to_all=True, streams=None,
                singles=None)
    with pytest.raises(ApiError) as missing:
        site.progress("abc")
    assert missing.value.status == 404 and site._looks == {}

    def away(*_: object) -> None:
        raise JobError(Code.LEDGER_UNAVAILABLE, "It is away.", "", "Start it.")

    monkeypatch.setattr(service.api.site, "read_progress", away)
    with pytest.raises(JobError):
        site.progress("abc")
    site.ledger.close()


def test_the_broker_is_asked_once_in_a_while_however_many_strangers_ask(monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(service.api.site, "broker_problem", lambda settings: asked.append(settings.broker))
    site = Site(settings=ApiSettings(), ledger=None, open_to_all=True, streams=None, singles=None)
    for _ in range(5):
        assert site.broker_problem(QueueSettings(broker="redis://127.0.0.1:1/0")) is None
    site.broker_problem(QueueSettings(broker="redis://127.0.0.1:2/0"))
    assert asked == ["redis://127.0.0.1:1/0", "redis://127.0.0.1:2/0"]


def test_no_trace_of_a_request_is_sent_anywhere_whatever_the_environment_says(app, monkeypatch, caplog):
    """FastAPI can send spans, bodies included, to an address in the environment."""
    from fastapi.testclient import TestClient

    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    with TestClient(app(open_to_all=True)) as client:
        assert client.get("/health/live").status_code == 200
    assert "elemetry" not in caplog.text
