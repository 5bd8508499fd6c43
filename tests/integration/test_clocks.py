"""Workers on hosts whose clocks differ."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from sqlalchemy import select

from tests.integration.conftest import PATIENCE_S
from workers import run_job
from workers.ledger.jobs import counts
from workers.ledger.schema import items
from workers.queue.app import make_app
from workers.queue.dispatch import Dispatcher
from workers.submit import submit

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("ahead", [120, -120])
def test_a_worker_whose_clock_is_off_takes_no_work_and_says_why(site, redis_url, postgres_url, make_spec, tmp_path,
                                                                ahead):
    expected = run_job(make_spec(out=str(tmp_path / "alone")))
    here = site(broker=redis_url, ledger=postgres_url)
    job = submit(here.ledger, make_spec(), shard_size=16).job
    log = tmp_path / "worker.log"
    with log.open("wb") as file:
        worker = subprocess.Popen(
            [sys.executable, "-m", "workers.queue.worker", "gpu", "--include", "benchmarks.noop", "--include",
             "tests.skewed_clock"], env=os.environ | {"LEXISEG_TEST_SKEW": str(ahead)}, stderr=file, stdout=file)
    try:
        dispatcher = Dispatcher(here.ledger, make_app(here.settings), here.settings)
        deadline = time.monotonic() + PATIENCE_S
        while "takes no work" not in log.read_text():
            assert time.monotonic() < deadline and worker.poll() is None, log.read_text()
            dispatcher.tick()
            time.sleep(0.2)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(timeout=PATIENCE_S)
    assert "chronyc" in log.read_text() and ("ahead of" if ahead > 0 else "behind") in log.read_text()
    with here.ledger.read() as connection:
        attempts = connection.execute(select(items.c.attempts).where(items.c.job_id == job.id)).scalars()
        assert set(attempts) == {0}
    with here.up():
        here.wait_for_end(job)
    assert counts(here.ledger, job.id)["done"] + counts(here.ledger, job.id)["done-empty"] == 50
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == (expected.out / "results.jsonl").read_bytes()
