"""The numbers of a site: what is counted, from where, and how often others are asked for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import func, select

import workers.queue.stall
from tests.by_hand import do_job
from tests.servers import rabbitmq_server, redis_server
from workers.ledger.dispatch import hand_out, note_dispatcher
from workers.ledger.jobs import get_job, list_jobs, take_calls
from workers.ledger.schema import results
from workers.queue.app import QUEUES, make_app
from workers.queue.settings import read_settings

DOG = {"classes": [{"id": 1, "name": "dog"}]}


def number(site, line: str) -> float:
    """The value of that line of /metrics."""
    found = [text.removeprefix(f"{line} ") for text in site.get("/metrics").text.splitlines()
             if text.startswith(f"{line} ")]
    assert len(found) == 1, (line, found)
    return float(found[0])


def submit(site, number: int = 1) -> list[str]:
    return [site.post("/v1/jobs", json={"inputs": ["."], "vocabulary": DOG}).json()["job"] for _ in range(number)]


@pytest.fixture
def broker(request, tmp_path, monkeypatch) -> Iterator[str]:
    """The named broker, as that of the environment."""
    with ExitStack() as stack:
        start = {"filesystem": lambda: "filesystem", "rabbitmq": lambda: stack.enter_context(rabbitmq_server()),
                 "redis": lambda: stack.enter_context(redis_server(tmp_path))}[request.param]
        monkeypatch.setenv("LEXISEG_BROKER", start())
        yield request.param


def test_seconds_of_each_stage_and_shards_by_state(site, pictures):
    [job] = submit(site)
    assert number(site, 'lexiseg_shards{state="waiting"}') == 1
    ledger = site.app.state.site.ledger
    do_job(ledger, get_job(ledger, job))
    assert number(site, 'lexiseg_shards{state="closed"}') == 1
    assert "waiting" not in site.get("/metrics").text.split("lexiseg_shards{", 1)[1].split("\n# ", 1)[0]
    for stage in ("decode", "score", "finish"):
        with ledger.read() as connection:
            spent = connection.execute(select(func.sum(results.c[f"{stage}_s"]))).scalar_one()
        assert number(site, f'lexiseg_stage_seconds_total{{stage="{stage}"}}') == pytest.approx(spent) and spent > 0


def test_calls_of_the_language_model_are_counted_also_where_no_answer_was_kept(site, pictures):
    first, second = submit(site, 2)
    assert number(site, "lexiseg_jobs_llm_calls") == 0
    for job, calls in ((first, 3), (second, 4)):
        assert take_calls(site.app.state.site.ledger, job, calls, 100) == calls
    assert number(site, "lexiseg_jobs_llm_calls") == 7


@pytest.mark.parametrize("broker", ["filesystem", "redis", pytest.param("rabbitmq", marks=pytest.mark.integration)],
                         indirect=True)
def test_messages_that_nobody_has_taken_are_counted_by_queue(site, broker):
    with make_app(read_settings()) as app:
        for _ in range(2):
            app.send_task("lexiseg.shard", args=("a", 1, "b"), queue="gpu.batch")
        app.send_task("lexiseg.finalise", args=("a", "b"), queue="export.interactive")
    text = site.get("/metrics").text
    assert {queue: number(site, f'lexiseg_queue_messages{{queue="{queue}"}}') for queue in QUEUES} == {
        queue: 0 for queue in QUEUES} | {"gpu.batch": 2, "export.interactive": 1}, text


def test_of_a_queue_that_does_not_answer_nothing_is_said(site, monkeypatch):
    monkeypatch.setenv("LEXISEG_BROKER", "redis://127.0.0.1:1/0")
    text = site.get("/metrics").text
    assert "lexiseg_queue_messages{" not in text and 'lexiseg_jobs{state="running"} 0.0' in text


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_workers_are_asked_once_however_many_jobs_stand_still(site, broker, pictures, monkeypatch):
    """On Redis each question takes two seconds where nobody answers."""
    asked: list[str] = []
    count_workers = workers.queue.stall.count_workers
    monkeypatch.setattr(workers.queue.stall, "count_workers",
                        lambda settings, kind: asked.append(kind) or count_workers(settings, kind))
    ledger = site.app.state.site.ledger
    submit(site, 7)
    monkeypatch.setenv("LEXISEG_STALL_S", "0.01")
    note_dispatcher(ledger, "here")
    for job in list_jobs(ledger)[:6]:
        hand_out(ledger, get_job(ledger, job.id), 4)
    assert number(site, 'lexiseg_stalled_jobs{reason="no-worker"}') == 6
    assert asked == ["gpu"]
