"""`lexiseg doctor` of the HTTP API: its address, its tokens, its folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service import api_checks
from service.api.settings import read_api_settings
from service.api.tokens import add_token
from service.site_checks import site_checks
from tests.servers import free_port, wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 300
ELSEWHERE = "http://192.0.2.1:8420"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The data folder of a machine that has nothing to do with an API yet."""
    for name in [name for name in os.environ if name.startswith("LEXISEG_API_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LEXISEG_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def found() -> dict:
    return {check.name: check for check in api_checks.check_api()}


def test_a_machine_without_an_api_is_asked_nothing(data):
    assert api_checks.check_api() == []


def test_settings_of_the_api_that_cannot_be_read(data, monkeypatch):
    monkeypatch.setenv("LEXISEG_API_MAX_BODY", "much")
    (check,) = api_checks.check_api()
    assert check.state == "missing" and "LEXISEG_API_MAX_BODY" in check.found and check.next_step


def test_an_api_answers_or_does_not(data, monkeypatch, tmp_path):
    port = free_port()
    monkeypatch.setenv("LEXISEG_API_URL", f"http://127.0.0.1:{port}")
    check = found()["api"]
    assert check.state == "missing" and "does not answer" in check.found and "lexiseg serve" in check.next_step
    process = subprocess.Popen(
        [sys.executable, "-c", "from service.cli import main; main()", "serve", "--port", str(port)],
        cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {
            "LEXISEG_LEDGER": str(tmp_path / "l.sqlite")})
    try:
        wait_for(port, process, PATIENCE_S)
        assert found()["api"].state == "ok"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE_S)
    monkeypatch.setenv("LEXISEG_API_URL", "https://site/")
    check = found()["api"]
    assert check.state == "missing" and "LEXISEG_API_URL" in check.found and check.next_step


def test_an_open_api_needs_a_token_and_its_list_is_nobody_elses(data, monkeypatch):
    path = data / "tokens.json"
    data.mkdir()
    assert api_checks.check_tokens(path, None).state == "ok"
    assert api_checks.check_tokens(path, "http://127.0.0.1:8420").state == "ok"
    nobody = api_checks.check_tokens(path, ELSEWHERE)
    assert nobody.state == "missing" and "lexiseg tokens add" in nobody.next_step
    add_token(path, "anna", "submit")
    assert api_checks.check_tokens(path, ELSEWHERE).state == "ok" and found()["tokens"].found.startswith("1 in ")
    path.chmod(0o644)
    open_to_read = api_checks.check_tokens(path, ELSEWHERE)
    assert open_to_read.state == "warning" and open_to_read.next_step == f"chmod 600 {path}"
    path.write_text("{}, and more")
    damaged = api_checks.check_tokens(path, ELSEWHERE)
    assert damaged.state == "missing" and "lexiseg tokens add" in damaged.next_step


def test_tokens_that_this_user_may_not_read(data):
    path = data / "tokens.json"
    data.mkdir()
    add_token(path, "anna", "submit")
    user = os.geteuid()
    if user:
        path.chmod(0)
    else:
        os.seteuid(65534)  # root may read everything, so play somebody else
    try:
        check = api_checks.check_tokens(path, None)
    finally:
        os.seteuid(user)
    assert check.state == "missing" and f"chown {user or 65534}:" in check.next_step


def test_folders_give_back_what_is_written_and_nothing_stays(data, tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_API_OUTPUTS", str(tmp_path / "share"))
    (tmp_path / "share").mkdir()
    assert found()["folder of results"].found == str(tmp_path / "share")
    assert "to be made" in found()["folder of uploads"].found
    assert list((tmp_path / "share").iterdir()) == [] and not data.exists()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LEXISEG_API_OUTPUTS", str(tmp_path / "file"))
    check = found()["folder of results"]
    assert check.state == "missing" and "LEXISEG_API_OUTPUTS" in check.next_step


def test_a_folder_of_pictures_that_is_not_mounted(data, tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_API_ROOTS", str(tmp_path / "nowhere"))
    check = found()["pictures"]
    assert check.state == "missing" and "nowhere" in check.found and "LEXISEG_API_ROOTS" in check.next_step
    (tmp_path / "nowhere").mkdir()
    assert "pictures" not in found() and read_api_settings().readable


def test_the_doctor_asks_it(data, tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_LEDGER", str(tmp_path / "l.sqlite"))
    monkeypatch.setenv("LEXISEG_API_URL", f"http://127.0.0.1:{free_port()}")
    assert {"api", "tokens", "folder of results"} <= {check.name for check in site_checks()}
