"""`lexiseg doctor` here, and where things are missing."""

import json

import pytest

from service import doctor


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
