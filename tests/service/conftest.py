"""A small CLIP with random weights and a closed list of words, as pocket models have."""

import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.llm_server import llm_server
from tests.servers import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
WORDS = ("a", "photo", "of", "dog", "cat", "grass", "sky", "tree")


def save_clip(directory: Path) -> Path:
    """An open_clip directory with a model card: 32-pixel windows, 8-pixel patches, a word-level tokenizer."""
    import open_clip
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    from parsers.files import sha256_file

    directory.mkdir(parents=True)
    vocabulary = {word: i for i, word in enumerate(("[PAD]", "[UNK]", "[BOS]", "[EOS]", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 2), ("[EOS]", 3)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", bos_token="[BOS]",
                            eos_token="[EOS]").save_pretrained(directory)
    config = {
        "embed_dim": 16, "custom_text": True,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
        "text_cfg": {"context_length": 10, "vocab_size": len(vocabulary), "width": 32, "heads": 2, "layers": 1,
                     "hf_tokenizer_name": "local", "pool_type": "eos", "eos_id": 3},
    }
    (directory / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {"size": 32}}))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{directory}", load_weights=False)
    save_file(model.state_dict(), directory / "open_clip_model.safetensors")
    files = {path.name: sha256_file(path) for path in sorted(directory.iterdir())}
    (directory / "model.json").write_text(json.dumps({
        "format_version": 1, "name": "tiny", "window": 32, "patch": 8, "variant": "loda", "licence": "MIT",
        "templates": ["a photo of a {}"], "known_words": list(WORDS), "files": files}))
    return directory


def save_dataset(root: Path, classes: dict, pictures: list[tuple[np.ndarray, np.ndarray]]) -> Path:
    """A dataset folder of pictures with their masks."""
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    (root / "classes.json").write_text(json.dumps(classes))
    for i, (image_HW3, labels_HW) in enumerate(pictures):
        Image.fromarray(image_HW3).save(root / "images" / f"{i}.png")
        Image.fromarray(labels_HW).save(root / "labels" / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory) -> Path:
    """A folder of models with one as the pocket CLIP; never changed by a test."""
    root = tmp_path_factory.mktemp("models")
    save_clip(root / "pocket" / "clip")
    return root


@pytest.fixture(scope="session")
def saved_llmformer(saved_models, tmp_path_factory) -> Path:
    """An LLMFormer with random weights around that CLIP; never changed by a test."""
    import torch

    from vision.llmformer.config import LlmformerConfig
    from vision.llmformer.directory import write_model
    from vision.llmformer.model import build_model
    from vision.llmformer.words import load_words

    directory, clip = tmp_path_factory.mktemp("llmformer"), str(saved_models / "pocket" / "clip")
    config = LlmformerConfig.model_validate({
        "tower": {"kind": "open_clip", "path": clip}, "words": {"kind": "open_clip", "path": clip},
        "adapter": {"interactions": 1, "injector": False, "stem": 8, "stem_stride": 2, "points": 2, "heads": 4,
                    "extra_extractors": 0},
        "window": 32, "text_width": 16, "width": 32, "heads": 4, "queries": 4, "layers": 1, "feedforward": 32,
        "pixel_layers": 1, "pixel_feedforward": 32, "mask_stride": 8, "objects": 6, "relations": 4})
    torch.manual_seed(0)
    write_model(directory, build_model(config, directory), load_words(config.words, directory), name="tiny-llmformer",
                trained_by="nobody")
    return directory


@pytest.fixture
def models(saved_models, monkeypatch) -> Path:
    """The same folder as the one in which models are looked up."""
    monkeypatch.setenv("LEXISEG_MODELS", str(saved_models))
    return saved_models


@pytest.fixture
def scene_models(saved_models, tmp_path, monkeypatch) -> Path:
    """The tiny CLIP beside the scene parser's own models, as the folder in which models are looked up."""
    folder = tmp_path / "models" / "pocket"
    folder.mkdir(parents=True)
    (folder / "clip").symlink_to(saved_models / "pocket" / "clip")
    for name in ("en_scene", "scene_head"):
        (folder / name).symlink_to(REPOSITORY / "models" / "pocket" / name)
    monkeypatch.setenv("LEXISEG_MODELS", str(folder.parent))
    return folder.parent


@pytest.fixture
def llm():
    """A server that says the same of each picture."""
    with llm_server() as server:
        def answer(request):
            text = request["messages"][-1]["content"][-1]["text"]
            if text.startswith("Is there"):
                return '{"answer": "no"}' if "tree" in text else '{"answer": "yes"}'
            return "A red dog stands next to a cat, a zebra and a tree."

        server.answer = answer
        yield server


@pytest.fixture
def lexiseg(monkeypatch, tmp_path):
    """`lexiseg("segment", ...)` -> the result of the command, in an environment that is put back afterwards."""
    from typer.testing import CliRunner

    from agents.offline import SWITCHES
    from service.cli import app

    for name in SWITCHES:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LEXISEG_LEDGER", os.environ.get("LEXISEG_LEDGER") or str(tmp_path / "ledger.sqlite"))
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Three small PNG pictures in a folder."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("one", "two", "three"):
        Image.fromarray(random.integers(0, 256, (32, 40, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def data(tmp_path, monkeypatch, models):
    """The data folder of a site, in an environment that is put back."""
    monkeypatch.setenv("LEXISEG_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LEXISEG_API_ROOTS", str(tmp_path / "pictures"))
    return tmp_path / "data"


@pytest.fixture
def open_site(data):
    """Sites with some settings, closed afterwards."""
    from fastapi.testclient import TestClient

    from service.api.app import create_app
    from service.api.settings import ApiSettings

    made = []

    def make(*, open_to_all: bool = True, **settings) -> TestClient:
        client = TestClient(create_app(ApiSettings(**settings), open_to_all=open_to_all),
                            raise_server_exceptions=False)
        client.__enter__()
        made.append(client)
        return client

    yield make
    for client in made:
        client.__exit__(None, None, None)


@pytest.fixture
def site(open_site):
    """One with the usual settings."""
    return open_site()


@pytest.fixture
def serve(data):
    """serve(...) -> the address of a site that listens, in another thread. patience: of `patient_protocol`."""
    import uvicorn

    from service.api.app import create_app
    from service.api.patience import patient_protocol
    from service.api.settings import ApiSettings

    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(*, patience: dict[str, float] | None = None, **settings: object) -> str:
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(
            create_app(ApiSettings(**settings), open_to_all=True), host="127.0.0.1", port=port, log_config=None,
            http=patient_protocol(**({"head_timeout_s": 20.0} | (patience or {})))))
        thread = threading.Thread(target=server.run)
        thread.start()
        running.append((server, thread))
        while not server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{port}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join()
