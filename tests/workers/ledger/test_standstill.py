"""Jobs that stand still, clocks that differ, and dispatchers that give signs of life: what the ledger tells."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import update

from parsers.errors import Code, JobError
from workers.ledger import claim, hand_on, open_ledger
from workers.ledger.clock import clock_ahead_s, require_clock
from workers.ledger.dispatch import (
    begin_finalising,
    dispatchers,
    hand_out,
    hold_finalising,
    needs_finaliser,
    note_dispatcher,
)
from workers.ledger.jobs import cancel_job, get_job, pause_job, resume_job, retry_failed
from workers.ledger.notes import MOVED, noted_move
from workers.ledger.schema import items, jobs, meta, shards
from workers.ledger.standstill import send_again, standstill


def age(ledger, job, seconds):
    """The job was entered, and its messages were sent, so long ago."""
    with ledger.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(created=time.time() - seconds))
        connection.execute(update(shards).where(shards.c.job_id == job.id, shards.c.published.is_not(None))
                           .values(published=time.time() - seconds))
    return get_job(ledger, job.id)


def test_a_young_job_does_not_stand_still_and_an_old_one_does(ledger, make_job):
    job = make_job()
    assert standstill(ledger, job, 60) is None
    found = standstill(ledger, age(ledger, job, 100), 60)
    assert found is not None and found.seconds > 99 and (found.held, found.published) == (0, 0)


def test_messages_under_way_and_pictures_held_are_counted(ledger, make_job):
    job = make_job()
    ids = hand_out(ledger, job, 16)
    job = age(ledger, job, 100)
    assert standstill(ledger, job, 60).published == len(ids)
    held = claim(ledger, ids[0], "me", 30)
    found = standstill(ledger, job, 60)
    assert (found.held, found.published) == (len(held), len(ids) - 1)


def test_a_job_that_was_just_sent_out_has_time(ledger, make_job):
    job = age(ledger, make_job(), 100)
    hand_out(ledger, job, 16)
    assert standstill(ledger, job, 60) is None


def test_what_nobody_works_on_is_sent_again(ledger, make_job):
    job = make_job()
    ids = hand_out(ledger, job, 16)
    claim(ledger, ids[0], "me", 30)
    assert send_again(ledger, job) == len(ids) - 1
    assert sorted(hand_out(ledger, job, 16)) == sorted(ids[1:])


def age_notes(ledger, seconds):
    """What was noted of jobs was noted so long ago."""
    with ledger.write() as connection:
        connection.execute(update(meta).where(meta.c.key.startswith(MOVED)).values(value=repr(time.time() - seconds)))


def test_a_job_whose_pictures_are_described_gets_on(ledger, make_job):
    job = make_job()
    with ledger.write() as connection:
        connection.execute(update(items).values(told=None))
    (shard, *_) = hand_out(ledger, job, 16)
    job = age(ledger, job, 100)
    claims = claim(ledger, shard, "me", 30, untold=True)
    assert standstill(ledger, job, 60) is not None
    hand_on(ledger, job.id, [(claims[0], "{}")])
    assert standstill(ledger, job, 60) is None
    age_notes(ledger, 80)
    assert 79 < standstill(ledger, job, 60).seconds < 90


def test_a_job_at_its_end_stands_still_when_nobody_ends_it(ledger, make_job):
    job = age(ledger, make_job(), 100)
    with ledger.write() as connection:
        connection.execute(update(items).values(state="done"))
    assert begin_finalising(ledger, job)
    job = get_job(ledger, job.id)
    assert job.state == "finalising" and standstill(ledger, job, 60) is None
    age_notes(ledger, 80)
    assert needs_finaliser(ledger, job, 30)  # a message is under way, and nobody takes it
    assert standstill(ledger, job, 60).seconds > 79
    hold_finalising(ledger, job.id, 30)
    assert standstill(ledger, job, 60) is None


@pytest.mark.parametrize("how", [pause_job, None])
def test_a_job_that_is_set_going_again_has_time(ledger, make_job, how):
    job = make_job()
    ids = hand_out(ledger, job, 16)
    job = age(ledger, job, 100)
    assert len(ids) == 3 and standstill(ledger, job, 60) is not None
    if how is None:
        with ledger.write() as connection:
            connection.execute(update(items).values(state="failed"))
        assert retry_failed(ledger, job) == 10
    else:
        how(ledger, job)
        resume_job(ledger, get_job(ledger, job.id))
    assert standstill(ledger, get_job(ledger, job.id), 60) is None


def test_notes_go_with_their_job(ledger, make_job):
    job = make_job()
    pause_job(ledger, job)
    resume_job(ledger, get_job(ledger, job.id))
    with ledger.read() as connection:
        assert noted_move(connection, job.id) > 0
    cancel_job(ledger, job)
    with ledger.read() as connection:
        assert noted_move(connection, job.id) == 0


def test_dispatchers_give_signs_of_life_and_old_ones_are_forgotten(ledger):
    with ledger.write() as connection:
        connection.execute(meta.delete().where(meta.c.key.startswith("dispatcher:")))
        connection.execute(meta.insert().values(key="dispatcher:gone", value=repr(time.time() - 100_000)))
    note_dispatcher(ledger, "a-host-with-a-rather-long-name")
    note_dispatcher(ledger, "a-host-with-a-rather-long-name")
    assert list(dispatchers(ledger)) == ["a-host-with-a-rather"]
    assert time.time() - dispatchers(ledger)["a-host-with-a-rather"] < 60


def test_the_clock_of_this_host_is_that_of_the_database(ledger):
    assert abs(clock_ahead_s(ledger)) < 0.1
    require_clock(ledger, 30)


@pytest.mark.integration
@pytest.mark.parametrize(("ahead", "said"), [(3600, "ahead of"), (-3600, "behind")])
def test_a_host_whose_clock_is_off_is_told(postgres_url, monkeypatch, ahead, said):
    ledger = open_ledger(postgres_url)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    assert clock_ahead_s(ledger) == pytest.approx(ahead, abs=60)
    with pytest.raises(JobError) as caught:
        require_clock(ledger, 30)
    assert caught.value.code == Code.CLOCK_SKEW and said in caught.value.given and "chronyc" in caught.value.next_step
    ledger.close()
