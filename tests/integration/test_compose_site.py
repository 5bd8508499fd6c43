"""The site of compose.yaml as processes of this machine: the same commands, environments, secrets and health checks, on
loopback, with a real RabbitMQ and PostgreSQL that ask for their passwords, and vLLM on the processor."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from PIL import Image

from agents.serving.server import check_environment, server_environment
from parsers.errors import MissingPackageError
from parsers.files import sha256_file
from service.client import Client
from tests import servers
from tests.compose import LEXISEG, REPOSITORY, Native, read_compose
from tests.integration.conftest import PATIENCE_S
from tests.service.test_compose import VARIABLES

pytestmark = pytest.mark.integration
PROGRAMS = ("api", "dispatch", "gpu", "llm", "export")
RABBITMQ_COMMANDS = Path("/usr/lib/rabbitmq/bin")
VLLM = REPOSITORY / ".venv-vllm"
ON_A_PROCESSOR = {"LLM_MODEL": "/models/pocket/llava-phi2", "LLM_DTYPE": "float32", "LLM_CONTEXT": "1024",
                  "LLM_STREAMS": "4", "LLM_OPTIONS": "--enforce-eager --distributed-executor-backend uni "
                  "--kv-cache-memory-bytes 134217728"}
"""What .env needs for the pocket model without a GPU (docs/site.md)."""


@dataclass
class Here:
    """The services that run, and how to talk to them."""

    native: Native
    folder: Path
    port: int
    rabbitmq: dict[str, str]
    processes: dict[str, subprocess.Popen]

    def run(self, *command: str, service: str = "api") -> subprocess.CompletedProcess:
        """A command of the program in a service's environment, as `docker compose run` does."""
        return subprocess.run([*LEXISEG, *command], env=self.native.environment(service), cwd=self.folder, text=True,
                              capture_output=True, timeout=PATIENCE_S)

    def is_well(self, service: str) -> bool:
        """What the service's health check says."""
        environment = self.native.environment(service)
        if service == "rabbitmq":
            environment |= self.rabbitmq
        done = subprocess.run(self.native.check(service), env=environment, cwd=self.folder, capture_output=True,
                              text=True, timeout=PATIENCE_S)
        return done.returncode == 0

    def wait_until_well(self, service: str) -> None:
        deadline = time.monotonic() + PATIENCE_S * (2 if service == "vllm" else 1)
        while not self.is_well(service):
            process = self.processes.get(service)
            assert process is None or process.poll() is None, (self.folder / f"{service}.log").read_text()
            assert time.monotonic() < deadline, (self.folder / f"{service}.log").read_text()
            time.sleep(0.5)


@pytest.fixture
def here(tmp_path) -> Iterator[Here]:
    """Servers with the passwords of deploy/secrets.sh, and no process of the program yet."""
    secrets = tmp_path / "secrets"
    subprocess.run(["sh", REPOSITORY / "deploy" / "secrets.sh", secrets], check=True)
    for name in ("data", "pictures"):
        (tmp_path / name).mkdir()
    document = read_compose(VARIABLES | ON_A_PROCESSOR)
    database = document["services"]["postgres"]
    variables, options = database["environment"], database["command"][1:]
    password = (secrets / Path(variables["POSTGRES_PASSWORD_FILE"]).name).read_text()
    api, ledger, llm = (servers.free_port() for _ in range(3))
    with contextlib.ExitStack() as stack:
        queue, rabbitmq = stack.enter_context(servers.rabbitmq_node((secrets / "rabbitmq.conf").read_text()))
        folder = stack.enter_context(servers.postgres_folder(password, shlex.split(variables["POSTGRES_INITDB_ARGS"])))
        url = stack.enter_context(servers.postgres_on(folder, ledger, options=options))
        subprocess.run([servers.postgres_command("createdb"), "--maintenance-db", url, variables["POSTGRES_DB"]],
                       check=True)
        for name in ("ledger_url", "broker_url"):  # the names of the network become ports of this machine
            text = (secrets / name).read_text()
            (secrets / name).write_text(text.replace("@postgres:5432", f"@127.0.0.1:{ledger}").replace(
                "@rabbitmq:5672", f"@127.0.0.1:{queue}"))
        swaps = {"/run/secrets": str(secrets), "/var/lib/lexiseg": str(tmp_path / "data"),
                 "/pictures": str(tmp_path / "pictures"), "/models": str(REPOSITORY / "models"),
                 "/tmp": str(tmp_path / "tmp"), "0.0.0.0": "127.0.0.1", "8420": str(api),
                 "api:8420": f"127.0.0.1:{api}", "vllm:8000": f"127.0.0.1:{llm}", "8000": str(llm)}
        programs = {"lexiseg": LEXISEG, "python3": [str(VLLM / "bin" / "python")],
                    "pg_isready": [servers.postgres_command("pg_isready"), "--port", str(ledger)],
                    "rabbitmq-diagnostics": [str(RABBITMQ_COMMANDS / "rabbitmq-diagnostics")]}
        found = Here(Native(document, swaps, programs), tmp_path, api, rabbitmq, {})
        try:
            yield found
        finally:
            for process in found.processes.values():
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def start(here: Here, *services: str, **environment: str) -> None:
    """environment: what a service needs on a processor beside what the file gives it."""
    for service in services:
        with (here.folder / f"{service}.log").open("wb") as log:
            here.processes[service] = subprocess.Popen(
                here.native.arguments(service), env=environment | here.native.environment(service), cwd=here.folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


@contextmanager
def pictures_in(folder: Path) -> Iterator[int]:
    """Two pictogram scenes."""
    from vision.datasets.pictograms import PictogramDataset

    scenes = PictogramDataset(count=2, seed=5)
    for number in range(2):
        Image.fromarray(scenes.scene(number).image_HW3).save(folder / f"{number}.png")
    yield 2


def test_the_site_of_the_file_does_a_job_is_well_and_stops_in_time(here):
    made = here.run("tokens", "add", "anna", "--scope", "submit")
    assert made.returncode == 0, made.stderr
    start(here, *PROGRAMS)
    for service in ("postgres", "rabbitmq", *PROGRAMS):
        here.wait_until_well(service)
    with Client(f"http://127.0.0.1:{here.port}", made.stdout.strip(), timeout_s=PATIENCE_S) as client, \
            pictures_in(here.folder / "pictures") as number:
        job = client.submit(inputs=["."], vocabulary={"classes": [{"id": 1, "name": "dog"}, {"id": 2, "name": "sand"}]},
                            out="june")
        *_, last = client.watch(job["job"])
        assert (last["state"], last["finished"]) == ("done", number), last
        items = list(client.items(job["job"]))
        client.mask(job["job"], items[0]["name"], here.folder / "mask.png")
        assert sha256_file(here.folder / "mask.png") == items[0]["result"]["mask_sha256"]
        assert client.export(job["job"], "coco", here.folder / "coco")["images"] == number
    with Client(f"http://127.0.0.1:{here.port}") as stranger, pytest.raises(Exception, match="token"):
        stranger.list()
    ledger = urlsplit((here.folder / "secrets" / "ledger_url").read_text().strip())
    for wrong in ("", ":wrong"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"postgresql://{ledger.username}{wrong}@127.0.0.1:{ledger.port}/lexiseg")
    for process in here.processes.values():
        process.send_signal(signal.SIGTERM)
    for service, process in here.processes.items():
        code = process.wait(timeout=max(here.native.grace(service), 0.1))
        assert code in (0, -signal.SIGTERM), (service, code, (here.folder / f"{service}.log").read_text())
        log = (here.folder / f"{service}.log").read_text()
        assert "Traceback" not in log and not any(password in log for password in passwords_of(here)), log
    assert not any(here.is_well(service) for service in ("api", "gpu"))


def passwords_of(here: Here) -> list[str]:
    found = [urlsplit((here.folder / "secrets" / name).read_text().strip()).password
             for name in ("broker_url", "ledger_url")]
    return [password for password in found if password]


def test_a_job_without_names_goes_from_the_api_over_its_worker_to_vllm(here):
    """vLLM gets what a processor needs; everything else is as in the file."""
    try:
        check_environment(VLLM)
    except MissingPackageError as error:
        pytest.skip(f"{error.given} {error.next_step}")
    made = here.run("tokens", "add", "anna", "--scope", "submit")
    assert made.returncode == 0, made.stderr
    start(here, "vllm", **server_environment(here.folder))
    here.wait_until_well("vllm")
    start(here, *PROGRAMS)
    for service in PROGRAMS:
        here.wait_until_well(service)
    with Client(f"http://127.0.0.1:{here.port}", made.stdout.strip(), timeout_s=PATIENCE_S) as client, \
            pictures_in(here.folder / "pictures") as number:
        job = client.submit(inputs=["."], free={"max_calls": 100}, out="free")
        *_, last = client.watch(job["job"])
        assert (last["state"], last["finished"], last["described"]) == ("done", number, number), last
        assert last["llm_calls"] > number  # a description of each, and whether what it names is there
        for item in client.items(job["job"]):
            assert client.told(job["job"], item["name"])["priors"]["text"]
            client.mask(job["job"], item["name"], here.folder / "mask.png")
            assert sha256_file(here.folder / "mask.png") == item["result"]["mask_sha256"]
    said = here.run("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(said.stdout)["checks"]}
    for name in ("ledger", "clock", "queue", "workers", "dispatcher", "answers", "api", "tokens", "folder of results",
                 f"language model {here.native.environment('llm')['LEXISEG_LLM']}"):
        assert checks[name]["state"] == "ok", checks[name]
    assert checks["workers"]["found"] == "llm 1, gpu 1, export 1"
    process = here.processes["vllm"]
    process.send_signal(getattr(signal, here.native.stop_signal("vllm")))
    process.wait(timeout=here.native.grace("vllm"))


def test_a_worker_and_a_dispatcher_say_what_they_cannot_use(tmp_path):
    environment = os.environ | {"LEXISEG_DATA": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}

    def run(*command: str, **more: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-c", "from service.cli import main; main()", *command], text=True,
                              capture_output=True, timeout=PATIENCE_S, env=environment | more)

    unknown = run("worker", "tpu")
    assert unknown.returncode == 2 and "gpu" in unknown.stderr
    lost = run("dispatch", LEXISEG_LEDGER_FILE=str(tmp_path / "none"))
    assert lost.returncode == 2 and "secrets.sh" in lost.stderr
    away = run("dispatch", LEXISEG_LEDGER=f"postgresql://lexiseg@127.0.0.1:{servers.free_port()}/lexiseg")
    assert away.returncode == 2 and "LEXISEG_LEDGER" in away.stderr
    silent = run("health", "dispatch")
    assert silent.returncode == 1 and "sign of life" in silent.stderr
    nobody = run("health", "api", "--url", f"http://127.0.0.1:{servers.free_port()}")
    assert nobody.returncode == 1 and "does not answer" in nobody.stderr
