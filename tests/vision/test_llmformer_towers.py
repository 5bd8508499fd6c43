"""Encoders: the same tokens as the libraries' own forward, whatever directory they come from."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from parsers.errors import Code, ModelError
from parsers.files import sha256_file
from tests.vision.conftest import LLMFORMER
from vision.llmformer.config import LlmformerConfig, TowerConfig
from vision.llmformer.model import build_model
from vision.llmformer.priors import embed_priors, prior_phrases
from vision.llmformer.towers import load_tower
from vision.models import OPENAI_MEAN

VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2,
          "image_size": 42, "patch_size": 14, "model_type": "clip_vision_model"}


def tokens_of(tower, images):
    """What comes out of the last block."""
    tokens = tower.embed(images)
    for block in tower.blocks:
        tokens = tower.run(block, tokens)
    return tokens


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    """A directory as LLaVA models have it: the tower's weights below vision_tower.vision_model."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    directory = tmp_path_factory.mktemp("models") / "llava"
    directory.mkdir()
    torch.manual_seed(0)
    model = CLIPVisionModel(CLIPVisionConfig(**VISION)).eval()
    weights = {f"vision_tower.vision_model.{name.removeprefix('vision_model.')}": value.contiguous()
               for name, value in model.state_dict().items() if "position_ids" not in name}
    save_file(weights | {"language_model.x": torch.zeros(2)}, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(
        {"model_type": "llava", "vision_config": VISION, "vision_feature_layer": -1}))
    return directory, model


@pytest.fixture(scope="module")
def projecting(llava, tmp_path_factory):
    """The same with a projector, which reads the second last block, and pixels in a range of its own."""
    from transformers import CLIPVisionConfig, LlavaConfig, PhiConfig
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    directory = tmp_path_factory.mktemp("models") / "projecting"
    directory.mkdir()
    config = LlavaConfig(vision_config=CLIPVisionConfig(**VISION),
                         text_config=PhiConfig(hidden_size=40, num_attention_heads=4))
    projector = LlavaMultiModalProjector(config).eval()
    weights = {f"model.multi_modal_projector.{name}": value for name, value in projector.state_dict().items()}
    save_file(load_file(llava[0] / "model.safetensors") | weights, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps({"model_type": "llava", "vision_config": VISION}))
    (directory / "preprocessor_config.json").write_text(json.dumps(
        {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.25, 0.5]}))
    return directory, projector


@torch.no_grad()
def test_the_tower_of_a_llava_directory(llava):
    directory, model = llava
    tower = load_tower(TowerConfig(kind="llava", path=directory.name), 48, directory.parent).eval()
    images = torch.randn(1, 3, 42, 42)
    tokens = tokens_of(tower, images)
    torch.testing.assert_close(tokens, model(images).last_hidden_state)
    assert (tower.width, tower.patch, tower.prefix) == (32, 14, 1)


@torch.no_grad()
def test_the_text_space_of_a_llava_is_what_its_projector_hands_on(llava, projecting):
    directory, projector = projecting
    tower = load_tower(TowerConfig(kind="llava", path=directory.name), 48, directory.parent).eval()
    images = torch.randn(1, 3, 42, 42)
    tokens = tokens_of(tower, images)
    seen = llava[1](images, output_hidden_states=True).hidden_states[-2]
    torch.testing.assert_close(tokens, seen)
    torch.testing.assert_close(tower.text_space(tokens), projector(seen[:, 1:]))
    assert tower.text_width == 40
    assert (tower.mean, tower.std) == ((0.5, 0.4, 0.3), (0.25, 0.25, 0.5))
    bare = load_tower(TowerConfig(kind="llava", path=llava[0].name), 48, llava[0].parent)
    assert bare.text_width is None and bare.text_space(tokens) is None and bare.mean == OPENAI_MEAN


def test_the_cue_of_a_llava_is_learned(projecting):
    directory, _ = projecting
    values = LLMFORMER | {"tower": {"kind": "llava", "path": directory.name}, "window": 48, "cue": True,
                          "adapter": LLMFORMER["adapter"] | {"injector": False}, "pixel_head": True}
    model = build_model(LlmformerConfig.model_validate(values), directory.parent).train()
    nothing = embed_priors([prior_phrases(None, 6, 4)], lambda t: torch.zeros(0, 24), lambda t: torch.zeros(0, 24),
                           objects=6, relations=4, width=24)
    found = model(torch.randn(1, 3, 48, 48), nothing)
    (found.pixels_Bchw.sum() + found.last.classes_BQc.sum()).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.to_text.parameters())
    assert all(p.grad is None for p in model.tower.parameters())


def test_a_llava_without_projector_gives_no_cue(llava):
    values = LLMFORMER | {"tower": {"kind": "llava", "path": llava[0].name}, "window": 48, "cue": True}
    with pytest.raises(ModelError, match="no text space"):
        build_model(LlmformerConfig.model_validate(values), llava[0].parent)


def test_a_projector_of_several_layers_is_refused(projecting, tmp_path):
    directory, _ = projecting
    (tmp_path / "model.safetensors").symlink_to(directory / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": VISION, "vision_feature_layer": [-2, -1]}))
    with pytest.raises(ModelError, match=r"vision_feature_layer of .* is \[-2, -1\]"):
        load_tower(TowerConfig(kind="llava", path="."), 48, tmp_path)


def test_another_encoder_than_the_one_of_training_is_refused(llava, projecting):
    directory, _ = llava
    pinned = TowerConfig(kind="llava", path=directory.name)
    digest = load_tower(pinned, 48, directory.parent).digest
    load_tower(pinned.model_copy(update={"digest": digest}), 48, directory.parent)
    assert digest != load_tower(TowerConfig(kind="llava", path=projecting[0].name), 48, projecting[0].parent).digest, \
        "the projector counts, too"
    with pytest.raises(ModelError, match="the model was trained with 0000"):
        load_tower(pinned.model_copy(update={"digest": "0" * 64}), 48, directory.parent)


@torch.no_grad()
def test_patches_of_fourteen_pixels_meet_strides_of_sixteen(llava):
    """A 64-pixel window is shown to the encoder at 56 pixels: 4 x 4 patches for the map of stride 16; the table of
    positions, made for 3 x 3, is enlarged and keeps its class token."""
    directory, _ = llava
    config = LlmformerConfig.model_validate(LLMFORMER | {
        "tower": {"kind": "llava", "path": directory.name}, "window": 64,
        "adapter": LLMFORMER["adapter"] | {"stem_stride": 4, "interactions": 4}})
    model = build_model(config, directory.parent).eval()
    features = model.adapter(model.tower, torch.randn(1, 3, 64, 64), frozen=True)
    assert features.grid == (4, 4) and features.tokens_BNE.shape == (1, 17, 32)
    assert [tuple(level.shape[2:]) for level in features.maps[1:]] == [(8, 8), (4, 4), (2, 2)]
    nothing = embed_priors([prior_phrases(None, 6, 4)], lambda t: torch.zeros(0, 24), lambda t: torch.zeros(0, 24),
                           objects=6, relations=4, width=24)
    assert model(torch.randn(1, 3, 64, 64), nothing).last.masks_BQhw.shape == (1, 5, 8, 8)


@torch.no_grad()
def test_positions_of_the_window_of_the_specification():
    """The 640-pixel window: 560 pixels for the encoder, 40 x 40 patches."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    table = CLIPVisionModel(CLIPVisionConfig(**VISION | {"image_size": 336, "hidden_size": 8, "num_hidden_layers": 1,
                                                        "intermediate_size": 8})).embeddings
    tokens = table(torch.zeros(1, 3, 560, 560), interpolate_pos_encoding=True)
    assert tokens.shape == (1, 1 + 40 * 40, 8)
    torch.testing.assert_close(tokens[0, 0], table.class_embedding + table.position_embedding.weight[0])


@torch.no_grad()
def test_the_tower_of_an_open_clip_directory(tiny_clip):
    tower = load_tower(TowerConfig(kind="open_clip", path="tiny"), 32, tiny_clip.parent).eval()
    images = torch.randn(2, 3, 32, 32)
    tokens = tokens_of(tower, images)
    visual = tower.visual
    torch.testing.assert_close(visual.ln_post(tokens)[:, 0] @ visual.proj, visual(images))
    assert tower.embed(torch.randn(1, 3, 48, 64)).shape == (1, 1 + 6 * 8, 32)
    assert tower.digest is not None and tower.mean == (0.5, 0.5, 0.5)


@torch.no_grad()
def test_a_timm_tower_at_its_own_size():
    options = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    config = TowerConfig(kind="timm", name="vit_tiny_patch16_224", options=options, frozen=False)
    tower = load_tower(config, 64, None).eval()
    images = torch.randn(1, 3, 64, 64)
    tokens = tokens_of(tower, images)
    torch.testing.assert_close(tokens, tower.model.forward_features(images))
    assert tower.embed(torch.randn(1, 3, 96, 64)).shape == (1, 1 + 6 * 4, 32)


@torch.no_grad()
def test_a_timm_tower_with_weights_of_its_own(tmp_path):
    """Those of timm's own model of another picture size, its head among them."""
    import timm

    options = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    whole = timm.create_model("vit_tiny_patch16_224", img_size=96, num_classes=5, **options).eval()
    save_file(whole.state_dict(), tmp_path / "vit.safetensors")
    config = TowerConfig(kind="timm", name="vit_tiny_patch16_224", options=options, path="vit.safetensors")
    tower = load_tower(config, 96, tmp_path).eval()
    images = torch.randn(1, 3, 96, 96)
    torch.testing.assert_close(whole.norm(tokens_of(tower, images)), whole.forward_features(images))
    assert (tower.mean, tower.std) == ((0.5,) * 3, (0.5,) * 3)  # this model's, not CLIP's
    assert load_tower(config, 64, tmp_path).embed(images[..., :64, :64]).shape == (1, 1 + 4 * 4, 32)
    assert tower.digest == sha256_file(tmp_path / "vit.safetensors")
    with pytest.raises(ModelError, match="was trained with") as caught:
        load_tower(config.model_copy(update={"digest": "0" * 64}), 96, tmp_path)
    assert caught.value.code == Code.MODEL_UNSUPPORTED


@pytest.mark.parametrize("content", [None, b"no safetensors", "half"])
def test_files_without_a_timm_towers_weights_are_refused(tmp_path, content):
    options = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    if content == "half":
        save_file({"cls_token": torch.zeros(1, 1, 32)}, tmp_path / "vit.safetensors")
    elif content is not None:
        (tmp_path / "vit.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"vit\.safetensors (holds no weights|are not there)") as caught:
        load_tower(TowerConfig(kind="timm", name="vit_tiny_patch16_224", options=options, path="vit.safetensors"), 64,
                   tmp_path)
    assert caught.value.code == (Code.MODEL_CORRUPT if content else Code.MODEL_MISSING)


def test_a_timm_tower_of_random_weights_is_trained():
    with pytest.raises(ValueError, match="frozen must be false"):
        TowerConfig(kind="timm", name="vit_tiny_patch16_224")


@pytest.mark.parametrize(("values", "code", "message"), [
    ({"kind": "open_clip", "path": "none"}, Code.MODEL_MISSING, "none is not there"),
    ({"kind": "timm", "name": "resnet18", "frozen": False}, Code.MODEL_UNSUPPORTED, "resnet18"),
    ({"kind": "timm", "name": "vit_of_nobody", "frozen": False}, Code.MODEL_UNSUPPORTED, "vit_of_nobody"),
    ({"kind": "llava", "path": "tiny"}, Code.MODEL_CORRUPT, "no CLIP tower"),
])
def test_encoders_that_cannot_be_used_are_refused(tiny_clip, values, code, message):
    with pytest.raises(ModelError, match=message) as caught:
        load_tower(TowerConfig(**values), 64, tiny_clip.parent)
    assert caught.value.code == code


def test_a_llava_directory_without_a_tower_is_refused(llava, tmp_path):
    directory, _ = llava
    (tmp_path / "config.json").write_text((directory / "config.json").read_text())
    save_file({"language_model.x": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"no weights named vision_tower\.\*"):
        load_tower(TowerConfig(kind="llava", path="."), 48, tmp_path)
