"""From a JobSpec to the ledger, and what is refused before anything is begun."""

from __future__ import annotations

import json

import pytest

import workers.submit
from parsers.errors import Code, InputError, JobError, LexisegError, OutputError, SettingError
from parsers.vocabulary import Vocabulary
from workers.ledger.jobs import cancel_job, counts, list_jobs, pause_job
from workers.submit import absolute, spec_digest, submit


def test_a_job_has_every_picture_once(ledger, make_spec, photos):
    manifest = photos / "list.jsonl"
    manifest.write_text('"deep/b.png"\n"a.png"\n"gone.png"\n')
    submitted = submit(ledger, make_spec(inputs=(str(photos), str(manifest), str(photos / "a.*"))))
    assert (submitted.intake.added, submitted.open) == (9, 9)
    assert submitted.job.state == "running"
    assert counts(ledger, submitted.job.id)["queued"] == 9


def test_submitting_again_finds_the_same_job(ledger, make_spec, photos, paint):
    first = submit(ledger, make_spec())
    paint(photos / "new.png", "red")
    again = submit(ledger, make_spec(workers=7, batch=3))
    assert again.job.id == first.job.id
    assert (again.intake.added, again.intake.known) == (1, 8)
    assert len(list_jobs(ledger)) == 1


def test_submitting_sets_a_paused_or_cancelled_job_going(ledger, make_spec):
    first = submit(ledger, make_spec())
    pause_job(ledger, first.job)
    assert submit(ledger, make_spec()).job.state == "running"
    cancel_job(ledger, first.job)
    again = submit(ledger, make_spec())
    assert again.job.state == "running" and again.open == 8


def test_paths_do_not_depend_on_the_working_folder(make_spec, monkeypatch, photos):
    monkeypatch.chdir(photos.parent)
    spec = absolute(make_spec(inputs=("photos",), out="out"))
    assert spec.inputs == (str(photos),) and spec.out == str(photos.parent / "out")


def test_the_digest_is_of_what_decides_about_a_mask(make_spec):
    same = [{"workers": 9}, {"batch": 7}, {"inputs": ("x",)}, {"out": "y"}, {"preset": "z"}]
    other = [{"refine": "pydensecrf"}, {"settings": {"tile": 3}}, {"model": "m"}, {"overlay": True},
             {"vocabulary": Vocabulary.from_names("red")}, {"device": "cuda"}]
    digest = spec_digest(make_spec())
    assert {spec_digest(make_spec(**change)) for change in same} == {digest}
    assert len({spec_digest(make_spec(**change)) for change in other} | {digest}) == len(other) + 1


def test_another_job_for_the_same_folder_is_refused(ledger, make_spec):
    submit(ledger, make_spec())
    with pytest.raises(OutputError) as caught:
        submit(ledger, make_spec(vocabulary=Vocabulary.from_names("red")))
    assert caught.value.code == Code.OUTPUT_COLLISION and "--out" in caught.value.next_step


@pytest.mark.parametrize("name", ["masks", "job.json", "results.jsonl"])
def test_a_folder_with_something_else_is_refused_and_left_alone(ledger, make_spec, tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(OutputError) as caught:
        submit(ledger, make_spec())
    assert caught.value.code == Code.OUTPUT_COLLISION
    assert (tmp_path / "out" / name).read_text() == "mine" and list_jobs(ledger) == []


def test_a_read_only_folder_is_refused(ledger, make_spec, nobody, photos):
    (nobody.path / "out").mkdir(mode=0o555)
    spec = make_spec(out=str(nobody.path / "out"))
    with nobody.act(), pytest.raises(OutputError) as caught:
        submit(ledger, spec)
    assert caught.value.code == Code.OUTPUT_UNWRITABLE and list_jobs(ledger) == []


@pytest.mark.parametrize("manifest", ["a\n", '"../x.png"\n', '"a.png"\n"/b.png"\n'])
def test_a_bad_manifest_leaves_no_job(ledger, make_spec, photos, manifest):
    (photos / "m.jsonl").write_text(manifest)
    with pytest.raises(InputError):
        submit(ledger, make_spec(inputs=(str(photos / "m.jsonl"),)))
    assert list_jobs(ledger) == []


def test_nothing_found_leaves_no_job(ledger, make_spec, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError) as caught:
        submit(ledger, make_spec(inputs=(str(tmp_path / "none"),)))
    assert caught.value.code == Code.NO_INPUTS and list_jobs(ledger) == []


def test_an_interrupted_submission_is_completed_by_the_next(ledger, make_spec, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        def stop(*_, **__):
            raise KeyboardInterrupt
        patch.setattr(workers.submit, "set_going", stop)
        submit(ledger, make_spec())
    assert list_jobs(ledger)[0].state == "submitting"
    assert submit(ledger, make_spec()).open == 8
    assert list_jobs(ledger)[0].state == "running"


@pytest.mark.parametrize("change", [{"priority": "urgent"}, {"shard_size": 0}, {"shard_size": 65}, {"attempts": 0},
                                    {"sample": 0}], ids=str)
def test_settings_that_are_not_allowed(ledger, make_spec, change):
    with pytest.raises(SettingError):
        submit(ledger, make_spec(), **change)
    assert list_jobs(ledger) == []


def test_a_sample_is_only_for_a_new_job(ledger, make_spec):
    submit(ledger, make_spec())
    with pytest.raises(JobError) as caught:
        submit(ledger, make_spec(), sample=3)
    assert caught.value.code == Code.JOB_STATE


def test_names_that_differ_only_in_case_are_two_pictures(ledger, make_spec, photos, paint):
    paint(photos / "A.png", "red")
    assert submit(ledger, make_spec()).intake.added == 9


def test_they_are_refused_where_the_results_would_be_one_file(ledger, make_spec, photos, paint, monkeypatch):
    monkeypatch.setattr(workers.submit, "ignores_case", lambda out: True)
    first = submit(ledger, make_spec())
    paint(photos / "A.png", "red")
    with pytest.raises(OutputError) as caught:
        submit(ledger, make_spec())
    assert caught.value.code == Code.OUTPUT_COLLISION and "'A.png'" in caught.value.given
    assert counts(ledger, first.job.id)["queued"] == 8 and list_jobs(ledger)[0].state == "running"
    (photos / "A.png").rename(photos / "another.png")
    assert submit(ledger, make_spec()).intake.added == 1
    (photos / "another.png").rename(photos / "NOTHING.png")
    with pytest.raises(OutputError):
        submit(ledger, make_spec(out=str(photos.parent / "new")))
    assert len(list_jobs(ledger)) == 1, "a new job is not begun"


def test_odd_names(ledger, make_spec, photos, paint):
    import os
    paint(photos / "a b'\"%.png", "red")
    paint(photos / "two\nlines.png", "red")
    os.rename(paint(photos / "x.png", "red"), os.path.join(photos, os.fsdecode(b"\xe9.png")))
    for name in ("CON.png", "a:b.png", "what?.png", "end. .png", "x|y<z>.png", "C:\\a.png"):  # not on Windows
        paint(photos / name, "red")
    submitted = submit(ledger, make_spec())
    assert submitted.intake.added == 17
    assert json.loads(submitted.job.spec)["inputs"] == [str(photos)]


def test_an_input_whose_own_name_is_not_utf8(ledger, make_spec, photos):
    import os
    with pytest.raises(LexisegError):
        submit(ledger, make_spec(inputs=(os.fsdecode(b"/tmp/\xff"),)))
