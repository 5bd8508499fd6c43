"""Dense features against the library's own forward and against golden values of the methods' public code."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.transformer import QuickGELU, VisionTransformer

from parsers.errors import Code, ModelError
from vision.clip.dense import check_tower, dense_features, resize_positions
from vision.clip.loda import loda_pool


def shared_folder() -> Path | None:
    given = os.environ.get("LEXISEG_SHARED")
    places = [Path(given)] if given else [parent / "shared" for parent in Path(__file__).resolve().parents[2:5]]
    return next((place for place in places if (place / "data" / "golden").is_dir()), None)


SHARED = shared_folder()
needs_golden = pytest.mark.skipif(SHARED is None, reason="the golden values are not beside the checkout")


def golden(name: str):
    return np.load(SHARED / "data" / "golden" / f"{name}.npz")


def golden_tower(patch: int) -> VisionTransformer:
    tower = VisionTransformer(image_size=64, patch_size=patch, width=128, layers=12, heads=2, mlp_ratio=4.0,
                              output_dim=48, act_layer=QuickGELU)
    weights = golden(f"weights_p{patch}")
    tower.load_state_dict({key.removeprefix("visual."): torch.from_numpy(weights[key]) for key in weights})
    return tower.eval()


@needs_golden
@pytest.mark.parametrize("image", ["sq", "sq96", "rect"])
@pytest.mark.parametrize("patch", [16, 8])
@pytest.mark.parametrize(("variant", "file", "prefix"), [
    ("loda", "vanilla", ""), ("maskclip", "maskclip", "noresidual_"), ("naclip", "naclip", "")])
@torch.inference_mode()
def test_features_equal_the_golden_ones(variant, file, prefix, patch, image):
    images = torch.from_numpy(golden("inputs")[f"img_{image}"])
    patches, _ = dense_features(golden_tower(patch), images, variant)
    expected = torch.from_numpy(golden(file)[f"{prefix}p{patch}_{image}_patch"])
    assert (patches - expected).abs().max() <= 5e-5


@needs_golden
@torch.inference_mode()
def test_image_vector_equals_the_golden_class_token():
    images = torch.from_numpy(golden("inputs")["img_rect"])
    _, pooled = dense_features(golden_tower(8), images, "maskclip")
    expected = torch.nn.functional.normalize(torch.from_numpy(golden("vanilla")["p8_rect_cls"]), dim=-1)
    assert (pooled - expected).abs().max() <= 5e-5


def small_tower(**options) -> VisionTransformer:
    torch.manual_seed(3)
    return VisionTransformer(**{"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "heads": 2,
                                "mlp_ratio": 2.0, "output_dim": 12} | options).eval()


@pytest.mark.parametrize("options", [
    {}, {"pool_type": "avg"}, {"final_ln_after_pool": True}, {"pool_type": "avg", "final_ln_after_pool": True},
    {"pos_embed_type": "sin_cos_2d"}, {"no_ln_pre": True}, {"patch_size": 4}, {"ls_init_value": 0.1},
    {"qk_norm": True}], ids=str)
@torch.inference_mode()
def test_ordinary_forward_equals_the_library(options):
    tower = small_tower(**options)
    images = torch.randn(2, 3, 32, 32)
    patches, pooled = dense_features(tower, images, "loda")
    assert torch.allclose(pooled, torch.nn.functional.normalize(tower(images), dim=-1), atol=1e-5)
    tokens = tower.forward_intermediates(images, indices=1, normalize_intermediates=True, output_fmt="NLC")
    assert torch.allclose(patches, tokens["image_intermediates"][-1] @ tower.proj, atol=1e-5)


@torch.inference_mode()
def test_loda_pooling_uses_the_ordinary_tokens_whatever_the_variant():
    tower, images = small_tower(), torch.randn(2, 3, 32, 32)
    ordinary, pooled = dense_features(tower, images, "loda", pooling="loda")
    assert torch.equal(pooled, loda_pool(ordinary))
    assert torch.equal(dense_features(tower, images, "naclip", pooling="loda")[1], pooled)


@torch.inference_mode()
def test_naclip_with_constant_keys_is_the_gaussian_alone():
    tower, images = small_tower(), torch.randn(1, 3, 32, 32)
    block = tower.transformer.resblocks[-1]
    block.attn.in_proj_weight[32:64] = 0
    block.attn.in_proj_bias[32:64] = 0.7
    tokens = torch.randn(1, 17, 32)
    from vision.clip.dense import _neighbour_attention, _value_path
    places = torch.tensor([[y, x] for y in range(4) for x in range(4)]).float()
    logits = torch.zeros(17, 17)
    logits[1:, 1:] = torch.exp(-(torch.cdist(places, places) ** 2) / 50)
    values = torch.nn.functional.linear(block.ln_1(tokens), block.attn.in_proj_weight[64:],
                                        block.attn.in_proj_bias[64:])
    expected = block.attn.out_proj(logits.softmax(dim=-1) @ values)
    assert torch.allclose(_neighbour_attention(block, tokens, (4, 4)), expected, atol=1e-5)
    assert torch.allclose(_value_path(block, tokens), block.attn.out_proj(values), atol=1e-6)
    assert dense_features(tower, images, "naclip")[0].shape == (1, 16, 12)


def test_positions_stay_when_the_number_of_patches_does():
    positions = torch.randn(17, 6)
    assert resize_positions(positions, (4, 4), (2, 8)) is positions
    assert resize_positions(torch.zeros(17, 6), (4, 4), (5, 9)).abs().max() == 0
    assert torch.equal(resize_positions(positions, (4, 4), (5, 9))[0], positions[0])


@pytest.mark.parametrize(("options", "variant"), [
    ({"attentional_pool": True, "output_dim": 16}, "loda"), ({"pool_type": "none"}, "loda"),
    ({"qk_norm": True}, "naclip")], ids=str)
def test_towers_that_cannot_be_read_are_refused(options, variant):
    with pytest.raises(ModelError) as caught:
        check_tower(small_tower(**options), variant, "models/odd")
    assert caught.value.code == Code.MODEL_UNSUPPORTED and "models/odd" in str(caught.value)
