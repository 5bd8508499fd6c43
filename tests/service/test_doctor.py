"""`lexiseg doctor` here, and where things are missing."""

import json
import sqlite3
from contextlib import closing

import pytest
import redis

from agents.store import Entry, open_store
from service import doctor, site_checks
from tests import servers
from tests.llm_server import llm_server
from tests.servers import free_port
from workers.ledger import open_ledger
from workers.ledger.jobs import active_jobs
from workers.ledger.schema import items, meta, results
from workers.queue.settings import QueueSettings


def test_a_healthy_machine(lexiseg, models):
    result = lexiseg("doctor", "--json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (answer["format_version"], answer["healthy"]) == (1, True)
    found = {check["name"]: check for check in answer["checks"]}
    assert {"python", "torch", "open_clip_torch", "pydensecrf2", "device", "model pocket/clip", "disk", "cache",
            "offline switches"} <= found.keys()
    assert "files verified" in found["model pocket/clip"]["found"]
    assert found["offline switches"]["state"] == "ok"


def test_for_people(lexiseg, models):
    result = lexiseg("doctor")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "Everything that is needed is here."


def test_without_the_pocket_model(lexiseg, tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_MODELS", str(tmp_path))
    result = lexiseg("doctor")
    assert result.exit_code == 1
    assert "missing  pocket model clip" in result.stdout
    assert "LEXISEG_MODELS" in result.stdout


def test_a_package_that_is_missing_or_does_not_import(tmp_path, monkeypatch):
    assert doctor.check_package("no-such-package", "no_such_module").next_step == "pip install no-such-package"
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    broken = doctor.check_package("numpy", "broken_module")
    assert broken.state == "missing"
    assert "torchvision::nms" in broken.found


def test_pydensecrf_is_optional_and_named_by_its_package(monkeypatch):
    missing = doctor.Check(name="pydensecrf2", state="missing", found="not installed")
    monkeypatch.setattr(doctor, "check_package", lambda *names: missing)
    check = doctor.check_pydensecrf()
    assert check.state == "warning"
    assert "pip install pydensecrf2" in check.next_step
    assert doctor.is_healthy([check])


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    check = doctor.check_cache(tmp_path / "file" / "cache")
    assert check.state == "warning"
    assert "LEXISEG_CACHE" in check.next_step


@pytest.mark.parametrize(("least", "state"), [(0, "ok"), (1 << 60, "warning")])
def test_disk_space(tmp_path, monkeypatch, least, state):
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", least)
    assert doctor.check_disk(tmp_path).state == state


def test_switches(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    check = doctor.check_switches()
    assert check.state == "warning"
    assert "HF_HUB_OFFLINE" in check.found


def found(checks) -> dict:
    return {check.name: check for check in checks}


def test_the_parts_of_a_site_on_this_machine(lexiseg, models, tmp_path, monkeypatch, pictures):
    monkeypatch.setenv("LEXISEG_DATA", str(tmp_path / "data"))
    before = found(site_checks.site_checks())
    assert "to be made" in before["ledger"].found and not (tmp_path / "data").exists()
    assert lexiseg("jobs", "submit", pictures, "--classes", "dog", "--out", tmp_path / "out").exit_code == 0
    after = found(site_checks.site_checks())
    assert "schema version" in after["ledger"].found and after["jobs"].found == "1 active"
    assert after["dispatcher"].state == "warning" and "lexiseg dispatch" in after["dispatcher"].next_step
    assert after["language model"].state in ("ok", "warning")


def test_a_job_that_stands_still_is_named(lexiseg, models, tmp_path, monkeypatch, pictures):
    monkeypatch.setenv("LEXISEG_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LEXISEG_STALL_S", "0.01")
    lexiseg("jobs", "submit", pictures, "--classes", "dog", "--out", tmp_path / "out")
    stalled = [check for check in site_checks.site_checks() if check.name.startswith("job ")]
    assert len(stalled) == 1 and "no-dispatcher" in stalled[0].found and stalled[0].next_step
    shown = lexiseg("jobs", "show", tmp_path / "out", "--json")
    assert json.loads(shown.stdout)["stalled"]["reason"] == "no-dispatcher"
    assert "nothing has moved" in lexiseg("jobs", "show", tmp_path / "out").stdout


def test_a_ledger_of_a_newer_version_or_that_is_none(tmp_path, monkeypatch):
    path = tmp_path / "l.sqlite"
    monkeypatch.setenv("LEXISEG_LEDGER", str(path))
    ledger = open_ledger(str(path))
    with ledger.write() as connection:
        connection.execute(meta.update().where(meta.c.key == "schema_version").values(value="99"))
    ledger.close()
    newer = found(site_checks.site_checks())["ledger"]
    assert newer.state == "missing" and "99" in newer.found and "newer" in newer.next_step
    path.write_bytes(b"no database at all" * 100)
    assert found(site_checks.site_checks())["ledger"].state == "missing"


def test_a_ledger_of_an_older_version_is_fine(tmp_path, monkeypatch):
    path = tmp_path / "l.sqlite"
    monkeypatch.setenv("LEXISEG_LEDGER", str(path))
    ledger = open_ledger(str(path))
    with ledger.write() as connection:
        connection.execute(meta.update().where(meta.c.key == "schema_version").values(value="2"))
        connection.exec_driver_sql("ALTER TABLE jobs DROP COLUMN llm_calls")
    ledger.close()
    older = found(site_checks.site_checks())
    assert older["ledger"].state == "ok" and "schema version 2" in older["ledger"].found and "jobs" not in older
    open_ledger(str(path)).close()
    assert found(site_checks.site_checks())["jobs"].found == "0 active"


def test_servers_that_do_not_answer(monkeypatch, tmp_path):
    port = free_port()
    monkeypatch.setenv("LEXISEG_LEDGER", f"postgresql://me:secret@127.0.0.1:{port}/db")
    monkeypatch.setenv("LEXISEG_BROKER", f"amqp://me:secret@127.0.0.1:{port}//")
    monkeypatch.setenv("LEXISEG_LLM", f"http://127.0.0.1:{port}/v1")
    checks = found(site_checks.site_checks())
    assert [checks[name].state for name in ("ledger", "queue")] == ["missing"] * 2
    assert checks[f"language model http://127.0.0.1:{port}/v1"].state == "missing"
    assert all(check.next_step for check in checks.values() if check.state != "ok")
    assert "secret" not in " ".join(check.found + check.next_step for check in checks.values())


def test_of_several_language_models_one_that_is_away_is_a_warning(monkeypatch):
    away = f"http://127.0.0.1:{free_port()}/v1"
    with llm_server() as server:
        checks = found(site_checks.check_llm(f"{server.url},{away}"))
    assert checks[f"language model {server.url}"].state == "ok"
    assert checks[f"language model {away}"].state == "warning"


def test_a_redis_that_throws_messages_away_is_named(tmp_path):
    with servers.redis_server(tmp_path) as url:
        settings = QueueSettings(ledger=str(tmp_path / "l.sqlite"), broker=url)
        assert found(site_checks.check_queue(settings))["queue"].state == "ok"
        with redis.Redis.from_url(url) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
            queue = found(site_checks.check_queue(settings))["queue"]
            assert queue.state == "warning" and "allkeys-lru" in queue.found
            assert "maxmemory-policy noeviction" in queue.next_step
            client.acl_setuser("default", enabled=True, nopass=True, keys=["*"], channels=["*"],
                               commands=["+@all", "-info"])
        queue = found(site_checks.check_queue(settings))["queue"]
    assert queue.state == "warning" and "maxmemory-policy" in queue.found and "ACL SETUSER" in queue.next_step


def test_workers_that_are_missing_are_named_those_of_the_language_model_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.delenv("LEXISEG_LLM", raising=False)
    with servers.redis_server(tmp_path) as url:
        settings = QueueSettings(ledger=str(tmp_path / "l.sqlite"), broker=url)
        workers = found(site_checks.check_queue(settings))["workers"]
        assert workers.state == "warning" and "lexiseg worker export" in workers.next_step
        assert "lexiseg worker llm" not in workers.next_step
        monkeypatch.setenv("LEXISEG_LLM", "http://127.0.0.1:1/v1")
        assert "lexiseg worker llm" in found(site_checks.check_queue(settings))["workers"].next_step


def test_the_store_of_answers(tmp_path, monkeypatch):
    path = tmp_path / "answers" / "a.sqlite"
    monkeypatch.setenv("LEXISEG_STORE", str(path))
    monkeypatch.setenv("LEXISEG_LEDGER", str(tmp_path / "l.sqlite"))
    check = found(site_checks.site_checks())["answers"]
    assert check.state == "ok" and "to be made" in check.found and not path.parent.exists()
    store = open_store(path)
    store.put(Entry(task="presence", model="m", model_digest="1", prompt_digest="2", schema_digest="3",
                    input_digest="4", sampling={}))
    store.close()
    assert site_checks.check_store(str(path)).found == f"1 in {path}"
    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE jobs (id TEXT)")
    before = other.read_bytes()
    foreign = site_checks.check_store(str(other))
    assert foreign.state == "missing" and "something else" in foreign.found and other.read_bytes() == before
    path.write_bytes(b"no database at all" * 100)
    damaged = site_checks.check_store(str(path))
    assert damaged.state == "missing" and "--store" in damaged.next_step
    (tmp_path / "file").write_text("")
    assert site_checks.check_store(str(tmp_path / "file" / "a.sqlite")).state == "missing"
    away = site_checks.check_store(f"postgresql://me:secret@127.0.0.1:{free_port()}/db")
    assert away.state == "missing" and "secret" not in away.found
    assert site_checks.check_store("none").state == "ok"


def test_a_machine_that_does_not_see_what_the_others_wrote(lexiseg, models, tmp_path, monkeypatch, pictures):
    monkeypatch.setenv("LEXISEG_DATA", str(tmp_path / "data"))
    lexiseg("jobs", "submit", pictures, "--classes", "dog", "--out", tmp_path / "out")
    ledger = open_ledger(str(tmp_path / "ledger.sqlite"))
    (job,) = active_jobs(ledger)
    with ledger.write() as connection:  # as another machine leaves it
        item = connection.execute(items.select()).first()
        connection.execute(items.update().where(items.c.id == item.id).values(state="done"))
        connection.execute(results.insert().values(
            item_id=item.id, line="{}", files='{"masks/one.png.png": "0"}', decode_s=0, score_s=0, finish_s=0,
            finished=0))
    ledger.close()
    name = f"results of job {job.id}"
    check = found(site_checks.site_checks())[name]
    assert check.state == "missing" and "masks/one.png.png" in check.found and "docs/site.md" in check.next_step
    (tmp_path / "out" / "masks").mkdir(parents=True)
    (tmp_path / "out" / "masks" / "one.png.png").write_bytes(b"")
    assert name not in found(site_checks.site_checks())


def test_settings_that_cannot_be_read(monkeypatch):
    monkeypatch.setenv("LEXISEG_LEASE_S", "soon")
    (check,) = site_checks.site_checks()
    assert check.state == "missing" and "LEXISEG_LEASE_S" in check.found


def test_gpus_that_torch_does_not_see(tmp_path, monkeypatch):
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 'NVIDIA H100'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    check = doctor.check_device()
    assert check.state == "warning" and "H100" in check.found and check.next_step
