"""The commands on the pages about published datasets and protocols can be typed as they stand."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from service import options
from service.cli import app
from vision.clip.settings import VARIANTS
from vision.datasets import PROTOCOLS, SPECS
from vision.refine import METHODS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("protocols.md", "datasets.md")
COMMANDS = sorted({command for page in PAGES for command in re.findall(
    r"lexiseg eval [^`\n]+", (DOCS / page).read_text(encoding="utf-8"))})


def test_there_are_commands_to_look_at():
    assert len(COMMANDS) > 12


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_a_dataset_and_options_that_there_are(command):
    dataset, *arguments = shlex.split(command)[2:]
    assert dataset.partition(":")[0] in PROTOCOLS
    known = {option for param in typer.main.get_command(app).commands["eval"].params for option in param.opts}
    given = dict(zip(arguments, [*arguments[1:], None], strict=True))
    assert {name for name in arguments if name.startswith("--")} <= known
    assert given.get("--preset", "lexiseg") in options.PRESETS
    assert given.get("--variant", "auto") in VARIANTS
    assert given.get("--refine", "none") in METHODS


def test_every_protocol_is_on_both_pages():
    for page in PAGES:
        text = (DOCS / page).read_text(encoding="utf-8")
        assert [name for name in PROTOCOLS if name not in text] == []
    assert all(any(spec.startswith(f"{name}:") for spec in SPECS) for name in PROTOCOLS)
