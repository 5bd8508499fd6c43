"""LoDA pooling against a loop over the channels and against golden values."""

import numpy as np
import pytest
import torch

from tests.vision.test_clip_dense import golden, needs_golden
from vision.clip.loda import loda_pool, top_k_mean


def by_loop(tokens_ND, k):
    means = [np.sort(tokens_ND[:, channel])[::-1][:k].mean() for channel in range(tokens_ND.shape[1])]
    return np.array(means)


@pytest.mark.parametrize("k", [1, 5])
def test_pool_equals_a_loop_over_channels(k):
    tokens = np.random.default_rng(0).normal(size=(2, 9, 6))
    pooled = loda_pool(torch.from_numpy(tokens), k).numpy()
    for row, found in zip(tokens, pooled, strict=True):
        expected = by_loop(row, k)
        assert np.allclose(found, expected / (np.linalg.norm(expected) + 1e-8))


def test_padding_never_changes_the_vector():
    tokens = torch.randn(2, 6, 4)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]]).bool()
    changed = tokens.masked_fill(~mask[..., None], 50.0)
    assert torch.equal(top_k_mean(tokens, 3, mask), top_k_mean(changed, 3, mask))
    assert np.allclose(top_k_mean(tokens, 3, mask)[0], by_loop(tokens[0, :4].numpy(), 3), atol=1e-6)


def test_k_shrinks_to_the_shortest_text():
    tokens = torch.randn(2, 6, 4)
    mask = torch.tensor([[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0]]).bool()
    assert np.allclose(top_k_mean(tokens, 5, mask)[1], by_loop(tokens[1, :5].numpy(), 2), atol=1e-6)


def test_fewer_tokens_than_k():
    tokens = torch.randn(1, 3, 4)
    assert torch.allclose(top_k_mean(tokens, 5), tokens.mean(dim=1))


def test_zero_tokens_give_no_nan():
    assert torch.equal(loda_pool(torch.zeros(1, 7, 3)), torch.zeros(1, 3))


@needs_golden
def test_pool_equals_the_golden_one():
    values = golden("simseg")
    projected = torch.from_numpy(values["loda_image_tokens"] @ values["loda_image_proj_w"].T)
    assert np.abs(loda_pool(projected).numpy() - values["loda_image_embedding"]).max() < 1e-6
    text = torch.from_numpy(values["loda_text_tokens"] @ values["loda_text_proj_w"].T)
    mask = torch.from_numpy(values["loda_text_mask"]).bool()
    for k in (1, 5):
        pooled = [loda_pool(text_BND, k, mask_BN) for text_BND, mask_BN in zip(text, mask, strict=True)]
        found = torch.stack(pooled).numpy()
        assert np.abs(found - values[f"loda_text_embedding_k{k}"]).max() < 1e-6
