"""The house itself: what a test may do, what the machine must have, and how long a file may be."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = ("parsers", "agents", "vision", "workers", "service")


@pytest.mark.parametrize("attempt", [
    pytest.param(lambda: socket.create_connection(("192.0.2.1", 80), timeout=1), id="connect"),
    pytest.param(lambda: socket.socket().connect_ex(("192.0.2.1", 80)), id="connect_ex"),
    pytest.param(lambda: socket.socket(socket.AF_INET6).connect(("2001:db8::1", 80)), id="IPv6"),
    pytest.param(lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)), id="datagram"),
    pytest.param(lambda: socket.getaddrinfo("example.com", 80), id="look-up"),
    pytest.param(lambda: socket.gethostbyname("example.com"), id="old look-up"),
])
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_tests_cannot_leave_the_machine(attempt):
    with pytest.raises(RuntimeError, match="Tests may"):
        attempt()


def test_loopback_and_unix_sockets_work(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(
            ("localhost", server.getsockname()[1])) as client:
        assert client.getpeername()[0] == "127.0.0.1"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))


def test_heavy_libraries_are_told_to_stay_offline():
    assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"


@pytest.mark.parametrize(("ci", "passes"), [("true", False), ("", True)])
@pytest.mark.parametrize("body", [
    pytest.param("def test():\n    pytest.skip('no')\n", id="test"),
    pytest.param("pytest.skip('no', allow_module_level=True)\n", id="module"),
    pytest.param("@pytest.mark.skipif(True, reason='no')\ndef test():\n    pass\n", id="mark"),
])
def test_ci_allows_no_skipped_test_and_no_setting_gets_in(tmp_path, ci, passes, body):
    shutil.copy(REPOSITORY / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_one.py").write_text("import pytest\n" + body)
    (tmp_path / "test_two.py").write_text("import os\ndef test():\n    assert 'LEXISEG_MODELS' not in os.environ\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--continue-on-collection-errors", tmp_path], cwd=tmp_path, text=True,
        capture_output=True, env={**os.environ, "CI": ci, "LEXISEG_MODELS": "/x"}, check=False)
    assert (done.returncode == 0) is passes, done.stdout
    assert "1 passed" in done.stdout and ("Skipped, which CI does not allow" in done.stdout) is not passes


def check_prerequisites(folder, *arguments, **environment):
    """Runs the check with nothing on PATH but what is in `folder`."""
    return subprocess.run(["/bin/sh", str(REPOSITORY / ".ci" / "prerequisites.sh"), *arguments], text=True,
                          capture_output=True, env={"PATH": str(folder), **environment}, check=False)


def add_commands(folder, *names):
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)


def test_a_bare_machine_is_told_every_package(tmp_path):
    done = check_prerequisites(tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("Next: sudo apt-get install git make g++ python3 python3-venv python3-dev\n")
    assert check_prerequisites(tmp_path, "--packages").stdout == "git make g++ python3 python3-venv python3-dev\n"


def test_one_missing_command_is_one_package(tmp_path):
    add_commands(tmp_path, "git", "make")
    (tmp_path / "python3").symlink_to(sys.executable)
    assert check_prerequisites(tmp_path, "--packages").stdout == "g++\n"


def test_python_that_is_old_or_has_no_venv(tmp_path):
    add_commands(tmp_path, "git", "make", "g++")
    (tmp_path / "python3").write_text("#!/bin/sh\ncase $2 in *version_info*) exit 1;; *) echo 3.9.2;; esac\n")
    (tmp_path / "python3").chmod(0o755)
    done = check_prerequisites(tmp_path)
    assert done.returncode == 1 and "python3 is 3.9.2; 3.11 or newer is needed" in done.stderr
    (tmp_path / "python3").write_text("#!/bin/sh\ncase $2 in *venv*|*Python.h*) exit 1;; esac\n")
    assert check_prerequisites(tmp_path, "--packages").stdout == "python3-venv python3-dev\n"


def test_a_fitting_machine_passes_in_silence(tmp_path):
    add_commands(tmp_path, "git", "make", "g++", "python3")
    done = check_prerequisites(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_servers_are_asked_for_only_where_tests_run(tmp_path):
    add_commands(tmp_path, "git", "make", "g++", "python3")
    done = check_prerequisites(tmp_path, "--packages", LEXISEG_SERVERS="1")
    assert set(done.stdout.split()) <= {"redis-server", "rabbitmq-server", "postgresql", "iproute2"}
    assert {"redis-server", "rabbitmq-server", "iproute2"} <= set(done.stdout.split())
    add_commands(tmp_path, "redis-server", "rabbitmq-server", "postgres", "ip")
    assert check_prerequisites(tmp_path, LEXISEG_SERVERS="1").returncode == 0


def test_no_file_is_longer_than_600_lines():
    for room in ROOMS:
        for path in (REPOSITORY / room).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 600, path


def test_at_most_ten_core_dependencies():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert len(project["dependencies"]) <= 10
    heavy = ("torch", "transformers", "open_clip", "pydensecrf", "loky")
    assert not [name for name in project["dependencies"] if name.startswith(heavy)]
