"""The stage before the masks: pictures of which it is to be said what they show."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from tests.workers.ledger.handing import finished
from workers.ledger import ItemState, NewJob, claim, commit, hand_on
from workers.ledger.claims import expire, settle
from workers.ledger.dispatch import begin_finalising, hand_out, reap, unbegun_shard, untold_shards
from workers.ledger.intake import set_going, take_in
from workers.ledger.jobs import (
    cancel_job,
    counts,
    create_job,
    get_job,
    give_back_calls,
    retry_failed,
    take_calls,
    told_rows,
)
from workers.ledger.schema import items


@pytest.fixture
def job(ledger, found, tmp_path):
    """A job without candidates: ten pictures in shards of four."""
    made = create_job(ledger, NewJob(out=str(tmp_path / "out"), spec="{}", digest="d" * 64, shard_size=4))
    take_in(ledger, made, found(), untold=True)
    set_going(ledger, made)
    return get_job(ledger, made.id)


def say(ledger, job, shard, owner="teller"):
    """Says something of everything in a shard."""
    claims = claim(ledger, shard, owner, 30, untold=True)
    assert not hand_on(ledger, job.id, [(entry, f'"{entry.item.name}"') for entry in claims]).lost
    settle(ledger, shard)
    return claims


def test_a_picture_is_segmented_only_after_something_was_said_of_it(ledger, job):
    first, second, third = hand_out(ledger, job, 4)
    assert untold_shards(ledger, [first, second, third]) == {first, second, third}
    assert claim(ledger, first, "gpu", 30) == ()
    assert len(say(ledger, job, first)) == 4 and claim(ledger, first, "teller", 30, untold=True) == ()
    assert hand_out(ledger, job, 4) == [first] and untold_shards(ledger, [first, second]) == {second}
    assert unbegun_shard(ledger, job) == first
    claims = claim(ledger, first, "gpu", 30)
    assert [entry.told for entry in claims] == [f'"{entry.item.name}"' for entry in claims]
    assert {entry.attempts for entry in claims} == {1}
    commit(ledger, job.id, [finished(entry) for entry in claims])
    assert list(told_rows(ledger, job.id)) == [f'"{entry.item.name}"' for entry in claims]
    assert not begin_finalising(ledger, job)


def test_a_shard_waits_for_all_that_is_being_said(ledger, job):
    (shard,) = hand_out(ledger, job, 1)
    claims = claim(ledger, shard, "teller", 30, untold=True)
    hand_on(ledger, job.id, [(entry, "1") for entry in claims[:2]])
    settle(ledger, shard)
    assert hand_out(ledger, job, 1) == [] and untold_shards(ledger, [shard]) == {shard}
    hand_on(ledger, job.id, [(entry, "1") for entry in claims[2:]])
    settle(ledger, shard)
    assert hand_out(ledger, job, 1) == [shard] and untold_shards(ledger, [shard]) == set()


def test_who_comes_too_late_says_nothing(ledger, job):
    (shard,) = hand_out(ledger, job, 1)
    late = claim(ledger, shard, "late", 30, untold=True)
    with ledger.write() as connection:
        connection.execute(update(items).where(items.c.owner == "late").values(lease_until=1.0))
        assert expire(connection, 2.0) == 4
    again = claim(ledger, shard, "teller", 30, untold=True)
    assert len(again) == 1, "a picture whose worker died comes alone"
    assert len(hand_on(ledger, job.id, [(entry, '"late"') for entry in late]).lost) == 4
    assert hand_on(ledger, job.id, [(again[0], '"in time"')]).lost == ()
    with ledger.read() as connection:
        assert set(connection.execute(select(items.c.told)).scalars()) == {None, '"in time"'}


def test_a_picture_that_kills_who_looks_at_it_is_set_aside(ledger, job):
    (shard,) = hand_out(ledger, job, 1)
    for _ in range(3):
        for entry in (claims := claim(ledger, shard, "dies", 30, untold=True)):
            if entry.item.name != claims[0].item.name:
                hand_on(ledger, job.id, [(entry, "1")])
        with ledger.write() as connection:
            connection.execute(update(items).where(items.c.owner == "dies").values(lease_until=1.0))
        reap(ledger, 120)
    assert counts(ledger, job.id)["quarantined"] == 1
    assert len(claim(ledger, shard, "gpu", 30)) == 3


def test_what_failed_is_asked_about_again_what_was_said_is_not(ledger, job):
    shards = hand_out(ledger, job, 4)
    mute, *others = claim(ledger, shards[0], "teller", 30, untold=True)
    commit(ledger, job.id, [finished(mute, "failed", code="llm-unavailable")])
    hand_on(ledger, job.id, [(entry, "1") for entry in others])
    settle(ledger, shards[0])
    ugly, *_ = claim(ledger, shards[0], "gpu", 30)
    commit(ledger, job.id, [finished(ugly, "failed", code="internal")])
    assert retry_failed(ledger, job) == 2
    assert [entry.item.name for entry in claim(ledger, shards[0], "teller", 30, untold=True)] == [mute.item.name]
    assert [entry.item.name for entry in claim(ledger, shards[0], "gpu", 30)] == [ugly.item.name]


def test_what_is_said_of_a_cancelled_job_ends_there(ledger, job):
    (shard,) = hand_out(ledger, job, 1)
    claims = claim(ledger, shard, "teller", 30, untold=True)
    cancel_job(ledger, job)
    hand_on(ledger, job.id, [(entry, "1") for entry in claims])
    found = counts(ledger, job.id)
    assert found[ItemState.QUEUED] == found[ItemState.RUNNING] == 0 and found[ItemState.CANCELLED] == 10


def test_calls_of_the_language_model_are_granted_up_to_the_limit_of_the_job(ledger, job):
    assert [take_calls(ledger, job.id, 16, 20) for _ in range(3)] == [16, 4, 0]
    give_back_calls(ledger, job.id, 5)
    assert get_job(ledger, job.id).llm_calls == 15
    assert (take_calls(ledger, job.id, 16, 20), take_calls(ledger, job.id, 1, 10), get_job(ledger, job.id).llm_calls) \
        == (5, 0, 20)
    assert take_calls(ledger, "nobody", 16, 20) == 0


def test_many_workers_together_are_granted_no_more_than_that(ledger, job):
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda _: take_calls(ledger, job.id, 16, 100), range(12))) == 100
