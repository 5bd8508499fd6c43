"""Jobs without names over HTTP: what people may say about them, what the site decides, and what comes out."""

from __future__ import annotations

import base64
import io
import os
import threading
import time
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

import service.api.free
from parsers.prepared import PreparedRow
from parsers.priors import ObjectPrior, ScenePriors
from tests.by_hand import do_job
from tests.llm_server import Reply
from tests.servers import free_port
from tests.service.test_api import png, refusal
from workers.ledger import open_ledger
from workers.ledger.dispatch import hand_out
from workers.ledger.jobs import active_jobs, get_job
from workers.queue.telling import TellingWorker
from workers.spec import JobSpec

FREE = {"inputs": ["."], "free": {}}


@pytest.fixture
def models(scene_models):
    """In the place of the folder without a scene parser."""
    return scene_models


@pytest.fixture
def llm(llm, monkeypatch, tmp_path):
    """The language model of the site."""
    monkeypatch.setenv("LEXISEG_LLM", llm.url)
    monkeypatch.setenv("LEXISEG_STORE", str(tmp_path / "answers.sqlite"))
    return llm


def said(name: str, thing: str) -> bytes:
    row = PreparedRow(image_id=name, prompt_id="detailed", model_id="anna", priors=ScenePriors(
        text="a text", objects=(ObjectPrior(name=thing, lemma=thing),)))
    return row.model_dump_json().encode() + b"\n"


def spec(site, job: str) -> JobSpec:
    return JobSpec.model_validate_json(get_job(site.app.state.site.ledger, job).spec)


def test_a_job_without_names_from_the_request_to_its_masks(site, llm, pictures):
    made = site.post("/v1/jobs", json=FREE | {"out": "june"})
    assert made.status_code == 201, made.text
    job, ledger = made.json()["job"], site.app.state.site.ledger
    assert (made.json()["described"], made.json()["llm_calls"]) == (0, 0)
    free = spec(site, job).free
    assert (free.llm, free.detail, free.llm_model) == (llm.url, "detailed", "stub") and free.llm_digest
    assert free.views == 1
    other = site.post("/v1/jobs", json=FREE | {"out": "july", "free": {"views": 4}}).json()["job"]
    assert spec(site, other).free.views == 4
    with closing(TellingWorker(ledger, lease_s=30, is_stopping=lambda: False)) as teller:
        for shard in hand_out(ledger, get_job(ledger, job), 4):
            teller.work(job, shard, get_job(ledger, job).digest)
    told = site.get(f"/v1/jobs/{job}/item", params={"name": "one.png"}).json()
    assert told["result"] is None and told["state"] == "queued"
    assert told["told"]["presence"] == {"cat": True, "dog": True, "tree": False, "zebra": True}
    assert [one["lemma"] for one in told["told"]["priors"]["objects"]] == ["dog", "cat", "zebra", "tree"]
    do_job(ledger, get_job(ledger, job))
    site.app.state.site.forget(job)
    now = site.get(f"/v1/jobs/{job}").json()
    assert (now["state"], now["described"], now["llm_calls"]) == ("done", 3, 3 * 5)
    (item, *_) = site.get(f"/v1/jobs/{job}/items").json()["items"]
    assert item["told"] is None and item["result"]["told"] == told["told"]
    assert site.get(f"/v1/jobs/{job}/files/mask", params={"name": "one.png"}).status_code == 200
    again = site.post("/v1/jobs", json=FREE | {"out": "june"}).json()
    assert (again["job"], again["state"]) == (job, "done")


@pytest.mark.parametrize("change", [{"llm": "http://10.0.0.1/v1"}, {"llm_model": "other"}, {"store": "/tmp/x"},
                                    {"descriptions": "http://10.0.0.1/said.jsonl"}, {"descriptions": "file:///etc/x"}])
def test_no_address_comes_with_a_request(site, llm, pictures, change):
    response = site.post("/v1/jobs", json=FREE | {"free": change})
    assert response.status_code in (404, 422), response.text
    assert llm.calls == 0 and site.get("/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize("change", [{"vocabulary": {"classes": [{"id": 1, "name": "dog"}]}}, {"free": None},
                                    {"free": {"max_calls": 0}}, {"free": {"detail": "long"}},
                                    {"free": {"views": 11}}, {"free": {"descriptions": "said.jsonl", "views": 2}},
                                    {"free": {"descriptions": "said.jsonl", "max_calls": 5}}])
def test_what_does_not_fit_is_said(site, llm, pictures, change):
    (pictures / "said.jsonl").write_bytes(said("one.png", "dog"))
    refusal(site.post("/v1/jobs", json=FREE | change), 422, "setting-invalid")


def test_a_site_without_a_language_model_says_so(site, pictures, monkeypatch):
    monkeypatch.delenv("LEXISEG_LLM", raising=False)
    refusal(site.post("/v1/jobs", json=FREE), 409, "llm-unavailable")
    refusal(site.post("/v1/segment", params={"candidate_free": True}, content=png()), 409, "llm-unavailable")


def test_of_a_server_with_several_models_the_site_names_one(site, llm, pictures, monkeypatch):
    llm.models["data"].append({"id": "other", "object": "model", "owned_by": "tests"})
    refused = site.post("/v1/jobs", json=FREE)
    refusal(refused, 503, "llm-model-missing")
    assert "LEXISEG_LLM_MODEL" in refused.json()["error"]["next_step"]
    monkeypatch.setenv("LEXISEG_LLM_MODEL", "stub")
    made = site.post("/v1/jobs", json=FREE)
    assert made.status_code == 201 and spec(site, made.json()["job"]).free.llm_model == "stub"


def test_a_language_model_that_is_away_or_blind_is_found_before_anything_is_entered(site, llm, pictures, monkeypatch):
    llm.answer = lambda request: Reply(status=400, body='{"error": {"message": "stub is not a multimodal model"}}')
    refusal(site.post("/v1/jobs", json=FREE), 422, "llm-blind")
    monkeypatch.setenv("LEXISEG_LLM", f"http://127.0.0.1:{free_port()}")
    away = site.post("/v1/jobs", json=FREE)
    refusal(away, 503, "llm-unavailable")
    assert int(away.headers["Retry-After"]) > 0 and site.get("/v1/jobs").json()["jobs"] == []


def test_it_is_asked_once_whether_it_is_there_and_by_one_at_a_time(site, llm, pictures, monkeypatch):
    monkeypatch.setattr(service.api.free, "FRESH_S", 3600)
    here = site.app.state.site
    with here.alone():
        refusal(site.post("/v1/jobs", json=FREE), 429, "too-many")
    for name in ("a", "b"):
        assert site.post("/v1/jobs", json=FREE | {"out": name}).status_code == 201
    assert llm.calls == 1
    monkeypatch.setattr(service.api.free, "FRESH_S", 0)
    site.post("/v1/jobs", json=FREE | {"out": "c"})
    assert llm.calls == 2


def test_calls_of_the_language_model_are_bounded(site, llm, pictures):
    job = site.post("/v1/jobs", json=FREE | {"out": "june", "free": {"max_calls": 2}}).json()["job"]
    ledger = site.app.state.site.ledger
    asked = llm.calls
    with pytest.raises(Exception, match="2 calls"):
        do_job(ledger, get_job(ledger, job))
    site.app.state.site.forget(job)
    now = site.get(f"/v1/jobs/{job}").json()
    assert (now["state"], now["error_code"], now["llm_calls"], llm.calls - asked) == ("stopped", "llm-calls", 2, 2)
    more = site.post("/v1/jobs", json=FREE | {"out": "june", "free": {"max_calls": 50}}).json()
    assert (more["job"], more["state"], more["error_code"]) == (job, "running", None)
    do_job(ledger, get_job(ledger, job))


def test_descriptions_are_sent_and_name_what_is_looked_for(site, pictures):
    for name in ("a.png", "b.png"):
        assert site.put(f"/v1/uploads/ward/{name}", content=png(40)).status_code == 201
    rows = said("a.png", "dog") + said("b.png", "cat")
    assert site.put("/v1/uploads/ward/said.jsonl", content=rows).json()["bytes"] == len(rows)
    request = {"inputs": ["ward"], "free": {"descriptions": "ward/said.jsonl"}}
    made = site.post("/v1/jobs", json=request)
    assert made.status_code == 201 and made.json()["total"] == 2, made.text
    job, ledger = made.json()["job"], site.app.state.site.ledger
    do_job(ledger, get_job(ledger, job))
    site.app.state.site.forget(job)
    assert site.get(f"/v1/jobs/{job}").json()["llm_calls"] == 0
    told = site.get(f"/v1/jobs/{job}/item", params={"name": "b.png"}).json()["result"]["told"]
    assert told["priors"]["objects"][0]["lemma"] == "cat"
    (pictures / "said.jsonl").write_bytes(rows)
    assert site.post("/v1/jobs", json=request | {"free": {"descriptions": "said.jsonl"}}).status_code == 201


def test_a_file_that_holds_no_descriptions_is_refused_and_not_kept(open_site, data, pictures):
    site = open_site(max_descriptions=1024)
    send = "/v1/uploads/ward/said.jsonl"
    assert "ward/said.jsonl, line 1" in refusal(site.put(send, content=b"{}\n"), 422, "dataset-invalid")
    refusal(site.put(send, content=b"\x89PNG\r\n\x1a\n"), 422, "dataset-invalid")
    refusal(site.put(send, content=said("a.png", "dog") * 2), 422, "dataset-invalid")
    refusal(site.put(send, content=b" " * 2000), 413, "body-large")
    assert [path.name for path in (data / "uploads").rglob("*")] == ["ward"]
    (pictures / "bad.jsonl").write_text("not JSON\n")
    (pictures / "long.jsonl").write_bytes(b" " * 2000)
    (pictures / "folder.jsonl").mkdir()
    os.mkfifo(pictures / "pipe.jsonl")
    (pictures / "out.jsonl").symlink_to("/etc/passwd")
    for name, status, code in (("bad.jsonl", 422, "dataset-invalid"), ("long.jsonl", 413, "body-large"),
                               ("folder.jsonl", 404, "file-missing"), ("pipe.jsonl", 404, "file-missing"),
                               ("out.jsonl", 404, "file-missing"), ("/etc/passwd", 404, "file-missing"),
                               ("../x.jsonl", 404, "file-missing"), ("none.jsonl", 404, "file-missing")):
        message = refusal(site.post("/v1/jobs", json={"inputs": ["."], "free": {"descriptions": name}}), status, code)
        assert str(pictures) not in message
    assert site.get("/v1/jobs").json()["jobs"] == []


def test_one_picture_now_without_names(site, llm, pictures):
    over = threading.Event()

    def work() -> None:
        with closing(open_ledger(os.environ["LEXISEG_DATA"] + "/ledger.sqlite")) as ledger:
            while not over.is_set():
                for job in active_jobs(ledger):
                    do_job(ledger, job)
                time.sleep(0.02)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        now = site.post("/v1/segment", params={"candidate_free": True}, content=png(40))
    finally:
        over.set()
        worker.join()
    assert now.status_code == 200, now.text
    assert now.json()["classes"] == {"0": "background", "1": "cat", "2": "dog", "3": "zebra"}
    assert now.json()["result"]["told"]["priors"]["text"].startswith("A red dog")
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(now.json()["mask_png"]))))
    assert mask.shape == (40, 40) and {found["id"] for found in now.json()["result"]["classes"]} <= {1, 2, 3}
    assert site.get("/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize("given", [{"candidate_free": True, "classes": "dog"}, {"classes": "a", "vocabulary": "b"}, {}])
def test_one_picture_needs_one_kind_of_names(site, given):
    refusal(site.post("/v1/segment", params=given, content=png()), 422, "setting-invalid")
