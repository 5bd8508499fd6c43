"""Jobs without candidates on real processes: two stages, kills in both of them, the same bytes."""

from __future__ import annotations

import hashlib
import os
import signal

import pytest
from sqlalchemy import select

from parsers.free import PLACES
from parsers.vocabulary import Vocabulary
from tests.integration.test_jobs import content
from tests.llm_server import Reply, llm_server
from workers import read_results, run_job
from workers.ledger.jobs import find_job, told_number
from workers.ledger.schema import items
from workers.spec import CandidateFree
from workers.submit import submit
from workers.telling import check_free
from workers.verify import verify

pytestmark = pytest.mark.integration

NAMES = ("dog", "cat", "tree", "bus", "boat", "apple", "chair")


@pytest.fixture
def llm():
    """Says of each picture two things that its bytes decide about; the second one is denied now and then."""
    with llm_server() as server:
        def answer(request):
            picture, question = request["messages"][-1]["content"]
            number = hashlib.sha256(picture["image_url"]["url"].encode()).digest()
            if question["text"].startswith("Is there"):
                return Reply('{"answer": "no"}' if number[2] % 4 == 0 and "boat" in question["text"] else
                             '{"answer": "yes"}', wait_s=0.02)
            return Reply(f"A red {NAMES[number[0] % 7]} is next to a {NAMES[number[1] % 7]}.", wait_s=0.1)

        server.answer = answer
        yield server


def kill_teller(here) -> None:
    """kill -9 for the process that asks, while it holds something."""
    def held() -> int | None:
        with here.ledger.read() as connection:
            owner = connection.execute(select(items.c.owner).where(
                items.c.owner.is_not(None), items.c.told.is_(None)).limit(1)).scalar()
        return None if owner is None else int(owner.split(":")[1])

    here.wait(lambda: held() is not None)
    os.kill(next(place.process.pid for place in here.supervisor.places if place.kind == "llm"), signal.SIGKILL)


def test_kills_in_both_stages_change_no_byte(site, llm, make_spec, pictures, tmp_path):
    free = check_free(CandidateFree(llm=llm.url, store=str(tmp_path / "answers.sqlite"), parallel=4))
    values = {"vocabulary": Vocabulary(classes=(), background=PLACES), "free": free}
    here = site(LEXISEG_NOOP_S="0.2")
    job = submit(here.ledger, make_spec(**values), shard_size=8).job
    with here.up() as supervisor:
        here.supervisor = supervisor
        here.wait(lambda: told_number(here.ledger, job.id) >= 4)
        kill_teller(here)
        here.wait_for_done(job, 3)
        here.kill_holder()
        here.wait(lambda: told_number(here.ledger, job.id) == 50)
        asked = llm.calls
        here.kill_holder()
        here.wait_for_end(job)
        assert [place.kind for place in supervisor.places] == ["gpu", "export", "llm"]
    assert llm.calls == asked, "a killed mask asks nobody again"
    assert verify(here.ledger, find_job(here.ledger, job.id)).is_whole
    assert {result.state for result in read_results(tmp_path / "out")} <= {"done", "done-empty"}
    assert all(result.told is not None for result in read_results(tmp_path / "out"))
    expected = run_job(make_spec(out=str(tmp_path / "alone"), **values))
    assert llm.calls == asked, "what the store has is not asked again"
    assert content(tmp_path / "out") == content(expected.out)
