"""Whether the queue answers, and who listens to it."""

from __future__ import annotations

import os
import platform

from parsers.errors import LexisegError
from parsers.secrets import without_secrets
from workers.queue.app import PRIORITIES, make_app, queue_name
from workers.queue.settings import QueueSettings


def broker_problem(settings: QueueSettings, timeout_s: float = 2.0) -> str | None:
    """None if the broker answers; else why not, without passwords."""
    if settings.broker == "filesystem":
        folder = settings.broker_folder
        return None if not folder.exists() or os.access(folder, os.W_OK) else f"{folder} cannot be written"
    try:
        with make_app(settings).connection_for_write(connect_timeout=timeout_s) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=timeout_s)
    except LexisegError as error:
        return error.given
    except Exception as error:  # each transport has errors of its own
        return f"{type(error).__name__}: {without_secrets(str(error))[:200]}"
    return None


def worker_name(kind: str, name: str) -> str:
    """What a worker of this machine is called in the queue."""
    return f"{kind}{name}@{platform.node()}"


def worker_answers(settings: QueueSettings, kind: str, name: str, timeout_s: float = 10.0) -> bool:
    """Whether that worker of this machine answers through the queue; also while it works. The embedded queue carries
    no such question."""
    wanted = worker_name(kind, name)
    with make_app(settings) as app:
        try:
            return wanted in (app.control.inspect(destination=[wanted], timeout=timeout_s, limit=1).ping() or {})
        except Exception:  # each transport has errors of its own
            return False


def count_workers(settings: QueueSettings, kind: str, timeout_s: float = 2.0) -> int | None:
    """How many workers of a kind take messages; None where that cannot be known: the embedded queue, or a broker that
    does not answer. RabbitMQ counts its consumers; on Redis the workers are asked."""
    if settings.broker == "filesystem":
        return None
    with make_app(settings) as app:
        try:
            if settings.broker.startswith("redis"):
                answers = app.control.ping(timeout=timeout_s)
                return sum(name.startswith(kind) for answer in answers for name in answer)
            with app.connection_for_write(connect_timeout=timeout_s) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=timeout_s)
                queue = app.amqp.queues[queue_name(kind, PRIORITIES[-1])].bind(connection.default_channel)
                return queue.queue_declare().consumer_count
        except Exception:  # as above
            return None
