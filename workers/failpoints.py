"""Named places in the life of an item at which a test can make the process die, as a power cut or `kill -9` would.

LEXISEG_FAILPOINTS says which: `written=0.02` kills at about one passage in fifty through `written`, `*=0.01` anywhere;
several are separated by commas. LEXISEG_FAILPOINT_LOG names a file to which the name of each place is added before
the end. Without the variable a passage costs one look into a dictionary.
"""

from __future__ import annotations

import os
import random
import signal

POINTS = ("delivered", "described", "claimed", "decoded", "scored", "written", "committing", "committed", "settled",
          "finalising", "checked", "lines-written", "report-written", "finalised")
"""All of them, in the order of an item's and then of a job's life."""


def reach(point: str) -> None:
    """Passes a place; does not return if this is the moment."""
    wanted = os.environ.get("LEXISEG_FAILPOINTS")
    if wanted:
        _maybe_die(point, wanted)


def _maybe_die(point: str, wanted: str) -> None:
    chances = dict(part.split("=") for part in wanted.split(","))
    chance = float(chances.get(point, chances.get("*", 0)))
    if chance and random.SystemRandom().random() < chance:
        log = os.environ.get("LEXISEG_FAILPOINT_LOG")
        if log:
            with open(log, "ab", buffering=0) as file:
                file.write(f"{point}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
