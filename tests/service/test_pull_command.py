"""`lexiseg models pull`, as a process, from a hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import service
from parsers.files import sha256_bytes
from service.pull import SOURCES
from tests import tiny_llava
from tests.hub import REVISION, TAG, TAGGED, hub_server
from tests.servers import free_port
from vision.models import load_card, verify_model

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def hub():
    with hub_server() as server:
        yield server


def lexiseg(*arguments, **environment) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", "from service.cli import main; main()", *map(str, arguments)],
                          capture_output=True, text=True, timeout=600,
                          env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment)


def test_a_clip_arrives_with_its_revision_and_digests(hub, saved_models, tmp_path):
    hub.put(SOURCES["clip-vit-b-16"].repository, saved_models / "pocket" / "clip", "model.json")
    hub.repositories[SOURCES["clip-vit-b-16"].repository] |= {"pytorch_model.bin": b"pickled", "README.md": b"# it"}
    to = tmp_path / "models" / "clip-vit-b-16"
    done = lexiseg("models", "pull", "clip-vit-b-16", "--to", to, "--endpoint", hub.url)
    assert done.returncode == 0, done.stderr
    card = load_card(to)
    assert (card.name, card.window, card.patch, card.licence) == ("clip-vit-b-16", 32, 8, "mit")
    assert card.origin.revision == REVISION and card.origin.repository == SOURCES["clip-vit-b-16"].repository
    assert "open_clip_model.safetensors" in verify_model(to) and not list(to.glob("*.bin")) + list(to.glob(".*"))
    assert [path.name for path in to.parent.iterdir()] == ["clip-vit-b-16"]
    again = lexiseg("models", "pull", "clip-vit-b-16", "--to", to, "--endpoint", hub.url)
    assert again.returncode == 2 and "holds something already" in again.stderr
    (to / "open_clip_model.safetensors").write_bytes(b"broken")
    assert lexiseg("models", "verify", to).returncode == 1


def test_a_llava_phi2_is_converted_on_the_way(hub, tmp_path):
    weights = tiny_llava.weights_of(tiny_llava.make_parts(), "zhu", "fused")
    source = tiny_llava.save_checkpoint(tmp_path / "source", weights, tiny_llava.config_of("zhu", "fused"),
                                        pickled=True)
    hub.put("somebody/llava", source)
    tower = {name: data for name, data in hub.repositories["somebody/llava"].items() if name.endswith(".bin")}
    hub.repositories[SOURCES["llava-phi2"].tower] = tower
    to = tmp_path / "llava-phi2"
    done = lexiseg("models", "pull", "llava-phi2", "--to", to, "--endpoint", hub.url, "--from", "somebody/llava",
                   "--tower-revision", TAG)
    assert done.returncode == 0, done.stderr
    card = json.loads((to / "model.json").read_text())
    model = {name: sha256_bytes(hub.repositories["somebody/llava"][name]) for name in card["origin"]["files"]}
    assert card["origin"] == {"repository": "somebody/llava", "revision": REVISION, "licence": "mit", "files": model}
    assert {"config.json", *tower} <= model.keys()
    assert card["tower_origin"] == {"repository": SOURCES["llava-phi2"].tower, "revision": TAGGED, "licence": "mit",
                                    "files": {name: sha256_bytes(data) for name, data in tower.items()}}
    assert TAGGED in done.stdout + done.stderr
    assert (to / "conversion.json").exists() and "model.safetensors" in verify_model(to)


@pytest.mark.parametrize("wrong", ["open_clip_model.safetensors", "open_clip_config.json"])
def test_what_arrives_damaged_is_refused_and_nothing_stays(hub, saved_models, tmp_path, wrong):
    hub.put("some/clip", saved_models / "pocket" / "clip", "model.json")
    hub.lies.add(wrong)
    done = lexiseg("models", "pull", "clip-vit-b-16", "--to", tmp_path / "clip", "--from", "some/clip", "--endpoint",
                   hub.url)
    assert done.returncode == 2 and "model-corrupt" in done.stderr + done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_such_repository_no_such_hub_and_pickles_alone(hub, tmp_path):
    def refused(*options) -> str:
        done = lexiseg("models", "pull", "clip-vit-b-16", "--to", tmp_path / "clip", *options)
        assert done.returncode == 2 and list(tmp_path.iterdir()) == [], done.stderr
        return done.stderr

    assert "download-failed" in refused("--endpoint", hub.url)
    assert "docs/air-gap.md" in refused("--endpoint", f"http://127.0.0.1:{free_port()}")
    hub.repositories["some/clip"] = {"pytorch_model.bin": b"x" * 2000, "open_clip_config.json": b"{}"}
    assert "model-unsupported" in refused("--endpoint", hub.url, "--from", "some/clip")
    assert "--tower-revision belongs to llava-phi2" in refused("--endpoint", hub.url, "--tower-revision", TAG)
    assert "clip-vit-b-16" in lexiseg("models", "pull", "gpt", "--to", tmp_path / "x").stderr


def test_only_this_command_releases_the_switches():
    uses = {path.name for folder in ("agents", "vision", "workers", "service", "parsers")
            for path in (Path(service.__file__).parent.parent / folder).rglob("*.py")
            if "connected(" in path.read_text(encoding="utf-8")}
    assert uses == {"offline.py", "pull.py"}
