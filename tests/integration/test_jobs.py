"""Jobs on real processes, real queues and real signals: everything is done once, whatever happens."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from PIL import Image
from sqlalchemy import select

from benchmarks.noop import POISON
from parsers.errors import Code, JobError
from tests import servers
from workers import Result, read_results, run_job
from workers.ledger.dispatch import hand_out
from workers.ledger.jobs import counts, find_job, get_job, resume_job
from workers.ledger.schema import items
from workers.queue.app import PRIORITIES, make_app, queue_name
from workers.queue.dispatch import Dispatcher
from workers.submit import submit
from workers.verify import verify

pytestmark = pytest.mark.integration


@pytest.fixture(params=["filesystem", "redis"])
def broker(request) -> str:
    """Each kind of queue."""
    return "filesystem" if request.param == "filesystem" else request.getfixturevalue("redis_url")


def wipe(site) -> None:
    """Every message is lost."""
    if site.settings.broker == "filesystem":
        for path in (site.settings.broker_folder / "messages").iterdir():
            path.unlink(missing_ok=True)
    else:
        with redis.Redis.from_url(site.settings.broker) as client:
            client.flushall()


def content(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*"))
            if path.is_file() and path.name not in ("timings.jsonl", "job.json", "report.html")}


def test_killed_workers_lost_messages_and_a_poisonous_picture_change_no_other_result(site, broker, make_spec, pictures,
                                                                                    tmp_path):
    expected = run_job(make_spec(out=str(tmp_path / "alone")))
    Image.new("RGB", (8, 8), POISON).save(pictures / "1" / "zz poison.png")
    here = site(broker=broker, LEXISEG_NOOP_S="0.03")
    job = submit(here.ledger, make_spec(), shard_size=16).job
    with here.up():
        here.wait_for_done(job, 4)
        here.kill_holder()
        here.wait_for_done(job, 12)
        here.kill_holder()
        here.wait_for_done(job, 16)
        wipe(here)
        here.wait_for_end(job)
    found = counts(here.ledger, job.id)
    assert (found["done"] + found["done-empty"], found["quarantined"], sum(found.values())) == (50, 1, 51)
    poison = [result for result in read_results(tmp_path / "out") if result.state == "quarantined"]
    assert [(result.name, result.code) for result in poison] == [("1/zz poison.png", "worker-died")]
    ours, theirs = content(tmp_path / "out"), content(expected.out)
    lines = ours.pop("results.jsonl").splitlines(), theirs.pop("results.jsonl").splitlines()
    assert ours == theirs
    assert [line for line in lines[0] if Result.model_validate_json(line).state != "quarantined"] == lines[1]
    assert verify(here.ledger, find_job(here.ledger, job.id)).is_whole


def test_more_failures_than_a_job_allows_stop_it_and_it_goes_on_without_them(site, broker, make_spec, pictures):
    for number in range(3):
        (pictures / "0" / f"bad{number}.png").write_text("no picture")
    here = site(broker=broker, LEXISEG_NOOP_S="0.05")
    job = submit(here.ledger, make_spec(max_failures=1), shard_size=4).job
    with here.up():
        here.wait(lambda: get_job(here.ledger, job.id).state == "stopped")
        stopped = get_job(here.ledger, job.id)
        here.wait(lambda: counts(here.ledger, job.id)["running"] == 0)
        found = counts(here.ledger, job.id)
        assert stopped.error_code == Code.TOO_MANY_FAILURES and found["queued"] > 0
        resume_job(here.ledger, stopped)
        here.wait_for_end(job)
    found = counts(here.ledger, job.id)
    assert (found["failed"], found["done"] + found["done-empty"]) == (3, 50)
    assert verify(here.ledger, find_job(here.ledger, job.id)).is_whole


def test_a_kill_and_an_emptied_queue_on_rabbitmq_and_postgresql(site, rabbitmq_url, postgres_url, make_spec, tmp_path):
    expected = run_job(make_spec(out=str(tmp_path / "alone")))
    here = site(broker=rabbitmq_url, ledger=postgres_url, LEXISEG_NOOP_S="0.03")
    job = submit(here.ledger, make_spec(), shard_size=16).job
    with here.up():
        here.wait_for_done(job, 4)
        here.kill_holder()
        here.wait_for_done(job, 12)
        with make_app(here.settings).connection_for_write() as connection:
            for priority in PRIORITIES:
                connection.default_channel.queue_purge(queue_name("gpu", priority))
        here.wait_for_end(job)
    assert content(tmp_path / "out") == content(expected.out)
    assert verify(here.ledger, find_job(here.ledger, job.id)).is_whole


def test_a_rabbitmq_that_is_killed_and_comes_back_empty(site, make_spec, tmp_path):
    """Another node with an empty data folder takes its port: queues, bindings and messages are gone."""
    expected = run_job(make_spec(out=str(tmp_path / "alone")))
    port = servers.free_port()
    here = site(broker=f"amqp://guest:guest@127.0.0.1:{port}//", LEXISEG_NOOP_S="0.1")
    job = submit(here.ledger, make_spec(), shard_size=4).job
    with contextlib.ExitStack() as stack:
        with servers.rabbitmq_node(port=port):
            stack.enter_context(here.up())
            here.wait_for_done(job, 6)
        found = counts(here.ledger, job.id)
        assert found["queued"] > 8  # more than the worker holds: further messages are needed
        with servers.rabbitmq_node(port=port):
            here.wait_for_end(job)
            stack.close()
    assert content(tmp_path / "out") == content(expected.out)
    assert verify(here.ledger, find_job(here.ledger, job.id)).is_whole


def test_a_killed_parent_takes_its_child_along_and_is_replaced(site, broker, make_spec, tmp_path):
    here = site(broker=broker, LEXISEG_NOOP_S="0.05")
    job = submit(here.ledger, make_spec(), shard_size=16).job
    with here.up() as supervisor:
        here.wait_for_done(job, 4)
        child = here.holder()
        os.kill(supervisor.places[0].process.pid, signal.SIGKILL)
        if child is not None:
            here.wait(lambda: not is_alive(child))
        here.wait_for_end(job)
    assert verify(here.ledger, find_job(here.ledger, job.id)).is_whole


def test_stopping_gives_back_what_is_not_begun_and_counts_no_attempt(site, broker, make_spec):
    here = site(broker=broker, LEXISEG_NOOP_S="0.2")
    job = submit(here.ledger, make_spec(), shard_size=64).job
    with here.up() as supervisor:
        here.wait_for_done(job, 1)
        processes = [place.process for place in supervisor.places]
    assert [process.returncode for process in processes] == [0, 0]
    found = counts(here.ledger, job.id)
    assert found["running"] == 0 and found["queued"] > 0
    with here.ledger.read() as connection:
        assert set(connection.execute(select(items.c.attempts).where(items.c.state == "queued")).scalars()) == {0}
    with here.up():
        here.wait_for_end(job)


def test_messages_are_small_and_json_and_a_pickle_is_refused(site, make_spec, redis_url, tmp_path):
    here = site(broker=redis_url)
    job = submit(here.ledger, make_spec(), shard_size=10).job
    app = make_app(here.settings)
    client = redis.Redis.from_url(redis_url)
    Dispatcher(here.ledger, app, here.settings).tick()
    messages = client.lrange(queue_name("gpu", "batch"), 0, -1)
    assert len(messages) == 5
    for message in messages:
        assert len(message) < 1024
        body = json.loads(base64.b64decode(json.loads(message)["body"]))
        assert body[0][0] == job.id and body[0][2] == job.digest[:16]
    evil = json.loads(messages[0])
    evil["content-type"] = "application/x-python-serialize"
    evil["body"] = base64.b64encode(pickle.dumps(Touch(str(tmp_path / "touched")))).decode()
    client.rpush(queue_name("gpu", "interactive"), json.dumps(evil))
    with here.up():
        here.wait_for_end(job)
        here.wait(lambda: client.llen(queue_name("gpu", "interactive")) == 0)
    assert not (tmp_path / "touched").exists()
    client.close()


def test_a_pickle_in_the_folder_of_messages_is_refused(site, make_spec, tmp_path):
    here = site()
    job = submit(here.ledger, make_spec(), shard_size=10).job
    Dispatcher(here.ledger, make_app(here.settings), here.settings).tick()
    folder = here.settings.broker_folder / "messages"
    evil = json.loads(sorted(folder.iterdir())[0].read_bytes())
    evil["content-type"], evil["content-encoding"] = "application/x-python-serialize", "binary"
    evil["body"] = base64.b64encode(pickle.dumps(Touch(str(tmp_path / "touched")))).decode()
    path = folder / "00000000000000000000_000000_ab.gpu.interactive.msg"
    path.write_text(json.dumps(evil))
    with here.up():
        here.wait_for_end(job)
        here.wait(lambda: not path.exists())
    assert not (tmp_path / "touched").exists()


def test_a_folder_of_messages_is_small_and_json(site, make_spec):
    here = site()
    submit(here.ledger, make_spec(), shard_size=10)
    Dispatcher(here.ledger, make_app(here.settings), here.settings).tick()
    paths = list((here.settings.broker_folder / "messages").iterdir())
    assert len(paths) == 5 and not [path for path in paths if path.suffix != ".msg"]
    for path in paths:
        assert path.stat().st_size < 1024 and json.loads(path.read_bytes())["content-type"] == "application/json"


def test_a_worker_answers_while_a_long_task_runs(site, make_spec, redis_url):
    here = site(broker=redis_url, LEXISEG_NOOP_S="0.5")
    job = submit(here.ledger, make_spec(), shard_size=64).job
    app = make_app(here.settings)
    with here.up():
        here.wait(lambda: here.holder() is not None)
        answers = {}
        here.wait(lambda: answers.update(app.control.inspect(timeout=5).ping() or {}) or len(answers) == 2)
        assert counts(here.ledger, job.id)["queued"] + counts(here.ledger, job.id)["running"] > 0
    app.close()


def test_the_queue_may_be_away_at_the_start_and_in_the_middle(site, make_spec, tmp_path):
    port = servers.free_port()
    here = site(broker=f"redis://127.0.0.1:{port}/0", LEXISEG_NOOP_S="0.05")
    job = submit(here.ledger, make_spec(), shard_size=10).job
    with here.up():
        time.sleep(1)
        assert counts(here.ledger, job.id)["queued"] == 50
        with servers.redis_server(tmp_path, port):
            here.wait_for_done(job, 10)
        with servers.redis_server(tmp_path, port):
            here.wait_for_end(job)
    assert verify(here.ledger, find_job(here.ledger, job.id)).is_whole


def test_the_folder_of_the_embedded_queue_may_be_removed_in_the_middle(site, make_spec):
    here = site(LEXISEG_NOOP_S="0.05")
    job = submit(here.ledger, make_spec(), shard_size=4).job
    with here.up():
        here.wait_for_done(job, 6)
        shutil.rmtree(here.settings.broker_folder)
        here.wait_for_end(job)
    assert verify(here.ledger, find_job(here.ledger, job.id)).is_whole


def test_a_process_that_is_killed_while_it_waits_for_work_is_replaced(site, broker, make_spec, tmp_path):
    here = site(broker=broker)
    with here.up() as supervisor:
        here.wait_for_end(submit(here.ledger, make_spec()).job)
        parent = supervisor.places[0].process.pid
        (child,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
        here.wait(lambda: not is_alive(int(child)))
        here.wait_for_end(submit(here.ledger, make_spec(out=str(tmp_path / "second"))).job)


def test_a_ledger_that_goes_away_in_the_middle_and_comes_back(site, make_spec, tmp_path):
    """A disk that was unmounted by mistake: nobody begins an empty ledger in its place."""
    home = tmp_path / "home"
    here = site(ledger=str(home / "l.sqlite"), LEXISEG_NOOP_S="0.05")
    job = submit(here.ledger, make_spec(), shard_size=4).job
    with here.up():
        here.wait_for_done(job, 6)
        home.rename(tmp_path / "away")
        time.sleep(3)
        with pytest.raises(JobError, match="was removed"):
            get_job(here.ledger, job.id)
        assert not (home / "l.sqlite").exists()
        shutil.rmtree(home, ignore_errors=True)  # the queue may have made it again
        (tmp_path / "away").rename(home)
        here.wait_for_end(job)
    assert verify(here.ledger, find_job(here.ledger, job.id)).is_whole


def test_a_postgresql_that_is_killed_in_the_middle_and_started_again(site, make_spec, redis_url, tmp_path):
    expected = run_job(make_spec(out=str(tmp_path / "alone")))
    port = servers.free_port()
    with servers.postgres_folder() as folder, contextlib.ExitStack() as stack:
        with servers.postgres_on(folder, port, kill=True) as url:
            here = site(broker=redis_url, ledger=url, LEXISEG_NOOP_S="0.05")
            job = submit(here.ledger, make_spec(), shard_size=4).job
            stack.enter_context(here.up())
            here.wait_for_done(job, 6)
        with pytest.raises(JobError) as caught:
            get_job(here.ledger, job.id)
        assert caught.value.code == Code.LEDGER_UNAVAILABLE and "LEXISEG_LEDGER" in caught.value.next_step
        with servers.postgres_on(folder, port):
            here.wait_for_end(job)
            stack.close()
    assert content(tmp_path / "out") == content(expected.out)


def test_the_same_job_with_the_ledger_in_postgresql(site, make_spec, postgres_url, redis_url, tmp_path):
    expected = run_job(make_spec(out=str(tmp_path / "alone")))
    here = site(broker=redis_url, ledger=postgres_url, LEXISEG_NOOP_S="0.02")
    job = submit(here.ledger, make_spec(), shard_size=16).job
    with here.up(workers=2):
        here.wait_for_done(job, 4)
        here.kill_holder()
        here.wait_for_end(job)
    assert content(tmp_path / "out") == content(expected.out)


def test_an_interactive_job_does_not_wait_for_a_batch_job(site, make_spec, broker, tmp_path):
    here = site(broker=broker, LEXISEG_NOOP_S="0.1")
    batch = submit(here.ledger, make_spec(), shard_size=4).job
    with here.up():
        here.wait_for_done(batch, 2)
        urgent = submit(here.ledger, make_spec(out=str(tmp_path / "urgent"), inputs=make_spec().inputs),
                        shard_size=16, priority="interactive").job
        here.wait_for_done(urgent, 8)
        assert counts(here.ledger, batch.id)["queued"] > 0


def test_the_command_line_from_submission_to_proof(tmp_path, pictures, site):
    """With the real program and the model that ships with it."""
    site()
    out = tmp_path / "out"

    def lexiseg(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-c", "from service.cli import main; main()", *arguments],
                              capture_output=True, text=True, timeout=600)

    submitted = lexiseg("jobs", "submit", str(pictures), "--classes", "dog, cat", "--out", str(out), "--json")
    assert submitted.returncode == 0, submitted.stderr
    job = json.loads(submitted.stdout)["job"]
    up = lexiseg("up", "--until-done")
    assert up.returncode == 0 and "hutdown" not in up.stdout and "leaked" not in up.stderr, up.stdout + up.stderr
    assert json.loads(lexiseg("jobs", "show", job, "--json").stdout)["counts"]["failed"] == 0
    assert lexiseg("jobs", "watch", job).returncode == 0
    proof = lexiseg("jobs", "verify", job, "--json")
    assert proof.returncode == 0 and json.loads(proof.stdout)["whole"]
    alone = lexiseg("segment", str(pictures), "--classes", "dog, cat", "--out", str(tmp_path / "alone"))
    assert alone.returncode == 0, alone.stderr
    assert content(out) == content(tmp_path / "alone")


class Touch:
    """Leaves a trace where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_dispatcher_that_cannot_send_leaves_shards_waiting_and_tells_no_password(site, make_spec, scheme):
    port = servers.free_port()
    here = site(broker=f"{scheme}://lexiseg:tr0ub4dor@127.0.0.1:{port}/0")
    job = submit(here.ledger, make_spec(), shard_size=10).job
    dispatcher = Dispatcher(here.ledger, make_app(here.settings), here.settings)
    with pytest.raises(JobError, match=f"{scheme}://127.0.0.1:{port}/0 does not answer") as caught:
        dispatcher.tick()
    assert "tr0ub4dor" not in str(caught.value) and caught.value.code == Code.BROKER_UNAVAILABLE
    assert len(hand_out(here.ledger, get_job(here.ledger, job.id), 16)) == 5
