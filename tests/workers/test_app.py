"""The settings of Celery on which the guarantees rest, and the limits of each task."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import update

from workers.ledger import open_ledger
from workers.ledger.dispatch import begin_finalising
from workers.ledger.schema import items
from workers.queue.app import QUEUES, VISIBILITY_S, make_app
from workers.queue.dispatch import Dispatcher
from workers.queue.settings import QueueSettings
from workers.queue.worker import pool_options
from workers.submit import submit

BROKERS = ["filesystem", "redis://127.0.0.1:1/0", "amqp://me:secret@127.0.0.1:1//"]


@pytest.mark.parametrize("broker", BROKERS)
def test_every_broker_gets_the_settings_that_keep_messages_safe(tmp_path, broker):
    settings = QueueSettings(ledger=str(tmp_path / "l.sqlite"), broker=broker, shard_limit_s=300)
    conf = make_app(settings).conf
    assert conf.task_acks_late and conf.task_reject_on_worker_lost and conf.worker_prefetch_multiplier == 1
    assert conf.task_serializer == conf.event_serializer == "json"
    assert conf.accept_content == conf.result_accept_content == ["json"]
    assert conf.task_ignore_result and conf.result_backend is None and not conf.task_track_started
    assert conf.task_annotations["lexiseg.shard"]["time_limit"] == 300
    assert conf.worker_proc_alive_timeout >= 120 and conf.broker_connection_retry_on_startup
    assert conf.worker_soft_shutdown_timeout == 0 and not conf.task_create_missing_queues
    assert tuple(queue.name for queue in conf.task_queues) == QUEUES and len(QUEUES) == 6


def test_rabbitmq_keeps_messages_in_quorum_queues_with_limits(tmp_path):
    conf = make_app(QueueSettings(ledger=str(tmp_path / "l.sqlite"), broker=BROKERS[2])).conf
    for queue in conf.task_queues:
        arguments = queue.queue_arguments
        assert arguments["x-queue-type"] == "quorum" and 3 < arguments["x-delivery-limit"] < 100
        longest = 86_400_000 if queue.name.startswith("export.") else 3_600_000
        assert arguments["x-consumer-timeout"] == longest
    assert conf.broker_transport_options["confirm_publish"]


def test_redis_waits_longer_than_any_shard_may_take(tmp_path):
    conf = make_app(QueueSettings(ledger=str(tmp_path / "l.sqlite"), broker=BROKERS[1], shard_limit_s=3000)).conf
    assert conf.broker_transport_options["visibility_timeout"] == VISIBILITY_S > 3000


def test_only_processes_that_end_jobs_are_replaced_now_and_then():
    assert pool_options("gpu") == {"pool": "prefork", "concurrency": 1}
    assert pool_options("llm")["pool"] == "threads"
    assert pool_options("export")["pool"] == "prefork" and pool_options("export")["max_tasks_per_child"] > 1


def test_the_end_of_a_job_has_a_limit_that_grows_with_its_pictures(tmp_path, make_spec):
    """In the message itself, as the dispatcher sends it."""
    settings = QueueSettings(ledger=str(tmp_path / "l.sqlite"), shard_limit_s=300)
    ledger = open_ledger(settings.ledger)
    job = submit(ledger, make_spec()).job
    with ledger.write() as connection:
        connection.execute(update(items).values(state="done"))
    assert begin_finalising(ledger, job)
    Dispatcher(ledger, make_app(settings), settings).tick()
    (path,) = (settings.broker_folder / "messages").glob("*export*")
    message = json.loads(path.read_text())
    assert message["headers"]["task"] == "lexiseg.finalise" and message["headers"]["timelimit"] == [300 + 8 * 2, None]
    ledger.close()
