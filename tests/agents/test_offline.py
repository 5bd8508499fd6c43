"""The offline switches: set, held, and looked at before each model."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from agents.model import open_model
from agents.offline import SWITCHES, require_offline, switches_off
from parsers.errors import Code, SettingError


def run_python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})


@pytest.mark.parametrize("change", [
    'os.environ["HF_HUB_OFFLINE"] = "0"', 'os.environ.pop("TRANSFORMERS_OFFLINE")',
    'os.environ.update(DO_NOT_TRACK="")',
    'os.putenv("HF_HUB_OFFLINE", "0")', 'os.unsetenv("HF_HUB_OFFLINE")', 'del os.environ["LANGSMITH_TRACING"]',
    'os.environ.clear()'])
def test_whoever_changes_a_latched_switch_is_refused(change):
    done = run_python(f"""
import os
from agents.offline import latch, switches_off
latch()
os.environ["HF_HUB_OFFLINE"] = "1"  # the same value is no change
os.environ["OTHER"] = "x"
try:
    {change}
except Exception as error:
    print(type(error).__name__, error.code, bool(error.next_step), switches_off())
""")
    assert done.stdout == "SettingError offline-changed True []\n", done.stderr


def test_children_by_fork_are_held_and_others_inherit():
    done = run_python("""
import os, subprocess, sys
from agents.offline import latch
latch()
if os.fork() == 0:
    try:
        os.environ["HF_HUB_OFFLINE"] = "0"
    except Exception as error:
        os.write(1, f"{error.code}\\n".encode())
    os._exit(0)
os.wait()
print(subprocess.run([sys.executable, "-c", "import os; print(os.environ['HF_HUB_OFFLINE'])"], capture_output=True,
                     text=True).stdout.strip())
""")
    assert done.stdout.split() == ["offline-changed", "1"], done.stderr


def test_the_command_latches_and_says_so():
    done = run_python("""
import sys
sys.argv = ["lexiseg", "--version"]
from service.cli import main
try:
    main()
finally:
    from agents.offline import is_latched
    print(is_latched())
""")
    assert done.stdout.splitlines()[-1] == "True", done.stderr


@pytest.mark.parametrize("name", SWITCHES)
def test_no_model_is_loaded_while_a_switch_is_wrong(name, monkeypatch):
    for switch, value in SWITCHES.items():
        monkeypatch.setenv(switch, value)
    require_offline()
    monkeypatch.setenv(name, "no")
    assert switches_off() == [name]
    with pytest.raises(SettingError) as caught:
        open_model("pocket")
    assert caught.value.code == Code.OFFLINE_CHANGED and name in caught.value.given


def test_a_library_that_went_online_by_itself_is_found(monkeypatch):
    import huggingface_hub.constants

    for switch, value in SWITCHES.items():
        monkeypatch.setenv(switch, value)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(SettingError, match=r"huggingface_hub\.constants"):
        require_offline()


def test_a_job_loads_no_model_either(monkeypatch, tmp_path):
    from parsers.vocabulary import Vocabulary
    from workers.description import load_backend
    from workers.spec import JobSpec

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    spec = JobSpec(inputs=("x",), vocabulary=Vocabulary.from_names("dog"), out=str(tmp_path), model="none")
    with pytest.raises(SettingError) as caught:
        load_backend(spec)
    assert caught.value.code == Code.OFFLINE_CHANGED
