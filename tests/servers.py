"""Real servers on loopback, started for tests and stopped after them."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

PASSWORD_FILE = "password"


def _own_ports() -> Iterator[int]:
    """Ports for this process of pytest alone, which the system gives to nobody who asks for any: a server that takes
    half a minute to start must not find its port taken."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw9").removeprefix("gw")) % 10
    try:
        given_from = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        given_from = 32768
    size = (min(given_from, 32768) - 12000) // 10
    return itertools.cycle(range(12000 + worker * size, 12000 + (worker + 1) * size) if size > 0 else [0])


_ports = _own_ports()


def free_port() -> int:
    while True:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", next(_ports))) as server:
            return server.getsockname()[1]


def find_command(name: str, package: str, *folders: str) -> str:
    """The path of a command; a failure that names its Debian package where it is not installed."""
    found = shutil.which(name) or next((str(Path(folder) / name) for folder in folders
                                        if (Path(folder) / name).exists()), None)
    if found is None:
        pytest.fail(f"The command {name} is missing: sudo apt-get install {package}", pytrace=False)
    return found


@contextlib.contextmanager
def redis_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """A Redis with an empty data base; its URL."""
    command = find_command("redis-server", "redis-server")
    port = port or free_port()
    process = subprocess.Popen([command, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder,
                                "--appendonly", "no", "--maxmemory-policy", "noeviction"],
                               stdout=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """A PostgreSQL with one data base; its URL."""
    with postgres_folder() as folder, postgres_on(folder, free_port()) as url:
        yield url


@contextlib.contextmanager
def postgres_folder(password: str | None = None, options: Sequence[str] = ()) -> Iterator[Path]:
    """The folder of a PostgreSQL with one data base. password: what everybody is asked for, who is on loopback too;
    None: nobody is asked. options: further ones of initdb."""
    folder = Path(tempfile.mkdtemp(prefix="lexiseg-postgres-"))
    user = _postgres_user()
    if user:
        os.chown(folder, user["user"], user["group"])
    access = ["-A", "trust"]
    if password is not None:
        (folder / PASSWORD_FILE).write_text(password)
        access = ["-A", "scram-sha-256", "--pwfile", str(folder / PASSWORD_FILE)]
        if user:
            os.chown(folder / PASSWORD_FILE, user["user"], user["group"])
    try:
        subprocess.run([postgres_command("initdb"), "-D", folder / "data", "-U", "lexiseg", *access, "-E",
                        "UTF8", "--locale=C.UTF-8", "--no-sync", *options], check=True, stdout=subprocess.DEVNULL,
                       cwd=folder, **user)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def rabbitmq_server() -> Iterator[str]:
    """A RabbitMQ of its own, with its own name server and files; its URL."""
    with rabbitmq_node() as (port, _):
        yield f"amqp://guest:guest@127.0.0.1:{port}//"


@contextlib.contextmanager
def rabbitmq_node(configuration: str = "", port: int | None = None) -> Iterator[tuple[int, dict[str, str]]]:
    """An empty node; its port, and the environment in which RabbitMQ's own commands find it. configuration:
    rabbitmq.conf."""
    command = find_command("rabbitmq-server", "rabbitmq-server", "/usr/lib/rabbitmq/bin")
    folder = Path(tempfile.mkdtemp(prefix="lexiseg-rabbitmq-"))
    (folder / "rabbitmq.conf").write_text(configuration)
    port, names = port or free_port(), free_port()
    raw = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # Debian's command changes the user and the paths
    environment = {
        "HOME": str(folder), "RABBITMQ_NODENAME": f"lexiseg-{port}@localhost", "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"), "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"), "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"), "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(names),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}"}
    process = subprocess.Popen([raw if raw.exists() else command], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env=os.environ | environment, start_new_session=True,
                               cwd=folder)
    try:
        wait_for(port, process, 180)
        yield port, environment
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        stop_name_server(names)
        shutil.rmtree(folder, ignore_errors=True)


def stop_name_server(port: int) -> None:
    """Erlang's epmd goes on after the node that started it."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"epmd" in (entry / "cmdline").read_bytes() \
                    and f"ERL_EPMD_PORT={port}".encode() in (entry / "environ").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)


@contextlib.contextmanager
def postgres_on(folder: Path, port: int, *, kill: bool = False, options: Sequence[str] = ()) -> Iterator[str]:
    """A server for such a folder; its URL. kill: it ends without a word to those who are connected. options: further
    ones of its command."""
    process = subprocess.Popen([postgres_command("postgres"), "-D", folder / "data", "-p", str(port), "-h",
                                "127.0.0.1", "-k", folder, "-F", *options], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, cwd=folder, **_postgres_user())
    try:
        wait_for(port, process)
        password = folder / PASSWORD_FILE
        secret = f":{password.read_text().strip()}" if password.exists() else ""
        url = f"postgresql://lexiseg{secret}@127.0.0.1:{port}/postgres"
        while not _answers(url):  # after a crash it takes connections before it has mended its files
            time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGQUIT if kill else signal.SIGINT)  # PostgreSQL's immediate and fast shutdown
        process.wait()


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=60).close()
    except psycopg.OperationalError:
        return False
    return True


def postgres_command(name: str) -> str:
    versions = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return find_command(name, "postgresql", *versions)


def _postgres_user() -> dict[str, Any]:
    """PostgreSQL does not run as root, so root lends it to `nobody`."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def wait_for(port: int, process: subprocess.Popen, seconds: float = 60) -> None:
    """Until the server takes connections."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"The server on port {port} does not answer.", pytrace=False)
            time.sleep(0.05)


def main() -> None:
    """`python -m tests.servers`: a RabbitMQ and a PostgreSQL, both empty, until Ctrl-C or SIGTERM; prints the options
    that name them."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), rabbitmq_server() as broker, postgres_server() as ledger:
        print(f"--broker {broker} --ledger {ledger}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
