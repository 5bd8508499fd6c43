"""`lexiseg export` from the words of a person to a folder, exit code and messages."""

import json

import numpy as np
import pytest

from service.cli import app
from tests.workers.exports.examples import TAXONOMY, write_out
from workers.exports import FORMATS, UNMATCHED


@pytest.fixture
def out(tmp_path):
    return write_out(tmp_path / "out", {"a.png": np.array([[1, 3]]), "b.png": np.array([[0]])}, TAXONOMY,
                     failed=("c.png",))


def test_an_export_says_what_it_wrote_and_what_is_not_in_it(lexiseg, out, tmp_path):
    result = lexiseg("export", out, "--format", "coco", "--to", tmp_path / "to", "--unmatched", "drop", "--per-class")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == (f"2 images exported as coco; nothing was found in 1; 2 categories\n"
                             f"export: {tmp_path / 'to'}\n")
    assert result.stderr == (
        f"warning: 1 pictures failed in the job and are not in the export; {out / 'results.jsonl'} says why.\n"
        "warning: 2 classes without maps_to are left out: tree, animal\n")
    record = json.loads((tmp_path / "to/export.json").read_text())
    assert (record["per_class"], record["unmatched"]) == (True, "drop")


def test_the_prefix_reaches_the_tasks(lexiseg, out, tmp_path):
    result = lexiseg("export", out, "--format", "label-studio", "--to", tmp_path / "to", "--image-prefix", "http://x/")
    assert result.exit_code == 0, result.stderr
    tasks = json.loads((tmp_path / "to/tasks/00001.json").read_text())
    assert [task["data"]["image"] for task in tasks] == ["http://x/a.png", "http://x/b.png"]


def test_an_unknown_format_is_a_message(lexiseg, out, tmp_path):
    result = lexiseg("export", out, "--format", "voc", "--to", tmp_path / "to")
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.splitlines()[:2] == [
        "error [setting-invalid]: --format 'voc'.", f"  allowed: One of: {', '.join(FORMATS)}."]


def test_a_folder_that_is_no_job_is_a_message_with_a_command(lexiseg, tmp_path):
    result = lexiseg("export", tmp_path, "--format", "coco", "--to", tmp_path / "to")
    assert result.exit_code == 2 and "error [dataset-invalid]" in result.stderr
    assert "lexiseg segment" in result.stderr.splitlines()[-1]


def test_help_names_formats_and_policies():
    import typer

    texts = {param.opts[0]: getattr(param, "help", None)
             for param in typer.main.get_command(app).commands["export"].params}
    assert ", ".join(FORMATS) in texts["--format"] and ", ".join(UNMATCHED) in texts["--unmatched"]
