"""A worker's process: `lexiseg worker gpu|llm|export`, or `python -m workers.queue.worker KIND [--include MODULE]`.

The parent holds the connection to the queue and answers for the child; the one child loads the model in its first task
and keeps it. The work of `llm` is to wait for answers: it is done in threads of the parent. When whoever started the
parent dies, the parent stops as if asked to; when the parent dies, so does the child.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import warnings
from typing import Any

from celery.platforms import SecurityWarning
from celery.signals import setup_logging, worker_process_init

from agents.offline import latch
from workers.description import code_digest
from workers.logs import log_to_stderr
from workers.queue.app import KINDS, PRIORITIES, make_app, queue_name
from workers.queue.health import worker_name
from workers.queue.settings import read_settings

TELLING_SHARDS = 2
"""That a process asks about at once: the next one fills the gaps at the end of one. The questions in flight are those
that the language model's settings allow, whichever shard they come from."""
EXPORT_TASKS = 50
"""Ends of jobs after which a process is replaced by a fresh one; that of `gpu` keeps its model and stays."""
PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that this process gets when its parent dies."""


def die_with_parent(signal_number: int) -> None:
    """Asks Linux for a signal at the parent's death."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


@worker_process_init.connect
def begin_child(**_: Any) -> None:
    parent = os.getppid()
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    # billiard calls its children daemons, and the standard library lets no daemon start processes, as refinement does
    vars(multiprocessing.current_process())["_config"]["daemon"] = False


def pool_options(kind: str) -> dict[str, Any]:
    """How a worker of a kind works, as Celery has it."""
    if kind == "llm":
        return {"pool": "threads", "concurrency": TELLING_SHARDS}
    return {"pool": "prefork", "concurrency": 1} | ({"max_tasks_per_child": EXPORT_TASKS} if kind == "export" else {})


def main(arguments: list[str] | None = None) -> None:
    """Runs until it is stopped: SIGTERM lets the batch under way finish, SIGQUIT does not. Warnings are logged as JSON,
    or as text where somebody supervises the worker at a terminal."""
    parser = argparse.ArgumentParser(prog="python -m workers.queue.worker", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--name", default="1")
    parser.add_argument("--include", action="append", default=[], metavar="MODULE")
    parser.add_argument("--supervisor", type=int, metavar="PID")
    given = parser.parse_args(arguments)
    latch()

    @setup_logging.connect(weak=False)  # in place of what Celery would set up, in the child, too
    def log_without_secrets(**_: Any) -> None:
        log_to_stderr(as_json=given.supervisor is None)

    if given.supervisor is not None:
        die_with_parent(signal.SIGTERM)
        if os.getppid() != given.supervisor:
            sys.exit(1)
    if given.kind == "gpu":
        importlib.import_module("scipy.ndimage")  # once here, not in each child; torch is left to the child, with CUDA
        code_digest()  # of the code as it is loaded, not as it may be by the time of the first job
    app = make_app(read_settings())
    app.set_current()
    app.set_default()
    app.conf.include = [*app.conf.include, *given.include]
    queues = ",".join(queue_name(given.kind, priority) for priority in PRIORITIES)
    warnings.filterwarnings("ignore", category=SecurityWarning)  # it tells root of pickle, which is not accepted here
    worker = app.Worker(**pool_options(given.kind), hostname=worker_name(given.kind, given.name),
                        queues=queues, loglevel="WARNING", quiet=True, without_gossip=True, without_mingle=True,
                        without_heartbeat=True)
    worker.start()
    sys.exit(worker.exitcode)


if __name__ == "__main__":
    main()
