"""Speed and memory of exports: `python -m benchmarks.exports [--images 1000]`.

A job of the pocket model on pictogram scenes is exported in every format, in a process of its own. Speed is pictures
per second from the call to the renamed folder; "written" leaves out the time in which files are brought to the disk.
Memory is the highest resident size of the process, with the job of all pictures and with one of a tenth of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from workers.exports import FORMATS, export_job


def make_jobs(work: Path, counts: tuple[int, ...]) -> list[Path]:
    """Folders of finished jobs with that many pictures."""
    from benchmarks.throughput import CLASSES, save_scenes
    from parsers.vocabulary import Vocabulary
    from vision import resolve_model
    from workers import JobSpec, run_job

    outs = []
    for count in counts:
        save_scenes(work / f"images{count}", count, 128)
        outs.append(work / f"out{count}")
        run_job(JobSpec(inputs=(str(work / f"images{count}"),), vocabulary=Vocabulary.from_names(list(CLASSES)),
                        out=str(outs[-1]), model=str(resolve_model(None, "clip"))))
    return outs


def measure(out: Path, format: str, to: Path) -> dict[str, float]:
    """One export in this process."""
    synced = 0.0
    fsync = os.fsync

    def timed(handle: int) -> None:
        nonlocal synced
        begun = time.perf_counter()
        fsync(handle)
        synced += time.perf_counter() - begun

    os.fsync = timed  # type: ignore[assignment]
    before = peak_mb()
    started, cpu = time.perf_counter(), time.process_time()
    record = export_job(out, format, to)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = peak_mb()
    size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    written = record.images / (seconds - synced)
    return {"images/s": round(record.images / seconds, 1), "written images/s": round(written, 1),
            "images per CPU s": round(record.images / cpu, 1), "KB per image": round(size / record.images / 1000, 2),
            "peak MB": peak, "peak MB before": before}


def peak_mb() -> float:
    """The highest resident size of this process so far (not that of the one it was started by), in MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return round(int(lines["VmHWM"].split()[0]) * 1024 / 1e6, 1)


def measure_apart(out: Path, format: str, to: Path) -> dict[str, float]:
    """The same in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.exports", "--one", out, format, to], check=True,
                          capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    """Reads the command line and prints JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exports", description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--one", nargs=3, metavar=("OUT", "FORMAT", "TO"), help="measure one export in this process")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(Path(given.one[0]), given.one[1], Path(given.one[2]))))
        return
    with tempfile.TemporaryDirectory() as name:
        few, many = make_jobs(Path(name), (given.images // 10, given.images))
        for format in FORMATS:
            small, large = (measure_apart(out, format, Path(name, out.name + format)) for out in (few, many))
            print(json.dumps({format: large | {"peak MB of a tenth": small["peak MB"]}}), flush=True)


if __name__ == "__main__":
    main()
