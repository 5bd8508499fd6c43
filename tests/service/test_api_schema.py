"""Whatever is sent, the API answers as its own description says, and never with a defect."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from parsers.errors import JobError
from service.api.app import create_app
from service.api.settings import ApiSettings
from service.api.tokens import add_token
from tests.by_hand import do_job, finish, work_off
from tests.llm_server import llm_server
from workers.ledger.jobs import active_jobs, get_job
from workers.queue.shard import ShardWorker
from workers.queue.telling import TellingWorker

VOCABULARY = {"classes": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]}
FOLDER, PICTURE = "ward-7", "a.png"
JOB = {"inputs": [FOLDER], "vocabulary": VOCABULARY, "refine": "none"}
BODIES = {
    "POST /v1/jobs": JOB, "POST /v1/jobs/estimate": JOB, "POST /v1/jobs/{job_id}/exports": {"format": "coco"},
    "PUT /v1/vocabularies/{name}": VOCABULARY, "POST /v1/vocabularies/{name}/build": {"subclasses": 2}}
"""Bodies with which an operation can succeed."""
PICTURES = ("PUT /v1/uploads/{folder}/{name}", "POST /v1/segment")
"""Operations whose body is a picture."""


@pytest.fixture
def app(tmp_path, saved_models, monkeypatch):
    """A site with a language model, and without workers."""
    (tmp_path / "pictures").mkdir()
    with llm_server() as server:
        server.answer = lambda request: '{"names": ["poodle", "beagle"]}'
        for name, value in {"LEXISEG_DATA": tmp_path / "data", "LEXISEG_API_ROOTS": tmp_path / "pictures",
                            "LEXISEG_MODELS": saved_models, "LEXISEG_LLM": server.url,
                            "LEXISEG_STORE": "none"}.items():
            monkeypatch.setenv(name, str(value))
        yield create_app(ApiSettings(segment_timeout_s=60), open_to_all=False)


@pytest.fixture
def headers(app) -> dict[str, str]:
    return {"Authorization": f"Bearer {add_token(app.state.site.settings.tokens, 'all', 'admin')}"}


@pytest.fixture
def job(app, headers) -> str:
    """A job that is done, of a picture that was uploaded; and a frozen vocabulary."""
    client, site = TestClient(app, headers=headers), app.state.site
    folder = Path(site.settings.uploads, FOLDER)
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 40, 3), np.uint8)).save(folder / PICTURE)
    assert client.put("/v1/vocabularies/wards", json=VOCABULARY).status_code == 200
    assert client.post("/v1/vocabularies/wards/freeze").status_code == 200
    made = client.post("/v1/jobs", json={"inputs": [FOLDER], "vocabulary": "wards", "overlay": True,
                                         "confidence": True, "refine": "none"})
    assert made.status_code == 201, made.text
    do_job(site.ledger, get_job(site.ledger, made.json()["job"]))
    site.forget(made.json()["job"])
    assert client.get(f"/v1/jobs/{made.json()['job']}").json()["state"] == "done"
    return made.json()["job"]


@pytest.fixture
def single_worker(app):
    """Somebody who does the jobs of one picture that are waited for, and no others."""
    ledger, is_over = app.state.site.ledger, threading.Event()
    masker = ShardWorker(ledger, lease_s=30, is_stopping=is_over.is_set)
    teller = TellingWorker(ledger, lease_s=30, is_stopping=is_over.is_set)

    def work() -> None:
        while not is_over.wait(0.02):
            for waiting in active_jobs(ledger):
                if "/.now-" in waiting.out:
                    with contextlib.suppress(JobError):  # whoever waited gave it up
                        work_off(ledger, waiting, masker, teller)
                        finish(ledger, waiting)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    is_over.set()
    thread.join()
    masker.close()
    teller.close()


def make_real(client: TestClient, case: schemathesis.Case, job: str) -> None:
    """Turns a made-up request into one about what there is and that can succeed."""
    label = f"{case.method.upper()} {case.path}"
    real = {"job_id": job, "name": PICTURE, "folder": FOLDER, "format": "coco", "kind": "mask"}
    if label.startswith("POST") and label.endswith(("/pause", "/resume", "/cancel")):
        real["job_id"] = client.post("/v1/jobs", json=JOB).json()["job"]
        if label.endswith("/resume"):
            assert client.post(f"/v1/jobs/{real['job_id']}/pause").status_code == 200
    if case.path.startswith("/v1/vocabularies"):
        is_changed = case.method.upper() in ("PUT", "DELETE") or case.path.endswith("/build")
        real["name"] = "draft" if is_changed else "wards"
        if is_changed:
            assert client.put("/v1/vocabularies/draft", json=VOCABULARY).status_code == 200
    for name in case.path_parameters:
        case.path_parameters[name] = real[name]
    if "name" in (case.query or {}):
        case.query = {"name": PICTURE}
    if label in BODIES:
        case.body, case.media_type = BODIES[label], "application/json"
    if label in PICTURES:
        case.body, case.media_type = (client.app.state.site.settings.uploads / FOLDER / PICTURE).read_bytes(), \
            "application/octet-stream"
        case.query = {"classes": "dog"} if label == "POST /v1/segment" else case.query


def test_answers_are_as_described_and_never_a_defect(app, headers, job, single_worker):
    """Half of the requests are about what there is and can succeed, so that each operation is seen to."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations()]
    there = {(method.upper(), path) for path, verbs in app.openapi()["paths"].items() for method in verbs}
    assert {(operation.method.upper(), operation.path) for operation in operations} == there and len(there) > 25
    client = TestClient(app, headers=headers)
    succeeded = defaultdict(int)
    for operation in operations:

        @given(case=operation.as_strategy(), is_real=st.booleans())
        @settings(max_examples=12, suppress_health_check=list(HealthCheck), deadline=None)
        def check(case, is_real):
            excluded = [positive_data_acceptance]  # class names have rules of their own
            if is_real:
                excluded.append(negative_data_rejection)  # what was wrong may be right now
                make_real(client, case, job)
            response = case.call_and_validate(headers=headers, excluded_checks=excluded)
            succeeded[f"{case.method.upper()} {case.path}"] += response.status_code < 300

        check()
    assert [f"{method} {path}" for method, path in sorted(there) if not succeeded[f"{method} {path}"]] == []


def test_a_description_without_tokens_is_no_way_in(app, job):
    client = TestClient(app)
    assert client.get("/openapi.json").status_code == 200
    for path, verbs in app.openapi()["paths"].items():
        for verb in verbs:
            if not path.startswith("/health"):
                answer = client.request(verb, path.format(job_id=job, name="wards", folder=FOLDER, format="coco",
                                                          kind="mask"))
                assert answer.status_code == 401, (verb, path)
                assert answer.json()["error"]["next_step"]
