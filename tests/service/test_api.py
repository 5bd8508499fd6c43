"""The HTTP API without workers: what is accepted, what is refused and how it says so."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import service.api.jobs
from agents.store import Entry, open_store
from parsers.errors import InputError, OutputError, SettingError
from service.api.guard import BodyLimit
from service.api.settings import ApiSettings, read_api_settings
from service.api.site import Site
from service.api.tokens import add_token, read_tokens, remove_token, who
from service.serve import is_loopback, serve
from tests.by_hand import do_job
from tests.llm_server import llm_server
from tests.servers import free_port
from workers.ledger import jobs as ledger_jobs
from workers.logs import JsonLines
from workers.queue.devices import host

DOG = {"classes": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]}


def png(side: int = 16) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), 90, np.uint8)).save(file, "PNG")
    return file.getvalue()


def refusal(response, status: int, code: str) -> str:
    """The message of a failure of that status and code."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body["format_version"] == 1 and body["error"]["code"] == code, body
    return body["error"]["message"]


def test_a_job_is_entered_looked_at_and_steered(site, pictures):
    made = site.post("/v1/jobs", json={"inputs": ["."], "vocabulary": DOG, "out": "june", "sample": 2})
    assert made.status_code == 201, made.text
    job = made.json()
    assert (job["state"], job["total"], job["out"]) == ("running", 3, "june")
    assert site.get("/v1/jobs").json()["jobs"][0]["job"] == job["job"]
    path = f"/v1/jobs/{job['job']}"
    assert site.get(path).json()["counts"]["queued"] == 3
    assert site.post(f"{path}/pause").json()["state"] == "paused"
    assert site.post(f"{path}/resume").json()["state"] == "running"
    assert "cannot be resumed" in refusal(site.post(f"{path}/resume"), 409, "job-state")
    assert site.post(f"{path}/cancel").json()["counts"]["cancelled"] == 3
    assert site.post(f"{path}/dance").status_code == 404


def test_the_same_job_again_adds_only_what_is_new(site, pictures):
    request = {"inputs": [str(pictures)], "vocabulary": DOG, "out": "june"}
    first = site.post("/v1/jobs", json=request).json()
    (pictures / "four.png").write_bytes(png())
    again = site.post("/v1/jobs", json=request).json()
    assert (again["job"], again["total"]) == (first["job"], 4)
    other = site.post("/v1/jobs", json=request | {"vocabulary": {"classes": [{"id": 1, "name": "tree"}]}})
    refusal(other, 409, "output-collision")


def test_pictures_of_a_job_come_page_by_page_and_filtered(site, pictures):
    job = site.post("/v1/jobs", json={"inputs": ["."], "vocabulary": DOG}).json()["job"]
    page = site.get(f"/v1/jobs/{job}/items", params={"limit": 2}).json()
    assert [item["name"] for item in page["items"]] == ["one.png", "three.png"] and page["next"] == "three.png"
    rest = site.get(f"/v1/jobs/{job}/items", params={"after": page["next"]}).json()
    assert [item["name"] for item in rest["items"]] == ["two.png"] and rest["next"] is None
    assert site.get(f"/v1/jobs/{job}/items", params={"state": "failed"}).json()["items"] == []
    assert len(site.get(f"/v1/jobs/{job}/items", params={"prefix": "t"}).json()["items"]) == 2
    assert site.get(f"/v1/jobs/{job}/item", params={"name": "one.png"}).json()["state"] == "queued"
    refusal(site.get(f"/v1/jobs/{job}/item", params={"name": "../one.png"}), 404, "file-missing")
    assert "queued" in refusal(site.get(f"/v1/jobs/{job}/files/mask", params={"name": "one.png"}), 404, "file-missing")
    refusal(site.post(f"/v1/jobs/{job}/exports", json={"format": "coco"}), 409, "job-state")


def test_a_beginning_of_names_is_taken_letter_by_letter(site, pictures):
    for name in ("Ward/a.png", "ward/a.png", "ward_/a.png", "ward\U0001f600.png", "w%d/a.png"):
        (pictures / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (pictures / "in" / name).write_bytes(png())
    job = site.post("/v1/jobs", json={"inputs": ["in"], "vocabulary": DOG}).json()["job"]

    def found(prefix: str) -> list[str]:
        return [item["name"] for item in site.get(f"/v1/jobs/{job}/items", params={"prefix": prefix}).json()["items"]]

    assert found("ward/") == ["ward/a.png"] and found("w%") == ["w%d/a.png"] and found("Ward") == ["Ward/a.png"]
    assert found("ward") == ["ward/a.png", "ward_/a.png", "ward\U0001f600.png"] and len(found("")) == 5


def test_patterns_are_taken_below_the_roots(site, pictures):
    (pictures / "sub").mkdir()
    (pictures / "sub" / "four.png").write_bytes(png())

    def total(pattern: str) -> int:
        made = site.post("/v1/jobs", json={"inputs": [pattern], "vocabulary": DOG})
        assert made.status_code == 201, made.text
        return made.json()["total"]

    given = {"*.png": 3, "**/*.png": 4, "sub/*.png": 1, "t*.png": 2, str(pictures / "o*"): 1}
    assert {text: total(text) for text in given} == given
    for pattern in ("../*", "sub/../../*", "/etc/*", "*.tiff", "nowhere/*.png", "*/../../*", "a\0*", "http://host/*"):
        refusal(site.post("/v1/jobs", json={"inputs": [pattern], "vocabulary": DOG}), 404, "file-missing")


@pytest.mark.parametrize("path", [".", "list.jsonl", "*.png", "notes.txt"])
def test_one_picture_now_is_one_picture(site, pictures, path):
    """A folder or a list would be a job of any size, before all others."""
    (pictures / "list.jsonl").write_text('{"path": "one.png"}\n{"path": "two.png"}\n')
    (pictures / "notes.txt").write_text("no picture")
    refusal(site.post("/v1/segment", params={"classes": "dog", "path": path}), 415, "not-an-image")
    assert site.get("/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize("body", [
    b'{"inputs": ["."], "vocabulary": {"classes": [{"id": 1, "name": "\\ud800"}]}}',
    b'{"inputs": ["\\ud800"], "vocabulary": "wards"}', b'{"inputs": ["."], "vocabulary": "\\ud800"}',
    b'{"inputs": ["."], "vocabulary": {"classes": [{"id": 1, "name": "dog"}]}, "settings": {"tile": NaN}}',
    b'{"inputs": ["."], "vocabulary": {"classes": [{"id": 1e999, "name": "dog"}]}}',
    b'{"inputs": ["."], "vocabulary": {"classes": [{"id": ' + b"9" * 5000 + b', "name": "dog"}]}}',
    b'{"inputs": ["."], "vocabulary": {"classes": [{"id": 1, "name": "dog"}]}, "sample": Infinity}',
    b'{"inputs": ["."], "vocabulary": ' + b"[" * 100_000, b"\xff\xfe{}", b"", b"null", b'"text"', b"[]", b'{"a": 1',
    b'{"inputs": ["."], "vocabulary": ' + b'{"classes":' * 2000 + b"1" + b"}" * 2000 + b"}"],
    ids=lambda body: body[:60].decode("latin-1"))
def test_json_that_is_odd_is_refused_and_no_defect(site, pictures, body):
    answer = site.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 404, 422), (answer.status_code, answer.text[:300])
    assert answer.json()["error"]["message"] and site.get("/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize("path", ["/etc", "../../etc", "pictures/../..", "a\0b", "http://host/a.png", "file:///etc",
                                  "not there"])
def test_paths_out_of_the_roots_are_refused(site, pictures, path):
    message = refusal(site.post("/v1/jobs", json={"inputs": [path], "vocabulary": DOG}), 404,
                      "file-missing")
    assert "may read" in message


def test_a_link_that_leads_out_of_the_roots_is_refused(site, pictures, tmp_path):
    (tmp_path / "secret.png").write_bytes(png())
    (pictures / "link.png").symlink_to(tmp_path / "secret.png")
    assert "link" in refusal(site.post("/v1/jobs", json={"inputs": ["."], "vocabulary": DOG}), 404, "file-missing")
    assert site.get("/v1/jobs").json()["jobs"] == []  # nothing of it is left


@pytest.mark.parametrize("out", ["/tmp/x", "..", "a/../../x", ".", "a\0b"])
def test_results_stay_below_the_folder_of_results(site, pictures, out):
    refusal(site.post("/v1/jobs", json={"inputs": ["."], "vocabulary": DOG, "out": out}), 422, "output-unwritable")


def test_limits_of_a_job(open_site, pictures):
    site = open_site(max_pictures=2, max_classes=1, max_body=2000)
    assert "At most 1" in refusal(site.post("/v1/jobs", json={"inputs": ["."], "vocabulary": DOG}), 422,
                                  "vocabulary-invalid")
    one = {"classes": [{"id": 1, "name": "dog"}]}
    assert "At most 2" in refusal(site.post("/v1/jobs", json={"inputs": ["."], "vocabulary": one}), 422, "no-inputs")
    long = {"inputs": ["x" * 4000], "vocabulary": one}
    refusal(site.post("/v1/jobs", json=long), 413, "body-large")


def test_too_many_jobs_and_a_full_disk_are_told_when_to_come_back(open_site, pictures):
    site = open_site(max_open_jobs=1)
    assert site.post("/v1/jobs", json={"inputs": ["."], "vocabulary": DOG}).status_code == 201
    second = site.post("/v1/jobs", json={"inputs": ["."], "vocabulary": DOG})
    refusal(second, 429, "too-many")
    assert int(second.headers["Retry-After"]) > 0
    refusal(site.post("/v1/segment", params={"classes": "dog"}, content=png()), 429, "too-many")
    assert site.put("/v1/uploads/a/a.png", content=png()).status_code == 201  # pictures and words are no jobs
    assert site.put("/v1/vocabularies/wards", json=DOG).status_code == 200
    full = open_site(disk_floor=1 << 60).put("/v1/uploads/a/a.png", content=png())
    refusal(full, 507, "disk-full")
    assert int(full.headers["Retry-After"]) > 0


@pytest.mark.parametrize(("change", "status", "code"), [
    ({"vocabulary": "unheard-of"}, 404, "vocabulary-invalid"),
    ({"vocabulary": {"classes": []}}, 422, "vocabulary-invalid"),
    ({"vocabulary": {"classes": [{"id": 1, "name": ""}]}}, 422, "class-name-invalid"),
    ({"model": "/etc"}, 404, "model-missing"),
    ({"settings": {"variant": "nonsense"}}, 422, "setting-invalid"),
    ({"refine": "nonsense"}, 422, "setting-invalid"),
    ({"preset": "nonsense"}, 422, "setting-invalid"),
    ({"unknown": 1}, 422, "setting-invalid"),
    ({"inputs": []}, 422, "setting-invalid"),
])
def test_what_cannot_be_used_is_said(site, pictures, change, status, code):
    response = site.post("/v1/jobs", json={"inputs": ["."], "vocabulary": DOG} | change)
    assert response.status_code == status and response.json()["error"]["code"] in (code, "vocabulary-invalid"), \
        response.text


def test_vocabularies_are_written_used_and_frozen(site, pictures):
    assert site.put("/v1/vocabularies/wards", json=DOG).json()["frozen"] is False
    assert site.get("/v1/vocabularies").json()["names"] == ["wards"]
    job = site.post("/v1/jobs", json={"inputs": ["."], "vocabulary": "wards"})
    assert job.status_code == 201
    assert site.post("/v1/vocabularies/wards/freeze").json()["frozen"] is True
    refusal(site.put("/v1/vocabularies/wards", json=DOG), 409, "vocabulary-conflict")
    refusal(site.delete("/v1/vocabularies/wards"), 409, "vocabulary-conflict")
    site.put("/v1/vocabularies/other", json=DOG)
    assert site.delete("/v1/vocabularies/other").status_code == 204
    refusal(site.get("/v1/vocabularies/other"), 404, "vocabulary-invalid")
    for name in ("..", "a%2Fb", "A", ".hidden"):
        assert site.put(f"/v1/vocabularies/{name}", json=DOG).status_code in (404, 405, 422)


def test_uploads_are_pictures_of_bounded_size_or_nothing(open_site, data):
    site = open_site(max_upload=2000)
    assert site.put("/v1/uploads/anna/a.png", content=png()).json()["bytes"] == len(png())
    assert site.get("/v1/uploads/anna").json()["names"] == ["a.png"]
    refusal(site.put("/v1/uploads/anna/b.png", content=b"MZ this is a program"), 415, "not-an-image")
    refusal(site.put("/v1/uploads/anna/c.exe", content=png()), 415, "not-an-image")
    refusal(site.put("/v1/uploads/anna/d.png", content=b""), 415, "not-an-image")
    refusal(site.put("/v1/uploads/anna/e.png", content=png() + bytes(3000)), 413, "body-large")
    assert site.put("/v1/uploads/anna/..%2Ff.png", content=png()).status_code in (404, 422)
    assert [path.name for path in (data / "uploads").rglob("*")] == ["anna", "a.png"]  # nothing half-written
    job = site.post("/v1/jobs", json={"inputs": ["anna"], "vocabulary": DOG})
    assert job.status_code == 201 and job.json()["total"] == 1


def test_tokens_open_what_their_scope_says_and_are_never_logged(open_site, data, pictures, caplog):
    secrets = {scope: add_token(read_api_settings().tokens, scope, scope) for scope in ("read", "submit", "admin")}
    site = open_site(open_to_all=False)

    def status(method: str, path: str, secret: str | None, **given) -> int:
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        return site.request(method, path, headers=headers, **given).status_code

    job = {"inputs": ["."], "vocabulary": DOG}
    with caplog.at_level(logging.INFO):
        assert status("GET", "/v1/jobs", None) == 401
        assert status("GET", "/v1/jobs", "wrong") == 401
        assert status("GET", "/v1/jobs", secrets["read"]) == 200
        assert status("POST", "/v1/jobs", secrets["read"], json=job) == 403
        assert status("POST", "/v1/jobs", secrets["submit"], json=job) == 201
        assert status("GET", "/metrics", secrets["submit"]) == 403
        assert status("GET", "/metrics", secrets["admin"]) == 200
        assert status("GET", "/health/live", None) == 200 == status("GET", "/health/ready", None)
    logged = "\n".join(JsonLines().format(record) for record in caplog.records)
    assert '"token": "submit"' in logged and not any(secret in logged for secret in secrets.values())
    assert not any(secret in read_api_settings().tokens.read_text() for secret in secrets.values())
    assert read_api_settings().tokens.stat().st_mode & 0o077 == 0
    remove_token(read_api_settings().tokens, "read")
    assert status("GET", "/v1/jobs", secrets["read"]) == 401


def test_tokens_are_compared_whole_and_files_of_them_are_checked(tmp_path):
    path = tmp_path / "tokens.json"
    secret = add_token(path, "anna", "read")
    assert who(secret, read_tokens(path)).name == "anna"
    assert who(secret[:-1], read_tokens(path)) is None and who("", read_tokens(path)) is None
    for name, scope in (("anna", "read"), ("a b", "read"), ("bert", "all")):
        with pytest.raises(SettingError):
            add_token(path, name, scope)
    with pytest.raises(SettingError, match="bert"):
        remove_token(path, "bert")
    path.write_text("{}}")
    with pytest.raises(SettingError, match="tokens add"):
        read_tokens(path)


def test_an_open_address_needs_tokens(data):
    assert all(map(is_loopback, ("127.0.0.1", "::1", "localhost", "127.9.9.9")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "site.example")))
    with pytest.raises(SettingError, match="lexiseg tokens add"):
        serve("0.0.0.0", 8420)


def test_a_job_over_http_may_bound_its_failures(site, pictures):
    request = {"inputs": ["."], "vocabulary": DOG}
    site.post("/v1/jobs", json=request | {"max_failures": 2})
    (job,) = ledger_jobs.list_jobs(site.app.state.site.ledger)
    assert json.loads(job.spec)["max_failures"] == 2
    assert site.post("/v1/jobs", json=request | {"max_failures": -1}).status_code == 422


def test_secrets_are_blotted_out_of_the_log():
    record = logging.LogRecord("lexiseg", logging.INFO, "", 0, "redis://:pass@host and Bearer abc.def", (), None)
    line = json.loads(JsonLines().format(record))
    assert "pass" not in line["message"] and "abc" not in line["message"] and "host" in line["message"]


def test_a_slow_body_is_ended():
    sent = []

    async def app(scope, receive, send):
        while (await receive())["more_body"]:
            pass

    async def receive():
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message):
        sent.append(message)

    limit = BodyLimit(app, ApiSettings(body_timeout_s=0.2))
    asyncio.run(limit({"type": "http", "path": "/v1/jobs", "method": "POST"}, receive, send))
    assert sent[0]["status"] == 408 and b"body-slow" in sent[1]["body"]


def test_readiness_names_the_part_that_is_missing(open_site, monkeypatch):
    site = open_site(disk_floor=1 << 60)
    assert site.get("/health/ready").json()["parts"]["room"] == "disk-full"
    monkeypatch.setenv("LEXISEG_BROKER", "redis://127.0.0.1:1/0")
    response = site.get("/health/ready")
    assert response.status_code == 503 and response.json()["parts"]["queue"] == "broker-unavailable"


def test_metrics_count_pictures_and_gpu_memory(site, pictures, tmp_path, monkeypatch):
    site.post("/v1/jobs", json={"inputs": ["."], "vocabulary": DOG})
    command = tmp_path / "bin" / "nvidia-smi"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\necho '0, 12, 81559'\necho '1, 0, 81559'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")
    text = site.get("/metrics").text
    assert 'lexiseg_images{state="queued"} 3.0' in text and 'lexiseg_jobs{state="running"} 1.0' in text
    here = f'host="{host()}",kind="used"'
    assert f'lexiseg_device_memory_bytes{{device="0",{here}}} 1.2582912e+07' in text


def test_metrics_count_answers_of_the_language_model_and_jobs_that_stand_still(site, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_STORE", str(tmp_path / "answers.sqlite"))
    monkeypatch.setenv("LEXISEG_STALL_S", "0.01")
    assert "lexiseg_llm_calls_total{" not in site.get("/metrics").text and not (tmp_path / "answers.sqlite").exists()
    store = open_store(tmp_path / "answers.sqlite")
    for number, outcome in enumerate(("first", "first", "repaired", "fallback")):
        store.put(Entry(task="subclasses", model="m", model_digest="d", prompt_digest="p", schema_digest="s",
                        input_digest=str(number), sampling={}, outcome=outcome))
    store.close()
    site.post("/v1/jobs", json={"inputs": ["."], "vocabulary": DOG})
    text = site.get("/metrics").text
    assert 'lexiseg_llm_calls_total{task="subclasses"} 6.0' in text
    assert 'lexiseg_llm_answers_total{outcome="fallback",task="subclasses"} 1.0' in text
    assert 'lexiseg_stalled_jobs{reason="no-dispatcher"} 1.0' in text


def test_the_description_has_examples_and_the_version_of_the_format(site):
    document = site.get("/openapi.json").json()
    assert document["components"]["schemas"]["JobRequest"]["examples"]
    for path, verbs in document["paths"].items():
        for verb, route in verbs.items():
            if path.startswith("/v1"):
                assert "401" in route["responses"] and "422" in route["responses"], (verb, path)


@pytest.mark.parametrize(("name", "value"), [("MAX_BODY", "many"), ("MAX_OPEN_JOBS", "0"), ("DISK_FLOOR", "-1")])
def test_settings_that_cannot_be_meant_are_named(data, monkeypatch, name, value):
    monkeypatch.setenv(f"LEXISEG_API_{name}", value)
    with pytest.raises(SettingError, match=f"LEXISEG_API_{name}"):
        read_api_settings()


def test_a_vocabulary_is_built_by_the_language_model_of_the_site(site, monkeypatch, tmp_path):
    site.put("/v1/vocabularies/wards", json=DOG)
    refusal(site.post("/v1/vocabularies/wards/build", json={"subclasses": 2}), 409, "llm-unavailable")
    with llm_server() as server:
        monkeypatch.setenv("LEXISEG_LLM", server.url)
        monkeypatch.setenv("LEXISEG_STORE", str(tmp_path / "answers.sqlite"))
        server.answer = lambda request: json.dumps({"names": ["poodle", "beagle"]} if "dog" in str(
            request["messages"][-1]) else {"names": ["tabby cat", "siamese cat"]})
        built = site.post("/v1/vocabularies/wards/build", json={"subclasses": 2})
        assert built.status_code == 200, built.text
        assert server.calls and built.json()["frozen"] is False
        assert site.get("/v1/vocabularies/wards").json()["digest"] == built.json()["digest"]
        refusal(site.post("/v1/vocabularies/nobody/build", json={}), 404, "vocabulary-invalid")
        site.post("/v1/vocabularies/wards/freeze")
        refusal(site.post("/v1/vocabularies/wards/build", json={}), 409, "vocabulary-conflict")
    monkeypatch.setenv("LEXISEG_LLM", f"http://127.0.0.1:{free_port()}")
    site.put("/v1/vocabularies/other", json=DOG)
    away = site.post("/v1/vocabularies/other/build", json={})
    refusal(away, 503, "llm-unavailable")
    assert int(away.headers["Retry-After"]) > 0


def test_what_somebody_writes_while_a_vocabulary_is_built_stays(site, monkeypatch, tmp_path):
    site.put("/v1/vocabularies/wards", json=DOG)
    with llm_server() as server:
        monkeypatch.setenv("LEXISEG_LLM", server.url)
        monkeypatch.setenv("LEXISEG_STORE", str(tmp_path / "answers.sqlite"))

        def answer(_request: object) -> str:
            assert site.put("/v1/vocabularies/wards", json={"classes": [{"id": 7, "name": "tree"}]}).status_code == 200
            return json.dumps({"names": ["poodle", "beagle"]})

        server.answer = answer
        refusal(site.post("/v1/vocabularies/wards/build", json={"subclasses": 2}), 409, "vocabulary-conflict")
    assert [entry["name"] for entry in site.get("/v1/vocabularies/wards").json()["vocabulary"]["classes"]] == ["tree"]


def test_the_export_of_a_sample_is_not_given_out_as_that_of_the_job(site, pictures):
    job = site.post("/v1/jobs", json={"inputs": ["."], "vocabulary": DOG, "sample": 2}).json()["job"]
    ledger = site.app.state.site.ledger
    do_job(ledger, ledger_jobs.get_job(ledger, job))
    assert site.post(f"/v1/jobs/{job}/exports", json={"format": "coco"}).json()["images"] == 2
    assert site.get(f"/v1/jobs/{job}/exports/coco").status_code == 200
    site.post(f"/v1/jobs/{job}/resume")
    refusal(site.get(f"/v1/jobs/{job}/exports/coco"), 409, "job-state")
    do_job(ledger, ledger_jobs.get_job(ledger, job))
    assert "POST" in site.get(f"/v1/jobs/{job}/exports/coco").json()["error"]["next_step"]
    assert site.post(f"/v1/jobs/{job}/exports", json={"format": "coco"}).json()["images"] == 3
    assert site.get(f"/v1/jobs/{job}/exports/coco").json()["images"] == 3


def test_jobs_that_are_entered_for_long_keep_others_waiting_for_a_while(site, monkeypatch):
    monkeypatch.setattr(service.api.jobs, "ENTERING_S", 0.2)
    monkeypatch.setattr(service.api.jobs, "_enter", lambda *_: time.sleep(2))
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(site.post, "/v1/jobs", json={"inputs": ["."], "vocabulary": DOG}) for _ in range(2)]
        time.sleep(0.5)
        third = site.post("/v1/jobs", json={"inputs": ["."], "vocabulary": DOG})
        refusal(third, 429, "too-many")
        assert int(third.headers["Retry-After"]) > 0
        del slow


def test_no_job_is_called_as_the_folders_of_single_pictures_are(site):
    for name in (".now-mine", "./.now-mine/out"):
        refusal(site.post("/v1/jobs", json={"inputs": ["."], "vocabulary": DOG, "out": name}), 422, "output-unwritable")


def test_an_export_needs_room(site, open_site, pictures):
    job = site.post("/v1/jobs", json={"inputs": ["."], "vocabulary": DOG}).json()["job"]
    ledger = site.app.state.site.ledger
    do_job(ledger, ledger_jobs.get_job(ledger, job))
    full = open_site(disk_floor=1 << 60).post(f"/v1/jobs/{job}/exports", json={"format": "coco"})
    refusal(full, 507, "disk-full")
    assert int(full.headers["Retry-After"]) > 0
    assert site.post(f"/v1/jobs/{job}/exports", json={"format": "coco"}).status_code == 201


def test_the_language_model_is_not_asked_about_too_many_classes(open_site, monkeypatch):
    site = open_site(max_llm_classes=1)
    monkeypatch.setenv("LEXISEG_LLM", "http://127.0.0.1:1")
    site.put("/v1/vocabularies/wards", json=DOG)
    refusal(site.post("/v1/vocabularies/wards/build", json={}), 422, "vocabulary-invalid")


@given(st.one_of(
    st.sampled_from(["..", "../..", "/etc/passwd", "a/../../b", "\\..\\..", "C:\\x", "\0", "CON", "．．／etc", "‥/etc",
                     "a/\u202e/..", "~root", "%2e%2e/x", "//etc"]), st.text(max_size=40)))
@settings(max_examples=200)
def test_no_path_leads_out_of_the_folders_of_a_site(root, text):
    """Whatever a person gives: inside, or refused."""
    site = Site(settings=ApiSettings(roots=str(root / "in"), outputs=root / "out", uploads=root / "up"), ledger=None,
                open_to_all=True, streams=None, singles=None)
    for ask, inside in ((site.inside, [root / "in", root / "up"]), (site.output, [root / "out"])):
        try:
            found = ask(text)
        except (InputError, OutputError):
            continue
        assert any(found.is_relative_to(folder.resolve()) for folder in inside), (text, found)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("roots")
    for name in ("in", "out", "up"):
        (folder / name).mkdir()
    return folder
