"""Who may do what, route by route, and that tokens are compared and kept as they should be."""

from __future__ import annotations

import hmac
import logging

import pytest

import service.api.tokens
from service.api import estimates, exports, health, items, jobs, segment, uploads, vocabularies
from service.api.settings import read_api_settings
from service.api.tokens import add_token, read_tokens, who
from workers.logs import JsonLines

MODULES = (estimates, exports, health, items, jobs, segment, uploads, vocabularies)
CHANGING = sorted((method, route.path) for module in MODULES for route in module.router.routes
                  for method in route.methods if method != "GET" and not route.path.endswith("/verify"))
"""All routes but those that look: verify reads every file of a job and changes none."""
PLACES = {"job_id": "4f1c2a9b", "name": "wards", "folder": "ward-7", "kind": "mask", "format": "coco"}
VALID = {"inputs": ["."], "vocabulary": {"classes": [{"id": 1, "name": "dog"}]}}


@pytest.fixture
def guarded(open_site):
    """A site that asks for tokens, and one token for each scope."""
    site = open_site(open_to_all=False)
    return site, {scope: add_token(read_api_settings().tokens, scope, scope) for scope in ("read", "submit", "admin")}


def test_no_route_is_left_out(site):
    there = {(verb.upper(), path) for path, verbs in site.get("/openapi.json").json()["paths"].items()
             for verb in verbs if verb != "get" and not path.endswith("/verify")}
    assert set(CHANGING) == there and len(there) > 12


@pytest.mark.parametrize(("method", "path"), CHANGING)
@pytest.mark.parametrize("body", [VALID, None], ids=["valid", "none"])
def test_whoever_may_only_read_changes_nothing(guarded, method, path, body):
    site, secrets = guarded

    def ask(scope: str):
        return site.request(method, path.format(**PLACES), headers={"Authorization": f"Bearer {secrets[scope]}"},
                            json=body)

    answer = ask("read")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "token-scope"), answer.text
    assert "submit" in answer.json()["error"]["next_step"]
    assert ask("submit").status_code not in (401, 403)


def test_every_digest_is_compared_and_in_constant_time(tmp_path, monkeypatch):
    """What a plain comparison would decide, decides nothing."""
    path = tmp_path / "tokens.json"
    secrets = [add_token(path, name, "read") for name in ("anna", "bert", "carl")]
    compared: list[str] = []

    def spy(given: str, known: str) -> bool:
        compared.append(known)
        return compare(given, known) and is_believed

    compare, is_believed = hmac.compare_digest, True
    monkeypatch.setattr(service.api.tokens.hmac, "compare_digest", spy)
    tokens = read_tokens(path)
    for secret, name in zip(secrets, ("anna", "bert", "carl"), strict=True):
        compared.clear()
        assert who(secret, tokens).name == name
        assert compared == [token.sha256 for token in tokens]
    is_believed = False
    assert who(secrets[0], tokens) is None


@pytest.mark.parametrize("name", ["token", "access_token", "Authorization"])
def test_a_token_in_the_address_is_no_way_in_and_is_not_logged(guarded, caplog, name):
    site, secrets = guarded
    with caplog.at_level(logging.DEBUG):
        answer = site.get(f"/v1/jobs?{name}={secrets['admin']}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "token-missing")
    lines = [JsonLines().format(record) for record in caplog.records if not record.name.startswith("http")]  # ours
    assert any('"status": 401' in line for line in lines) and not any(secrets["admin"] in line for line in lines)
