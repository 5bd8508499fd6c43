"""How many pictures may fail before a job is stopped, and how it goes on."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from sqlalchemy import update

import workers.queue.dispatch
import workers.queue.finalise
import workers.queue.shard
from parsers.errors import Code, JobError
from tests.by_hand import content, work_off
from workers import read_job, run_job
from workers.ledger.allowance import stop_beyond_allowance
from workers.ledger.jobs import counts, get_job, resume_job, retry_failed
from workers.ledger.schema import items, jobs
from workers.queue.app import make_app
from workers.queue.dispatch import Dispatcher
from workers.queue.finalise import finalise
from workers.queue.settings import QueueSettings
from workers.queue.shard import ShardWorker
from workers.submit import spec_digest, submit


@pytest.fixture
def worker(ledger, segmenter, monkeypatch):
    monkeypatch.setattr(workers.queue.shard, "load_backend", lambda spec: segmenter)
    with closing(ShardWorker(ledger, lease_s=30, is_stopping=lambda: False)) as made:
        yield made


@pytest.fixture
def dispatcher(ledger, tmp_path):
    settings = QueueSettings(ledger=str(tmp_path / "ledger.sqlite"))
    return Dispatcher(ledger, make_app(settings), settings)


def test_too_many_failures_stop_a_job_until_a_person_goes_on(ledger, make_spec, worker, dispatcher, segmenter,
                                                                 tmp_path):
    """Three of the eight pictures are bad."""
    job = submit(ledger, make_spec(max_failures=1), shard_size=8).job
    work_off(ledger, job, worker)
    dispatcher.tick()
    stopped = get_job(ledger, job.id)
    assert (stopped.state, stopped.error_code) == ("stopped", Code.TOO_MANY_FAILURES)
    assert "3 pictures failed" in stopped.error and "--max-failures allows 1" in stopped.error
    assert f"lexiseg jobs retry {job.id} --failed" in stopped.error and f"resume {job.id}" in stopped.error
    assert counts(ledger, job.id)["done"] == 4 and (tmp_path / "out/masks/a.jpg.png").exists()

    assert retry_failed(ledger, stopped) == 3  # they fail again, and are counted again
    work_off(ledger, job, worker)
    dispatcher.tick()
    assert get_job(ledger, job.id).state == "stopped"

    resume_job(ledger, get_job(ledger, job.id))  # without them
    dispatcher.tick()
    dispatcher.tick()
    assert get_job(ledger, job.id).state == "finalising"
    assert finalise(ledger, job.id, lease_s=30) and get_job(ledger, job.id).state == "done"
    expected = run_job(make_spec(out=str(tmp_path / "alone")), segmenter=segmenter)
    assert content(tmp_path / "out") == content(expected.out)


def test_a_job_is_asked_for_its_failures_again_before_anybody_ends_it(ledger, make_spec, worker, dispatcher,
                                                                      monkeypatch):
    """The last results come in after it was asked."""
    job = submit(ledger, make_spec(max_failures=1), shard_size=8).job
    begin = workers.queue.dispatch.begin_finalising
    monkeypatch.setattr(workers.queue.dispatch, "begin_finalising", lambda *given: (work_off(ledger, job, worker),
                                                                                              begin(*given))[1])
    sent = []
    monkeypatch.setattr(dispatcher, "_publish", lambda _job: None)
    monkeypatch.setattr(dispatcher, "_send", lambda task, *_, **__: sent.append(task))
    dispatcher.tick()
    assert get_job(ledger, job.id).state == "finalising"
    dispatcher.tick()
    assert get_job(ledger, job.id).state == "stopped" and "finalise" not in sent


def test_who_ends_a_job_that_was_stopped_meanwhile_says_nothing_of_it(ledger, make_spec, worker, dispatcher,
                                                                    monkeypatch, tmp_path):
    job = submit(ledger, make_spec(), shard_size=8).job
    work_off(ledger, job, worker)
    dispatcher.tick()

    def stop(_out):
        with ledger.write() as connection:
            connection.execute(update(jobs).values(state="stopped"))

    monkeypatch.setattr(workers.queue.finalise, "_sweep", stop)
    assert not finalise(ledger, job.id, lease_s=30)
    assert get_job(ledger, job.id).state == "stopped"
    assert not (tmp_path / "out/job.json").exists() or read_job(tmp_path / "out").state != "done"


def test_after_a_resume_as_many_again_may_fail_and_a_larger_number_is_another_way(ledger, make_spec, worker):
    job = submit(ledger, make_spec(max_failures=1), shard_size=8).job
    work_off(ledger, job, worker)
    assert stop_beyond_allowance(ledger, get_job(ledger, job.id))
    resume_job(ledger, get_job(ledger, job.id))
    for name, state, stops in (("a.jpg", "failed", False), ("a.png", "quarantined", True)):
        with ledger.write() as connection:
            connection.execute(update(items).where(items.c.name == name).values(state=state))
        assert stop_beyond_allowance(ledger, get_job(ledger, job.id)) is stops
    again = submit(ledger, make_spec(max_failures=5)).job
    assert (again.id, again.state) == (job.id, "running")
    assert not stop_beyond_allowance(ledger, get_job(ledger, job.id))


def test_as_many_as_allowed_stop_nothing_and_a_job_of_before_has_no_bound(ledger, make_spec, worker):
    job = submit(ledger, make_spec(max_failures=3), shard_size=8).job
    work_off(ledger, job, worker)
    assert not stop_beyond_allowance(ledger, get_job(ledger, job.id))
    spec = json.loads(job.spec)
    assert spec.pop("max_failures") == 3
    with ledger.write() as connection:
        connection.execute(update(jobs).values(spec=json.dumps(spec)))
    assert not stop_beyond_allowance(ledger, get_job(ledger, job.id))
    assert submit(ledger, make_spec()).open == 0


def test_the_bound_decides_about_no_mask(make_spec):
    assert spec_digest(make_spec(max_failures=1)) == spec_digest(make_spec())


def test_too_many_failures_stop_a_job_of_one_process(make_spec, segmenter, tmp_path):
    with pytest.raises(JobError) as caught:
        run_job(make_spec(max_failures=2), segmenter=segmenter)
    assert caught.value.code == Code.TOO_MANY_FAILURES
    assert "3 pictures failed" in str(caught.value) and "deep/cut.png" in str(caught.value)
    assert read_job(tmp_path / "out").state == "stopped" and (tmp_path / "out/masks/a.jpg.png").exists()
    assert run_job(make_spec(max_failures=3), segmenter=segmenter).failed == 3
