"""Many clients of the HTTP API: `python -m benchmarks.api [--clients 200] [--seconds 60]`.

Starts `lexiseg serve` on loopback with a new ledger, then clients that each ask once a second: nine in ten for the
status of a job, one in ten submits one. Prints requests, failures, the 50th and 99th percentile of the answer times,
and the processor time that the server took for a request. --ledger: a PostgreSQL instead of an SQLite file.
Exit code 1 where an answer was a failure of the server (5xx) or none came, or where the 99th percentile of status is
above 300 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

STATUS_P99_MS = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api", description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--ledger", metavar="URL", help="postgresql://user@host/name of its own")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.clients, given.seconds, given.ledger)
    print(json.dumps(found, indent=2))
    if problems := problems_in(found):
        sys.exit("\n".join(problems))


def problems_in(found: dict) -> list[str]:
    """What is not as it is promised, in words."""
    problems = [f"{number} answers {status}" for status, number in found["failures"].items()
                if status.startswith("5")]
    if found["status"]["p99_ms"] > STATUS_P99_MS:
        problems.append(f"the 99th percentile of status is {found['status']['p99_ms']} ms, above {STATUS_P99_MS} ms")
    return problems


def measure(folder: Path, clients: int, seconds: float, ledger: str | None = None) -> dict:
    """Starts the server and asks; {"requests", "failures" by status, "status" and "submit" in ms}."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(32):
        Image.fromarray(np.full((16, 16, 3), number, np.uint8)).save(pictures / f"{number}.png")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", "from service.cli import main; main()", "serve", "--port", str(port)],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"LEXISEG_DATA": str(folder / "data"), "LEXISEG_API_ROOTS": str(pictures),
                          "LEXISEG_API_MAX_OPEN_JOBS": "1000000",
                          "LEXISEG_LEDGER": ledger or str(folder / "ledger.sqlite")})
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                httpx.get(f"{url}/health/live")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        before = processor_seconds(process.pid)
        found = asyncio.run(_ask(url, clients, seconds))
        spent = processor_seconds(process.pid) - before
        return found | {"server_cpu_ms_per_request": round(1000 * spent / found["requests"], 2)}
    finally:
        process.terminate()
        process.wait()


def processor_seconds(process: int) -> float:
    """That a process has taken, of user and system together (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _ask(url: str, clients: int, seconds: float) -> dict:
    times: dict[str, list[float]] = {"status": [], "submit": []}
    failures: dict[str, int] = {}
    jobs: list[str] = []
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=30, trust_env=False) as http:

        async def submit(number: int) -> None:
            response = await http.post("/v1/jobs", json={
                "inputs": [f"{number % 32}.png"], "vocabulary": {"classes": [{"id": 1, "name": "dog"}]}})
            note("submit", response)
            if response.is_success:
                jobs.append(response.json()["job"])

        def note(kind: str, response: httpx.Response) -> None:
            times[kind].append(1000 * response.elapsed.total_seconds())
            if not response.is_success:
                failures[str(response.status_code)] = failures.get(str(response.status_code), 0) + 1

        await submit(0)
        end = time.monotonic() + seconds

        async def client(number: int) -> None:
            rng = random.Random(number)
            await asyncio.sleep(rng.random())
            while time.monotonic() < end:
                began = time.monotonic()
                if rng.random() < 0.1:
                    await submit(number)
                else:
                    note("status", await http.get(f"/v1/jobs/{rng.choice(jobs)}"))
                await asyncio.sleep(max(0.0, 1 - (time.monotonic() - began)))

        await asyncio.gather(*(client(number) for number in range(clients)))
    return {"clients": clients, "seconds": seconds, "requests": sum(map(len, times.values())), "failures": failures,
            **{kind: {"requests": len(found), "p50_ms": round(float(np.percentile(found, 50)), 1),
                      "p99_ms": round(float(np.percentile(found, 99)), 1)} for kind, found in times.items()}}


if __name__ == "__main__":
    main()
