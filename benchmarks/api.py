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
from dataclasses import dataclass
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
        found = asyncio.run(_ask(port, clients, seconds))
        spent = processor_seconds(process.pid) - before
        return found | {"server_cpu_ms_per_request": round(1000 * spent / found["requests"], 2)}
    finally:
        process.terminate()
        process.wait()


def processor_seconds(process: int) -> float:
    """That a process has taken, of user and system together (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _ask(port: int, clients: int, seconds: float) -> dict:
    times: dict[str, list[float]] = {"status": [], "submit": []}
    failures: dict[str, int] = {}
    jobs: list[str] = []

    async def ask(line: Line, kind: str, method: str, path: str, body: dict | None = None) -> None:
        began = time.monotonic()
        status, answer = await line.ask(method, path, body)
        times[kind].append(1000 * (time.monotonic() - began))
        if status >= 300:
            failures[str(status)] = failures.get(str(status), 0) + 1
        elif kind == "submit":
            jobs.append(json.loads(answer)["job"])

    async def submit(line: Line, number: int) -> None:
        await ask(line, "submit", "POST", "/v1/jobs", {
            "inputs": [f"{number % 32}.png"], "vocabulary": {"classes": [{"id": 1, "name": "dog"}]}})

    async def client(line: Line, number: int, end: float) -> None:
        rng = random.Random(number)
        await asyncio.sleep(rng.random())
        while time.monotonic() < end:
            began = time.monotonic()
            if rng.random() < 0.1:
                await submit(line, number)
            else:
                await ask(line, "status", "GET", f"/v1/jobs/{rng.choice(jobs)}")
            await asyncio.sleep(max(0.0, 1 - (time.monotonic() - began)))

    lines = [await Line.to(port) for _ in range(clients)]
    try:
        await submit(lines[0], 0)
        end = time.monotonic() + seconds
        await asyncio.gather(*(client(line, number, end) for number, line in enumerate(lines)))
    finally:
        for line in lines:
            line.writer.close()
            await line.writer.wait_closed()
    return {"clients": clients, "seconds": seconds, "requests": sum(map(len, times.values())), "failures": failures,
            **{kind: {"requests": len(found), "p50_ms": round(float(np.percentile(found, 50)), 1),
                      "p99_ms": round(float(np.percentile(found, 99)), 1)} for kind, found in times.items()}}


@dataclass
class Line:
    """A connection that stays open. A client that costs next to nothing: with one of a library, two hundred of them
    take more of the two cores than the server does, and wait for each other."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def to(cls, port: int) -> Line:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, method: str, path: str, body: dict | None) -> tuple[int, bytes]:
        """Status and body of the answer."""
        content = b"" if body is None else json.dumps(body).encode()
        self.writer.write(f"{method} {path} HTTP/1.1\r\nHost: site\r\nContent-Type: application/json\r\n"
                          f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n")
                      if line.lower().startswith(b"content-length:"))
        return int(head.split(b" ", 2)[1]), await self.reader.readexactly(length)


if __name__ == "__main__":
    main()
