"""Proof that a job left what the ledger says: the digest of every file, computed again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.ledger import JobRow, Ledger
from workers.ledger.jobs import counts, finished_rows
from workers.ledger.states import OPEN_ITEMS
from workers.outputs import FOLDERS
from workers.queue.finalise import damaged_files


@dataclass(frozen=True, slots=True)
class Verification:
    """What was compared."""

    counts: dict[str, int]
    """Pictures by state."""
    files: int
    """Files compared."""
    damaged: tuple[str, ...]
    """Paths below OUT that are missing or not as they were written."""
    strange: tuple[str, ...]
    """Files in masks/, overlays/ and confidence/ that belong to no finished picture."""

    @property
    def images(self) -> int:
        return sum(self.counts.values())

    @property
    def unfinished(self) -> int:
        return sum(self.counts[state] for state in OPEN_ITEMS)

    @property
    def is_whole(self) -> bool:
        return not self.damaged and not self.unfinished

    def states(self) -> str:
        return ", ".join(f"{state} {number:,}" for state, number in self.counts.items() if number)

    def as_dict(self) -> dict[str, Any]:
        return {"whole": self.is_whole, "counts": self.counts, "files": self.files, "damaged": list(self.damaged),
                "strange": list(self.strange)}


def verify(ledger: Ledger, job: JobRow) -> Verification:
    """Reads every file that the ledger has a digest of."""
    out, damaged = Path(job.out), []
    expected: set[str] = set()
    for row in finished_rows(ledger, job.id):
        files = json.loads(row.files)
        expected.update(files)
        damaged += damaged_files(out, files)
    whole = job.files or {}
    damaged += damaged_files(out, whole)
    strange = [path for path in _pictures(out) if path not in expected]
    return Verification(counts(ledger, job.id), len(expected) + len(whole), tuple(damaged), tuple(strange))


def _pictures(out: Path) -> Iterator[str]:
    for folder in FOLDERS:
        for parent, _, names in os.walk(out / folder):
            for name in sorted(names):
                yield (Path(parent) / name).relative_to(out).as_posix()
