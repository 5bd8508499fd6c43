"""Text vectors and their cache."""

import numpy as np
import pytest
import torch

from vision.clip.encoder import ClipEncoder
from vision.clip.text import IMAGENET_TEMPLATES, TextEncoder
from vision.models import load_card

TEMPLATES = ("a photo of a {}", "many {}")


@pytest.fixture(scope="module")
def encoder(tiny_clip):
    return ClipEncoder(load_card(tiny_clip), device="cpu")


@pytest.fixture
def calls(monkeypatch):
    """The prompts that reach the model."""
    prompts, encode = [], ClipEncoder.encode_prompts
    monkeypatch.setattr(ClipEncoder, "encode_prompts", lambda self, p: (prompts.extend(p), encode(self, p))[1])
    return prompts


def test_a_name_is_the_mean_of_its_prompts(encoder):
    vectors = TextEncoder(encoder, TEMPLATES).embed(["dog", "cat"])
    prompts = encoder.encode_prompts(["a photo of a dog", "many dog", "a photo of a cat", "many cat"])
    expected = torch.nn.functional.normalize(prompts.reshape(2, 2, -1).mean(dim=1), dim=-1)
    assert torch.allclose(vectors, expected, atol=1e-6)


def test_prompt_vectors_equal_the_library(encoder, tiny_clip):
    import open_clip

    model = open_clip.create_model(f"local-dir:{tiny_clip}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{tiny_clip}")(["a red dog", "the bird"])
    with torch.inference_mode():
        expected = model.encode_text(tokens, normalize=True)
    assert torch.allclose(encoder.encode_prompts(["a red dog", "the bird"]), expected, atol=1e-6)


def test_a_vector_does_not_depend_on_its_neighbours(encoder, tmp_path):
    many = [f"dog {i}" for i in range(70)] + ["cat"]
    alone = TextEncoder(encoder, TEMPLATES, tmp_path / "a").embed(["cat"])
    among = TextEncoder(encoder, TEMPLATES, tmp_path / "b").embed(many)
    assert torch.equal(alone[0], among[-1]) and among.shape == (71, 24)


def test_each_name_is_computed_once(encoder, calls):
    text = TextEncoder(encoder, TEMPLATES)
    first = text.embed(["dog", "cat", "dog"])
    assert len(calls) == 4 and torch.equal(first[0], first[2])
    text.embed(["cat", "bird"])
    assert calls[4:] == ["a photo of a bird", "many bird"]


def test_second_process_computes_nothing(encoder, calls):
    before = TextEncoder(encoder, TEMPLATES).embed(["dog", "cat"])
    calls.clear()
    after = TextEncoder(encoder, TEMPLATES).embed(["cat", "dog"])
    assert calls == [] and torch.equal(before[[1, 0]], after)


def test_cache_is_keyed_by_templates_and_model(encoder, calls, make_clip):
    TextEncoder(encoder, TEMPLATES).embed(["dog"])
    calls.clear()
    TextEncoder(encoder, TEMPLATES[:1]).embed(["dog"])
    other = ClipEncoder(load_card(make_clip(seed=1, card={})), device="cpu")
    TextEncoder(other, TEMPLATES).embed(["dog"])
    assert len(calls) == 3


@pytest.mark.parametrize("damage", [
    lambda data: b"", lambda data: data[:100], lambda data: b"rubbish", lambda data: data[:-8] + b"\0" * 8,
    lambda data: data[:-1] + bytes([data[-1] ^ 1])], ids=["empty", "short", "rubbish", "zeros", "bit"])
def test_damaged_cache_is_computed_again(encoder, calls, own_cache, damage):
    before = TextEncoder(encoder, TEMPLATES).embed(["dog", "cat"])
    (path,) = own_cache.rglob("*.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    calls.clear()
    assert torch.equal(TextEncoder(encoder, TEMPLATES).embed(["dog", "cat"]), before) and len(calls) == 4
    calls.clear()
    TextEncoder(encoder, TEMPLATES).embed(["dog", "cat"])
    assert calls == []  # and written again


def test_folder_that_cannot_be_written(encoder, calls, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    text = TextEncoder(encoder, TEMPLATES, blocked / "cache")
    assert text.embed(["dog"]).shape == (1, 24)
    calls.clear()
    text.embed(["dog"])
    assert calls == []


def test_no_names(encoder):
    assert TextEncoder(encoder, TEMPLATES).embed([]).shape == (0, 24)


def test_names_with_braces_and_long_names(encoder):
    vectors = TextEncoder(encoder, TEMPLATES).embed(["{dog} {0}", "dog " * 400])
    assert np.allclose(vectors.norm(dim=-1), 1, atol=1e-5)


def test_imagenet_templates_stand_in(encoder):
    assert TextEncoder(encoder, ()).templates == IMAGENET_TEMPLATES
    assert len(IMAGENET_TEMPLATES) == 80 and all("{}" in template for template in IMAGENET_TEMPLATES)
