"""One worker, in this process: the same bytes as `run_job`, and nothing lost however it ends."""

from __future__ import annotations

import contextlib
import os
import subprocess

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

import workers.description
import workers.outputs
import workers.pipeline
import workers.queue.shard
from parsers.errors import Code, JobError, OutputError
from tests.by_hand import content, finish, work_off
from workers import read_job, run_job
from workers.ledger import claim
from workers.ledger.dispatch import hand_out
from workers.ledger.jobs import counts, find_job, get_job, pause_job, resume_job
from workers.ledger.schema import items, jobs, results, shards
from workers.progress import read_progress
from workers.queue.shard import ShardWorker
from workers.submit import submit
from workers.verify import verify


@pytest.fixture
def make_worker(ledger, segmenter, monkeypatch):
    """make_worker() -> one that stops when told so by its attribute `stopping`."""
    monkeypatch.setattr(workers.queue.shard, "load_backend", lambda spec: segmenter)
    made = []

    def make(**settings):
        worker = ShardWorker(ledger, lease_s=30, is_stopping=lambda: worker.stopping, **settings)
        worker.stopping = False
        made.append(worker)
        return worker

    yield make
    for worker in made:
        worker.close()


@pytest.mark.parametrize("options", [{}, {"overlay": True, "confidence": True}, {"refine": "pydensecrf"}], ids=str)
def test_a_job_leaves_the_bytes_of_run_job(ledger, make_spec, make_worker, segmenter, tmp_path, options):
    expected = run_job(make_spec(out=str(tmp_path / "alone"), **options), segmenter=segmenter)
    job = submit(ledger, make_spec(**options), shard_size=3).job
    work_off(ledger, job, make_worker())
    assert finish(ledger, job)
    assert content(tmp_path / "out") == content(expected.out)
    ours, theirs = read_job(tmp_path / "out"), read_job(expected.out)
    without = {"spec"}
    assert ours.model_dump(exclude=without) == theirs.model_dump(exclude=without)
    page = (tmp_path / "out/report.html").read_text()
    assert page == (expected.out / "report.html").read_text()
    found = verify(ledger, find_job(ledger, job.id))
    assert found.is_whole and found.strange == () and found.counts["failed"] == 3


def test_an_unforeseen_error_counts_as_a_death(ledger, make_spec, make_worker, monkeypatch):
    begin = workers.pipeline.Finishers.begin

    def break_at_one(self, entry):
        if entry.loaded.item.name == "a.png":
            raise RuntimeError("nobody thought of this")
        begin(self, entry)

    monkeypatch.setattr(workers.pipeline.Finishers, "begin", break_at_one)
    job = submit(ledger, make_spec(), shard_size=64).job
    (shard,) = hand_out(ledger, job, 4)
    worker = make_worker()
    for _ in range(12):
        with contextlib.suppress(RuntimeError):
            worker.work(job.id, shard, job.digest[:16])
    found = read_progress(ledger, job.id).counts
    assert (found["quarantined"], found["queued"], found["running"]) == (1, 0, 0)
    assert found["done"] + found["done-empty"] + found["failed"] == 7


def test_a_finished_job_is_not_worked_on_again(ledger, make_spec, make_worker, tmp_path):
    job = submit(ledger, make_spec(), shard_size=3).job
    worker = make_worker()
    work_off(ledger, job, worker)
    finish(ledger, job)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert submit(ledger, make_spec()).open == 0
    assert hand_out(ledger, get_job(ledger, job.id), 4) == [] and get_job(ledger, job.id).state == "done"
    worker.work(job.id, 1, job.digest[:16])
    assert not finish(ledger, job)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path in before} == before


def test_duplicate_and_wrong_messages_do_nothing(ledger, make_spec, make_worker):
    job = submit(ledger, make_spec(), shard_size=64).job
    (shard,) = hand_out(ledger, job, 4)
    worker = make_worker()
    for job_id, shard_id, digest in [("none", shard, job.digest[:16]), (job.id, shard, "0" * 16),
                                     (job.id, 999, job.digest[:16])]:
        worker.work(job_id, shard_id, digest)
    assert counts(ledger, job.id)["queued"] == 8
    worker.work(job.id, shard, job.digest[:16])
    worker.work(job.id, shard, job.digest[:16])
    assert counts(ledger, job.id)["queued"] == 0


@pytest.mark.parametrize("how", ["stop", "pause"])
def test_who_is_told_to_stop_finishes_a_batch_and_gives_back_the_rest(ledger, make_spec, make_worker, monkeypatch, how,
                                                                      tmp_path, segmenter):
    monkeypatch.setattr(workers.queue.shard, "COMMIT_ITEMS", 2)
    job = submit(ledger, make_spec(), shard_size=8).job
    worker = make_worker()
    real = workers.queue.shard.commit

    def commit_and_stop(*arguments):
        if how == "stop":
            worker.stopping = True
        elif get_job(ledger, job.id).state == "running":
            pause_job(ledger, job)
        return real(*arguments)

    monkeypatch.setattr(workers.queue.shard, "commit", commit_and_stop)
    (shard,) = hand_out(ledger, job, 4)
    worker.work(job.id, shard, job.digest[:16])
    left = counts(ledger, job.id)
    assert left["queued"] == 6 and left["running"] == 0
    monkeypatch.setattr(workers.queue.shard, "commit", real)
    if how == "pause":
        resume_job(ledger, get_job(ledger, job.id))
    work_off(ledger, job, make_worker())
    assert finish(ledger, job)
    expected = run_job(make_spec(out=str(tmp_path / "alone")), segmenter=segmenter)
    assert content(tmp_path / "out") == content(expected.out)


def test_a_full_disk_stops_the_job_and_it_goes_on_when_there_is_room(ledger, make_spec, make_worker, monkeypatch):
    from workers.outputs import PictureWriter

    job = submit(ledger, make_spec(), shard_size=4).job
    real = PictureWriter.write

    def write(self, name, *arguments, **options):
        if name == "nothing.png":
            raise OutputError(Code.DISK_FULL, "No space left.", "", "Free space, then run again.")
        return real(self, name, *arguments, **options)

    monkeypatch.setattr(PictureWriter, "write", write)
    with pytest.raises(OutputError):
        work_off(ledger, job, make_worker())
    stopped = get_job(ledger, job.id)
    assert (stopped.state, stopped.error_code) == ("stopped", Code.DISK_FULL)
    assert counts(ledger, job.id)["running"] == 0 and hand_out(ledger, stopped, 4) == []
    monkeypatch.setattr(PictureWriter, "write", real)
    resume_job(ledger, stopped)
    work_off(ledger, job, make_worker())
    assert finish(ledger, job) and counts(ledger, job.id)["done"] == 4


def test_a_small_disk_fills_up_and_the_job_goes_on_when_it_is_larger(ledger, make_spec, make_worker, tmp_path, photos):
    """On a real file system of 128 KB where mounting is allowed; the test before simulates one anywhere."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", small], capture_output=True).returncode:
        return
    try:
        noise = np.random.default_rng(0)
        for index in range(12):
            Image.fromarray(noise.integers(0, 255, (300, 300, 3), dtype=np.uint8)).save(photos / f"noise{index}.png")
        job = submit(ledger, make_spec(out=str(small / "out"), overlay=True), shard_size=64).job
        with pytest.raises(OutputError) as caught:
            work_off(ledger, job, make_worker())
        assert caught.value.code == Code.DISK_FULL and get_job(ledger, job.id).state == "stopped"
        subprocess.run(["mount", "-o", "remount,size=32m", small], check=True)
        resume_job(ledger, get_job(ledger, job.id))
        work_off(ledger, job, make_worker())
        assert finish(ledger, job)
        found = verify(ledger, find_job(ledger, job.id))
        assert found.is_whole and found.images == 20 and found.strange == ()
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("what", ["code", "model"])
def test_a_worker_with_other_code_or_another_model_leaves_the_job_alone(ledger, make_spec, make_worker, monkeypatch,
                                                                       segmenter, what):
    job = submit(ledger, make_spec(), shard_size=4).job
    first, second = hand_out(ledger, job, 4)
    make_worker().work(job.id, first, job.digest[:16])
    if what == "code":
        monkeypatch.setattr(workers.description, "code_digest", lambda: "0" * 64)
    else:
        monkeypatch.setattr(segmenter, "digest", "1" * 64)
    with pytest.raises(JobError) as caught:
        make_worker().work(job.id, second, job.digest[:16])
    assert caught.value.code == Code.WORKER_DIFFERS
    assert counts(ledger, job.id)["queued"] == 4 and get_job(ledger, job.id).error_code == Code.WORKER_DIFFERS
    assert get_job(ledger, job.id).state == "running"


def test_a_mask_that_was_lost_or_changed_is_made_again_before_the_end(ledger, make_spec, make_worker, tmp_path):
    job = submit(ledger, make_spec(overlay=True), shard_size=4).job
    worker = make_worker()
    work_off(ledger, job, worker)
    masks = tmp_path / "out/masks"
    good = (masks / "a.jpg.png").read_bytes()
    (masks / "a.jpg.png").write_bytes(b"an older mask")
    (masks / "a.png.png").unlink()
    assert not finish(ledger, job)
    assert counts(ledger, job.id)["queued"] == 2 and get_job(ledger, job.id).state == "running"
    work_off(ledger, job, worker)
    assert finish(ledger, job) and (masks / "a.jpg.png").read_bytes() == good


def test_verify_tells_what_is_not_as_it_was_written(ledger, make_spec, make_worker, tmp_path):
    job = submit(ledger, make_spec(overlay=True), shard_size=4).job
    work_off(ledger, job, make_worker())
    finish(ledger, job)
    (tmp_path / "out/overlays/a.jpg.jpg").write_bytes(b"x")
    (tmp_path / "out/results.jsonl").unlink()
    (tmp_path / "out/masks/stray.png").write_bytes(b"x")
    found = verify(ledger, find_job(ledger, job.id))
    assert not found.is_whole
    assert found.damaged == ("overlays/a.jpg.jpg", "results.jsonl") and found.strange == ("masks/stray.png",)


def test_a_changed_picture_gets_a_new_mask_and_the_others_stay(ledger, make_spec, make_worker, tmp_path, photos, paint):
    job = submit(ledger, make_spec(), shard_size=4).job
    worker = make_worker()
    work_off(ledger, job, worker)
    finish(ledger, job)
    kept = (tmp_path / "out/masks/a.jpg.png").stat().st_mtime_ns
    paint(photos / "a.png", "red", "green", size=(20, 10))
    again = submit(ledger, make_spec())
    assert (again.intake.changed, again.open) == (1, 1)
    work_off(ledger, job, worker)
    assert finish(ledger, job)
    assert (tmp_path / "out/masks/a.jpg.png").stat().st_mtime_ns == kept
    assert verify(ledger, find_job(ledger, job.id)).is_whole
    assert b'"width":20' in (tmp_path / "out/results.jsonl").read_bytes()


def test_a_sample_leaves_its_own_report_and_then_the_rest_follows(ledger, make_spec, make_worker, tmp_path, segmenter):
    job = submit(ledger, make_spec(), sample=3).job
    worker = make_worker()
    work_off(ledger, job, worker)
    assert finish(ledger, job) and get_job(ledger, job.id).state == "sampled"
    assert len((tmp_path / "out/results.jsonl").read_bytes().splitlines()) == 3
    resume_job(ledger, get_job(ledger, job.id))
    work_off(ledger, job, worker)
    assert finish(ledger, job) and get_job(ledger, job.id).state == "done"
    expected = run_job(make_spec(out=str(tmp_path / "alone")), segmenter=segmenter)
    assert content(tmp_path / "out") == content(expected.out)


def test_the_next_shard_is_begun_before_the_last_results_of_this_one_are_handed_in(ledger, make_spec, make_worker,
                                                                                   monkeypatch):
    """Their messages, which come later, find nothing to do."""
    job = submit(ledger, make_spec(), shard_size=2).job
    handed_out, calls = hand_out(ledger, job, 4), []
    for name in ("claim", "commit"):
        def noted(*arguments, real=getattr(workers.queue.shard, name), name=name, **options):
            calls.append(name)
            return real(*arguments, **options)
        monkeypatch.setattr(workers.queue.shard, name, noted)
    worker = make_worker(go_on_s=600)
    worker.work(job.id, handed_out[0], job.digest[:16])
    assert len(handed_out) == 4 and calls[:2] == ["claim", "claim"]
    assert counts(ledger, job.id)["queued"] == 0
    assert hand_out(ledger, get_job(ledger, job.id), 4) == []
    with ledger.read() as connection:
        assert set(connection.execute(select(shards.c.state)).scalars()) == {"closed"}
        assert set(connection.execute(select(items.c.attempts)).scalars()) == {1}
    for shard in handed_out:
        worker.work(job.id, shard, job.digest[:16])
    assert finish(ledger, job)


@pytest.mark.parametrize("why", ["tried before", "of another worker", "stopping", "an urgent job"])
def test_shards_that_are_left_alone(ledger, make_spec, make_worker, why):
    """What was tried before is done alone, since it may kill its worker; and a job that is more urgent comes first."""
    job = submit(ledger, make_spec(), shard_size=4).job
    first, second = hand_out(ledger, job, 4)
    worker = make_worker(go_on_s=600)
    if why == "tried before":
        with ledger.write() as connection:
            connection.execute(items.update().where(items.c.shard_id == second).values(attempts=1))
    elif why == "of another worker":
        claim(ledger, second, "other", 60)
    elif why == "an urgent job":
        submit(ledger, make_spec(out=job.out + "2"), priority="interactive")
    else:
        worker.stopping = True
    worker.work(job.id, first, job.digest[:16])
    left = counts(ledger, job.id)
    assert (left["queued"], left["running"]) == {"tried before": (4, 0), "of another worker": (0, 4),
                                                 "stopping": (8, 0), "an urgent job": (4, 0)}[why]


def test_odd_names_get_their_masks(ledger, make_spec, make_worker, photos, paint, tmp_path):
    """Names that Windows does not allow, names with signs that mean something to shells, and one that is no UTF-8."""
    names = ["CON.png", "a:b.png", "what?.png", "end. .png", "x|y<z>.png", "C:\\a.png", "two\nlines.png", "-rf.png"]
    for name in names:
        paint(photos / name, "red")
    os.rename(paint(photos / "x.png", "red"), os.path.join(photos, os.fsdecode(b"caf\xe9.png")))
    job = submit(ledger, make_spec(), shard_size=64).job
    work_off(ledger, job, make_worker())
    assert finish(ledger, job) and counts(ledger, job.id)["done"] == 4 + len(names) + 1
    for name in (*names, "caf\\xe9.png"):
        assert (tmp_path / "out/masks" / f"{name}.png").exists()
    assert verify(ledger, find_job(ledger, job.id)).is_whole


def test_a_job_stops_before_the_disk_is_full(ledger, make_spec, make_worker, monkeypatch, tmp_path):
    job = submit(ledger, make_spec(), shard_size=4).job
    worker = make_worker(min_free_mb=100)
    free = {str(tmp_path / "out"): 500.0, str(tmp_path): 500.0}
    monkeypatch.setattr(workers.outputs, "free_mb", lambda folder: free[str(folder)])
    first, second = hand_out(ledger, job, 4)
    worker.work(job.id, first, job.digest[:16])
    for low in free:  # where the results are, and where the ledger is
        free[low] = 99.0
        with pytest.raises(OutputError) as caught:
            worker.work(job.id, second, job.digest[:16])
        assert caught.value.code == Code.DISK_FULL
        stopped = get_job(ledger, job.id)
        assert (stopped.state, stopped.error_code) == ("stopped", Code.DISK_FULL)
        assert "99 MB" in stopped.error and "LEXISEG_MIN_FREE_MB" in stopped.error and "resume" in stopped.error
        assert counts(ledger, job.id)["queued"] == 4 and counts(ledger, job.id)["running"] == 0
        free[low] = 500.0
        resume_job(ledger, stopped)
    work_off(ledger, job, worker)
    assert finish(ledger, job)


def test_a_ledger_without_the_job_stops_the_worker_quietly(ledger, make_spec, make_worker, monkeypatch):
    """Somebody put another ledger in the place of the one that the job was in."""
    monkeypatch.setattr(workers.queue.shard, "COMMIT_ITEMS", 2)
    job = submit(ledger, make_spec(), shard_size=8).job
    (shard,) = hand_out(ledger, job, 4)
    real = workers.queue.shard.commit

    def commit_after_all_is_gone(*arguments):
        with ledger.write() as connection:
            for table in (results, items, shards, jobs):
                connection.execute(table.delete())
        return real(*arguments)

    monkeypatch.setattr(workers.queue.shard, "commit", commit_after_all_is_gone)
    make_worker().work(job.id, shard, job.digest[:16])
    assert get_job(ledger, job.id) is None
