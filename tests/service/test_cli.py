"""The commands as a person types them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from service.cli import app

REPOSITORY = Path(__file__).resolve().parents[2]
SEGMENTING = ["--model", "--backend", "--variant", "--preset", "--ensemble", "--subclasses", "--refine", "--tile",
              "--overlap", "--precision", "--descriptions", "--device"]
LLM = ["--llm", "--llm-model", "--store", "--llm-timeout", "--llm-parallel"]
FREE = [*SEGMENTING, "--candidate-free", *LLM, "--llm-calls", "--views"]
OPTIONS = {
    "": ["--version"],
    "segment": ["inputs", "--out", "--classes", "--vocabulary", *FREE, "--overlay", "--confidence",
                "--draft", "--batch", "--max-failures", "--json"],
    "benchmark": ["--model", "--backend", "--variant", "--preset", "--ensemble", "--refine", "--tile", "--overlap",
                  "--precision", "--draft", "--device", "--size", "--images", "--classes", "--subclasses", "--rounds",
                  "--price", "--json"],
    "export": ["out", "--format", "--to", "--per-class", "--unmatched", "--image-prefix"],
    "eval": ["dataset", "--candidates", "--always", "--super", "--super-classes", "--vocabulary", "--limit",
             "--skip-bad", *SEGMENTING, "--candidate-free", *LLM, "--views", "--similarity", "--similarity-floor",
             "--keep-similarity", "--batch", "--json"],
    "parse": ["text", "--file", "--jsonl", "--pipeline", "--head", "--json"],
    "describe": ["inputs", "--detailed", "--jsonl", *LLM, "--views"],
    "ask": ["request", "inputs", "--out", "--model", "--device", *LLM, "--json"],
    "subclasses": ["names", "-n", "--gloss", *LLM, "--json"],
    "clusters": ["names", *LLM, "--json"],
    "demo": ["--model", "--out"],
    "doctor": ["--json"],
    "up": ["--workers", "--until-done"],
    "jobs": [],
    "jobs submit": ["inputs", "--out", "--classes", "--vocabulary", *FREE, "--overlay",
                    "--confidence", "--draft", "--batch", "--max-failures", "--priority", "--json"],
    "jobs sample": ["inputs", "--out", "-n", "--classes", "--vocabulary", *FREE, "--overlay",
                    "--confidence", "--draft", "--batch", "--max-failures", "--json"],
    "jobs estimate": ["inputs", "--out", "--classes", "--vocabulary", *FREE, "--overlay",
                      "--confidence", "--draft", "--batch", "--measure", "--json"],
    "jobs list": ["--json"],
    "jobs show": ["job", "--json"],
    "jobs watch": ["job"],
    "jobs pause": ["job"],
    "jobs resume": ["job"],
    "jobs cancel": ["job"],
    "jobs retry": ["job", "--failed"],
    "jobs export": ["job", "--format", "--to", "--per-class", "--unmatched", "--image-prefix"],
    "jobs verify": ["job", "--json"],
    "serve": ["--host", "--port"],
    "worker": ["kind", "--name"],
    "dispatch": [],
    "health": ["part", "--name", "--url"],
    "tokens": [],
    "tokens add": ["name", "--scope"],
    "tokens list": [],
    "tokens remove": ["name"],
    "vocabulary": [],
    "vocabulary build": ["names", "-o", "--subclasses", "--clusters", *LLM],
    "vocabulary check": ["file"],
    "vocabulary show": ["file"],
    "vocabulary match": ["file", "names", "--json"],
    "vocabulary merge": ["files", "--out"],
    "vocabulary diff": ["before", "after", "--json"],
    "vocabulary freeze": ["file", "--out"],
    "models": [],
    "models convert-llava-phi2": ["source", "target", "--vision-tower", "--dtype", "--json"],
    "models list": ["--json"],
    "models pull": ["name", "--to", "--from", "--revision", "--tower-revision", "--endpoint"],
    "models verify": ["models"],
    "models convert-simseg": ["checkpoint", "--tokenizer", "--to", "--half"],
}


def options_of(command, path=""):
    """Command to its options and arguments, for it and the commands below it."""
    found = {path: [param.opts[0] for param in command.params if param.opts[0] != "--help"]}
    for name, below in getattr(command, "commands", {}).items():
        found |= options_of(below, f"{path} {name}".strip())
    return found


def test_the_options_are_these():
    """Adding one is a visible change: to this list, and to docs/cli.md."""
    found = options_of(typer.main.get_command(app))
    assert {path: sorted(options) for path, options in found.items()} == {
        path: sorted(options) for path, options in OPTIONS.items()}


def test_the_guide_names_every_command_and_option():
    text = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    for path, options in OPTIONS.items():
        assert f"lexiseg {path}".strip() in " ".join(text.split())
        assert [option for option in options if option.startswith("--") and option not in text] == []


def test_help_texts_name_what_is_allowed():
    """The texts are written out, so that help needs no import; here they are compared."""
    from service.options import PRESETS
    from vision.clip.settings import ENSEMBLES, VARIANTS
    from vision.refine import METHODS

    commands = typer.main.get_command(app).commands
    for command in ("segment", "eval"):
        texts = {param.opts[0]: param.help for param in commands[command].params if hasattr(param, "help")}
        assert ", ".join(METHODS) in texts["--refine"]
        assert sorted(texts["--variant"].split(": ")[1].rstrip(".").split(", ")) == sorted(VARIANTS)
        assert set(PRESETS) <= set(texts["--preset"].split(": ")[1].rstrip(".").split(", "))
        assert set(ENSEMBLES) - {"auto"} <= set(texts["--ensemble"].split(": ")[1].rstrip(".").split(", "))


def run_python(code, **environment):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | environment)


def test_help_imports_nothing_heavy():
    done = run_python("""
import sys
from service.cli import app
try:
    app(["segment", "--help"])
except SystemExit as stop:
    print(sorted({"torch", "numpy", "PIL", "vision", "workers", "parsers"} & set(sys.modules)), stop.code)
""")
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_switches_are_set_before_anything_else(lexiseg):
    from agents.offline import switches_off

    assert switches_off()
    assert lexiseg("vocabulary", "check", "missing.yaml").exit_code == 2
    assert switches_off() == []


def test_version_and_no_arguments(lexiseg):
    assert lexiseg("--version").output.startswith("lexiseg ")
    assert "segment" in lexiseg().output
    assert lexiseg("--help").exit_code == 0


def test_a_users_error_is_a_message_with_a_next_step(lexiseg, tmp_path):
    result = lexiseg("segment", tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "error [setting-invalid]: Neither --classes nor --vocabulary was given.",
        "  allowed: One of the two, or --candidate-free.",
        '  next:    For example: --classes "dog, cat"']


@pytest.mark.parametrize("arguments", [
    pytest.param(["eval", "voc", "--candidates", "all", "--json"], id="of ours"),
    pytest.param(["eval", "--json"], id="a missing argument"),
    pytest.param(["eval", "voc", "--candidates", "all", "--limit", "0", "--json"], id="a value out of range"),
])
def test_errors_are_json_where_json_is_asked_for(lexiseg, arguments):
    result = lexiseg(*arguments)
    answer = json.loads(result.stdout)
    assert result.exit_code == 2
    assert answer["format_version"] == 1
    assert answer["error"].keys() == {"code", "given", "allowed", "next_step"}
    assert answer["error"]["given"]


def test_an_unexpected_error_says_where_the_details_are(lexiseg, monkeypatch, tmp_path):
    def fail(*args):
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("service.doctor.run_checks", fail)
    result = lexiseg("doctor")
    assert result.exit_code == 1
    assert "error [internal]: Unexpected: ZeroDivisionError: surprise" in result.stderr
    assert "Traceback" not in result.stderr
    details = tmp_path / "cache" / "lexiseg-error.txt"
    assert str(details) in result.stderr
    assert "Traceback" in details.read_text()


def test_ctrl_c_ends_with_130(lexiseg, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("service.doctor.run_checks", stop)
    result = lexiseg("doctor")
    assert result.exit_code == 130
    assert result.stderr.startswith("Stopped.")


def test_a_real_interrupt_ends_with_130_too():
    done = run_python("""
import os, signal, service.doctor
service.doctor.run_checks = lambda *args: os.kill(os.getpid(), signal.SIGINT)
from service.cli import app
app(["doctor"])
""")
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_an_unknown_command_is_refused(lexiseg):
    result = lexiseg("segmnt")
    assert result.exit_code == 2
    assert "segmnt" in result.stderr
