"""The site of compose.yaml as processes of this machine: the same commands, environments, secrets and health checks, on
loopback, with a real RabbitMQ and PostgreSQL, and vLLM on the processor."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

from agents import open_model
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
        deadline = time.monotonic() + PATIENCE_S
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
    document = read_compose(VARIABLES)
    options = document["services"]["postgres"]["command"][1:]
    api, ledger = servers.free_port(), servers.free_port()
    with contextlib.ExitStack() as stack:
        queue, rabbitmq = stack.enter_context(servers.rabbitmq_node((secrets / "rabbitmq.conf").read_text()))
        folder = stack.enter_context(servers.postgres_folder())
        url = stack.enter_context(servers.postgres_on(folder, ledger, options=options))
        subprocess.run([servers.postgres_command("createdb"), "--maintenance-db", url, "lexiseg"], check=True)
        for name in ("ledger_url", "broker_url"):  # the names of the network become ports of this machine
            text = (secrets / name).read_text()
            (secrets / name).write_text(text.replace("@postgres:5432", f"@127.0.0.1:{ledger}").replace(
                "@rabbitmq:5672", f"@127.0.0.1:{queue}"))
        swaps = {"/run/secrets": str(secrets), "/var/lib/lexiseg": str(tmp_path / "data"),
                 "/pictures": str(tmp_path / "pictures"), "/models": str(REPOSITORY / "models"),
                 "/tmp": str(tmp_path / "tmp"), "0.0.0.0": "127.0.0.1", "8420": str(api)}
        programs = {"lexiseg": LEXISEG,
                    "pg_isready": [servers.postgres_command("pg_isready"), "--port", str(ledger)],
                    "rabbitmq-diagnostics": [str(RABBITMQ_COMMANDS / "rabbitmq-diagnostics")]}
        found = Here(Native(document, swaps, programs), tmp_path, api, rabbitmq, {})
        try:
            yield found
        finally:
            for process in found.processes.values():
                if process.poll() is None:
                    process.kill()
                    process.wait()


def start(here: Here, *services: str) -> None:
    for service in services:
        with (here.folder / f"{service}.log").open("wb") as log:
            here.processes[service] = subprocess.Popen(
                here.native.arguments(service), env=here.native.environment(service), cwd=here.folder,
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
        stranger.jobs()
    for process in here.processes.values():
        process.send_signal(signal.SIGTERM)
    for service, process in here.processes.items():
        code = process.wait(timeout=max(here.native.grace(service), 0.1))
        assert code in (0, -signal.SIGTERM), (service, code, (here.folder / f"{service}.log").read_text())
        log = (here.folder / f"{service}.log").read_text()
        assert "Traceback" not in log and password_of(here) not in log, log
    assert not any(here.is_well(service) for service in ("api", "gpu"))


def password_of(here: Here) -> str:
    return urlsplit((here.folder / "secrets" / "broker_url").read_text().strip()).password or ""


def test_vllm_of_the_file_serves_the_pocket_model(tmp_path):
    """With what a processor needs in LLM_OPTIONS; everything else is as in the file."""
    environment = REPOSITORY / ".venv-vllm"
    try:
        check_environment(environment)
    except MissingPackageError as error:
        pytest.skip(f"{error.given} {error.next_step}")
    options = "--enforce-eager --distributed-executor-backend uni --kv-cache-memory-bytes 134217728"
    document = read_compose(VARIABLES | {"LLM_MODEL": "/models/pocket/llava-phi2", "LLM_DTYPE": "float32",
                                         "LLM_CONTEXT": "1024", "LLM_STREAMS": "4", "LLM_OPTIONS": options})
    port = servers.free_port()
    native = Native(document, {"/models": str(REPOSITORY / "models"), "/tmp": str(tmp_path), "0.0.0.0": "127.0.0.1",
                               "8000": str(port)}, {"python3": [str(environment / "bin" / "python")]})
    processor = server_environment(tmp_path)
    with (tmp_path / "vllm.log").open("wb") as log:
        process = subprocess.Popen(native.arguments("vllm"), env=processor | native.environment("vllm"), cwd=tmp_path,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 2 * PATIENCE_S
        while subprocess.run(native.check("vllm"), env=os.environ, capture_output=True).returncode:
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "vllm.log").read_text()[-3000:]
            time.sleep(1)
        model = open_model(f"http://127.0.0.1:{port}/v1")
        assert model.name == "llava-phi2"
        assert model.chat.invoke([{"role": "user", "content": "What is a dog?"}], max_tokens=8).content is not None
        model.close()
        process.send_signal(getattr(signal, document["services"]["vllm"]["stop_signal"]))
        process.wait(timeout=native.grace("vllm"))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


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
