"""ResCLIP's second pass, against golden values and small cases."""

import numpy as np
import pytest
import torch

from tests.vision.test_clip_dense import golden, golden_tower, needs_golden, small_tower
from vision.clip.dense import dense_features
from vision.clip.resclip import (
    Feedback,
    ResclipNumbers,
    cross_attention,
    feedback_attention,
    mean_cross_attention,
    provisional_labels,
)
from vision.clip.segmenter import load
from vision.clip.settings import ClipSettings

GRIDS = {"sq": {16: (4, 4), 8: (8, 8)}, "rect": {16: (6, 8), 8: (12, 16)}, "sq96": {16: (6, 6), 8: (12, 12)}}


@needs_golden
@pytest.mark.parametrize("image", ["sq", "rect"])
def test_feedback_attention_equals_the_golden_one(image):
    values = golden("resclip")
    labels = torch.from_numpy(values[f"full_p16_{image}_labels"]).long()
    found = feedback_attention(labels)
    assert (found - torch.from_numpy(values[f"full_p16_{image}_attn_sfr"])).abs().max() <= 1e-6


@needs_golden
@pytest.mark.parametrize(("patch", "image"), [(16, "sq"), (16, "rect"), (16, "sq96"), (8, "sq"), (8, "rect")])
@torch.inference_mode()
def test_both_passes_equal_the_golden_ones(patch, image):
    tower, values = golden_tower(patch), golden("resclip")
    images = torch.from_numpy(golden("inputs")[f"img_{image}"])
    texts = torch.from_numpy(golden("inputs")[f"text_p{patch}"])
    feedback = Feedback(texts=[texts, texts], logit_scale=40.0)
    for prefix, numbers in (("full_", ResclipNumbers()), ("full_thd10_", ResclipNumbers(
            cross_share=0.6, feedback_scale=2.1, feedback_share=0.6, threshold=0.1))):
        key = f"{prefix}p{patch}_{image}_"
        if key + "patch" not in values:
            continue
        first, _ = dense_features(tower, images, "resclip", numbers=numbers)
        labels = provisional_labels(first, images, GRIDS[image][patch], feedback, (patch, patch), numbers.threshold)
        assert (labels.numpy() == values[key + "labels"]).all()
        found, _ = dense_features(tower, images, "resclip", feedback=feedback, numbers=numbers)
        assert (found - torch.from_numpy(values[key + "patch"])).abs().max() <= 1e-4


def keep(images, maps):
    return maps


@torch.inference_mode()
def test_middle_maps_are_ordinary_attention():
    tower, tokens = small_tower(), torch.randn(2, 17, 32)
    block = tower.transformer.resblocks[0]
    normed = block.ln_1(tokens)
    _, expected = block.attn(normed, normed, normed, need_weights=True, average_attn_weights=False)
    assert torch.allclose(cross_attention(block, tokens), expected, atol=1e-6)
    assert torch.allclose(mean_cross_attention(tower.transformer.resblocks, [tokens]), expected, atol=1e-6)


@torch.inference_mode()
def test_labels_do_not_depend_on_how_many_names_go_at_once(monkeypatch):
    generator = torch.Generator().manual_seed(4)
    patches = torch.randn(1, 16, 12, generator=generator)
    texts = torch.nn.functional.normalize(torch.randn(150, 12, generator=generator), dim=-1)
    images, feedback = torch.randn(1, 3, 32, 32), Feedback(texts=[texts], logit_scale=40.0, smooth=keep)
    found = []
    for at_once in (7, 64, 200):
        monkeypatch.setattr("vision.clip.resclip.NAMES_AT_ONCE", at_once)
        found.append(provisional_labels(patches, images, (4, 4), feedback, (8, 8), 0.01))
    assert torch.equal(found[0], found[1]) and torch.equal(found[1], found[2])
    assert found[0].max() > 64


@torch.inference_mode()
def test_unsure_patches_belong_to_the_first_name():
    texts = torch.eye(12)[:5]
    patches = torch.eye(12)[[3, 3, 4, 4]][None]
    feedback = Feedback(texts=[texts], logit_scale=40.0, smooth=keep)
    images = torch.zeros(1, 3, 16, 16)
    assert provisional_labels(patches, images, (2, 2), feedback, (8, 8), 0.5).tolist() == [[[3, 3], [4, 4]]]
    assert provisional_labels(patches, images, (2, 2), feedback, (8, 8), 1.1).tolist() == [[[0, 0], [0, 0]]]


def test_patches_of_another_label_get_least_attention():
    labels = torch.tensor([[[0, 0, 0, 1, 1, 1]] * 6])
    attention = feedback_attention(labels, std=0.2)[0, 1:, 1:].unflatten(0, (6, 6)).unflatten(2, (6, 6))
    assert attention[2, 0, 2, 0] > attention[2, 0, 2, 5] and attention[2, 0, 5, 1] > attention[2, 0, 5, 4]
    assert torch.allclose(feedback_attention(labels)[0, 1:].sum(dim=1), torch.ones(36), atol=1e-5)
    assert feedback_attention(labels)[0, 0].abs().max() == 0


@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (3, 2)], ids=str)
def test_grids_of_any_shape(grid):
    attention = feedback_attention(torch.zeros(1, *grid, dtype=torch.long))
    count = grid[0] * grid[1] + 1
    assert attention.shape == (1, count, count) and torch.isfinite(attention).all()


@torch.inference_mode()
def test_images_of_a_batch_have_their_own_names():
    tower, images = small_tower(layers=3), torch.randn(2, 3, 32, 32)
    texts = [torch.nn.functional.normalize(torch.randn(count, 12), dim=-1) for count in (3, 70)]
    numbers = ResclipNumbers(threshold=0.0)
    both, _ = dense_features(tower, images, "resclip", numbers=numbers,
                             feedback=Feedback(texts=texts, logit_scale=40.0, smooth=keep))
    for row in range(2):
        alone, _ = dense_features(tower, images[row:row + 1], "resclip", numbers=numbers,
                                  feedback=Feedback(texts=texts[row:row + 1], logit_scale=40.0, smooth=keep))
        assert np.allclose(both[row], alone[0], atol=1e-5)


def test_the_numbers_are_those_of_the_settings(tiny_clip):
    given = {"cross_scale": 1.0, "cross_share": 0.6, "feedback_scale": 2.1, "feedback_share": 0.5}
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    usual, other = (load(tiny_clip, device="cpu", settings=ClipSettings(variant="resclip", **numbers)).encoder
                    for numbers in ({}, given | {"feedback_threshold": 0.1}))
    assert usual.numbers == ResclipNumbers() and other.numbers == ResclipNumbers(threshold=0.1, **given)
    patches = [encoder.encode_windows([picture])[0] for encoder in (usual, other)]
    assert not torch.allclose(*patches, atol=1e-3)
