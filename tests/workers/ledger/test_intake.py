"""Pictures come in: new, changed, known, twice; and shards are made of them."""

from __future__ import annotations

import os

import pytest
from sqlalchemy import select

from parsers.errors import Code, InputError
from tests.workers.ledger.handing import finished
from workers.inputs import InputItem
from workers.ledger import claim, commit
from workers.ledger.dispatch import begin_finalising, hand_out
from workers.ledger.intake import set_going, take_in
from workers.ledger.jobs import cancel_job, counts, get_job, locate, resume_job
from workers.ledger.schema import items, shards


def do_everything(ledger, job) -> list[str]:
    """Works off the job; the names in the order in which they were claimed."""
    names = []
    while found := hand_out(ledger, job, 10):
        for shard in found:
            claims = claim(ledger, shard, "me", 30)
            names += [entry.item.name for entry in claims]
            commit(ledger, job.id, [finished(entry) for entry in claims])
    return names


def test_shards_hold_neighbours_in_the_order_of_names(ledger, make_job):
    job = make_job()
    with ledger.read() as connection:
        rows = connection.execute(select(items.c.shard_id, items.c.name).order_by(items.c.name)).all()
    assert [row.shard_id for row in rows] == sorted(row.shard_id for row in rows)
    assert [len(claim(ledger, shard, "me", 30)) for shard in hand_out(ledger, job, 9)] == [4, 4, 2]


def test_a_second_submission_of_the_same_does_nothing(ledger, make_job, found):
    job = make_job()
    assert len(do_everything(ledger, job)) == 10
    intake = take_in(ledger, job, found())
    assert (intake.added, intake.changed, intake.known) == (0, 0, 10)
    set_going(ledger, job)
    assert do_everything(ledger, job) == []


def test_new_pictures_are_done_and_only_they(ledger, make_job, found, pictures):
    job = make_job()
    do_everything(ledger, job)
    (pictures / "a.png").write_bytes(b"new")
    assert take_in(ledger, job, found()).added == 1
    set_going(ledger, job)
    assert do_everything(ledger, job) == ["a.png"]


def test_changed_content_is_a_new_item(ledger, make_job, found, pictures):
    job = make_job()
    shard = hand_out(ledger, job, 1)[0]
    late = claim(ledger, shard, "late", 30)
    (pictures / "deep/0.png").write_bytes(b"another picture")
    intake = take_in(ledger, job, found())
    assert (intake.added, intake.changed, intake.known) == (0, 1, 9)
    set_going(ledger, job)
    assert commit(ledger, job.id, [finished(entry) for entry in late]).lost == (late[0].item_id,)
    assert counts(ledger, job.id)["queued"] == 7
    assert "deep/0.png" in do_everything(ledger, job)


def test_a_touched_file_with_the_same_content_is_the_same_item(ledger, make_job, found, pictures):
    import hashlib

    from sqlalchemy import update

    job = make_job()
    do_everything(ledger, job)
    path = pictures / "deep/0.png"
    with ledger.write() as connection:
        connection.execute(update(items).where(items.c.name == "deep/0.png").values(
            image_sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    os.utime(path, ns=(1, 1))
    assert take_in(ledger, job, found()).changed == 0


def test_a_file_reached_twice_counts_once_by_its_first_name(ledger, make_job, found, pictures):
    job = make_job()
    again = [InputItem("9.png", str(pictures / "deep"), "9.png"), *found()[-1:]]
    assert take_in(ledger, job, again).known == 2
    assert counts(ledger, job.id)["queued"] == 10


def test_two_files_with_one_name_are_refused(ledger, make_job, tmp_path):
    job = make_job()
    (tmp_path / "other/deep").mkdir(parents=True)
    (tmp_path / "other/deep/3.png").write_bytes(b"x")
    with pytest.raises(InputError) as caught:
        take_in(ledger, job, [InputItem("deep/3.png", str(tmp_path / "other"), "deep/3.png")])
    assert caught.value.code == Code.OUTPUT_COLLISION
    assert counts(ledger, job.id)["queued"] == 10


def test_a_missing_file_becomes_an_item_that_will_fail(ledger, make_job, pictures):
    job = make_job()
    assert take_in(ledger, job, [InputItem("gone.png", str(pictures), "gone.png")]).added == 1


def test_names_that_are_not_utf8_find_their_file(ledger, make_job, pictures):
    job = make_job()
    relative = os.fsdecode(b"\xff.png")
    (pictures / relative).write_bytes(b"y")
    take_in(ledger, job, [InputItem("\\xff.png", str(pictures), relative)])
    assert locate(ledger, job.id, "\\xff.png").path.read_bytes() == b"y"


def test_names_sort_by_code_points(ledger, make_job, pictures):
    job = make_job()
    names = ["Z.png", "a.png", "é.png", "ｚ.png", "😀.png"]
    take_in(ledger, job, [InputItem(name, str(pictures), name) for name in names])
    with ledger.read() as connection:
        found = list(connection.execute(select(items.c.name).order_by(items.c.name)).scalars())
    assert found == sorted(found) and set(names) <= set(found)


def test_a_sample_is_done_first_and_the_rest_on_request(ledger, make_job):
    job = make_job(sample=3, shard_size=2)
    first = do_everything(ledger, job)
    assert len(first) == 3 and first == do_first_again(first)
    assert begin_finalising(ledger, job)
    with ledger.write() as connection:
        from workers.ledger.schema import jobs
        connection.execute(jobs.update().values(state="sampled"))
    resume_job(ledger, get_job(ledger, job.id))
    assert len(do_everything(ledger, get_job(ledger, job.id))) == 7


def do_first_again(names) -> list[str]:
    """The draw goes by the digests of the names: the same at each run."""
    import hashlib
    every = [f"deep/{number}.png" for number in range(10)]
    return sorted(sorted(every, key=lambda name: hashlib.sha256(name.encode()).digest())[:len(names)])


def test_a_cancelled_job_comes_back_by_submitting_it_again(ledger, make_job, found):
    job = make_job()
    cancel_job(ledger, job)
    with ledger.write() as connection:
        from workers.ledger.schema import jobs
        connection.execute(jobs.update().values(state="submitting"))
    take_in(ledger, job, found())
    set_going(ledger, job)
    assert len(do_everything(ledger, get_job(ledger, job.id))) == 10


def test_ids_are_never_used_again(ledger, make_job, found, pictures):
    job = make_job()
    with ledger.read() as connection:
        before = set(connection.execute(select(items.c.id)).scalars())
    for path in pictures.rglob("*.png"):
        path.write_bytes(b"changed " + path.read_bytes())
    assert take_in(ledger, job, found()).changed == 10
    with ledger.read() as connection:
        assert not before & set(connection.execute(select(items.c.id)).scalars())
        assert connection.execute(select(shards.c.id)).first() is not None
