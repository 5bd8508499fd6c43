"""The Celery app. Messages are JSON, results are nowhere: progress and outcomes are in the ledger."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from workers.queue import folder
from workers.queue.settings import QueueSettings, read_settings

KINDS = ("llm", "gpu", "export")
PRIORITIES = ("interactive", "batch")
VISIBILITY_S = 3600
"""Redis sends a message again that was not acknowledged for so long; longer than any shard may take."""
DELIVERY_LIMIT = 20
"""RabbitMQ drops a message after so many deliveries."""
CONSUMER_LIMIT_S = {"llm": 3600, "gpu": 3600, "export": 86_400}
"""RabbitMQ (3.12 or newer) takes a worker for hung that keeps a message for so long, closes its channel and gives the
message to another one; its own default, half an hour, is shorter than the end of a large job. Older ones know only
`consumer_timeout` of rabbitmq.conf: with them such an end may be done twice, which changes no byte."""


def queue_name(kind: str, priority: str) -> str:
    return f"{kind}.{priority}"


QUEUES = tuple(queue_name(kind, priority) for kind in KINDS for priority in PRIORITIES)


def _queues(settings: QueueSettings) -> list[Queue]:
    """RabbitMQ keeps the messages on several machines (quorum queues) and gives one up that was delivered ever so
    often; the ledger counts the attempts that matter, and sends it again."""
    is_rabbitmq = settings.broker.startswith(("amqp://", "amqps://"))
    exchange = Exchange("lexiseg", "direct")
    return [Queue(name := queue_name(kind, priority), exchange, routing_key=name, queue_arguments={
        "x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT,
        "x-consumer-timeout": CONSUMER_LIMIT_S[kind] * 1000} if is_rabbitmq else None)
        for kind in KINDS for priority in PRIORITIES]


def _transport_options(settings: QueueSettings) -> dict[str, Any]:
    if settings.broker == "filesystem":
        return folder.options(settings.broker_folder)
    if settings.broker.startswith(("amqp://", "amqps://")):
        return {"confirm_publish": True, "connect_timeout": 5}
    return {"visibility_timeout": VISIBILITY_S, "queue_order_strategy": "priority", "socket_connect_timeout": 5}


def make_app(settings: QueueSettings) -> Celery:
    """An app for these settings; nothing is connected yet. Makes the folder of the embedded broker.

    Each task has a limit, and each its own way: a process that works on a shard is killed after `shard_limit_s`; the
    dispatcher gives each end of a job a limit that grows with its pictures; Celery can end no thread, so whoever
    describes the pictures of a shard looks at the clock and gives back the rest.

    SIGTERM stays Celery's warm shutdown (no REMAP_SIGTERM, no soft shutdown): it tells the child at once, which
    finishes its batch, hands in and gives back the rest with no attempt counted. A soft shutdown would tell it only
    after its timeout, when the requests are already cancelled. Whoever exceeds the grace period of a container is
    killed, and its leases end.
    """
    embedded = settings.broker == "filesystem"
    app = Celery("lexiseg", broker=f"{folder.SCHEME}://localhost/" if embedded else settings.broker,
                 include=["workers.queue.tasks"], set_as_current=False)
    app.conf.update(
        task_serializer="json", accept_content=["json"], result_accept_content=["json"], event_serializer="json",
        result_backend=None, task_ignore_result=True, task_track_started=False, task_store_errors_even_if_ignored=False,
        task_queues=_queues(settings),
        task_default_queue=queue_name("gpu", "batch"), task_create_missing_queues=False,
        task_default_exchange="lexiseg", task_default_exchange_type="direct",
        task_default_routing_key=queue_name("gpu", "batch"),
        task_acks_late=True, task_reject_on_worker_lost=True,
        task_annotations={"lexiseg.shard": {"time_limit": settings.shard_limit_s}}, worker_prefetch_multiplier=1,
        worker_proc_alive_timeout=120, worker_lost_wait=0.5, worker_soft_shutdown_timeout=0.0,
        worker_send_task_events=False, worker_enable_remote_control=not embedded, worker_hijack_root_logger=True,
        worker_redirect_stdouts=False, worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True, broker_connection_retry=True, broker_connection_max_retries=None,
        broker_transport_options=_transport_options(settings),
        enable_utc=True,
    )
    return app


def __getattr__(name: str) -> Celery:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    app = globals()["app"] = make_app(read_settings())
    return app


def process_name() -> str:
    """Host and process, as leases name their owner."""
    return f"{os.uname().nodename[:60]}:{os.getpid()}"
