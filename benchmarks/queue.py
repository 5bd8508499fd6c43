"""What ledger and queue cost: `python -m benchmarks.queue [--images 100000] [--broker ...] [--workers 1]`.

Tiny pictures, a backend that costs nothing. The same pictures are done by `run_job` in this process and by a job, and
the difference per picture is the overhead; what writing and flushing one mask costs is measured beside it. Memory of
the controller and of every worker and the time of one look at the job are sampled all the while. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.chaos import make_spec, save_pictures
from parsers.files import write_atomic
from workers import run_job
from workers.ledger import open_ledger
from workers.progress import read_progress
from workers.queue.settings import read_settings
from workers.queue.supervisor import Supervisor
from workers.submit import submit

EARLY = 10_000
"""Memory is to stay flat from so many pictures on."""


def measure(images: int, workers: int, work: Path) -> dict[str, Any]:
    """All figures; the environment says which ledger and queue."""
    save_pictures(work / "in", images, seed=1)
    started = time.perf_counter()
    run_job(make_spec(work, "alone"))
    alone_s = time.perf_counter() - started
    settings = read_settings()
    ledger = open_ledger(settings.ledger)
    started = time.perf_counter()
    job = submit(ledger, make_spec(work, "out"), shard_size=64).job
    submit_s = time.perf_counter() - started
    looks: list[float] = []
    memory: list[tuple[int, float, float]] = []
    with Supervisor(settings, workers=workers, include=["benchmarks.noop"]) as supervisor:
        thread = threading.Thread(target=supervisor.run)
        thread.start()
        first = None
        while True:
            looked = time.perf_counter()
            now = read_progress(ledger, job.id)
            looks.append(time.perf_counter() - looked)
            if first is None and now.finished:
                first = (time.perf_counter(), now.finished)
            memory.append((now.finished, resident_mb(os.getpid()), largest_child_mb(os.getpid())))
            if now.finished == images:
                break
            time.sleep(0.25)
        last = time.perf_counter()
        while read_progress(ledger, job.id).job.state != "done":
            time.sleep(0.1)
        finalise_s = time.perf_counter() - last
        supervisor.ask_to_stop()
        thread.join()
    ledger.close()
    assert first is not None
    queue_s = (last - first[0]) / max(1, images - first[1])
    early = [row for row in memory if row[0] >= min(EARLY, images // 2)]
    return {
        "images": images, "workers": workers, "submit s": round(submit_s, 2),
        "in process ms per image": round(1000 * alone_s / images, 3),
        "through the queue ms per image": round(1000 * queue_s, 3),
        "overhead ms per image, one worker": round(1000 * (queue_s * workers - alone_s / images), 3),
        "mask write and flush ms": round(1000 * mask_seconds(work), 3), "finalise s": round(finalise_s, 2),
        "look ms": {"median": round(1000 * statistics.median(looks), 1), "max": round(1000 * max(looks), 1)},
        "controller MB": [round(row[1], 1) for row in (early[0], early[-1])],
        "largest worker MB": [round(row[2], 1) for row in (early[0], early[-1])],
    }


def resident_mb(process: int) -> float:
    """Resident memory of a process, in MB."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def mask_seconds(work: Path, count: int = 200) -> float:
    """Of writing and flushing one small file."""
    started = time.perf_counter()
    for number in range(count):
        write_atomic(work / "probe" / f"{number}.png", b"x" * 900)
    return (time.perf_counter() - started) / count


def largest_child_mb(process: int) -> float:
    """Resident memory of the largest process below this one, in MB."""
    sizes = [0.0]
    waiting = [process]
    while waiting:
        parent = waiting.pop()
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            if parent != process:
                sizes.append(resident_mb(parent))
        except (FileNotFoundError, ProcessLookupError):
            continue
        waiting += [int(child) for child in children]
    return max(sizes)


def main() -> None:
    """Reads the command line and prints JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue", description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--broker", default="filesystem")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lexiseg-queue-") as name:
        os.environ.update({"LEXISEG_LEDGER": f"{name}/ledger.sqlite", "LEXISEG_BROKER": given.broker})
        print(json.dumps(measure(given.images, given.workers, Path(name)), indent=2))


if __name__ == "__main__":
    main()
