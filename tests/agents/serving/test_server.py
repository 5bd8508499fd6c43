"""What a server is started with, what is checked before, and how its failures are told. The server here is a small
program of our own in vLLM's place; vLLM itself is in tests/integration/test_vllm.py."""

import itertools
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agents.serving import __main__ as command
from agents.serving.server import (
    Server,
    ServerSettings,
    check_model,
    is_well,
    running,
    server_command,
    server_environment,
)
from parsers.errors import Code, LexisegError
from tests.servers import free_port

HEALTHY = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *rest): pass
port = int(sys.argv[sys.argv.index("--port") + 1])
try:
    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
except KeyboardInterrupt:
    print("interrupted")
"""


def write_weights(folder: Path, *names: str) -> None:
    """A safetensors file of tensors without numbers."""
    header = json.dumps({"__metadata__": {"format": "pt"}} | {
        name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for name in names}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


def config(**text: int) -> dict:
    return {"model_type": "llava", "text_config": {
        "model_type": "phi", "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024} | text}


@pytest.fixture
def model(tmp_path) -> Path:
    """A directory that passes the checks."""
    folder = tmp_path / "llava"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config()))
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("x")
    write_weights(folder, "language_model.lm_head.bias", "vision_tower.vision_model.post_layernorm.bias")
    return folder


@pytest.fixture
def environment(tmp_path):
    """environment(program) -> a finished environment whose server is that program."""
    def make(program: str) -> Path:
        folder = tmp_path / "env"
        (folder / "bin").mkdir(parents=True)
        (tmp_path / "program.py").write_text(program)
        python = folder / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/program.py "$@"\n')
        python.chmod(0o755)
        (folder / ".ready").touch()
        return folder

    return make


def failure(function, *arguments, **options) -> LexisegError:
    with pytest.raises(LexisegError) as caught:
        function(*arguments, **options)
    return caught.value


def test_command_and_variables(model, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/x")
    settings = ServerSettings(model=model, environment=tmp_path / "env", port=8123, context=640)
    line = server_command(settings)
    assert line[:3] == [str(tmp_path / "env" / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server"]
    pairs = dict(itertools.pairwise(line))
    assert (pairs["--model"], pairs["--served-model-name"], pairs["--host"], pairs["--port"]) == (
        str(model), "llava", "127.0.0.1", "8123")
    assert (pairs["--dtype"], pairs["--max-model-len"], pairs["--kv-cache-memory-bytes"]) == (
        "float32", "640", "134217728")
    assert json.loads(pairs["--structured-outputs-config"]) == {"backend": "xgrammar", "disable_any_whitespace": True}
    assert "--max-model-len" not in server_command(ServerSettings(model=model))
    assert pairs["--allowed-media-domains"].endswith(".invalid") and pairs["--limit-mm-per-prompt"] == '{"image": 1}'
    variables = server_environment(tmp_path)
    assert variables["HF_HUB_OFFLINE"] == variables["VLLM_NO_USAGE_STATS"] == variables["DO_NOT_TRACK"] == "1"
    assert variables["VLLM_MEDIA_URL_ALLOW_REDIRECTS"] == "0"
    assert variables["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0" and "PYTHONPATH" not in variables
    assert variables["VLLM_CACHE_ROOT"].startswith(str(tmp_path))


@pytest.mark.parametrize("values", [{"port": 0}, {"context": 1}, {"streams": 0}, {"cache_mib": 0},
                                    {"dtype": "float16"}], ids=str)
def test_settings_out_of_range(model, values):
    error = failure(ServerSettings, model=model, **values)
    assert error.code == Code.SETTING_INVALID and next(iter(values)) in str(error)


def test_a_server_is_waited_for_and_stopped_by_sigint(model, environment, tmp_path):
    settings = ServerSettings(model=model, environment=environment(HEALTHY), port=free_port())
    assert not is_well("127.0.0.1", settings.port)
    with running(settings, tmp_path / "log", tmp_path / "cache", 60) as server:
        assert is_well("127.0.0.1", settings.port) and settings.url.endswith(f":{settings.port}/v1")
    assert not is_well("127.0.0.1", settings.port)
    assert server.stop() == 0 and server.log.read_text() == "interrupted\n"


def test_a_server_that_dies_is_quoted(model, environment, tmp_path):
    settings = ServerSettings(model=model, environment=environment("print('no tower'); raise SystemExit(7)"),
                              port=free_port())
    with Server(settings, tmp_path / "log", tmp_path / "cache") as server:
        error = failure(server.wait, 60)
    assert error.code == Code.LLM_UNAVAILABLE and "status 7" in error.given and "no tower" in error.given
    assert str(server.log) in error.next_step


def test_a_server_that_is_never_ready_is_stopped(model, environment, tmp_path):
    program = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(600)"
    settings = ServerSettings(model=model, environment=environment(program), port=free_port())
    with Server(settings, tmp_path / "log", tmp_path / "cache") as server:
        error = failure(server.wait, 0)
        assert "not ready" in error.given
        server.stop(0)
        assert server.stop() < 0


def test_no_environment_no_port(model, environment, tmp_path):
    error = failure(Server, ServerSettings(model=model, environment=tmp_path / "none"), tmp_path / "log", tmp_path)
    assert error.code == Code.PACKAGE_MISSING and error.next_step == "make vllm"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ServerSettings(model=model, environment=environment(HEALTHY), port=taken.getsockname()[1])
        error = failure(Server, settings, tmp_path / "log", tmp_path)
    assert error.code == Code.SETTING_INVALID and "--port" in str(error)


@pytest.mark.parametrize(("harm", "code", "word"), [
    (lambda folder: write_weights(folder, "vision_tower.vision_model.a"), Code.MODEL_INCOMPLETE, "lm_head.bias"),
    (lambda folder: write_weights(folder, "language_model.lm_head.bias", "vision_tower.embeddings.a"),
     Code.MODEL_UNSUPPORTED, "vision_tower.vision_model."),
    (lambda folder: (folder / "chat_template.jinja").unlink(), Code.MODEL_INCOMPLETE, "chat template"),
    (lambda folder: (folder / "config.json").unlink(), Code.MODEL_INCOMPLETE, "config.json"),
    (lambda folder: (folder / "config.json").write_text("{"), Code.MODEL_CORRUPT, "config.json"),
    (lambda folder: (folder / "config.json").write_text('{"model_type": "llava_phi"}'), Code.MODEL_UNSUPPORTED,
     "llava_phi"),
    (lambda folder: (folder / "config.json").write_text(json.dumps(config(num_attention_heads=32))),
     Code.MODEL_UNSUPPORTED, "8 per head"),
    (lambda folder: (folder / "config.json").write_text(json.dumps(config(intermediate_size=768))),
     Code.MODEL_UNSUPPORTED, "intermediate_size 768"),
    (lambda folder: (folder / "model.safetensors").unlink(), Code.MODEL_INCOMPLETE, "weights"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"version https://git-lfs"), Code.MODEL_CORRUPT,
     "safetensors"),
])
def test_models_that_vllm_would_take_and_then_fail_on(model, harm, code, word):
    check_model(model)
    harm(model)
    error = failure(check_model, model)
    assert error.code == code and word in error.given and error.next_step


def test_a_converted_or_pocket_model_in_parts_is_read_whole(model):
    write_weights(model, "language_model.lm_head.bias")
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    write_weights(model, "vision_tower.vision_model.post_layernorm.bias")
    (model / "config.json").write_text(json.dumps(config(intermediate_size=768, n_inner=768)))
    check_model(model)


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert command.main([str(tmp_path / "none"), "--environment", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "error [package-missing]" in said and "next:    make vllm" in said


def test_the_command_serves_until_it_is_stopped(model, environment, tmp_path):
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "agents.serving", model, "--environment", environment(HEALTHY), "--port", str(port),
         "--log", tmp_path / "log", "--cache", tmp_path / "cache"], stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[3])
    lines = [process.stderr.readline(), process.stderr.readline()]
    assert lines[1] == f"Ready: http://127.0.0.1:{port}/v1, model llava. Ctrl-C stops it.\n"
    process.terminate()
    assert process.wait(60) == 0 and not is_well("127.0.0.1", port)
    process.stderr.close()


def test_serving_knows_nothing_of_torch():
    code = "import sys, agents.serving.__main__; sys.exit(bool({'torch', 'transformers', 'vllm'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[3]).returncode == 0
