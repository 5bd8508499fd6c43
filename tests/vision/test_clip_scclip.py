"""SC-CLIP's parts against plain loops and golden values."""

import numpy as np
import pytest
import torch

from tests.vision.test_clip_dense import golden, golden_tower, needs_golden
from vision.clip.dense import _embed
from vision.clip.scclip import aggregation, cosines, local_outlier_factor, outliers, repair


@needs_golden
@pytest.mark.parametrize(("patch", "image", "grid"), [(16, "sq96", (6, 6)), (8, "sq", (8, 8)), (8, "sq96", (12, 12))])
@torch.inference_mode()
def test_outliers_and_likeness_equal_the_golden_ones(patch, image, grid):
    tower, values = golden_tower(patch), golden("scclip")
    tokens = _embed(tower, torch.from_numpy(golden("inputs")[f"img_{image}"]), grid)
    stored = []
    for block in tower.transformer.resblocks[:-1]:
        tokens = block(tokens)
        stored.append(tokens[:, 1:])
    key = f"p{patch}_{image}_"
    assert np.abs(local_outlier_factor(stored[-1]).numpy() - values[key + "lof"]).max() < 1e-4
    found = outliers(stored[-1])
    assert [row.nonzero()[:, 0].tolist() for row in found] == values[key + "outliers"].tolist()
    if key + "mid_sim" in values:
        likeness = cosines(repair(stored[8], found, grid)).numpy()
        assert np.abs(likeness - values[key + "mid_sim"]).max() < 1e-4


def slow_factor(points, neighbours):
    """Density of a point: neighbours over the mean reach, the reach at least the point's own K-th squared distance."""
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    order = np.argsort(squared, axis=1, kind="stable")[:, 1:neighbours + 1]
    reach = [np.maximum(squared[i, order[i]], squared[i, order[i, -1]]).mean() for i in range(len(points))]
    density = neighbours / np.array(reach)
    return np.array([(density[order[i]] / density[i]).mean() for i in range(len(points))])


@pytest.mark.parametrize(("patches", "neighbours"), [(40, 30), (40, 5), (12, 30), (2, 30)])
def test_factor_equals_a_plain_loop(patches, neighbours):
    points = np.random.default_rng(patches).normal(size=(2, patches, 5)).astype(np.float32)
    found = local_outlier_factor(torch.from_numpy(points), neighbours).numpy()
    for row, expected in zip(found, points, strict=True):
        assert np.allclose(row, slow_factor(expected.astype(np.float64), min(neighbours, patches - 1)), rtol=1e-4)


def test_a_patch_far_from_all_is_found_and_alike_ones_are_not():
    points = torch.randn(1, 64, 6, generator=torch.Generator().manual_seed(1))
    points[0, 20] += 30
    assert bool(outliers(points)[0, 20]) and outliers(points).sum() <= 4
    assert not outliers(torch.ones(2, 64, 6)).any() and not outliers(torch.ones(1, 1, 6)).any()


def test_repair_takes_the_mean_of_good_neighbours():
    patches = torch.arange(12.0).reshape(1, 12, 1)  # a grid of 3 x 4
    bad = torch.zeros(1, 12, dtype=torch.bool)
    bad[0, [0, 5]] = True
    repaired = repair(patches, bad, (3, 4))[0, :, 0]
    assert repaired[0] == (1 + 4) / 2 and repaired[5] == pytest.approx((1 + 2 + 4 + 6 + 8 + 9 + 10) / 7)
    assert torch.equal(repaired[~bad[0]], patches[0, :, 0][~bad[0]])


def test_without_outliers_or_good_neighbours_nothing_changes():
    patches = torch.randn(2, 12, 3)
    for bad in (torch.zeros(2, 12, dtype=torch.bool), torch.ones(2, 12, dtype=torch.bool)):
        assert torch.equal(repair(patches, bad, (3, 4)), patches)


def test_rows_of_the_aggregation_sum_to_one_and_weak_likeness_does_not_count():
    likeness = cosines(torch.randn(2, 20, 3))
    weights = aggregation(likeness)
    assert torch.allclose(weights.sum(dim=-1), torch.ones(2, 20), atol=1e-5)
    assert (weights[likeness < 0.4] == 0).all() and (weights[likeness >= 0.4] > 0).all()
