"""Models are loaded whole or refused with a reason."""

import json

import numpy as np
import pytest
import torch

from parsers.errors import Code, ModelError, SettingError
from vision.clip.encoder import ClipEncoder, choose_device
from vision.clip.settings import VARIANTS
from vision.models import load_card

RNG = np.random.default_rng(0)


def windows(count, side=32):
    return list(RNG.integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def encoder_of(directory, **options) -> ClipEncoder:
    return ClipEncoder(load_card(directory), device="cpu", **options)


def test_image_vector_equals_the_library(bare_clip):
    import open_clip

    model = open_clip.create_model(f"local-dir:{bare_clip}").eval()
    pictures = windows(2)
    _, pooled = encoder_of(bare_clip).encode_windows(pictures)
    images = (torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.inference_mode():
        expected = model.encode_image(images, normalize=True)
    assert torch.allclose(pooled, expected, atol=1e-5)


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"auto"}))
def test_a_window_does_not_depend_on_its_neighbours(tiny_clip, variant):
    encoder = encoder_of(tiny_clip, variant=variant, batch_size=8)
    pictures = windows(8)
    together, pooled = encoder.encode_windows(pictures)
    assert together.shape == (8, 16, 24) and torch.allclose(together.norm(dim=-1), torch.ones(8, 16), atol=1e-5)
    for index in (0, 3, 7):
        alone, vector = encoder.encode_windows([pictures[index]])
        assert torch.equal(alone[0], together[index]) and torch.equal(vector[0], pooled[index])


def test_variants_differ_and_auto_is_the_cards(tiny_clip):
    picture = windows(1)
    features = {v: encoder_of(tiny_clip, variant=v).encode_windows(picture)[0] for v in ("auto", "loda", "naclip")}
    assert torch.equal(features["auto"], features["loda"])
    assert not torch.allclose(features["loda"], features["naclip"], atol=1e-2)


def test_half_precision_weights_are_computed_in_single(make_clip):
    encoder = encoder_of(make_clip(half=True, card={}))
    patches, pooled = encoder.encode_windows(windows(1))
    assert patches.dtype == pooled.dtype == torch.float32 and torch.isfinite(patches).all()


@pytest.mark.parametrize("vision", [
    {"pool_type": "avg"}, {"pos_embed_type": "sin_cos_2d"}, {"patch_size": 4, "image_size": 32}], ids=str)
def test_other_towers(make_clip, vision):
    patches, _ = encoder_of(make_clip(vision=vision)).encode_windows(windows(2))
    assert patches.shape == (2, (32 // vision.get("patch_size", 8)) ** 2, 24)


def damaged(directory, change) -> ModelError:
    change(directory)
    with pytest.raises(ModelError) as caught:
        encoder_of(directory)
    assert f"lexiseg models verify {directory}" in str(caught.value)
    return caught.value


def test_truncated_weights_without_card(make_clip):
    def cut(directory):
        path = directory / "open_clip_model.safetensors"
        path.write_bytes(path.read_bytes()[:1000])

    assert damaged(make_clip(), cut).code == Code.MODEL_CORRUPT


def test_weights_of_another_configuration(make_clip):
    def change(directory):
        path = directory / "open_clip_config.json"
        config = json.loads(path.read_text())
        config["model_cfg"]["vision_cfg"]["width"] = 48
        path.write_text(json.dumps(config))

    assert damaged(make_clip(), change).code == Code.MODEL_CORRUPT


@pytest.mark.parametrize("change", [
    lambda weights: weights.pop("visual.proj"), lambda weights: weights.update(extra=torch.zeros(3)),
    lambda weights: weights.update({f"layer{n}.weight": torch.zeros(1) for n in range(500)})],
    ids=["missing", "extra", "another architecture"])
def test_missing_and_extra_names_are_said_in_short(make_clip, change):
    from safetensors.torch import load_file, save_file

    def harm(directory):
        path = directory / "open_clip_model.safetensors"
        weights = load_file(path)
        change(weights)
        save_file(weights, path)

    error = damaged(make_clip(), harm)
    assert error.code == Code.MODEL_CORRUPT and len(str(error)) < 1500


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_weights_that_are_no_numbers_are_refused(make_clip, value):
    from safetensors.torch import load_file, save_file

    directory = make_clip()
    path = directory / "open_clip_model.safetensors"
    weights = load_file(path)
    weights["visual.proj"][0, 0] = value
    save_file(weights, path)
    with pytest.raises(ModelError) as caught:
        encoder_of(directory)
    assert caught.value.code == Code.MODEL_CORRUPT and "visual.proj" in caught.value.given


@pytest.mark.parametrize("size", [(5, 7), (32, 48), (64, 20)], ids=str)
def test_windows_of_another_size_come_one_at_a_time(tiny_clip, size):
    patches, pooled = encoder_of(tiny_clip).encode_windows([RNG.integers(0, 256, (*size, 3), dtype=np.uint8)])
    assert patches.shape == (1, max(1, size[0] // 8) * max(1, size[1] // 8), 24) and pooled.shape == (1, 24)


def test_missing_tokenizer(make_clip):
    def change(directory):
        for path in directory.glob("tokenizer*"):
            path.unlink()

    assert damaged(make_clip(), change).code == Code.MODEL_CORRUPT


def test_failed_sha256_stops_the_loading(make_clip):
    def change(directory):
        path = directory / "tokenizer.json"
        path.write_text(path.read_text() + " ")

    assert damaged(make_clip(card={}), change).code == Code.MODEL_CORRUPT


def test_card_and_configuration_disagree(make_clip):
    assert damaged(make_clip(card={"window": 64}), lambda directory: None).code == Code.MODEL_UNSUPPORTED


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    for device in ("cuda", "cuda:1"):
        with pytest.raises(SettingError) as caught:
            choose_device(device)
        assert caught.value.code == Code.DEVICE_MISSING and "--device cpu" in str(caught.value)
    for device in ("tpu", "cuda:x", ""):
        with pytest.raises(SettingError) as caught:
            choose_device(device)
        assert caught.value.code == Code.SETTING_INVALID
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto") == "cuda" and choose_device("cuda:0") == "cuda:0"
