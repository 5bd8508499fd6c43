"""The Python client against a real server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

import service.api.exports
import service.api.jobs
from service.cli_jobs import jobs_app
from service.client import Client, SiteError
from tests.by_hand import do_job
from tests.llm_server import llm_server
from workers.ledger import open_ledger
from workers.ledger.jobs import get_job
from workers.ledger.schema import results
from workers.queue.settings import read_settings

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
def client(serve, pictures) -> Iterator[Client]:
    with Client(serve(), timeout_s=300) as made:
        yield made


def test_a_job_whose_answer_was_lost_is_not_entered_twice(client):
    losing = Losing()
    client.close()
    client._http = httpx.Client(base_url=client._http.base_url, transport=losing, timeout=300)
    job = client.submit(inputs=["."], vocabulary=DOG)
    assert losing.lost == 1
    assert [found["job"] for found in client.list()] == [job["job"]]
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


def test_each_verb_of_the_command_line_is_one_of_the_client():
    verbs = {command.name for command in jobs_app.registered_commands}
    assert len(verbs) > 10 and verbs - {name for name in vars(Client) if not name.startswith("_")} == set()


def test_an_estimate_counts_here_and_reckons_from_earlier_jobs_like_it(client, pictures, tmp_path):
    (pictures / "broken.png").write_bytes(b"no picture")
    wanted = {"inputs": ["."], "vocabulary": DOG, "refine": "none"}
    first = client.estimate(**wanted)
    size = sum(path.stat().st_size for path in pictures.iterdir())
    assert (first["images"], first["bytes"], first["unreadable"], first["measured"]) == (4, size, 1, 0)
    assert first["examples"] == [{"name": "broken.png", "code": "not-an-image"}]
    assert first["seconds"] == first["images_per_s"] == first["disk_bytes"] == 0 < first["free_bytes"]
    assert client.list() == [], "nothing is entered"
    ledger = open_ledger(read_settings().ledger)
    job = client.submit(**wanted, out="june")["job"]
    do_job(ledger, get_job(ledger, job))
    spend(ledger, (0.5, 0.9, 0.6), finished=(10.0, 10.2, 10.3))  # side by side
    again = client.estimate(**wanted)
    assert again["seconds"] == pytest.approx(0.3 + 0.5) and again["images_per_s"] == pytest.approx(3 / 0.8)
    spend(ledger, (0.5, 0.9, 0.6), finished=(10.0, 10.2, 99000.0))  # it was paused
    assert client.estimate(**wanted)["seconds"] == pytest.approx(0.5 + 0.9 + 0.6)
    ledger.close()
    masks = sum(path.stat().st_size for path in (tmp_path / "data" / "outputs" / "june" / "masks").iterdir())
    assert (again["measured"], again["disk_bytes"]) == (3, masks)
    assert client.estimate(**wanted, overlay=True)["measured"] == 0, "another job, of which nothing is known"


def spend(ledger, seconds, *, finished):
    """As if the pictures that were handed in had taken that long and been finished then."""
    with ledger.write() as connection:
        ids = connection.execute(select(results.c.item_id).where(results.c.files != "{}")
                                 .order_by(results.c.item_id)).scalars().all()
        for item, took, at in zip(ids, seconds, finished, strict=True):
            connection.execute(update(results).where(results.c.item_id == item).values(
                decode_s=0.1, score_s=took - 0.2, finish_s=0.1, finished=at))


def test_an_estimate_looks_at_no_file_that_may_not_be_read(client, pictures, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"no picture")
    (pictures / "link.png").symlink_to(tmp_path / "secret.png")
    for inputs in (["/etc"], ["."]):
        with pytest.raises(SiteError) as refused:
            client.estimate(inputs=inputs, vocabulary=DOG)
        assert (refused.value.status, refused.value.code) == (404, "file-missing")


def slowly(act: Callable[..., Any], calls: list[str], seconds: float = 3.0) -> Callable[..., Any]:
    """The same, after longer than the client of the next tests waits for a sign of life."""
    def slow(*given: Any, **options: Any) -> Any:
        calls.append(act.__name__)
        time.sleep(seconds)
        return act(*given, **options)

    return slow


@pytest.fixture
def hasty(client) -> Iterator[Client]:
    """A client of the same site that gives up after a second and a half of silence."""
    with Client(str(client._http.base_url), timeout_s=1.5) as made:
        yield made


def test_an_export_of_a_sample_that_takes_long_is_waited_for_and_asked_for_once(client, hasty, tmp_path, monkeypatch):
    calls: list[str] = []
    monkeypatch.setattr(service.api.exports, "export_job", slowly(service.api.exports.export_job, calls))
    job = client.sample(inputs=["*.png"], vocabulary=DOG, count=2)["job"]
    with pytest.raises(SiteError) as early:
        client.export(job, "coco", tmp_path / "coco")
    assert (early.value.status, early.value.code) == (409, "job-state")
    ledger = open_ledger(read_settings().ledger)
    do_job(ledger, get_job(ledger, job))
    ledger.close()
    while client.show(job)["state"] == "running":  # what was seen half a second ago is shown again
        time.sleep(0.05)
    assert client.show(job)["state"] == "sampled"
    found = hasty.export(job, "coco", tmp_path / "coco")
    assert calls == ["export_job"] and found["images"] >= 2 and (tmp_path / "coco" / "annotations.json").is_file()


def test_a_verification_that_takes_long_is_waited_for_and_asked_for_once(client, hasty, monkeypatch):
    calls: list[str] = []
    monkeypatch.setattr(service.api.jobs, "verify", slowly(service.api.jobs.verify, calls))
    job = client.submit(inputs=["*.png"], vocabulary=DOG)["job"]
    assert hasty.verify(job)["whole"] is False and calls == ["verify"]


def test_a_vocabulary_that_takes_long_to_build_is_waited_for_and_asked_for_once(client, hasty, monkeypatch, tmp_path):
    client.write_vocabulary("wards", DOG)
    with llm_server() as server:
        monkeypatch.setenv("LEXISEG_LLM", server.url)
        monkeypatch.setenv("LEXISEG_STORE", str(tmp_path / "answers.sqlite"))
        server.answer = slowly(lambda _: json.dumps({"names": ["poodle", "beagle"]}), [])
        built = hasty.build_vocabulary("wards", subclasses=2)
        assert server.calls == 1 and "poodle" in json.dumps(built["vocabulary"])
