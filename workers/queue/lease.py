"""What a worker has claimed: kept alive while it works, given back when it ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from parsers.errors import LexisegError
from workers.ledger import Ledger, release, renew

log = logging.getLogger("lexiseg")


@contextmanager
def held(ledger: Ledger, owner: str, lease_s: float) -> Iterator[None]:
    """Renews the owner's leases while the block runs; afterwards what is left is given back as if it had never been
    taken. An error that nobody foresaw counts as a death instead, so that it does not go on for ever."""
    is_broken = False
    try:
        with kept_alive(ledger, owner, lease_s):
            yield
    except Exception as error:
        is_broken = not isinstance(error, LexisegError)
        raise
    finally:
        if is_broken:
            renew(ledger, owner, 0)
        else:
            release(ledger, owner)


@contextmanager
def kept_alive(ledger: Ledger, owner: str, lease_s: float) -> Iterator[None]:
    """Renews the owner's leases every third of their length while the block runs."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(lease_s / 3):
            try:
                renew(ledger, owner, lease_s)
            except LexisegError as error:  # the next beat may reach it; else the lease ends, as it should
                log.warning("lease not renewed: %s", error)

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
