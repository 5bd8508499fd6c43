"""Why a job stands still, as a person is told."""

from __future__ import annotations

import json
import logging
import time

import pytest
from sqlalchemy import update

from tests.llm_server import llm_server
from tests.servers import free_port
from workers.ledger import claim, hand_on, open_ledger
from workers.ledger.dispatch import begin_finalising, hand_out, note_dispatcher
from workers.ledger.jobs import get_job
from workers.ledger.notes import MOVED
from workers.ledger.schema import items, jobs, meta, shards
from workers.queue.app import make_app
from workers.queue.dispatch import Dispatcher
from workers.queue.settings import QueueSettings
from workers.queue.stall import REASONS, find_stall
from workers.submit import submit


@pytest.fixture
def old_job(tmp_path, make_spec):
    """A ledger, and a job in it that was entered and sent out long ago."""
    ledger = open_ledger(str(tmp_path / "l.sqlite"))
    job = submit(ledger, make_spec()).job

    def make(*, sent: bool = True, dispatched: bool = True, **values):
        if sent:
            hand_out(ledger, job, 16)
        if dispatched:
            note_dispatcher(ledger, "here")
        with ledger.write() as connection:
            connection.execute(update(jobs).values(created=time.time() - 1000, **values))
            connection.execute(update(shards).where(shards.c.published.is_not(None)).values(
                published=time.time() - 1000))
        return ledger, get_job(ledger, job.id)

    yield make
    ledger.close()


def settings(tmp_path, **values) -> QueueSettings:
    return QueueSettings(**{"ledger": str(tmp_path / "l.sqlite"), "stall_s": 10.0} | values)


def reason(tmp_path, ledger, job, **values) -> str:
    stall = find_stall(ledger, job, settings(tmp_path, **values))
    assert stall.reason in REASONS and stall.message and stall.next_step and stall.seconds > 900
    return stall.reason


def test_a_job_that_gets_on_has_none(tmp_path, old_job):
    ledger, job = old_job()
    assert find_stall(ledger, job, settings(tmp_path, stall_s=2000.0)) is None


def test_nobody_sends_messages(tmp_path, old_job):
    assert reason(tmp_path, *old_job(sent=False, dispatched=False)) == "no-dispatcher"


def test_the_queue_is_away(tmp_path, old_job):
    assert reason(tmp_path, *old_job(), broker=f"redis://127.0.0.1:{free_port()}/0") == "broker-unavailable"


def test_a_worker_refuses(tmp_path, old_job):
    assert reason(tmp_path, *old_job(error_code="worker-differs", error="It has another model.")) == "worker-refuses"


def test_a_worker_holds_pictures(tmp_path, old_job):
    ledger, job = old_job()
    claim(ledger, 1, "me", 60)
    assert reason(tmp_path, ledger, job) == "worker-busy"


def test_messages_may_be_lost_and_the_dispatcher_sends_them_again(tmp_path, old_job, caplog):
    ledger, job = old_job()
    assert reason(tmp_path, ledger, job) == "waiting"
    mine = settings(tmp_path, stall_s=0.05, stale_s=3000.0, lease_s=3000.0)  # no other repair is due
    dispatcher = Dispatcher(ledger, make_app(mine), mine)
    with caplog.at_level(logging.WARNING):
        dispatcher.tick()
        time.sleep(0.1)
        dispatcher.tick()
    assert f"job {job.id}: nothing has moved" in caplog.text
    with ledger.read() as connection:
        assert connection.execute(shards.select()).first().sent == 2


def test_the_language_model_is_down(tmp_path, old_job):
    ledger, job = old_job()

    def with_llm(url):
        spec = json.dumps(json.loads(job.spec) | {"free": {"llm": url}})
        with ledger.write() as connection:
            connection.execute(update(jobs).values(spec=spec))
        return get_job(ledger, job.id)

    assert reason(tmp_path, ledger, with_llm(f"http://127.0.0.1:{free_port()}/v1")) == "llm-unavailable"
    with llm_server() as server:
        assert reason(tmp_path, ledger, with_llm(server.url)) == "waiting"


def at_its_end(ledger, job):
    """All pictures are done, long ago, and nobody ends the job."""
    with ledger.write() as connection:
        connection.execute(update(items).values(state="done"))
    assert begin_finalising(ledger, job)
    with ledger.write() as connection:
        connection.execute(update(meta).where(meta.c.key.startswith(MOVED)).values(value=repr(time.time() - 1000)))
    return ledger, get_job(ledger, job.id)


def test_nobody_ends_a_job_whose_pictures_are_done(tmp_path, old_job, caplog):
    ledger, job = at_its_end(*old_job())
    stall = find_stall(ledger, job, settings(tmp_path))
    assert (stall.reason, "export" in stall.next_step) == ("waiting", True) and stall.seconds > 900
    mine = settings(tmp_path, stall_s=0.05)
    dispatcher = Dispatcher(ledger, make_app(mine), mine)
    with caplog.at_level(logging.WARNING):
        dispatcher.tick()
        time.sleep(0.1)
        dispatcher.tick()
    assert f"job {job.id}: nothing has moved" in caplog.text and "worker export" in caplog.text


def test_a_long_description_stage_is_not_taken_for_a_standstill_by_anybody(tmp_path, old_job):
    """`show`, `doctor` and /metrics ask as the dispatcher does, and remember nothing between two looks."""
    ledger, job = old_job()
    with ledger.write() as connection:
        connection.execute(update(items).values(told=None))
    (entry, *_) = claim(ledger, 1, "me", 60, untold=True)
    assert find_stall(ledger, job, settings(tmp_path)) is not None
    hand_on(ledger, job.id, [(entry, "{}")])
    assert find_stall(ledger, job, settings(tmp_path)) is None


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_no_worker_takes_messages(request, tmp_path, old_job, kind):
    from tests import servers

    with servers.redis_server(tmp_path) if kind == "redis" else servers.rabbitmq_server() as url:
        ledger, job = old_job()
        assert reason(tmp_path, ledger, job, broker=url) == "no-worker"
        ledger, job = at_its_end(ledger, job)
        assert reason(tmp_path, ledger, job, broker=url) == "no-worker"
        assert "export" in find_stall(ledger, job, settings(tmp_path, broker=url)).message
