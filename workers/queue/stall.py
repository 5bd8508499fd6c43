"""Why a job stands still: what can be asked of the queue, the workers, the dispatcher and the language model."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

from sqlalchemy import select

from parsers.errors import LexisegError
from workers.ledger import JobRow, Ledger
from workers.ledger.dispatch import dispatchers
from workers.ledger.schema import results
from workers.ledger.standstill import standstill
from workers.ledger.states import JobState
from workers.queue.health import broker_problem, count_workers
from workers.queue.settings import QueueSettings

SILENT_S = 90.0
"""A dispatcher that gave no sign of life for so long is not there; it gives one every half minute or sooner."""
REASONS = ("broker-unavailable", "no-dispatcher", "worker-busy", "worker-refuses", "llm-unavailable", "no-worker",
           "others-first", "waiting")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """A job that stands still."""

    job: str
    seconds: float
    """Without a result, a description, or a step of its end."""
    reason: str
    """The likeliest, one of REASONS."""
    message: str
    next_step: str

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"seconds": round(self.seconds, 1)}


def find_stall(ledger: Ledger, job: JobRow, settings: QueueSettings) -> Stall | None:
    """None while a job gets on; else since when it does not, and why. Asks the broker and, if need be, the workers and
    the language model, which takes up to some seconds. Raises JobError where the ledger does not answer."""
    found = standstill(ledger, job, settings.stall_s)
    if found is None:
        return None
    reason, message, next_step = _reason(ledger, job, settings, found.held, found.published)
    return Stall(job=job.id, seconds=found.seconds, reason=reason, message=message, next_step=next_step)


def _reason(ledger: Ledger, job: JobRow, settings: QueueSettings, held: int, published: int) -> tuple[str, str, str]:
    if (problem := broker_problem(settings)) is not None:
        return "broker-unavailable", f"The queue does not answer: {problem}.", "Start it, or correct LEXISEG_BROKER."
    signs = dispatchers(ledger)
    if not any(time.time() - at < SILENT_S for at in signs.values()):
        return ("no-dispatcher", "No dispatcher has given a sign of life, so no message is sent.",
                "lexiseg up, or lexiseg dispatch")
    if job.state == JobState.FINALISING:
        return _reason_of_end(settings)
    if job.error_code is not None:
        return "worker-refuses", str(job.error), f"lexiseg jobs show {job.id}"
    llm = (json.loads(job.spec).get("free") or {}).get("llm") or ""
    if "://" in llm and (problem := llm_problem(llm)) is not None:
        return "llm-unavailable", problem, "Start the language model; lexiseg doctor asks it again."
    if held:
        return ("worker-busy", f"A worker holds {held} pictures and gives signs of life, but no result.",
                "Wait; after LEXISEG_SHARD_LIMIT_S seconds it is killed. Its log may say more.")
    for kind in ("llm", "gpu") if llm else ("gpu",):
        if published and count_workers(settings, kind) == 0:
            return "no-worker", f"No worker {kind} takes messages.", f"lexiseg up, or lexiseg worker {kind}"
    if _somebody_works(ledger, settings.stall_s):
        return "others-first", "The workers are busy with other jobs.", "lexiseg jobs list"
    return ("waiting", f"Messages of {published} shards are under way and nobody begins them; they may be lost and are "
            "sent again.", "Wait; then look at the logs of the workers.")


def _reason_of_end(settings: QueueSettings) -> tuple[str, str, str]:
    """Of a job whose pictures are done: whoever ends it says so every third of a lease."""
    if count_workers(settings, "export") == 0:
        return "no-worker", "No worker export takes messages.", "lexiseg up, or lexiseg worker export"
    return ("waiting", "Its pictures are done, and nobody begins its end or goes on with it; the message is sent again "
            "and again.", "lexiseg up, or lexiseg worker export; then look at the log of that worker.")


def _somebody_works(ledger: Ledger, seconds: float) -> bool:
    with ledger.read() as connection:
        since = select(results.c.item_id).where(results.c.finished > time.time() - seconds).limit(1)
        return connection.execute(since).first() is not None


def llm_problem(where: str, timeout_s: float = 5.0) -> str | None:
    """None if a language model answers at the address (or at one of several, with commas between them)."""
    from agents import CallSettings, open_model

    try:
        open_model(where, settings=CallSettings(timeout_s=timeout_s, retries=0)).close()
    except LexisegError as error:
        return None if error.code == "llm-model-missing" else error.given
    return None
