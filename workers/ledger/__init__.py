"""The ledger: which jobs there are, and what became of each picture of theirs. It is the truth; a message in a queue
is only a hint that there may be work.

One SQLite file in WAL mode on one machine, PostgreSQL by URL for several. Every change is one short transaction.
"""

from workers.ledger.claims import Claim, Committed, Finished, claim, commit, hand_on, release, renew
from workers.ledger.jobs import JobRow, NewJob
from workers.ledger.schema import SCHEMA_VERSION
from workers.ledger.states import ItemState, JobState
from workers.ledger.store import Ledger, open_ledger

__all__ = ["SCHEMA_VERSION", "Claim", "Committed", "Finished", "ItemState", "JobRow", "JobState", "Ledger", "NewJob",
           "claim", "commit", "hand_on", "open_ledger", "release", "renew"]
