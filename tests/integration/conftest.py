"""Whole sites on this machine: ledger, queue and worker processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

import benchmarks.noop  # noqa: F401  (registers the backend)
from parsers.vocabulary import Vocabulary
from tests import servers
from workers import JobSpec
from workers.ledger import Ledger, open_ledger
from workers.ledger.jobs import counts, get_job
from workers.ledger.schema import items
from workers.queue.settings import read_settings
from workers.queue.supervisor import Supervisor

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 300
"""So long may anything take on a machine that has other things to do."""


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Fifty small pictures."""
    folder = tmp_path / "in"
    random = np.random.default_rng(3)
    for number in range(50):
        path = folder / f"{number % 3}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (16, 20, 3), np.uint8)).save(path)
    return folder


@pytest.fixture
def make_spec(pictures, tmp_path):
    def make(**values) -> JobSpec:
        return JobSpec(**({"inputs": (str(pictures),), "vocabulary": Vocabulary.from_names("dog, cat, tree"),
                           "out": str(tmp_path / "out"), "backend": "noop", "model": "noop", "workers": 1,
                           "batch": 4} | values))

    return make


@pytest.fixture
def site(tmp_path, monkeypatch):
    """site(broker=..., LEXISEG_X=...) -> a Site whose settings are in the environment."""
    made = []

    def make(*, broker: str = "filesystem", ledger: str | None = None, **environment: str) -> Site:
        for name, value in {"PYTHONPATH": str(REPOSITORY), "LEXISEG_LEDGER": ledger or str(tmp_path / "l.sqlite"),
                            "LEXISEG_BROKER": broker, "LEXISEG_LEASE_S": "2", "LEXISEG_STALE_S": "4",
                            **environment}.items():
            monkeypatch.setenv(name, value)
        made.append(Site())
        return made[-1]

    yield make
    for one in made:
        one.ledger.close()


class Site:
    """A ledger and workers around it."""

    def __init__(self) -> None:
        self.settings = read_settings()
        self.ledger: Ledger = open_ledger(self.settings.ledger)
        self.supervisor: Supervisor | None = None

    @contextmanager
    def up(self, workers: int = 1) -> Iterator[Supervisor]:
        """Workers that are kept running in another thread, and are stopped at the end of the block."""
        with Supervisor(self.settings, workers=workers, include=["benchmarks.noop"]) as supervisor:
            thread = threading.Thread(target=supervisor.run)
            thread.start()
            try:
                yield supervisor
            finally:
                supervisor.ask_to_stop()
                thread.join()

    def wait(self, is_there: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_there():
            assert time.monotonic() < deadline, "it took too long"
            time.sleep(0.05)

    def wait_for_end(self, job) -> None:
        self.wait(lambda: get_job(self.ledger, job.id).state in ("done", "stopped", "sampled"))
        assert get_job(self.ledger, job.id).state == "done", get_job(self.ledger, job.id).error

    def wait_for_done(self, job, number: int) -> None:
        self.wait(lambda: counts(self.ledger, job.id)["done"] >= number)

    def holder(self) -> int | None:
        """The process that holds a lease now."""
        with self.ledger.read() as connection:
            owner = connection.execute(select(items.c.owner).where(items.c.owner.is_not(None)).limit(1)).scalar()
        return None if owner is None else int(owner.split(":")[1])

    def kill_holder(self) -> int:
        """kill -9 for a process that holds a lease; its number."""
        killed = []

        def kill() -> bool:
            process = self.holder()
            if process is None or process in killed:
                return False
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                return False
            killed.append(process)
            return True

        self.wait(kill)
        return killed[0]


@pytest.fixture
def redis_url(tmp_path):
    with servers.redis_server(tmp_path) as url:
        yield url


@pytest.fixture(scope="session")
def rabbitmq_url():
    with servers.rabbitmq_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url():
    with servers.postgres_server() as url:
        yield url
