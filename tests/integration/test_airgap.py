"""Masks and tests in a network namespace that has loopback and no route."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.compose import LEXISEG, REPOSITORY

pytestmark = pytest.mark.integration
SCRIPT = REPOSITORY / "deploy" / "airgap.sh"
NO_NAMESPACE, LEFT = 69, 70
STAYED = "air gap: 0 attempts to reach anything but loopback"


def run(*command: str | Path) -> subprocess.CompletedProcess:
    """A command where there is no network."""
    environment = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    done = subprocess.run(["sh", str(SCRIPT), *map(str, command)], capture_output=True, text=True, timeout=1800,
                          cwd=REPOSITORY, env=environment | {"PYTHONPATH": str(REPOSITORY)})
    if done.returncode == NO_NAMESPACE:
        pytest.skip(f"No network namespace can be made: {done.stderr.strip()}")
    return done


def test_what_tries_to_leave_is_counted_and_fails():
    for attempt in ("socket.create_connection(('192.0.2.1', 80), 1)", "socket.getaddrinfo('lexiseg.example', 80)",
                    "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))"):
        done = run(sys.executable, "-c", f"import socket\ntry:\n    {attempt}\nexcept OSError: pass")
        assert done.returncode == LEFT and STAYED not in done.stderr, (attempt, done.stderr)
    assert run("false").returncode == 1
    assert run("true").returncode == 0


def test_a_look_up_is_counted_where_the_resolver_listens_on_loopback(tmp_path):
    """As on many hosts; nothing but the namespace's own files may decide where a question goes."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.53\noptions timeout:1 attempts:1\n")
    look_up = "import socket\ntry: socket.getaddrinfo('lexiseg.example', 80)\nexcept OSError: pass"
    run("true")  # skips where there is no namespace
    with_resolver = 'mount --bind "$1" /etc/resolv.conf; shift; exec "$@"'
    done = subprocess.run(["unshare", "--mount", "sh", "-c", with_resolver, "sh", tmp_path / "resolv.conf", "sh",
                           SCRIPT, sys.executable, "-c", look_up], capture_output=True, text=True, timeout=1800)
    assert done.returncode == LEFT and STAYED not in done.stderr, done.stderr


def test_masks_and_a_job_are_made_and_nothing_tries_to_leave(tmp_path, monkeypatch):
    """With the pocket models."""
    random = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(random.integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / f"{number}.png")
    masks = run(*LEXISEG, "segment", tmp_path, "--classes", "dog, cat", "--out", tmp_path / "out")
    assert masks.returncode == 0 and STAYED in masks.stderr, masks.stderr
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 2
    monkeypatch.setenv("LEXISEG_DATA", str(tmp_path / "data"))
    submitted = run(*LEXISEG, "jobs", "submit", tmp_path / "0.png", "--classes", "dog", "--out", tmp_path / "job")
    assert submitted.returncode == 0, submitted.stderr
    up = run(*LEXISEG, "up", "--until-done")
    assert up.returncode == 0 and STAYED in up.stderr, up.stderr
    assert (tmp_path / "job" / "report.html").exists()
    parsed = run(*LEXISEG, "parse", "two red dogs chase a ball")
    assert parsed.returncode == 0 and STAYED in parsed.stderr, parsed.stderr
    sick = run(*LEXISEG, "doctor")
    assert STAYED in sick.stderr, sick.stderr


def test_tests_with_servers_on_loopback_pass_in_there():
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/agents/test_pool.py",
               "tests/service/test_pull_command.py::test_a_clip_arrives_with_its_revision_and_digests",
               "tests/service/test_api.py::test_a_job_is_entered_looked_at_and_steered")
    assert done.returncode == 0 and STAYED in done.stderr, done.stdout + done.stderr
