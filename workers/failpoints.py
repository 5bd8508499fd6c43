"""Named places in the life of an item at which a test can make the process die, as a power cut or `kill -9` would.

LEXISEG_FAILPOINTS says with which chance: `written=0.02` kills at about one passage in fifty through `written`,
`*=0.01` anywhere; several are separated by commas. LEXISEG_FAILPOINT_FOLDER is a folder in which all processes count
their passages, and LEXISEG_FAILPOINT_SEED decides which of them are deadly: with one seed it is always the same
passages, by their number, whichever process makes them. Without the first variable a passage costs one look into a
dictionary.
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

POINTS = ("delivered", "described", "claimed", "decoded", "scored", "written", "committing", "committed", "settled",
          "finalising", "checked", "lines-written", "report-written", "finalised")
"""Those of every job, in the order of an item's and then of a job's life."""
FREE_POINTS = ("told", "telling", "handed-on", "numbering", "numbered")
"""Those of a job without candidates besides."""


def reach(point: str) -> None:
    """Passes a place; does not return if this is the moment."""
    wanted = os.environ.get("LEXISEG_FAILPOINTS")
    if wanted:
        _maybe_die(point, wanted)


def is_deadly(seed: str, point: str, number: int, chance: float) -> bool:
    """Whether the passage of that number (from 1) through a place is one that kills."""
    return random.Random(f"{seed}:{point}:{number}").random() < chance


def deaths(folder: Path) -> list[tuple[str, int]]:
    """Place and number of the passages that killed, in the order in which they did."""
    try:
        lines = (folder / "deaths").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [(point, int(number)) for point, number in (line.split() for line in lines)]


def _maybe_die(point: str, wanted: str) -> None:
    chances = dict(part.split("=") for part in wanted.split(","))
    chance = float(chances.get(point, chances.get("*", 0)))
    if not chance:
        return
    folder = Path(os.environ["LEXISEG_FAILPOINT_FOLDER"])
    number = _append(folder / f"passed-{point}", b".")
    if is_deadly(os.environ.get("LEXISEG_FAILPOINT_SEED", ""), point, number, chance):
        _append(folder / "deaths", f"{point} {number}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


def _append(path: Path, data: bytes) -> int:
    """Adds to a file and says how long it is then; of two who add at once each gets a length of its own."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, data)
        return os.lseek(handle, 0, os.SEEK_CUR)
    finally:
        os.close(handle)
