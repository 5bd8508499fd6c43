"""Does a job survive anything? `python -m benchmarks.chaos [--broker filesystem|redis://...] [--short] [--seed N]`.

Jobs with a backend that costs nothing are run over and over while workers are killed with SIGKILL: by themselves at
named places in the life of an item (`workers/failpoints.py`), and from outside while they hold a lease; and while every
message of the queue is thrown away. Each job must leave the bytes that an undisturbed `run_job` leaves: no picture
lost, none twice. Prints JSON; exit status 1 if one job differed.

Pictures may be killed more often here than they would be anywhere else, so they are quarantined after 30 attempts, not
after three.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import select

import benchmarks.noop  # noqa: F401  (registers the backend)
from parsers.vocabulary import Vocabulary
from workers import JobSpec, read_results, run_job
from workers.failpoints import POINTS
from workers.ledger import Ledger, open_ledger
from workers.ledger.jobs import cancel_job, find_job, get_job
from workers.ledger.schema import items
from workers.queue.settings import read_settings
from workers.queue.supervisor import Supervisor
from workers.submit import submit
from workers.verify import verify

ATTEMPTS = 30
ONCE_A_JOB = ("described", "finalising", "checked", "lines-written", "report-written", "finalised")
"""Places that a job passes once, where the chance of a death is greater."""
JOB_LIMIT_S = 900.0


@dataclass(slots=True, kw_only=True)
class Plan:
    """What is to happen at least."""

    images: int
    kills: int
    """From outside, of processes that hold a lease."""
    hits: int
    """At each named place."""
    wipes: int
    """Of the whole queue."""
    chance: float = 0.01
    """Of a death at each passage of a place; a quarter of it at those that each picture passes on its own."""


@dataclass(slots=True)
class Toll:
    """What happened."""

    jobs: int = 0
    kills: int = 0
    wipes: int = 0
    lost: int = 0
    """Pictures without a line."""
    twice: int = 0
    """Pictures with two."""
    different: int = 0
    """Files that are not those of the undisturbed run."""
    seconds: float = 0.0
    hits: dict[str, int] = field(default_factory=dict)

    def is_enough(self, plan: Plan) -> bool:
        return (self.kills >= plan.kills and self.wipes >= plan.wipes
                and min(self.hits.get(point, 0) for point in POINTS) >= plan.hits)


PLANS = {True: Plan(images=60, kills=30, hits=1, wipes=2, chance=0.02),
         False: Plan(images=300, kills=100, hits=10, wipes=10)}
"""The short one is for continuous integration."""


def run(plan: Plan, work: Path, *, seed: int, workers: int = 2) -> Toll:
    """Job after job until the plan is fulfilled. The environment says which ledger and queue."""
    chance = random.Random(seed)
    save_pictures(work / "in", plan.images, seed)
    expected = content(run_job(make_spec(work, "alone")).out)
    log = work / "failpoints.log"
    log.touch()
    toll, started = Toll(), time.monotonic()
    settings = read_settings()
    ledger = open_ledger(settings.ledger)
    chances = {point: 0.3 if point in ONCE_A_JOB else plan.chance for point in POINTS}
    chances["written"] = plan.chance / 4
    os.environ.update({"LEXISEG_FAILPOINTS": ",".join(f"{point}={value}" for point, value in chances.items()),
                       "LEXISEG_FAILPOINT_LOG": str(log), "LEXISEG_NOOP_S": "0.01"})
    try:
        with Supervisor(settings, workers=workers, include=["benchmarks.noop"]) as supervisor:
            thread = threading.Thread(target=supervisor.run)
            thread.start()
            try:
                while not toll.is_enough(plan):
                    disturb_one(ledger, plan, work, toll, chance, expected)
                    toll.hits = dict(Counter(log.read_text().split()))
                    print(json.dumps({"jobs": toll.jobs, "kills": toll.kills, "wipes": toll.wipes,
                                      "at places": sum(toll.hits.values())}), file=sys.stderr, flush=True)
            finally:
                supervisor.ask_to_stop()
                thread.join()
    finally:
        for name in ("LEXISEG_FAILPOINTS", "LEXISEG_FAILPOINT_LOG", "LEXISEG_NOOP_S"):
            os.environ.pop(name)
        ledger.close()
    toll.seconds = round(time.monotonic() - started, 1)
    return toll


def disturb_one(ledger: Ledger, plan: Plan, work: Path, toll: Toll, chance: random.Random,
                expected: dict[str, str]) -> None:
    """One job from its submission to the comparison, and what befalls it."""
    spec = make_spec(work, f"job{toll.jobs}")
    job = submit(ledger, spec, shard_size=16, attempts=ATTEMPTS).job
    deadline = time.monotonic() + JOB_LIMIT_S
    wipe_at = time.monotonic() + chance.uniform(1, 3) if toll.wipes < plan.wipes else float("inf")
    while get_job(ledger, job.id).state not in ("done", "stopped"):
        if time.monotonic() > deadline:
            cancel_job(ledger, find_job(ledger, job.id))
            raise SystemExit(f"job {job.id} does not end")
        if time.monotonic() > wipe_at:
            wipe()
            toll.wipes, wipe_at = toll.wipes + 1, float("inf")
        if toll.kills < plan.kills:
            toll.kills += kill_holder(ledger, chance)
        time.sleep(chance.uniform(0.05, 0.6))
    toll.jobs += 1
    out = Path(spec.out)
    names = Counter(result.name for result in read_results(out))
    toll.lost += plan.images - len(names)
    toll.twice += sum(number - 1 for number in names.values())
    found = content(out)
    toll.different += sum(found.get(path) != expected.get(path) for path in found.keys() | expected.keys())
    toll.different += len(verify(ledger, find_job(ledger, job.id)).damaged)
    shutil.rmtree(out)


def kill_holder(ledger: Ledger, chance: random.Random) -> bool:
    """kill -9 for one of the processes that hold a lease; False if there is none."""
    with ledger.read() as connection:
        owners = connection.execute(select(items.c.owner).where(items.c.state == "running").distinct()
                                    .order_by(items.c.owner)).scalars().all()
    if not owners:
        return False
    try:
        os.kill(int(chance.choice(owners).split(":")[1]), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def wipe() -> None:
    """Throws away every message."""
    settings = read_settings()
    if settings.broker == "filesystem":
        for path in (settings.broker_folder / "messages").glob("*.msg"):
            path.unlink(missing_ok=True)
        return
    from redis import Redis

    with Redis.from_url(settings.broker) as client:
        client.flushall()


def make_spec(work: Path, name: str) -> JobSpec:
    return JobSpec(inputs=(str(work / "in"),), vocabulary=Vocabulary.from_names("dog, cat, tree, car"),
                   out=str(work / name), backend="noop", model="noop", workers=1, batch=4)


def save_pictures(folder: Path, count: int, seed: int) -> None:
    """Small pictures of noise."""
    noise = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(noise.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / f"{number:06}.png")


def content(out: Path) -> dict[str, str]:
    """Path to digest of every file that must be equal."""
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in out.rglob("*")
            if path.is_file() and path.name not in ("timings.jsonl", "job.json", "report.html")}


def main() -> None:
    """Reads the command line and prints JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--broker", default="filesystem", help="filesystem, or the URL of a Redis that may be emptied")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lexiseg-chaos-") as name:
        os.environ.update({"LEXISEG_LEDGER": f"{name}/ledger.sqlite", "LEXISEG_BROKER": given.broker,
                           "LEXISEG_LEASE_S": "1", "LEXISEG_STALE_S": "3"})
        toll = run(PLANS[given.short], Path(name), seed=given.seed, workers=given.workers)
    result: dict[str, Any] = {"broker": given.broker.split("@")[-1], "seed": given.seed, **asdict(toll)}
    print(json.dumps(result, indent=2))
    sys.exit(bool(toll.lost or toll.twice or toll.different))


if __name__ == "__main__":
    main()
