"""Ledgers to play with: SQLite in a folder, PostgreSQL on loopback."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests import servers
from workers.inputs import InputItem
from workers.ledger import NewJob, open_ledger
from workers.ledger.intake import set_going, take_in
from workers.ledger.jobs import create_job, get_job
from workers.ledger.store import normal_url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def ledger(request, tmp_path):
    """An empty ledger, of each kind."""
    url = str(tmp_path / "ledger.sqlite")
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    opened = open_ledger(url)
    yield opened
    opened.close()


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Ten files, some with the same content."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for number in range(10):
        (folder / "deep" / f"{number}.png").write_bytes(b"picture %d" % (number % 5))
    return folder


@pytest.fixture
def found(pictures):
    """found() -> the items of the folder, as they are now."""

    def look():
        names = sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png"))
        return [InputItem(name, str(pictures), name) for name in names]

    return look


@pytest.fixture
def make_job(ledger, found, tmp_path):
    """make_job(shard_size=4, sample=None, ...) -> a job that runs, with the ten pictures."""

    def make(*, sample=None, out="out", **values):
        job = create_job(ledger, NewJob(out=str(tmp_path / out), spec="{}", digest="d" * 64,
                                        **({"shard_size": 4} | values)))
        take_in(ledger, job, found())
        set_going(ledger, job, sample=sample)
        return get_job(ledger, job.id)

    return make


@pytest.fixture(scope="session")
def postgres_server():
    with servers.postgres_server() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server):
    """An empty data base."""
    from sqlalchemy import create_engine

    engine = create_engine(normal_url(postgres_server), isolation_level="AUTOCOMMIT")
    name = f"test{uuid.uuid4().hex[:12]}"
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield f"{postgres_server.rpartition('/')[0]}/{name}"
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()
