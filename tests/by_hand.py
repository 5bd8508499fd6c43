"""Jobs that a test works off in its own process, shard by shard, and what they leave."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from workers.ledger.dispatch import begin_finalising, hand_out, untold_shards
from workers.ledger.jobs import get_job
from workers.queue.finalise import finalise
from workers.queue.shard import ShardWorker
from workers.queue.telling import TellingWorker


def work_off(ledger, job, masker, teller=None, *, at_once=4, backwards=False) -> list[str]:
    """Works off all shards, `at_once` of them handed out together; what was done, in order: "tell" or "mask". teller:
    for jobs without candidates."""
    done = []
    while shards := hand_out(ledger, get_job(ledger, job.id), at_once):
        untold = untold_shards(ledger, shards)
        for shard in reversed(shards) if backwards else shards:
            (teller if shard in untold else masker).work(job.id, shard, job.digest[:16])
            done.append("tell" if shard in untold else "mask")
    return done


def do_job(ledger, job) -> None:
    """Both stages of a job without candidates and its end, with the models that it names."""
    teller = TellingWorker(ledger, lease_s=30, is_stopping=lambda: False)
    masker = ShardWorker(ledger, lease_s=30, is_stopping=lambda: False)
    with closing(teller), closing(masker):
        work_off(ledger, job, masker, teller)
    assert finish(ledger, job)


def finish(ledger, job) -> bool:
    """What the last worker does; False if the job is not at its end."""
    return begin_finalising(ledger, get_job(ledger, job.id)) and finalise(ledger, job.id, lease_s=30)


def content(out: Path) -> dict[str, bytes]:
    """All files below a job's folder but those with times and settings in them."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*"))
            if path.is_file() and path.name not in ("timings.jsonl", "job.json", "report.html")}
