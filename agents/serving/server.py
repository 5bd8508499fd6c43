"""One vLLM server on this machine's processor: what it is started with, whether it is well, how it is stopped.

The model directory is checked before: a weight that vLLM silently leaves uninitialised, or a name at which it stops
with a traceback, is said in words.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from agents.offline import SWITCHES
from parsers.errors import Code, LlmError, MissingPackageError, ModelError, OutputError, SettingError

HEAD_BIAS = "language_model.lm_head.bias"
TOWER = "vision_tower.vision_model."
CONVERT = "lexiseg models convert-llava-phi2 {0} DST"
DTYPES = ("float32", "bfloat16")
HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Numbers per attention head that vLLM 0.31.0 has code for on a processor. With others it starts, says that it is well,
and dies on the first question."""
NO_HOST = "no-host.invalid"
"""The only host from which vLLM may fetch a picture that a request names by its address: there is none of that name
(RFC 2606). An empty list would allow all; pictures come as data."""
LOG_LINES = 12
"""Of the server's last words, shown where it fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Raises SettingError for values out of range."""

    model: Path
    """A directory of LlavaForConditionalGeneration with Phi."""
    environment: Path = Path(".venv-vllm")
    """What `make vllm` made."""
    name: str | None = None
    """What clients call the model; None: the name of its directory."""
    host: str = "127.0.0.1"
    port: int = 8000
    dtype: str = "float32"
    context: int | None = None
    """Tokens of prompt, picture and answer together; None: as many as the model takes."""
    streams: int = 16
    """Requests worked on at once; more wait."""
    cache_mib: int = 128
    """Memory for keys and values, MiB."""

    def __post_init__(self) -> None:
        for name, low, high in (("port", 1, 65535), ("context", 16, 1 << 20), ("streams", 1, 4096),
                                ("cache_mib", 1, 1 << 20)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise SettingError(Code.SETTING_INVALID, f"{name} is {value}.",
                                   f"From {low} to {high}.", "python -m agents.serving --help")
        if self.dtype not in DTYPES:
            raise SettingError(Code.SETTING_INVALID, f"dtype is {self.dtype!r}.", f"Allowed: {', '.join(DTYPES)}.",
                               "float32 on a processor; float16 gives values that are not numbers after fine-tuning.")

    @property
    def served_name(self) -> str:
        return self.name or self.model.resolve().name

    @property
    def url(self) -> str:
        """What clients are given as the address of the server."""
        return f"http://{self.host}:{self.port}/v1"


def server_command(settings: ServerSettings) -> list[str]:
    """The command line of the server."""
    return [str(settings.environment.absolute() / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server",
            "--model", str(settings.model.absolute()), "--served-model-name", settings.served_name,
            "--host", settings.host, "--port", str(settings.port), "--dtype", settings.dtype,
            "--max-num-seqs", str(settings.streams),
            *([] if settings.context is None else ["--max-model-len", str(settings.context)]),
            "--limit-mm-per-prompt", '{"image": 1}', "--allowed-media-domains", NO_HOST,
            "--enforce-eager", "--distributed-executor-backend", "uni",
            "--kv-cache-memory-bytes", str(settings.cache_mib << 20), "--seed", "0", "--generation-config", "vllm",
            "--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}',
            "--disable-uvicorn-access-log"]


def server_environment(cache: Path) -> dict[str, str]:
    """The variables of the server's process: nothing calls home, one process, one thread, no compiler. cache: where
    vLLM keeps what it found out about its own code, which makes the next start quicker."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**kept, **SWITCHES, "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0", "OMP_NUM_THREADS": "1",
            "TORCHDYNAMO_DISABLE": "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1",
            "VLLM_CACHE_ROOT": str(cache / "vllm"), "VLLM_CONFIG_ROOT": str(cache / "vllm"),
            "XDG_CACHE_HOME": str(cache), "HF_HOME": str(cache / "huggingface")}


class Server:
    """A running server; stopped at the end of a `with` block."""

    def __init__(self, settings: ServerSettings, log: Path, cache: Path) -> None:
        """Starts the process. log: the file for what it says; cache: a folder for its caches.

        Raises MissingPackageError (no environment), ModelError (`check_model`), SettingError (the port is taken) and
        OutputError.
        """
        check_environment(settings.environment)
        check_model(settings.model)
        check_port(settings.host, settings.port)
        self.settings, self.log = settings, log
        try:
            for folder in (log.parent, cache):
                folder.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as file:
                self._process = subprocess.Popen(
                    server_command(settings), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                    env=server_environment(cache.absolute()), cwd=cache, start_new_session=True)
        except OSError as error:
            raise OutputError(Code.OUTPUT_UNWRITABLE, f"{log} or {cache} cannot be written: {error.strerror}.",
                              "Folders in which you may write.", "python -m agents.serving --help") from error

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.stop()

    def wait(self, seconds: float = 180) -> None:
        """Until the server takes requests. Raises LlmError (`llm-unavailable`) if it ends before, or is not there
        after so many seconds; its last words are in the message."""
        deadline = time.monotonic() + seconds
        while not is_well(self.settings.host, self.settings.port):
            if (status := self._process.poll()) is not None:
                raise self._failure(f"vLLM ended with status {status} before it was ready.")
            if time.monotonic() > deadline:
                raise self._failure(f"vLLM was not ready after {seconds:.0f} s.")
            time.sleep(0.2)

    def stop(self, seconds: float = 30) -> int:
        """Asks the process to end, by SIGINT, and ends it if it does not; its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def join(self) -> None:
        """Until the server ends by itself, which it does only when it fails. Raises LlmError."""
        status = self._process.wait()
        raise self._failure(f"vLLM ended with status {status}.")

    def _failure(self, given: str) -> LlmError:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        return LlmError(Code.LLM_UNAVAILABLE, "\n".join([given, *lines]), "", f"The whole log: {self.log}")


@contextmanager
def running(settings: ServerSettings, log: Path, cache: Path, seconds: float = 180) -> Iterator[Server]:
    """A server that takes requests, for the length of a `with` block. Raises as `Server` and `Server.wait`."""
    with Server(settings, log, cache) as server:
        server.wait(seconds)
        yield server


def is_well(host: str, port: int) -> bool:
    """Whether a server there says that it is healthy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{host}:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def check_environment(environment: Path) -> None:
    """Raises MissingPackageError unless `make vllm` has finished there."""
    if not (environment / ".ready").exists() or not (environment / "bin" / "python").exists():
        raise MissingPackageError(Code.PACKAGE_MISSING, f"{environment} is not a finished environment of vLLM.",
                                  "What make vllm makes.", "make vllm")


def check_port(host: str, port: int) -> None:
    """Raises SettingError if something else listens there, or the address is not this machine's."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise SettingError(Code.SETTING_INVALID, f"{host}:{port} cannot be listened on: {error.strerror}.",
                           "A free port of this machine.", "Give another --port.") from error


def check_model(directory: Path) -> None:
    """Raises ModelError unless vLLM will serve the directory as it is meant: `model-missing`, `model-incomplete` (no
    configuration, weights or chat template; a head without bias), `model-unsupported` (another kind of model, names
    that vLLM does not read)."""
    convert = CONVERT.format(directory)
    if not directory.is_dir():
        raise ModelError(Code.MODEL_MISSING, f"{directory} is not a directory.",
                         "A model is a directory on this machine.", "lexiseg models list")
    config = _read_json(directory / "config.json")
    kind, text = config.get("model_type"), (config.get("text_config") or {}).get("model_type")
    if (kind, text) != ("llava", "phi"):
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{directory} is of the kind {kind!r} with text model {text!r}.",
                         "llava with phi, as transformers has it.", convert)
    check_text_sizes(directory, config["text_config"])
    if not (directory / "chat_template.jinja").exists() and "chat_template" not in _read_json(
            directory / "tokenizer_config.json"):
        raise ModelError(Code.MODEL_INCOMPLETE, f"{directory} has no chat template; vLLM would refuse every question.",
                         "chat_template.jinja.", convert)
    names = weight_names(directory)
    if HEAD_BIAS not in names:
        raise ModelError(Code.MODEL_INCOMPLETE, f"{directory} has no {HEAD_BIAS}; vLLM would take whatever is in "
                         "memory for it and answer nonsense.", "The head's bias, zeros if the model has none.", convert)
    if not any(name.startswith(TOWER) for name in names):
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{directory} has no weights named {TOWER}*, as vLLM reads them.",
                         "The names that lexiseg writes.", convert)


def check_text_sizes(directory: Path, text: dict[str, Any]) -> None:
    """Raises ModelError (`model-unsupported`) for sizes of the text model that vLLM's Phi does not read or not have."""
    hidden, heads = text.get("hidden_size", 2048), text.get("num_attention_heads", 32)
    if hidden % heads or hidden // heads not in HEAD_SIZES:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{directory} has {hidden} numbers in {heads} attention heads: "
                         f"{hidden / heads:g} per head.",
                         f"On a processor: {', '.join(map(str, HEAD_SIZES))} per head.",
                         "Serve it on a GPU (docs/serving.md), or give another model.")
    inner = text.get("n_inner") or 4 * hidden
    if text.get("intermediate_size", inner) != inner:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{directory} has intermediate_size {text['intermediate_size']}, for "
                         f"which vLLM's Phi would take {inner}.", "text_config.n_inner with the same number.",
                         f"Write it into {directory / 'config.json'}.")


def weight_names(directory: Path) -> set[str]:
    """The names in the safetensors files of a directory: each begins with the length of its header (8 bytes, little
    end first) and the header, JSON. Raises ModelError (`model-incomplete`, `model-corrupt`)."""
    names = set[str]()
    for path in (paths := sorted(directory.glob("*.safetensors"))):
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length) if length <= path.stat().st_size else b"")
        except (OSError, ValueError) as error:
            raise ModelError(Code.MODEL_CORRUPT, f"{path} is not a safetensors file: {error}.", "A whole file.",
                             f"lexiseg models verify {directory}") from error
        names |= header.keys() - {"__metadata__"}
    if not paths:
        raise ModelError(Code.MODEL_INCOMPLETE, f"{directory} has no weights.", "model.safetensors.",
                         CONVERT.format(directory))
    return names


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(Code.MODEL_INCOMPLETE, f"{path} cannot be read: {error.strerror}.", "A whole model directory.",
                         f"lexiseg models verify {path.parent}") from error
    except ValueError as error:
        raise ModelError(Code.MODEL_CORRUPT, f"{path} is not JSON: {error}.", "A whole model directory.",
                         f"lexiseg models verify {path.parent}") from error
    return content if isinstance(content, dict) else {}
