"""Multi-scale deformable attention (Zhu et al., ICLR 2021): transformers' own, with narrower values where asked for.

Shapes: B batch; Q queries; N tokens of all levels; L levels; h, w cells of a level; D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
    multi_scale_deformable_attention,
)


class DeformableAttention(Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention):
    """The library's module with values of `ratio` times the width (`deform_ratio` of ViT-Adapter)."""

    def __init__(self, width: int, heads: int, levels: int, points: int, ratio: float = 1.0) -> None:
        super().__init__(width, heads, levels, points)
        self.value_width = int(width * ratio)
        self.value_proj = nn.Linear(width, self.value_width)
        self.output_proj = nn.Linear(self.value_width, width)
        reset_offsets(self)

    def attend(self, queries_BQD: Tensor, tokens_BND: Tensor, reference_QL2: Tensor,
               shapes: Sequence[tuple[int, int]]) -> Tensor:
        """(B, Q, D): each query reads `points` places around its reference point on every level.

        reference: x and y in [0, 1], the same for every picture; shapes: (h, w) of the levels whose tokens follow
        each other in `tokens`.
        """
        batch, count, _ = queries_BQD.shape
        split = (batch, count, self.n_heads, self.n_levels, self.n_points)
        values = self.value_proj(tokens_BND).unflatten(-1, (self.n_heads, -1))  # (B, N, heads, D' / heads)
        offsets = self.sampling_offsets(queries_BQD).view(*split, 2)
        weights = self.attention_weights(queries_BQD).view(batch, count, self.n_heads, -1).softmax(-1).view(split)
        sizes_L2 = torch.tensor([(w, h) for h, w in shapes], dtype=offsets.dtype, device=offsets.device)
        places = reference_QL2[None, :, None, :, None] + offsets / sizes_L2[None, None, None, :, None]
        return self.output_proj(multi_scale_deformable_attention(values, list(shapes), places, weights))


@torch.no_grad()
def reset_offsets(attention: Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention) -> None:
    """The usual start: each head looks in a direction of its own, its points ever further; all weigh the same."""
    heads, levels, points = attention.n_heads, attention.n_levels, attention.n_points
    angles = torch.arange(heads, dtype=torch.float32) * (2 * math.pi / heads)
    directions_h2 = torch.stack([angles.cos(), angles.sin()], -1)
    directions_h2 = directions_h2 / directions_h2.abs().amax(-1, keepdim=True)
    steps_P = torch.arange(1, points + 1, dtype=torch.float32)
    grid = directions_h2[:, None, None] * steps_P[None, None, :, None]  # (heads, 1, points, 2)
    attention.sampling_offsets.weight.zero_()
    attention.sampling_offsets.bias.copy_(grid.expand(heads, levels, points, 2).reshape(-1))
    attention.attention_weights.weight.zero_()
    attention.attention_weights.bias.zero_()
    for linear in (attention.value_proj, attention.output_proj):
        nn.init.xavier_uniform_(linear.weight)
        linear.bias.zero_()


def cell_centres(shapes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """(N, 2): x and y in [0, 1] of the cells of all levels, row by row."""
    parts = []
    for height, width in shapes:
        y, x = torch.meshgrid((torch.arange(height, device=device) + 0.5) / height,
                              (torch.arange(width, device=device) + 0.5) / width, indexing="ij")
        parts.append(torch.stack([x.flatten(), y.flatten()], -1))
    return torch.cat(parts)
