"""Claims, fences, leases: one item has one effect, whoever comes, dies or is late."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import select, update

from parsers.errors import Code
from tests.workers.ledger.handing import finished
from workers.ledger import claim, commit, release, renew
from workers.ledger.claims import LONGEST_LEASE_S, settle
from workers.ledger.dispatch import (
    begin_finalising,
    forget_messages,
    hand_out,
    hold_finalising,
    needs_finaliser,
    reap,
)
from workers.ledger.jobs import (
    active_jobs,
    cancel_job,
    counts,
    failures,
    finished_rows,
    get_job,
    pause_job,
    resume_job,
    retry_failed,
)
from workers.ledger.schema import items, jobs, shards
from workers.records import Result


def seen(ledger, job) -> dict[str, int]:
    return {state: number for state, number in counts(ledger, job.id).items() if number}


def end_leases(ledger) -> None:
    """Time passes."""
    with ledger.write() as connection:
        connection.execute(update(items).where(items.c.lease_until.is_not(None)).values(lease_until=time.time() - 1))


def column(ledger, what) -> list:
    with ledger.read() as connection:
        return list(connection.execute(select(what).order_by(items.c.name if what.table is items else shards.c.id)
                                       ).scalars())


def test_an_item_goes_from_queued_to_done(ledger, make_job):
    job = make_job()
    first, *others = hand_out(ledger, job, 10)
    claims = claim(ledger, first, "me", 30)
    assert [entry.item.name for entry in claims] == ["deep/0.png", "deep/1.png", "deep/2.png", "deep/3.png"]
    assert [(entry.attempts, entry.fence) for entry in claims] == [(1, 1)] * 4
    assert claims[0].item.path.read_bytes() == b"picture 0"
    assert seen(ledger, job) == {"queued": 6, "running": 4}
    states = ["done", "done-empty", "failed", "done"]
    done = [finished(entry, state, code=Code.FILE_EMPTY if state == "failed" else None)
            for entry, state in zip(claims, states, strict=True)]
    committed = commit(ledger, job.id, done)
    assert committed.lost == () and committed.job_state == "running"
    assert seen(ledger, job) == {"queued": 6, "done": 2, "done-empty": 1, "failed": 1}
    rows = list(finished_rows(ledger, job.id, chunk=2))
    assert [row.name for row in rows] == [f"deep/{number}.png" for number in range(4)]
    assert Result.model_validate_json(rows[2].line).code == Code.FILE_EMPTY and rows[0].score_s == 0.2
    assert len(failures(ledger, job.id, 5)) == 1 and len(others) == 2


def test_a_claimed_item_is_nobody_elses(ledger, make_job):
    job = make_job()
    shard = hand_out(ledger, job, 1)[0]
    assert len(claim(ledger, shard, "me", 30)) == 4
    assert claim(ledger, shard, "you", 30) == ()


def test_of_two_who_hold_an_item_only_the_later_has_an_effect(ledger, make_job):
    job = make_job()
    shard = hand_out(ledger, job, 1)[0]
    late = claim(ledger, shard, "late", 30)
    end_leases(ledger)
    now = claim(ledger, shard, "now", 30)
    assert len(now) == 1 and now[0].fence > late[0].fence
    assert commit(ledger, job.id, [finished(entry, "failed") for entry in late]).lost == tuple(
        entry.item_id for entry in late)
    assert seen(ledger, job) == {"queued": 9, "running": 1}
    assert commit(ledger, job.id, [finished(now[0])]).lost == ()
    assert commit(ledger, job.id, [finished(late[0], "failed")]).lost == (late[0].item_id,)
    assert seen(ledger, job) == {"queued": 9, "done": 1}


def test_handing_in_twice_changes_nothing(ledger, make_job):
    job = make_job()
    claims = claim(ledger, hand_out(ledger, job, 1)[0], "me", 30)
    commit(ledger, job.id, [finished(claims[0])])
    assert commit(ledger, job.id, [finished(claims[0], "failed")]).lost == (claims[0].item_id,)
    assert seen(ledger, job) == {"queued": 6, "running": 3, "done": 1}


def test_after_a_death_items_come_one_by_one_and_the_poisonous_one_is_quarantined(ledger, make_job):
    job = make_job()
    shard = hand_out(ledger, job, 1)[0]
    assert len(claim(ledger, shard, "dies", 30)) == 4
    deaths = 1
    while end_leases(ledger) is None and (claims := claim(ledger, shard, "next", 30)):
        assert len(claims) == 1
        if claims[0].item.name == "deep/1.png":
            deaths += 1
            continue
        commit(ledger, job.id, [finished(claims[0])])
    assert deaths == 3
    assert seen(ledger, job) == {"queued": 6, "done": 3, "quarantined": 1}
    (line,) = failures(ledger, job.id, 5)
    result = Result.model_validate_json(line)
    assert (result.name, result.code, result.state) == ("deep/1.png", Code.WORKER_DIED, "quarantined")


def test_a_lease_is_kept_by_renewing_it(ledger, make_job):
    job = make_job()
    shard = hand_out(ledger, job, 1)[0]
    claim(ledger, shard, "me", 30)
    end_leases(ledger)
    assert renew(ledger, "me", 30) == 4
    assert reap(ledger, 100).expired == 0
    assert renew(ledger, "you", 30) == 0


def test_what_is_given_back_counts_as_never_taken(ledger, make_job):
    job = make_job()
    shard = hand_out(ledger, job, 1)[0]
    claims = claim(ledger, shard, "me", 30)
    commit(ledger, job.id, [finished(claims[0])])
    assert release(ledger, "me") == 3
    assert column(ledger, items.c.attempts)[:4] == [1, 0, 0, 0]
    assert commit(ledger, job.id, [finished(claims[1])]).lost == (claims[1].item_id,)
    assert len(claim(ledger, shard, "you", 30)) == 3


@pytest.mark.parametrize("jump_s", [LONGEST_LEASE_S + 100, 10 * 365 * 86400], ids=["two hours", "ten years"])
def test_a_clock_that_is_set_back_holds_nothing_for_long(ledger, make_job, jump_s):
    job = make_job()
    shard = hand_out(ledger, job, 1)[0]
    claim(ledger, shard, "dead", 30)
    with ledger.write() as connection:
        connection.execute(update(items).where(items.c.owner == "dead").values(lease_until=time.time() + jump_s))
        connection.execute(update(shards).values(published=time.time() + jump_s))
    assert reap(ledger, 100).expired == 4
    assert hand_out(ledger, job, 10)[0] == shard


def test_two_reapers_at_once_take_back_each_item_once(ledger, make_job):
    job = make_job()
    for shard in hand_out(ledger, job, 10):
        claim(ledger, shard, "dead", 30)
    end_leases(ledger)
    found = in_threads(8, lambda: reap(ledger, 100).expired)
    assert sum(found) == 10
    assert seen(ledger, job) == {"queued": 10}
    assert set(column(ledger, items.c.fence)) == {2}


def test_eight_claimers_at_once_share_without_overlap(ledger, make_job):
    job = make_job(shard_size=10)
    shard = hand_out(ledger, job, 1)[0]
    found = in_threads(8, lambda: claim(ledger, shard, threading.current_thread().name, 30))
    assert sorted(len(claims) for claims in found) == [0] * 7 + [10]


def test_one_of_eight_ends_the_job(ledger, make_job):
    job = make_job()
    for shard in hand_out(ledger, job, 10):
        commit(ledger, job.id, [finished(entry) for entry in claim(ledger, shard, "me", 30)])
    assert in_threads(8, lambda: begin_finalising(ledger, job)).count(True) == 1
    assert get_job(ledger, job.id).state == "finalising"
    assert in_threads(8, lambda: needs_finaliser(ledger, job, 30)).count(True) == 1


def test_a_job_with_something_left_does_not_end(ledger, make_job):
    job = make_job()
    shards_ = hand_out(ledger, job, 10)
    for shard in shards_[:-1]:
        commit(ledger, job.id, [finished(entry) for entry in claim(ledger, shard, "me", 30)])
    assert not begin_finalising(ledger, job)
    claim(ledger, shards_[-1], "me", 30)
    assert not begin_finalising(ledger, job)


def test_who_finalises_and_dies_is_followed_by_another(ledger, make_job):
    job = make_job()
    for shard in hand_out(ledger, job, 10):
        commit(ledger, job.id, [finished(entry) for entry in claim(ledger, shard, "me", 30)])
    assert begin_finalising(ledger, job) and needs_finaliser(ledger, job, 30)
    assert hold_finalising(ledger, job.id, 30) and not needs_finaliser(ledger, job, 30)
    with ledger.write() as connection:
        connection.execute(update(jobs).values(lease_until=time.time() - 1))
    assert needs_finaliser(ledger, job, 30)


def test_no_more_shards_than_the_window_are_under_way(ledger, make_job):
    job = make_job(shard_size=1)
    assert len(hand_out(ledger, job, 3)) == 3
    assert hand_out(ledger, job, 3) == []
    first = column(ledger, shards.c.id)[0]
    commit(ledger, job.id, [finished(entry) for entry in claim(ledger, first, "me", 30)])
    settle(ledger, first)
    assert len(hand_out(ledger, job, 3)) == 1


def test_two_dispatchers_hand_out_different_shards(ledger, make_job):
    job = make_job(shard_size=1)
    found = [shard for part in in_threads(6, lambda: hand_out(ledger, job, 10)) for shard in part]
    assert sorted(found) == sorted(set(found)) and len(found) == 10


def test_a_message_that_nobody_begins_is_sent_again_and_each_time_later(ledger, make_job):
    job = make_job(shard_size=10)

    def wait(seconds):
        with ledger.write() as connection:
            connection.execute(update(shards).values(published=shards.c.published - seconds))
        return reap(ledger, 100).republished

    assert len(hand_out(ledger, job, 5)) == 1
    assert (wait(90), wait(20)) == (0, 1)
    assert len(hand_out(ledger, job, 5)) == 1
    assert (wait(190), wait(20)) == (0, 1)


def test_an_empty_queue_means_that_messages_are_lost(ledger, make_job):
    job = make_job()
    first, second, third = hand_out(ledger, job, 5)
    claim(ledger, second, "me", 30)
    assert forget_messages(ledger, 60) == 0
    assert forget_messages(ledger, -1) == 2
    assert hand_out(ledger, job, 5) == [first, third]


def test_a_paused_job_gives_out_nothing(ledger, make_job):
    job = make_job()
    shard = hand_out(ledger, job, 1)[0]
    claims = claim(ledger, shard, "me", 30)
    pause_job(ledger, job)
    assert hand_out(ledger, job, 5) == [] and active_jobs(ledger) == []
    assert commit(ledger, job.id, [finished(claims[0])]).job_state == "paused"
    release(ledger, "me")
    assert claim(ledger, shard, "me", 30) == ()
    resume_job(ledger, get_job(ledger, job.id))
    assert shard in hand_out(ledger, get_job(ledger, job.id), 5)  # its message was put aside while the job stood still
    assert len(claim(ledger, shard, "me", 30)) == 3


def test_a_cancelled_job_keeps_what_is_done(ledger, make_job):
    job = make_job()
    shard = hand_out(ledger, job, 1)[0]
    claims = claim(ledger, shard, "me", 30)
    commit(ledger, job.id, [finished(claims[0])])
    assert cancel_job(ledger, job) == 6
    assert commit(ledger, job.id, [finished(claims[1])]).job_state == "cancelled"
    release(ledger, "me")
    assert seen(ledger, job) == {"done": 2, "cancelled": 8}
    assert claim(ledger, shard, "me", 30) == ()


def test_only_failed_and_quarantined_items_are_tried_again(ledger, make_job):
    job = make_job()
    for shard in hand_out(ledger, job, 10):
        claims = claim(ledger, shard, "me", 30)
        commit(ledger, job.id, [finished(entry, "failed" if entry.item.name.endswith("7.png") else "done")
                                for entry in claims])
        settle(ledger, shard)
    begin_finalising(ledger, job)
    assert retry_failed(ledger, job) == 1
    assert get_job(ledger, job.id).state == "running"
    (shard,) = hand_out(ledger, job, 10)
    (again,) = claim(ledger, shard, "me", 30)
    assert again.item.name == "deep/7.png" and again.attempts == 1
    commit(ledger, job.id, [finished(again)])
    assert seen(ledger, job) == {"done": 10}


def in_threads(number, call) -> list:
    """What `call` gave in each of so many threads that began together."""
    barrier, found = threading.Barrier(number), []

    def work():
        barrier.wait()
        found.append(call())

    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == number
    return found
