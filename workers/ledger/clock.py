"""Clocks of several hosts: leases are times, so hosts have to agree about the time."""

from __future__ import annotations

import time

from sqlalchemy import text

from parsers.errors import Code, JobError
from workers.ledger.store import Ledger


def clock_ahead_s(ledger: Ledger) -> float:
    """Seconds that this host's clock is ahead of the database's; negative: behind. 0 for what the time of the question
    itself can explain, and for SQLite, which is on this host."""
    if not ledger.is_postgresql:
        return 0.0
    with ledger.read() as connection:
        before = time.time()
        there = float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
        after = time.time()
    return before - there if there < before else after - there if there > after else 0.0


def require_clock(ledger: Ledger, lease_s: float) -> None:
    """Raises JobError (`clock-skew`) where this host's clock is off by more than a third of a lease, within which each
    lease is renewed: who is behind would be taken for dead, who is ahead would take the living for dead."""
    ahead = clock_ahead_s(ledger)
    if abs(ahead) > lease_s / 3:
        raise JobError(Code.CLOCK_SKEW, f"The clock of this host is {abs(ahead):.1f} s "
                       f"{'ahead of' if ahead > 0 else 'behind'} that of the ledger {ledger.where}; it takes no work.",
                       f"At most {lease_s / 3:.1f} s, a third of LEXISEG_LEASE_S.",
                       "Set the clocks of all hosts by one source, for example: chronyc makestep")
