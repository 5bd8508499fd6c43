"""Whatever is sent, the API answers as its own description says, and never with a defect."""

from __future__ import annotations

import os
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

from service.api.app import create_app
from service.api.settings import ApiSettings
from service.api.tokens import add_token
from workers.ledger import Ledger
from workers.ledger.dispatch import begin_finalising, hand_out
from workers.ledger.jobs import get_job
from workers.queue.finalise import finalise
from workers.queue.shard import ShardWorker

VOCABULARY = {"classes": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]}
FOLDER, PICTURE = "ward-7", "a.png"
WITH_CONTENT = (
    "GET /v1/jobs", "GET /v1/jobs/{job_id}", "GET /v1/jobs/{job_id}/events", "GET /v1/jobs/{job_id}/items",
    "GET /v1/jobs/{job_id}/item", "GET /v1/jobs/{job_id}/files/{kind}", "GET /v1/jobs/{job_id}/exports/{format}",
    "POST /v1/jobs/{job_id}/exports", "POST /v1/jobs/{job_id}/verify", "POST /v1/jobs/{job_id}/retry",
    "GET /v1/vocabularies", "GET /v1/vocabularies/{name}", "POST /v1/vocabularies/{name}/freeze",
    "PUT /v1/vocabularies/{name}", "GET /v1/uploads/{folder}", "GET /health/live", "GET /health/ready", "GET /metrics")
"""Operations of which a success is to be seen, not refusals alone."""


@pytest.fixture(scope="module")
def app(tmp_path_factory, saved_models):
    """A site without workers."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "pictures").mkdir()
    changes = {"LEXISEG_DATA": str(folder / "data"), "LEXISEG_API_ROOTS": str(folder / "pictures"),
               "LEXISEG_MODELS": str(saved_models)}
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    yield create_app(ApiSettings(segment_timeout_s=0.2), open_to_all=False)
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="module")
def headers(app) -> dict[str, str]:
    return {"Authorization": f"Bearer {add_token(app.state.site.settings.tokens, 'all', 'admin')}"}


@pytest.fixture(scope="module")
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
    work_off(site.ledger, made.json()["job"])
    site.forget(made.json()["job"])
    assert client.get(f"/v1/jobs/{made.json()['job']}").json()["state"] == "done"
    return made.json()["job"]


def work_off(ledger: Ledger, job_id: str) -> None:
    """Does a job in this process."""
    worker = ShardWorker(ledger, lease_s=30, is_stopping=lambda: False)
    for shard in hand_out(ledger, get_job(ledger, job_id), 4):
        worker.work(job_id, shard, get_job(ledger, job_id).digest[:16])
    worker.close()
    assert begin_finalising(ledger, get_job(ledger, job_id)) and finalise(ledger, job_id, lease_s=30)


def test_answers_are_as_described_and_never_a_defect(app, headers, job):
    """Half of the requests are about what there is, so that answers with content are looked at, too."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations()]
    there = {(method.upper(), path) for path, verbs in app.openapi()["paths"].items() for method in verbs}
    assert {(operation.method.upper(), operation.path) for operation in operations} == there and len(there) > 25
    real = {"job_id": job, "name": PICTURE, "folder": FOLDER, "format": "coco", "kind": "mask"}
    succeeded = defaultdict(int)
    for operation in operations:

        @given(case=operation.as_strategy(), is_real=st.booleans())
        @settings(max_examples=12, suppress_health_check=list(HealthCheck), deadline=None)
        def check(case, is_real):
            excluded = [positive_data_acceptance]  # class names have rules of their own
            if is_real:
                excluded.append(negative_data_rejection)  # what was wrong may be right now
                for name in case.path_parameters:
                    case.path_parameters[name] = "wards" if "vocabularies" in case.path else real[name]
                if case.path.startswith("/v1/vocabularies") and case.method == "PUT":
                    case.path_parameters["name"], case.body = "draft", VOCABULARY
                if "name" in (case.query or {}):
                    case.query = {"name": PICTURE}
                if case.path.endswith("/exports") and case.method == "POST":
                    case.body = {"format": "coco"}
            response = case.call_and_validate(headers=headers, excluded_checks=excluded)
            succeeded[f"{case.method.upper()} {case.path}"] += response.status_code < 300

        check()
    assert [name for name in WITH_CONTENT if not succeeded[name]] == []


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
