"""The Python client against a real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from service.api.app import create_app
from service.api.settings import ApiSettings
from service.client import Client, SiteError
from tests.servers import free_port

DOG = {"classes": [{"id": 1, "name": "dog"}]}


class Losing(httpx.BaseTransport):
    """Loses the first answer, after the server has done what it was asked."""

    def __init__(self) -> None:
        self.inner, self.lost = httpx.HTTPTransport(), 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.inner.handle_request(request)
        if not self.lost:
            self.lost += 1
            response.read()
            response.close()
            raise httpx.ReadError("lost on the way")
        return response

    def close(self) -> None:
        self.inner.close()


@pytest.fixture
def serve(tmp_path, monkeypatch, models):
    """serve(...) -> the address of a site in another thread."""
    monkeypatch.setenv("LEXISEG_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LEXISEG_API_ROOTS", str(tmp_path / "pictures"))
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(**settings: object) -> str:
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(create_app(ApiSettings(**settings), open_to_all=True),
                                               host="127.0.0.1", port=port, log_config=None))
        thread = threading.Thread(target=server.run)
        thread.start()
        running.append((server, thread))
        while not server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{port}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join()


@pytest.fixture
def client(serve, pictures) -> Iterator[Client]:
    with Client(serve(), timeout_s=300) as made:
        yield made


def test_a_job_whose_answer_was_lost_is_not_entered_twice(client):
    losing = Losing()
    client.close()
    client._http = httpx.Client(base_url=client._http.base_url, transport=losing, timeout=300)
    job = client.submit(inputs=["."], vocabulary=DOG)
    assert losing.lost == 1
    assert [found["job"] for found in client.jobs()] == [job["job"]]
    assert client.submit(inputs=["."], vocabulary=DOG)["job"] != job["job"]  # another call is another job


def test_the_verbs_of_the_command_line(client, tmp_path):
    job = client.sample(inputs=["*.png"], vocabulary=DOG, count=2, out="june")["job"]
    assert client.show(job)["total"] == 3 and client.show(job)["priority"] == "interactive"
    found = client.verify(job)
    assert (found["whole"], found["files"], found["damaged"]) == (False, 0, [])
    client.pause(job)
    client.resume(job)
    assert client.cancel(job)["state"] == "cancelled"
    assert [now["state"] for now in client.watch(job)] == ["cancelled"]
    client.upload("ward-7", tmp_path / "pictures" / "one.png")
    assert client.uploads("ward-7") == ["one.png"]
    client.write_vocabulary("wards", DOG)
    client.remove_vocabulary("wards")
    with pytest.raises(SiteError) as gone:
        client.vocabulary("wards")
    assert gone.value.status == 404 and gone.value.next_step


def test_whoever_watches_where_all_places_are_taken_waits_and_then_says_so(serve, pictures, monkeypatch):
    waited: list[int] = []
    monkeypatch.setattr("service.client._patience_s", lambda response: waited.append(response.status_code) or 0.0)
    with Client(serve(max_waiting=1), timeout_s=300) as client:
        job = client.submit(inputs=["."], vocabulary=DOG)["job"]
        first = client.watch(job)
        assert next(first)["state"] == "running"
        with pytest.raises(SiteError) as full:
            next(client.watch(job))
        assert full.value.status == 429 and waited == [429] * 4
        client.cancel(job)
        assert [now["state"] for now in first][-1] == "cancelled"
