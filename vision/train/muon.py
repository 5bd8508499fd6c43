"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): momentum whose matrices are made orthogonal.

As `torch.optim.Muon` with its defaults, but matrices of one shape are worked on together, and in the number format that
the processor is quick at: torch's works in bfloat16, which took six times the rest of a step on a CPU without AVX-512.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

import torch
from torch import Tensor

COEFFICIENTS, STEPS = (3.4445, -4.775, 2.0315), 5
"""Of the Newton-Schulz iteration."""


@cache
def fast_kind(device: str = "cpu") -> torch.dtype:
    """bfloat16, except on a CPU that is not quick at it. Without AVX-512 a product in bfloat16 takes a hundred times as
    long as one in float32."""
    quick = device != "cpu" or torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.bfloat16 if quick else torch.float32


class Muon(torch.optim.Optimizer):
    """For matrices alone. lr: rate, for matrices of equal sides. Weights shrink by `lr * weight_decay` a step."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:  # type: ignore[override]
        """One update of all matrices that have a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes.setdefault(weight.shape, []).append((weight, weight.grad))
            for (rows, columns), weights in shapes.items():
                updates = []
                for weight, gradient in weights:
                    state = self.state[weight]
                    if "momentum_buffer" not in state:
                        state["momentum_buffer"] = torch.zeros_like(weight)
                    mean = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
                    updates.append(gradient.lerp(mean, group["momentum"]))
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for (weight, _), update in zip(weights, orthogonal(torch.stack(updates)), strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(update, alpha=-scale)


def orthogonal(matrices_NAB: Tensor) -> Tensor:
    """Each matrix with its singular values brought near 1 (most of them to 0.7 to 1.2), in the format it came in."""
    a, b, c = COEFFICIENTS
    tall = matrices_NAB.shape[1] > matrices_NAB.shape[2]
    x = (matrices_NAB.mT if tall else matrices_NAB).to(fast_kind(matrices_NAB.device.type))
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices_NAB.dtype)
