"""What ledger and queue cost: `python -m benchmarks.queue [overhead|pocket] [--images N] [--broker ...]`.

overhead: tiny pictures and a backend that costs nothing. The same pictures are done by `run_job` in a process of its
own and by a job with one worker, and the difference per picture is the overhead; what writing and flushing one mask
costs, which both do, is measured beside it. Memory of the controller and of every worker, and the time of one look at
the job as `watch` and `show` take it, are sampled all the while.

pocket: the pocket model on pictogram scenes with one torch thread per worker, by `run_job`, through the queue, and
through the queue with two workers, round by round. Speed is that between the first and the last picture handed in, the
model being loaded.

Prints JSON with what is asked for beside each figure.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from sqlalchemy import func, select

from benchmarks.chaos import make_spec, save_pictures
from parsers.files import write_atomic
from workers import run_job
from workers.ledger import Ledger, open_ledger
from workers.ledger.jobs import failures, find_job
from workers.ledger.schema import items, results
from workers.progress import read_progress
from workers.queue.settings import read_settings
from workers.queue.supervisor import Supervisor
from workers.submit import submit

EARLY = 10_000
"""Memory is to stay flat from so many pictures on."""
SHARD = 64
BATCH = 16
"""Pictures that the model is given at once, as in any job."""


def overhead(images: int, work: Path) -> dict[str, Any]:
    """With the free backend; the environment says which ledger and queue."""
    save_pictures(work / "in", images, seed=1)
    alone = run_alone(work, "noop")
    looks: list[float] = []
    memory: list[tuple[int, float, float]] = []
    with site(1) as ledger:
        started = time.perf_counter()
        job = submit(ledger, make_spec(work, "out", batch=BATCH), shard_size=SHARD).job
        submit_s = time.perf_counter() - started
        first, command_ms = None, 0.0
        while True:
            now = look(ledger, job.id, looks)
            if first is None and now:
                first = (time.perf_counter(), now, cpu_seconds())
            memory.append((now, resident_mb(os.getpid()), max(map(resident_mb, below(os.getpid())), default=0.0)))
            if now == images:
                break
            if not command_ms and now > images // 2:
                command_ms = show_command_ms(job.id)
            time.sleep(0.25)
        last, cpu_s = time.perf_counter(), cpu_seconds()
        while read_progress(ledger, job.id).job.state != "done":
            time.sleep(0.1)
        ended = time.perf_counter()
    assert first is not None
    queue_s, queue_cpu_s = ((end - begin) / max(1, images - first[1])
                            for begin, end in ((first[0], last), (first[2], cpu_s)))
    early = [row for row in memory if row[0] >= min(EARLY, images // 2)]
    return {
        "images": images, "submit s (asked: 60 for 100,000)": round(submit_s, 2),
        "in process, ms per image": round(1000 * alone["all s"] / images, 3),
        "through the queue, ms per image": round(1000 * queue_s, 3),
        "overhead, ms per image (asked: 3)": round(1000 * (queue_s - alone["all s"] / images), 3),
        "the same of processor time, all processes": {
            "in process": round(1000 * alone["cpu s"] / images, 3), "through the queue": round(1000 * queue_cpu_s, 3),
            "overhead": round(1000 * (queue_cpu_s - alone["cpu s"] / images), 3)},
        "mask write and flush, ms": round(1000 * mask_seconds(work), 3),
        "comparing all files and writing the report, s": round(ended - last, 2),
        "watch and show, ms (asked: 200)": {"median": round(1000 * statistics.median(looks), 1),
                                            "max": round(1000 * max(looks), 1), "looks": len(looks)},
        "the command lexiseg jobs show, ms, with the start of Python": round(command_ms),
        "controller MB, early, late, most (asked: 300)": spread([row[1] for row in early]),
        "largest worker MB, early, late, most (asked: 300)": spread([row[2] for row in early]),
    }


def pocket(images: int, rounds: int, work: Path) -> dict[str, Any]:
    """With the pocket model; the environment says which ledger and queue."""
    save_pictures(work / "in", images, seed=1, backend="pocket")
    speeds: dict[str, list[float]] = {"in process": [], "one worker": [], "two workers": []}
    for number in range(rounds):
        speeds["in process"].append(run_alone(work, "pocket")["images/s"])
        print(json.dumps(speeds), file=sys.stderr, flush=True)
        for workers, name in ((1, "one worker"), (2, "two workers")):
            with site(workers) as ledger:
                warm = make_spec(work, f"warm{number}{workers}", "pocket", BATCH)
                wait(ledger, submit(ledger, warm, shard_size=4).job.id)  # loads the model in each worker
                job = submit(ledger, make_spec(work, f"out{number}{workers}", "pocket", BATCH), shard_size=32).job
                wait(ledger, job.id)
                speeds[name].append(handed_in_per_s(ledger, job.id))
            print(json.dumps(speeds), file=sys.stderr, flush=True)
    alone, one, two = (statistics.median(found) for found in speeds.values())
    return {"images": images, "images/s": {name: [round(speed, 2) for speed in found]
                                           for name, found in speeds.items()},
            "through the queue / in process (asked: 0.9)": round(one / alone, 3),
            "two workers / one (asked: 1.7)": round(two / one, 3)}


@contextmanager
def site(workers: int) -> Iterator[Ledger]:
    """Workers around a ledger, kept running in another thread."""
    settings = read_settings()
    ledger = open_ledger(settings.ledger)
    with Supervisor(settings, workers=workers, include=["benchmarks.noop"]) as supervisor:
        thread = threading.Thread(target=supervisor.run)
        thread.start()
        try:
            yield ledger
        finally:
            supervisor.ask_to_stop()
            thread.join()
    ledger.close()


def run_alone(work: Path, backend: str) -> dict[str, float]:
    """The same pictures by `run_job` in a process of its own: seconds in all, of the clock and of the processor, and
    pictures per second without loading the model."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.queue", "--alone", work, backend], check=True,
                          stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def look(ledger: Ledger, job_id: str, looks: list[float]) -> int:
    """What `watch` and `show` read, timed; how many pictures are finished."""
    started = time.perf_counter()
    found = find_job(ledger, job_id)
    now = read_progress(ledger, found.id)
    failures(ledger, found.id, 20)
    looks.append(time.perf_counter() - started)
    return now.finished


def show_command_ms(job_id: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "from service.cli import main; main()", "jobs", "show", job_id], check=True,
                   stdout=subprocess.DEVNULL)
    return 1000 * (time.perf_counter() - started)


def wait(ledger: Ledger, job_id: str) -> None:
    while (state := read_progress(ledger, job_id).job.state) != "done":
        if state == "stopped":
            raise SystemExit(read_progress(ledger, job_id).job.error)
        time.sleep(0.1)


def handed_in_per_s(ledger: Ledger, job_id: str) -> float:
    """Pictures per second between the first and the last time that results were handed in."""
    mine = select(results.c.finished).join(items, items.c.id == results.c.item_id).where(items.c.job_id == job_id)
    times = mine.subquery()
    with ledger.read() as connection:
        first, last, total = connection.execute(
            select(func.min(times.c.finished), func.max(times.c.finished), func.count())).one()
        begun = connection.execute(
            select(func.count()).select_from(times).where(times.c.finished == first)).scalar_one()
    return (total - begun) / (last - first)


def below(process: int) -> list[int]:
    """The processes that a process has started, and those have."""
    try:
        tasks = os.listdir(f"/proc/{process}/task")  # a process belongs to the thread that started it
        children = [int(child) for task in tasks
                    for child in Path(f"/proc/{process}/task/{task}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return children + [deeper for child in children for deeper in below(child)]


def resident_mb(process: int) -> float:
    """Resident memory of a process, in MB; 0 for one that has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def cpu_seconds() -> float:
    """Processor time of this process and of those below it, so far."""
    total = time.process_time()
    for process in below(os.getpid()):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def spread(values: list[float]) -> list[float]:
    return [round(value, 1) for value in (values[0], values[-1], max(values))]


def mask_seconds(work: Path, count: int = 200) -> float:
    """Of writing and flushing one small file."""
    started = time.perf_counter()
    for number in range(count):
        write_atomic(work / "probe" / f"{number}.png", b"x" * 900)
    return (time.perf_counter() - started) / count


def main() -> None:
    """Reads the command line and prints JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("overhead", "pocket"), help="both if left out")
    parser.add_argument("--images", type=int, help="100,000 for overhead, 1,000 for pocket, if left out")
    parser.add_argument("--rounds", type=int, default=3, help="of pocket")
    parser.add_argument("--broker", default="filesystem")
    parser.add_argument("--alone", nargs=2, metavar=("WORK", "BACKEND"), help="run_job in this process")
    given = parser.parse_args()
    if given.alone:
        started, cpu = time.perf_counter(), time.process_time()
        summary = run_job(make_spec(Path(given.alone[0]), "alone", given.alone[1], BATCH))
        print(json.dumps({"all s": time.perf_counter() - started, "cpu s": time.process_time() - cpu,
                          "images/s": summary.images_per_s}))
        return
    for what in (given.what,) if given.what else ("overhead", "pocket"):
        with tempfile.TemporaryDirectory(prefix="lexiseg-queue-") as name:
            os.environ.update({"LEXISEG_LEDGER": f"{name}/ledger.sqlite", "LEXISEG_BROKER": given.broker})
            found = overhead(given.images or 100_000, Path(name)) if what == "overhead" else \
                pocket(given.images or 1000, given.rounds, Path(name))
        print(json.dumps({what: found}, indent=2), flush=True)


if __name__ == "__main__":
    main()
