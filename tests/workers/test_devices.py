"""What workers tell of their GPUs, and what the ledger makes of it."""

from __future__ import annotations

import json
import time

import pytest
from sqlalchemy import insert

from workers.ledger import open_ledger
from workers.ledger.schema import meta
from workers.queue.devices import DEVICES, Device, DeviceNotes, devices, devices_here, host


@pytest.fixture
def ledger(tmp_path):
    opened = open_ledger(str(tmp_path / "l.sqlite"))
    yield opened
    opened.close()


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """smi(text) -> an nvidia-smi that says it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def make(text: str, status: int = 0) -> None:
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{text}'\nexit {status}\n")
        (folder / "nvidia-smi").chmod(0o755)

    return make


def note(ledger, name: str, at: float, used: int) -> None:
    with ledger.write() as connection:
        connection.execute(insert(meta).values(key=DEVICES + name, value=json.dumps(
            {"at": at, "devices": [{"host": name, "index": "0", "used": used, "total": 9}]})))


def test_a_machine_says_what_its_gpus_hold(smi):
    smi("0, 12, 81559\\n1, 0, 81559\\n")
    assert devices_here() == [Device(host=host(), index="0", used=12 << 20, total=81559 << 20),
                              Device(host=host(), index="1", used=0, total=81559 << 20)]


@pytest.mark.parametrize(("text", "status"), [("", 0), ("No devices were found\\n", 0), ("0, 1, 2\\n", 9),
                                              ("0, [N/A], 2\\n", 0)])
def test_what_cannot_be_read_is_no_gpu(smi, text, status):
    smi(text, status)
    assert devices_here() == []


def test_without_gpus_nothing_is_told(ledger, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    DeviceNotes().tell(ledger)
    assert devices(ledger) == []


def test_whoever_asks_elsewhere_hears_of_what_workers_saw_lately(ledger, smi, monkeypatch):
    smi("0, 1, 2\\n")
    notes = DeviceNotes()
    notes.tell(ledger)
    smi("0, 2, 2\\n")
    notes.tell(ledger)  # not again so soon
    note(ledger, "other", time.time() - 30, 5)
    note(ledger, "silent", time.time() - 3600, 7)
    note(ledger, "gone", time.time() - 100_000, 8)
    assert [(device.host, device.used) for device in devices(ledger)] == [(host(), 2 << 20), ("other", 5)]
    monkeypatch.setenv("PATH", "/nowhere")  # as in the container of the API
    assert sorted((device.host, device.used) for device in devices(ledger)) == sorted([(host(), 1 << 20), ("other", 5)])


def test_notes_of_yesterday_are_thrown_away(ledger, smi):
    note(ledger, "gone", time.time() - 100_000, 8)
    smi("0, 1, 2\\n")
    DeviceNotes().tell(ledger)
    with ledger.read() as connection:
        keys = {row.key for row in connection.execute(meta.select().where(meta.c.key.startswith(DEVICES)))}
    assert keys == {DEVICES + host()}
