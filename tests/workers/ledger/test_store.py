"""Opening, versions, and databases that cannot be used."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from sqlalchemy import event, inspect, select

from parsers.errors import Code, JobError
from workers.ledger import SCHEMA_VERSION, NewJob, claim, commit, open_ledger
from workers.ledger.dispatch import hand_out, untold_shards
from workers.ledger.jobs import create_job, find_job, list_jobs, set_made_with
from workers.ledger.schema import MIGRATIONS, meta, migrate
from workers.ledger.store import normal_url


def version(ledger) -> int:
    with ledger.read() as connection:
        return int(connection.execute(select(meta.c.value).where(meta.c.key == "schema_version")).scalar_one())


def test_a_new_ledger_has_the_newest_schema_and_opens_again(ledger, make_job):
    job = make_job()
    assert version(ledger) == SCHEMA_VERSION
    assert find_job(ledger, job.id[:4]).id == find_job(ledger, job.out).id == job.id


def test_an_older_ledger_is_brought_up_to_date_and_keeps_its_jobs(ledger, make_job):
    job = make_job()
    step = ("ALTER TABLE jobs ADD COLUMN colour TEXT", "UPDATE jobs SET colour = 'red'")
    with ledger.write() as connection:
        migrate(connection, [*MIGRATIONS, step])
    with ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT colour FROM jobs").scalar_one() == "red"
    assert version(ledger) == SCHEMA_VERSION + 1
    assert find_job(ledger, job.id).out == job.out


def test_of_pictures_from_before_descriptions_nothing_is_to_be_said(ledger, make_job):
    job = make_job()
    with ledger.write() as connection:
        connection.exec_driver_sql("ALTER TABLE items DROP COLUMN told")
        connection.exec_driver_sql("ALTER TABLE jobs DROP COLUMN llm_calls")
        connection.execute(meta.update().where(meta.c.key == "schema_version").values(value="1"))
    with ledger.write() as connection:
        migrate(connection)
    assert version(ledger) == SCHEMA_VERSION
    (shard, *_) = hand_out(ledger, find_job(ledger, job.id), 4)
    assert find_job(ledger, job.id).llm_calls == 0
    assert untold_shards(ledger, [shard]) == set() and len(claim(ledger, shard, "me", 30)) == 4


def test_a_step_that_fails_changes_nothing(ledger, make_job):
    make_job()
    with pytest.raises(JobError), ledger.write() as connection:
        migrate(connection, [*MIGRATIONS, ("ALTER TABLE jobs ADD COLUMN colour TEXT", "UPDATE nothing SET a = 1")])
    assert version(ledger) == SCHEMA_VERSION
    with ledger.read() as connection:
        assert "colour" not in [column["name"] for column in inspect(connection).get_columns("jobs")]


def test_a_newer_ledger_is_refused(ledger):
    with ledger.write() as connection:
        connection.execute(meta.update().where(meta.c.key == "schema_version").values(value="99"))
    with pytest.raises(JobError) as caught, ledger.write() as connection:
        migrate(connection)
    assert caught.value.code == Code.LEDGER_UNAVAILABLE and "99" in caught.value.given


@pytest.mark.parametrize("given", ["", "zz", "/nowhere"])
def test_jobs_that_are_not_there(ledger, make_job, given):
    make_job()
    with pytest.raises(JobError) as caught:
        find_job(ledger, given)
    assert caught.value.code == Code.JOB_MISSING and caught.value.next_step == "lexiseg jobs list"


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:1/none", "mysql://x/y", "nonsense://x"])
def test_a_database_that_does_not_answer(url):
    with pytest.raises(JobError) as caught:
        open_ledger(url)
    assert caught.value.code == Code.LEDGER_UNAVAILABLE


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(JobError) as caught:
        open_ledger(str(tmp_path / "ledger.sqlite"))
    assert caught.value.code == Code.LEDGER_UNAVAILABLE


def test_passwords_are_not_shown():
    with pytest.raises(JobError) as caught:
        open_ledger("postgresql://me:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)


def test_urls():
    assert normal_url("postgres://a/b") == "postgresql+psycopg://a/b"
    assert normal_url("/a/b.sqlite") == "sqlite:////a/b.sqlite"


def test_what_was_committed_is_flushed_and_nobody_is_waited_for(tmp_path):
    """While somebody reads, who would hold up a checkpoint."""
    path = tmp_path / "ledger.sqlite"
    ledger = open_ledger(str(path))
    log = Path(f"{path}-wal")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
    create_job(ledger, NewJob(out="/out", spec="{}", digest="d", priority="batch", shard_size=4, attempts=3))
    before, levels = log.stat().st_size, []
    event.listen(ledger._engine, "checkin", lambda connection, _record: levels.append(
        connection.execute("PRAGMA synchronous").fetchone()[0]))
    statements = []
    with ledger.read() as connection:
        connection.connection.set_trace_callback(statements.append)
    started = time.monotonic()
    ledger.sync()
    assert time.monotonic() - started < 10, "it waited for the reader"
    assert log.stat().st_size > before, "a commit that writes nothing flushes nothing"
    full = next(number for number, text in enumerate(statements) if "synchronous=FULL" in text)
    assert any(text.startswith("INSERT") for text in statements[full:]) and levels[-1] == 1
    reader.close()
    ledger.close()


def test_a_flush_that_cannot_be_made_is_explained(tmp_path, monkeypatch):
    monkeypatch.setattr("workers.ledger.store.BUSY_S", 0.2)
    ledger = open_ledger(str(tmp_path / "ledger.sqlite"))
    other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JobError) as caught:
        ledger.sync()
    assert caught.value.code == Code.LEDGER_UNAVAILABLE and "locked" in str(caught.value)
    other.close()
    ledger.sync()
    ledger.close()


def test_a_ledger_that_is_removed_in_the_middle_is_missed_and_goes_on_when_it_is_back(tmp_path):
    """SQLite alone would go on in the removed file, where nobody finds it."""
    path = tmp_path / "here" / "ledger.sqlite"
    ledger = open_ledger(str(path))
    job = create_job(ledger, NewJob(out="/out", spec="{}", digest="d"))
    path.parent.rename(tmp_path / "away")
    for _ in range(2):
        for transaction in (ledger.read, ledger.write):
            with pytest.raises(JobError) as caught, transaction():
                pass
            assert caught.value.code == Code.LEDGER_UNAVAILABLE and caught.value.next_step
    assert not path.exists(), "no empty one takes its place"
    (tmp_path / "away").rename(path.parent)
    assert find_job(ledger, job.id).id == job.id
    ledger.close()


def test_another_ledger_in_the_place_of_the_first_is_the_ledger_from_then_on(tmp_path):
    path, other = tmp_path / "ledger.sqlite", tmp_path / "other.sqlite"
    ledger = open_ledger(str(path))
    old = create_job(ledger, NewJob(out="/old", spec="{}", digest="d"))
    restored = open_ledger(str(other))
    new = create_job(restored, NewJob(out="/new", spec="{}", digest="d"))
    restored.close()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    other.rename(path)
    assert [job.id for job in list_jobs(ledger)] == [new.id] != [old.id]
    with pytest.raises(JobError) as caught:
        set_made_with(ledger, old.id, {})
    assert caught.value.code == Code.JOB_MISSING
    assert commit(ledger, old.id, []).job_state is None
    ledger.close()
