"""Whether the queue answers."""

from __future__ import annotations

import os

from parsers.errors import LexisegError
from workers.queue.app import make_app
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
        return f"{type(error).__name__}: {str(error)[:200]}"
    return None
