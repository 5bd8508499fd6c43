"""Muon against torch's, which works in bfloat16 and a matrix at a time."""

from __future__ import annotations

import pytest
import torch

from vision.train import muon
from vision.train.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (32, 32)])
def test_singular_values_come_close_to_one(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.min() > 0.3 and values.max() < 1.3
    turned = torch.linalg.svd(matrices, full_matrices=False)
    assert (turned.U.mT @ orthogonal(matrices) @ turned.Vh.mT).diagonal(dim1=1, dim2=2).min() > 0.3


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_steps_are_those_of_torch(monkeypatch, kind):
    monkeypatch.setattr(muon, "fast_kind", lambda device="cpu": kind)
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in ((64, 48), (48, 64), (48, 64))]
    ours, theirs = ([torch.nn.Parameter(value.clone()) for value in start] for _ in range(2))
    optimisers = (Muon(ours, lr=0.02, momentum=0.9, weight_decay=0.1),
                  torch.optim.Muon(theirs, lr=0.02, momentum=0.9, weight_decay=0.1))
    for _ in range(4):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        for optimiser in optimisers:
            optimiser.step()
    for one, other, value in zip(ours, theirs, start, strict=True):
        assert (one - other).abs().max() < 0.02 * (one - value).abs().max()


def test_a_matrix_without_a_gradient_stays_as_it_is():
    weight = torch.nn.Parameter(torch.ones(3, 4))
    Muon([weight], lr=0.1).step()
    assert (weight == 1).all()
