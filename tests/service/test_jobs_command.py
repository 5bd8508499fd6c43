"""`lexiseg jobs`: what a person types and reads. Work itself is in tests/integration."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.workers.exports.examples import TAXONOMY, write_out
from workers.ledger import JobState, NewJob, claim, commit, open_ledger
from workers.ledger.allowance import stop_beyond_allowance
from workers.ledger.claims import Finished
from workers.ledger.dispatch import hand_out
from workers.ledger.jobs import create_job, find_job
from workers.ledger.schema import jobs
from workers.records import Result


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A ledger of its own for each test; gives it opened."""
    monkeypatch.setenv("LEXISEG_LEDGER", str(tmp_path / "ledger.sqlite"))
    ledger = open_ledger(str(tmp_path / "ledger.sqlite"))
    yield ledger
    ledger.close()


@pytest.fixture
def submit(lexiseg, pictures, pocket_clip, tmp_path):
    """submit("--json", ...) -> the result of submitting the three pictures into `out`."""
    return lambda *options, verb="submit": lexiseg("jobs", verb, pictures, "--classes", "dog, cat", "--out",
                                                   tmp_path / "out", "--model", pocket_clip, *options)


def shown(lexiseg, job="") -> dict:
    return json.loads(lexiseg("jobs", "show", job, "--json").stdout)


def work_off(ledger, out, state="done") -> None:
    job = find_job(ledger, str(out))
    for shard in hand_out(ledger, job, 16):
        claims = claim(ledger, shard, "me", 30)
        commit(ledger, job.id, [Finished(entry, Result(name=entry.item.name, state=state,
                                                       code="file-empty" if state == "failed" else None,
                                                       message="It is empty."), (), 0, 0, 0) for entry in claims])


def test_a_job_is_submitted_once_and_found_again(site, lexiseg, submit, tmp_path):
    first = json.loads(submit("--json").stdout)
    assert (first["added"], first["open"], first["state"]) == (3, 3, "running")
    again = submit()
    assert again.exit_code == 0 and f"job {first['job']}: 0 pictures added, 3 known already" in again.stdout
    assert [job["job"] for job in json.loads(lexiseg("jobs", "list", "--json").stdout)["jobs"]] == [first["job"]]
    assert first["job"] in lexiseg("jobs", "list").stdout
    for given in (first["job"], first["job"][:3], tmp_path / "out"):
        assert shown(lexiseg, given)["counts"]["queued"] == 3


def test_a_job_is_steered(site, lexiseg, submit, tmp_path):
    submit()
    out = tmp_path / "out"
    assert "paused" in lexiseg("jobs", "pause", out).stdout and shown(lexiseg, out)["state"] == "paused"
    assert "lexiseg jobs resume" in lexiseg("jobs", "show", out).stdout
    wrong = lexiseg("jobs", "pause", out)
    assert wrong.exit_code == 2 and "[job-state]" in wrong.stderr and "lexiseg jobs show" in wrong.stderr
    assert lexiseg("jobs", "resume", out).exit_code == 0 and shown(lexiseg, out)["state"] == "running"
    assert "3 pictures not begun" in lexiseg("jobs", "cancel", out).stdout
    assert shown(lexiseg, out)["counts"]["cancelled"] == 3
    assert lexiseg("jobs", "watch", out).exit_code == 3


def test_failures_are_shown_and_tried_again(site, lexiseg, submit, tmp_path):
    submit()
    out = tmp_path / "out"
    work_off(site, out, "failed")
    text = lexiseg("jobs", "show", out).stdout
    assert "[file-empty] one.png: It is empty." in text and "lexiseg jobs retry" in text
    assert lexiseg("jobs", "retry", out).exit_code == 2
    assert "3 pictures are tried again" in lexiseg("jobs", "retry", out, "--failed").stdout
    work_off(site, out)
    assert shown(lexiseg, out)["counts"]["done"] == 3
    assert "nothing failed" in lexiseg("jobs", "retry", out, "--failed").stdout


def test_a_job_that_was_stopped_for_its_failures_says_how_to_go_on(site, lexiseg, submit, tmp_path):
    submit("--max-failures", "2")
    work_off(site, tmp_path / "out", "failed")
    job = find_job(site, str(tmp_path / "out"))
    assert stop_beyond_allowance(site, job)
    page = lexiseg("jobs", "show", job.id).stdout
    assert "[too-many-failures] 3 pictures failed, and --max-failures allows 2." in page
    assert f"jobs retry {job.id} --failed" in page and f"next: lexiseg jobs resume {job.id}" in page
    assert "running" in lexiseg("jobs", "resume", job.id).stdout
    refused = submit("--max-failures", "-1")
    assert refused.exit_code == 2 and "--max-failures" in refused.stderr


def test_a_sample_comes_first(site, lexiseg, submit, tmp_path):
    assert submit("-n", "2", verb="sample").exit_code == 0
    job = find_job(site, str(tmp_path / "out"))
    work_off(site, tmp_path / "out")
    assert (job.priority, shown(lexiseg, tmp_path / "out")["counts"]["done"]) == ("interactive", 2)


def test_an_unfinished_job_is_not_whole(site, lexiseg, submit, tmp_path):
    submit()
    result = lexiseg("jobs", "verify", tmp_path / "out")
    assert result.exit_code == 1 and "3 pictures are not finished" in result.stdout


def test_a_job_is_exported_by_its_id_once_it_is_done(site, lexiseg, tmp_path):
    """Like `lexiseg export` of its folder, byte by byte."""
    out = write_out(tmp_path / "out", {"a.png": np.array([[1, 3]]), "b.png": np.array([[0]])}, TAXONOMY)
    job = create_job(site, NewJob(out=str(out), spec="{}", digest="0" * 64))
    options = ("--format", "coco", "--per-class", "--unmatched", "drop", "--to")
    early = lexiseg("jobs", "export", job.id, *options, tmp_path / "to")
    assert early.exit_code == 2 and "[job-state]" in early.stderr and "lexiseg jobs watch" in early.stderr
    assert not (tmp_path / "to").exists()
    for state in (JobState.SAMPLED, JobState.DONE):
        with site.write() as connection:
            connection.execute(jobs.update().values(state=state))
        done = lexiseg("jobs", "export", job.id[:4], *options, tmp_path / state)
        assert done.exit_code == 0 and "2 images exported as coco" in done.stdout
        assert lexiseg("export", out, *options, tmp_path / "same").exit_code == 0
        for name in ("annotations.json", "export.json"):
            assert (tmp_path / state / name).read_bytes() == (tmp_path / "same" / name).read_bytes()


@pytest.mark.parametrize("command", ["show", "watch", "pause", "resume", "cancel", "verify"])
def test_a_job_that_is_not_there(site, lexiseg, command):
    result = lexiseg("jobs", command, "nothing")
    assert result.exit_code == 2 and "[job-missing]" in result.stderr and "lexiseg jobs list" in result.stderr


def test_no_jobs_yet(site, lexiseg):
    assert "lexiseg jobs submit" in lexiseg("jobs", "list").stdout


def test_a_ledger_that_cannot_be_used(lexiseg, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LEXISEG_LEDGER", str(tmp_path / "file" / "ledger.sqlite"))
    result = lexiseg("jobs", "list")
    assert result.exit_code == 2 and "[ledger-unavailable]" in result.stderr


@pytest.mark.parametrize(("name", "value"), [("LEASE_S", "soon"), ("LEASE_S", "0"), ("WINDOW", "1.5"),
                                             ("BROKER", "sqs://x"), ("STALE_S", "99999"), ("MIN_FREE_MB", "-1"),
                                             ("MIN_FREE_MB", "inf"), ("MIN_FREE_MB", "nan")])
def test_settings_that_are_not_allowed(lexiseg, monkeypatch, name, value):
    monkeypatch.setenv(f"LEXISEG_{name}", value)
    result = lexiseg("jobs", "list")
    assert result.exit_code == 2 and f"LEXISEG_{name}" in result.stderr and "[setting-invalid]" in result.stderr


def test_bad_inputs_leave_no_job(site, lexiseg, submit, pictures, pocket_clip, tmp_path):
    (pictures / "list.csv").write_text("path\n/etc/passwd\n")
    result = lexiseg("jobs", "submit", pictures / "list.csv", "--classes", "dog", "--out", tmp_path / "o", "--model",
                     pocket_clip)
    assert result.exit_code == 2 and "Line 2 of" in result.stderr
    assert json.loads(lexiseg("jobs", "list", "--json").stdout)["jobs"] == []
