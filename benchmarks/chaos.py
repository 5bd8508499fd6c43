"""Does a job survive anything? `python -m benchmarks.chaos [--broker filesystem|redis://...|amqp://...]
[--ledger postgresql://...] [--backend noop|pocket] [--short] [--seed N] [--state FILE]`.

Jobs are run over and over while workers are killed with SIGKILL: by themselves at named places in the life of an item
(`workers/failpoints.py`), and from outside while they hold a lease; and while every message of the queue is thrown
away. Each job must leave the bytes that an undisturbed `run_job` leaves, masks, results and exports in every format: no
picture lost, none twice. Prints JSON with what was asked and what was reached; exit status 1 if one job differed.

The seed decides which passages through the named places are deadly. When a process is killed from outside, and what the
others are doing then, is up to the machine. With --state a run that was broken off goes on where it was; its last
job is done again. `python -m tests.servers` starts an empty RabbitMQ and PostgreSQL and says their addresses.

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

os.environ.setdefault("OMP_NUM_THREADS", "1")  # equal bytes need equal numbers of threads, here and in the workers

import numpy as np
from PIL import Image
from sqlalchemy import select

import benchmarks.noop  # noqa: F401  (registers the backend)
from parsers.files import pretty_json, write_atomic
from parsers.vocabulary import Vocabulary
from workers import JobSpec, read_results, run_job
from workers.exports import FORMATS, export_job
from workers.failpoints import POINTS, deaths
from workers.ledger import Ledger, open_ledger
from workers.ledger.jobs import active_jobs, cancel_job, find_job, get_job
from workers.ledger.schema import items
from workers.progress import read_progress
from workers.queue.app import QUEUES, make_app
from workers.queue.settings import read_settings
from workers.queue.supervisor import Supervisor
from workers.submit import submit
from workers.verify import verify

ATTEMPTS = 30
SHARD = 16
CHANCES = {"delivered": 0.05, "described": 0.7, "claimed": 0.01, "decoded": 0.006, "scored": 0.006, "written": 0.003,
           "committing": 0.01, "committed": 0.01, "settled": 0.05, "finalising": 0.2, "checked": 0.25,
           "lines-written": 0.3, "report-written": 0.4, "finalised": 0.7}
"""Of a death at a passage, so that a job of 300 pictures has about one at each place. (After a death pictures are
claimed one by one, so most places are passed once for each picture. A job is finalised four times on average.)"""
JOB_LIMIT_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to happen at least."""

    images: int
    kills: int
    """From outside, of processes that hold a lease."""
    hits: int
    """At each named place."""
    wipes: int
    """Of the whole queue."""
    factor: float = 1.0
    """Of the chances of a death at a named place."""
    seconds_each: float = 0.01
    """That the free backend takes for a picture, so that there is something to break into."""


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
    """Files, those of exports among them, that are not those of the undisturbed run."""
    compared: int = 0
    """Files that were compared."""
    seconds: float = 0.0
    hits: dict[str, int] = field(default_factory=lambda: dict.fromkeys(POINTS, 0))

    def is_enough(self, plan: Plan) -> bool:
        return self.kills >= plan.kills and self.wipes >= plan.wipes and min(self.hits.values()) >= plan.hits


PLANS = {("noop", True): Plan(images=60, kills=30, hits=1, wipes=2, factor=2),
         ("noop", False): Plan(images=300, kills=100, hits=10, wipes=10),
         ("pocket", True): Plan(images=24, kills=3, hits=0, wipes=1, factor=0),
         ("pocket", False): Plan(images=96, kills=30, hits=0, wipes=1, factor=0.3)}
"""By backend and whether it is the short one, for continuous integration."""


def run(plan: Plan, work: Path, *, seed: int, workers: int = 2, backend: str = "noop", state: Path | None = None
        ) -> Toll:
    """Job after job until the plan is fulfilled. The environment says which ledger and queue. state: a file that keeps
    the toll; one that is there is added to."""
    toll = Toll(**json.loads(state.read_bytes())) if state is not None and state.exists() else Toll()
    before, began, started = Counter(toll.hits), toll.seconds, time.monotonic()
    chance = random.Random(f"{seed}:{toll.jobs}")
    save_pictures(work / "in", plan.images, seed=1, backend=backend)
    alone = run_job(make_spec(work, "alone", backend)).out
    expected = content(alone)
    points = work / "failpoints"
    points.mkdir()
    settings = read_settings()
    ledger = open_ledger(settings.ledger)
    for job in active_jobs(ledger):  # of a run that was broken off, whose pictures are gone
        cancel_job(ledger, job)
    disturbance = {"LEXISEG_FAILPOINTS": failpoints(plan, toll.hits),
                   "LEXISEG_FAILPOINT_FOLDER": str(points), "LEXISEG_FAILPOINT_SEED": f"{seed}:{toll.jobs}",
                   "LEXISEG_NOOP_S": str(plan.seconds_each)}
    os.environ.update(disturbance)
    try:
        with Supervisor(settings, workers=workers, include=["benchmarks.noop"]) as supervisor:
            thread = threading.Thread(target=supervisor.run)
            thread.start()
            try:
                while not toll.is_enough(plan):
                    disturb_one(ledger, plan, make_spec(work, f"job{toll.jobs}", backend), toll, chance, expected)
                    hits = before + Counter(point for point, _ in deaths(points))
                    toll.hits = {point: hits[point] for point in POINTS}
                    os.environ["LEXISEG_FAILPOINTS"] = failpoints(plan, toll.hits)
                    toll.seconds = round(began + time.monotonic() - started, 1)
                    if state is not None:
                        write_atomic(state, pretty_json(asdict(toll)))
                    print(json.dumps({"jobs": toll.jobs, "kills": toll.kills, "wipes": toll.wipes, "different":
                                      toll.different, "least hits": min(toll.hits.values()), "hits":
                                      sum(toll.hits.values()), "seconds": toll.seconds}), file=sys.stderr, flush=True)
            finally:
                supervisor.ask_to_stop()
                thread.join()
    finally:
        for name in disturbance:
            os.environ.pop(name)
        ledger.close()
    return toll


def failpoints(plan: Plan, hits: dict[str, int]) -> str:
    """The chances of a death, for processes that start from now on. A place that has had its deaths is safe, so that
    the later ones are reached."""
    return ",".join(f"{point}={0 if 0 < plan.hits <= hits[point] else min(value * plan.factor, max(value, 0.1))}"
                    for point, value in CHANCES.items())


def disturb_one(ledger: Ledger, plan: Plan, spec: JobSpec, toll: Toll, chance: random.Random,
                expected: dict[str, str]) -> None:
    """One job from its submission to the comparison, and what befalls it."""
    job = submit(ledger, spec, shard_size=SHARD, attempts=ATTEMPTS).job
    deadline = time.monotonic() + JOB_LIMIT_S
    wipe_at = time.monotonic() + chance.uniform(1, 3) if toll.wipes < plan.wipes else float("inf")
    at_last_kill = -1
    while get_job(ledger, job.id).state not in ("done", "stopped"):
        if time.monotonic() > deadline:
            cancel_job(ledger, find_job(ledger, job.id))
            raise SystemExit(f"job {job.id} does not end")
        if time.monotonic() > wipe_at:
            wipe()
            toll.wipes, wipe_at = toll.wipes + 1, float("inf")
        finished = read_progress(ledger, job.id).finished
        if toll.kills < plan.kills and finished > at_last_kill and kill_holder(ledger, chance):
            toll.kills, at_last_kill = toll.kills + 1, finished  # something gets done between two, on any machine
        time.sleep(chance.uniform(0.05, 0.6))
    toll.jobs += 1
    out = Path(spec.out)
    names = Counter(result.name for result in read_results(out))
    toll.lost += plan.images - len(names)
    toll.twice += sum(number - 1 for number in names.values())
    found = content(out)
    toll.compared += len(found)
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
    if settings.broker.startswith(("amqp://", "amqps://")):
        with make_app(settings) as app, app.connection_for_write() as connection:
            for name in QUEUES:
                queue = app.amqp.queues[name].bind(connection.default_channel)
                queue.declare()
                queue.purge()
        return
    from redis import Redis

    with Redis.from_url(settings.broker) as client:
        client.flushall()


def make_spec(work: Path, name: str, backend: str = "noop", batch: int = 4) -> JobSpec:
    """A job over the pictures, for the free backend or the pocket model."""
    if backend == "noop":
        words, model = ["dog", "cat", "tree", "car"], "noop"
    else:
        from benchmarks.throughput import CLASSES
        from vision.models import resolve_model

        words, backend, model = list(CLASSES), "clip", str(resolve_model(None, "clip"))
    return JobSpec(inputs=(str(work / "in"),), vocabulary=Vocabulary.from_names(words), out=str(work / name),
                   backend=backend, model=model, device="cpu", workers=1, batch=batch)


def save_pictures(folder: Path, count: int, *, seed: int, backend: str = "noop") -> None:
    """Small pictures of noise, or pictogram scenes for the pocket model."""
    if backend != "noop":
        from benchmarks.throughput import save_scenes

        save_scenes(folder, count, 128)
        return
    noise = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(noise.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / f"{number:06}.png")


def content(out: Path) -> dict[str, str]:
    """Path to digest of every file that must be equal: of the job, and of its exports in every format."""
    found = {path.relative_to(out).as_posix(): digest(path) for path in out.rglob("*")
             if path.is_file() and path.name not in ("timings.jsonl", "job.json", "report.html")}
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        for format in FORMATS:
            to = Path(folder, format)
            export_job(out, format, to)
            found |= {f"{format}: {path.relative_to(to)}": digest(path) for path in to.rglob("*") if path.is_file()}
    return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def report(plan: Plan, toll: Toll) -> dict[str, Any]:
    """What was asked beside what was reached."""
    counted = {"kill -9 of lease holders": [plan.kills, toll.kills], "wipes of the queue": [plan.wipes, toll.wipes],
               "pictures lost": [0, toll.lost], "pictures twice": [0, toll.twice],
               "files that differ": [0, toll.different]}
    hits = {f"deaths at {point}": [plan.hits, number] for point, number in toll.hits.items()}
    return {"[asked, reached]": counted | hits, "jobs": toll.jobs, "images each": plan.images,
            "files compared": toll.compared, "seconds": toll.seconds}


def main() -> None:
    """Reads the command line and prints JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--broker", default="filesystem", help="filesystem, or the URL of a Redis or RabbitMQ that "
                        "may be emptied")
    parser.add_argument("--ledger", help="the URL of a PostgreSQL data base of its own; an SQLite file if left out")
    parser.add_argument("--backend", choices=("noop", "pocket"), default="noop")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--state", type=Path, help="a file that keeps the counts from run to run")
    given = parser.parse_args()
    plan = PLANS[given.backend, given.short]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: workers and folders are not left behind
    with tempfile.TemporaryDirectory(prefix="lexiseg-chaos-") as name:
        os.environ.update({"LEXISEG_LEDGER": given.ledger or f"{name}/ledger.sqlite", "LEXISEG_BROKER": given.broker,
                           "LEXISEG_LEASE_S": "1", "LEXISEG_STALE_S": "3"})
        toll = run(plan, Path(name), seed=given.seed, workers=given.workers, backend=given.backend, state=given.state)
    print(json.dumps({"broker": given.broker.split("@")[-1], "ledger":
                      (given.ledger or "sqlite").split("@")[-1], "backend": given.backend, "seed": given.seed,
                      **report(plan, toll)}, indent=2))
    sys.exit(bool(toll.lost or toll.twice or toll.different))


if __name__ == "__main__":
    main()
