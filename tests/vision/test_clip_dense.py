"""Dense features against the library's own forward and against golden values of the methods' public code."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.transformer import QuickGELU, VisionTransformer

from parsers.errors import Code, ModelError
from vision.clip.attention import (
    KEYS,
    QUERIES,
    RESIDUAL,
    VALUES,
    Projected,
    block_numbers,
    class_token,
    in_projection,
    last_block,
)
from vision.clip.dense import check_tower, dense_features, resize_positions
from vision.clip.loda import loda_pool
from vision.clip.settings import VARIANTS

METHODS = sorted(set(VARIANTS) - {"auto"})
PUBLISHED = 1e-4


def shared_folder() -> Path | None:
    given = os.environ.get("LEXISEG_SHARED")
    places = [Path(given)] if given else [parent / "shared" for parent in Path(__file__).resolve().parents[2:5]]
    return next((place for place in places if (place / "data" / "golden").is_dir()), None)


SHARED = shared_folder()
needs_golden = pytest.mark.skipif(SHARED is None, reason="../shared is absent")


def golden(name: str):
    return np.load(SHARED / "data" / "golden" / f"{name}.npz")


def golden_tower(patch: int) -> VisionTransformer:
    tower = VisionTransformer(image_size=64, patch_size=patch, width=128, layers=12, heads=2, mlp_ratio=4.0,
                              output_dim=48, act_layer=QuickGELU)
    weights = golden(f"weights_p{patch}")
    tower.load_state_dict({key.removeprefix("visual."): torch.from_numpy(weights[key]) for key in weights})
    return tower.eval()


@needs_golden
@pytest.mark.parametrize("patch", [16, 8])
@torch.inference_mode()
def test_every_variant_equals_the_golden_features(patch):
    """All golden arrays of one switch: each with and without residual connection, on each grid that is stored."""
    tower, inputs = golden_tower(patch), golden("inputs")
    seen = set()
    for variant, file, prefix, options in (
            ("vanilla", "vanilla", "", {}), ("vanilla", "vanilla", "noresidual_", {"residual": False}),
            ("loda", "vanilla", "", {}), ("sclip", "sclip", "", {}),
            ("sclip", "sclip", "noresidual_", {"residual": False}), ("maskclip", "maskclip", "noresidual_", {}),
            ("maskclip", "maskclip", "residual_", {"residual": True}), ("clearclip", "clearclip", "", {}),
            ("clearclip", "clearclip", "residual_", {"residual": True}), ("naclip", "naclip", "", {}),
            ("naclip", "naclip", "vanilla_arch_", {"residual": True}), ("sc-clip", "scclip", "", {}),
            ("resclip", "resclip", "rcs_", {})):
        values = golden(file)
        for image in ("sq", "sq96", "rect"):
            key = f"{prefix}p{patch}_{image}_patch"
            if key in values:
                found, _ = dense_features(tower, torch.from_numpy(inputs[f"img_{image}"]), variant, **options)
                assert (found - torch.from_numpy(values[key])).abs().max() <= PUBLISHED, (variant, key)
                seen.add((variant, image))
    assert {variant for variant, _ in seen} == set(METHODS) and len(seen) >= 3 * len(METHODS) - 2


@needs_golden
@torch.inference_mode()
def test_another_width_of_the_gaussian_equals_the_golden_one():
    tower, images = golden_tower(16), torch.from_numpy(golden("inputs")["img_rect"])
    entering = torch.from_numpy(golden("trunk")["p16_rect_last_in"])
    last = last_block(tower.transformer.resblocks[-1], entering, "naclip", (6, 8), std=1.0)
    found = (tower.ln_post(last) @ tower.proj)[:, 1:]
    assert (found - torch.from_numpy(golden("naclip")["std1_p16_rect_patch"])[:1]).abs().max() <= PUBLISHED
    assert dense_features(tower, images, "naclip")[0].shape == (2, 48, 48)


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
    patches, pooled = dense_features(tower, images, "vanilla")
    assert torch.allclose(pooled, torch.nn.functional.normalize(tower(images), dim=-1), atol=1e-5)
    tokens = tower.forward_intermediates(images, indices=1, normalize_intermediates=True, output_fmt="NLC")
    assert torch.allclose(patches, tokens["image_intermediates"][-1] @ tower.proj, atol=1e-5)
    assert torch.equal(dense_features(tower, images, "loda")[0], patches)


@torch.inference_mode()
def test_own_attention_with_residual_is_the_ordinary_forward():
    tower, tokens = small_tower(ls_init_value=0.3), torch.randn(2, 17, 32)
    block = tower.transformer.resblocks[-1]
    assert torch.allclose(last_block(block, tokens, "vanilla", (4, 4)), block(tokens), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"pool_type": "avg"}, {"final_ln_after_pool": True}, {"ls_init_value": 0.1}],
                         ids=str)
@torch.inference_mode()
def test_the_image_vector_is_the_librarys_whatever_the_variant(options):
    tower, images = small_tower(**options), torch.randn(2, 3, 32, 32)
    expected = torch.nn.functional.normalize(tower(images), dim=-1)
    for variant in METHODS:
        assert torch.allclose(dense_features(tower, images, variant)[1], expected, atol=1e-5)


@torch.inference_mode()
def test_loda_pooling_uses_the_ordinary_tokens_whatever_the_variant():
    tower, images = small_tower(), torch.randn(2, 3, 32, 32)
    ordinary, pooled = dense_features(tower, images, "loda", pooling="loda")
    assert torch.equal(pooled, loda_pool(ordinary))
    for variant in METHODS:
        assert torch.equal(dense_features(tower, images, variant, pooling="loda")[1], pooled)


@torch.inference_mode()
def test_the_class_token_is_that_of_the_whole_block_and_shares_keys_and_values_with_the_variant(monkeypatch):
    block, tokens = small_tower().transformer.resblocks[-1], torch.randn(3, 17, 32)
    computed = []
    monkeypatch.setattr("vision.clip.attention.in_projection", lambda part_of, normed, part: computed.append(
        (part, normed.ndim)) or in_projection(part_of, normed, part))
    projected = Projected(block, tokens)
    assert torch.allclose(class_token(block, tokens, projected), block(tokens)[:, :1], atol=1e-5)
    shared = last_block(block, tokens, "naclip", (4, 4), projected=projected)
    assert sorted(computed) == [(QUERIES, 2), (KEYS, 3), (VALUES, 3)]
    assert torch.equal(shared, last_block(block, tokens, "naclip", (4, 4)))


def weights_of(variant, tokens, block, grid=(4, 4)):
    """(B, A, N, N) attention of the last block: with the identity for values and output projection."""
    width = tokens.shape[-1]
    heads = block.attn.num_heads
    columns = []
    for token in range(tokens.shape[1]):  # a value of 1 at one token, 0 at the others
        def values(part_of, normed, part, token=token):
            if part != VALUES:
                return in_projection(part_of, normed, part)
            marked = torch.zeros(*normed.shape[:2], width)
            marked[:, token] = 1
            return marked
        columns.append(values)
    from vision.clip import attention
    original, found = attention.in_projection, []
    try:
        for values in columns:
            attention.in_projection = values
            found.append(attention._mix(block, attention.Projected(block, tokens), variant, grid, attention.NACLIP_STD))
    finally:
        attention.in_projection = original
    stacked = torch.stack(found, dim=-1)  # (B, N, E, N)
    return stacked.unflatten(2, (heads, -1))[:, :, :, 0].transpose(1, 2)


@pytest.mark.parametrize(("variant", "total"), [("vanilla", 1.0), ("sclip", 2.0), ("clearclip", 1.0), ("naclip", 1.0)])
@torch.inference_mode()
def test_rows_of_attention_sum_to_one_and_those_of_sclip_to_two(variant, total):
    tower = small_tower()
    weights = weights_of(variant, torch.randn(2, 17, 32), tower.transformer.resblocks[-1])
    assert torch.allclose(weights.sum(dim=-1), torch.tensor(total), atol=1e-5)


@torch.inference_mode()
def test_maskclip_is_the_values_through_the_output_projection_alone():
    block, tokens = small_tower().transformer.resblocks[-1], torch.randn(1, 17, 32)
    values = torch.nn.functional.linear(block.ln_1(tokens), block.attn.in_proj_weight[64:],
                                        block.attn.in_proj_bias[64:])
    assert torch.allclose(last_block(block, tokens, "maskclip", (4, 4)), block.attn.out_proj(values), atol=1e-6)


@torch.inference_mode()
def test_naclip_with_constant_keys_is_the_gaussian_alone():
    block = small_tower().transformer.resblocks[-1]
    block.attn.in_proj_weight[32:64] = 0
    block.attn.in_proj_bias[32:64] = 0.7
    tokens = torch.randn(1, 17, 32)
    places = torch.tensor([[y, x] for y in range(4) for x in range(4)]).float()
    logits = torch.zeros(17, 17)
    logits[1:, 1:] = torch.exp(-(torch.cdist(places, places) ** 2) / 50)
    expected = block.attn.out_proj(logits.softmax(dim=-1) @ in_projection(block, block.ln_1(tokens), VALUES))
    assert torch.allclose(last_block(block, tokens, "naclip", (4, 4)), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(3, 5), (8, 8), (9, 31), (7, 40), (64, 24)], ids=str)
@pytest.mark.parametrize("variant", METHODS)
@torch.inference_mode()
def test_images_of_any_size(variant, size):
    """Smaller than a patch, one patch, parts of patches left over, more patches than trained."""
    tower = small_tower(layers=4)
    patches, pooled = dense_features(tower, torch.randn(2, 3, *size), variant)
    assert patches.shape == (2, max(1, size[0] // 8) * max(1, size[1] // 8), 12)
    assert torch.isfinite(patches).all() and torch.allclose(pooled.norm(dim=-1), torch.ones(2))


@pytest.mark.parametrize("variant", METHODS)
@torch.inference_mode()
def test_a_result_does_not_depend_on_the_batch(variant):
    tower, images = small_tower(layers=4, patch_size=4), torch.randn(3, 3, 32, 32)
    together, _ = dense_features(tower, images, variant)
    alone = torch.cat([dense_features(tower, image[None], variant)[0] for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("variant", METHODS)
@torch.inference_mode()
def test_a_picture_of_one_colour_gives_numbers(variant):
    tower = small_tower(layers=3)
    assert torch.isfinite(dense_features(tower, torch.zeros(1, 3, 64, 64), variant)[0]).all()


@pytest.mark.parametrize("variant", METHODS)
@torch.inference_mode()
def test_half_precision_is_close_to_single(variant):
    """On a processor in bfloat16; softmax and pooling are in single precision either way."""
    tower, images = small_tower(layers=4), torch.randn(1, 3, 32, 32)
    expected, _ = dense_features(tower, images, variant)
    found, _ = dense_features(tower.bfloat16(), images.bfloat16(), variant)
    assert torch.nn.functional.cosine_similarity(found.float(), expected, dim=-1).mean() > 0.9


def test_numbers_of_blocks_follow_the_depth():
    assert block_numbers((4, 5, 6, 7, 8, 9, 10), 12) == [4, 5, 6, 7, 8, 9, 10]
    assert block_numbers((4, 9), 24) == [8, 18]
    assert block_numbers((6, 7, 8, 9), 2) == [1]
    assert block_numbers((12,), 12) == [11]


def test_every_method_says_whether_it_keeps_the_residual():
    assert set(RESIDUAL) | {"loda", "resclip", "sc-clip"} == set(METHODS) and QUERIES == 0


def test_positions_stay_when_the_number_of_patches_does():
    positions = torch.randn(17, 6)
    assert resize_positions(positions, (4, 4), (2, 8)) is positions
    assert resize_positions(torch.zeros(17, 6), (4, 4), (5, 9)).abs().max() == 0
    assert torch.equal(resize_positions(positions, (4, 4), (5, 9))[0], positions[0])


@needs_golden
def test_resized_positions_equal_the_golden_ones():
    tower = golden_tower(16)
    found = resize_positions(tower.positional_embedding, (4, 4), (6, 8)).detach()
    assert (found - torch.from_numpy(golden("trunk")["p16_rect_pos"])).abs().max() <= 1e-5


@pytest.mark.parametrize(("options", "variant"), [
    ({"attentional_pool": True, "output_dim": 16}, "loda"), ({"pool_type": "none"}, "loda"),
    ({"qk_norm": True}, "naclip"), ({"qk_norm": True}, "resclip"), ({"layers": 1}, "sc-clip"),
    ({"layers": 1}, "resclip")], ids=str)
def test_towers_that_cannot_be_read_are_refused(options, variant):
    with pytest.raises(ModelError) as caught:
        check_tower(small_tower(**options), variant, "models/odd")
    assert caught.value.code == Code.MODEL_UNSUPPORTED and "models/odd" in str(caught.value)
