"""Memory of GPUs. The workers have them, and the API most often has not, so workers tell the ledger what they see."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import threading
import time
from dataclasses import asdict, dataclass

from sqlalchemy import delete, select

from workers.ledger import Ledger
from workers.ledger.notes import NOTE
from workers.ledger.schema import meta

DEVICES = "devices:"
"""How the keys of these notes begin."""
EVERY_S = 30.0
OLD_S = 600.0
"""What a worker saw longer ago says nothing about now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One GPU."""

    host: str
    index: str
    used: int
    """Bytes."""
    total: int


def devices_here() -> list[Device]:
    """The GPUs of this machine, as nvidia-smi says; none without it."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        text = subprocess.run([command, "--query-gpu=index,memory.used,memory.total", "--format=csv,noheader,nounits"],
                              capture_output=True, text=True, timeout=5, check=True).stdout
        rows = [line.split(",") for line in text.splitlines() if line.strip()]
        return [Device(host=host(), index=index.strip(), used=int(used) << 20, total=int(total) << 20)
                for index, used, total in rows]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []


def devices(ledger: Ledger) -> list[Device]:
    """The GPUs of this machine, and of those whose workers told of theirs in the last minutes."""
    here = devices_here()
    with ledger.read() as connection:
        notes = [json.loads(row.value) for row in connection.execute(
            select(meta.c.value).where(meta.c.key.startswith(DEVICES)).order_by(meta.c.key))]
    told = [Device(**device) for note in notes if time.time() - note["at"] < OLD_S for device in note["devices"]]
    return here + [device for device in told if not here or device.host != host()]


class DeviceNotes:
    """Tells the ledger of the GPUs of this machine, at most every half minute."""

    def __init__(self) -> None:
        self._next, self._lock = 0.0, threading.Lock()

    def tell(self, ledger: Ledger) -> None:
        """Raises JobError where the ledger does not answer."""
        with self._lock:
            if time.monotonic() < self._next:
                return
            self._next = time.monotonic() + EVERY_S
        found = devices_here()
        if not found:
            return
        now = time.time()
        with ledger.write() as connection:
            connection.execute(NOTE, {"key": DEVICES + host(), "value": json.dumps(
                {"at": now, "devices": [asdict(device) for device in found]})})
            for row in connection.execute(select(meta.c.key, meta.c.value).where(meta.c.key.startswith(DEVICES))).all():
                if now - json.loads(row.value)["at"] > 86_400:
                    connection.execute(delete(meta).where(meta.c.key == row.key))


def host() -> str:
    """This machine, as the ledger has it."""
    return platform.node()[:20]
