"""What the last block of a vision transformer does in its place, by variant.

Shapes: B batch; h, w grid; P = h w patches, row by row; N = 1 + P tokens, the class token first; E width of the
transformer; A attention heads; d = E / A.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch.nn import functional as F

NACLIP_STD = 5.0
"""Patches (NACLIP, WACV 2025)."""
QUERIES, KEYS, VALUES = range(3)
"""Order of the parts in `in_proj_weight`."""
RESIDUAL = {"vanilla": True, "maskclip": False, "sclip": True, "clearclip": False, "naclip": False}
"""The variants of this file, and whether the method keeps the residual connection and the MLP of the block."""


class Projected:
    """What enters a block, after `ln_1`, and its queries, keys and values, computed when they are first asked for."""

    def __init__(self, block: ResidualAttentionBlock, tokens_BNE: torch.Tensor) -> None:
        self.normed_BNE = block.ln_1(tokens_BNE)
        self._block = block
        self._parts: dict[int, torch.Tensor] = {}

    def heads(self, part: int) -> torch.Tensor:
        """(B, A, N, d)."""
        if part not in self._parts:
            self._parts[part] = heads(self._block, self.normed_BNE, part)
        return self._parts[part]


def last_block(block: ResidualAttentionBlock, tokens_BNE: torch.Tensor, variant: str, grid: tuple[int, int],
               residual: bool | None = None, std: float = NACLIP_STD,
               projected: Projected | None = None) -> torch.Tensor:
    """(B, N, E): what leaves the last block.

    `vanilla`: its own query-key attention; `maskclip`: the values alone (MaskCLIP, ECCV 2022); `sclip`: query-query
    plus key-key attention, added and not averaged (SCLIP, ECCV 2024); `clearclip`: query-query attention (ClearCLIP,
    ECCV 2024); `naclip`: key-key attention with a Gaussian window of `std` patches around each patch. residual: with
    the residual connection and the MLP of the block; None: as the method has it. projected: of these tokens, where it
    is there already.
    """
    mixed_BNE = block.attn.out_proj(_mix(block, projected or Projected(block, tokens_BNE), variant, grid, std))
    if not (RESIDUAL[variant] if residual is None else residual):
        return mixed_BNE
    tokens_BNE = tokens_BNE + block.ls_1(mixed_BNE)
    return tokens_BNE + block.ls_2(block.mlp(block.ln_2(tokens_BNE)))


def class_token(block: ResidualAttentionBlock, tokens_BNE: torch.Tensor, projected: Projected) -> torch.Tensor:
    """(B, 1, E): the class token after the ordinary block, without the work for the patches."""
    query_BA1d = heads(block, projected.normed_BNE[:, 0], QUERIES)[:, :, None]
    mixed_BA1d = F.scaled_dot_product_attention(query_BA1d, projected.heads(KEYS), projected.heads(VALUES))
    class_B1E = tokens_BNE[:, :1] + block.ls_1(block.attn.out_proj(merge_heads(mixed_BA1d)))
    return class_B1E + block.ls_2(block.mlp(block.ln_2(class_B1E)))


def _mix(block: ResidualAttentionBlock, projected: Projected, variant: str, grid: tuple[int, int],
         std: float) -> torch.Tensor:
    """(B, N, E): the values as the variant mixes them, before the output projection."""
    if variant == "maskclip":
        return merge_heads(projected.heads(VALUES))
    values_BANd = projected.heads(VALUES)
    if variant == "vanilla":
        mixed_BANd = F.scaled_dot_product_attention(projected.heads(QUERIES), projected.heads(KEYS), values_BANd)
    elif variant == "naclip":
        keys_BANd = projected.heads(KEYS)
        window_NN = gaussian_window(grid, std).to(keys_BANd)
        mixed_BANd = F.scaled_dot_product_attention(keys_BANd, keys_BANd, values_BANd, attn_mask=window_NN)
    else:
        parts = {"sclip": (QUERIES, KEYS), "clearclip": (QUERIES,)}[variant]
        mixed_BANd = torch.stack([F.scaled_dot_product_attention(own_BANd, own_BANd, values_BANd)
                                  for own_BANd in map(projected.heads, parts)]).sum(0)
    return merge_heads(mixed_BANd)


def in_projection(block: ResidualAttentionBlock, normed_BNE: torch.Tensor, part: int) -> torch.Tensor:
    """(B, N, E): queries, keys or values of a block, from tokens after `ln_1`."""
    attention = block.attn
    weight_EE = attention.in_proj_weight.chunk(3)[part]
    bias_E = None if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)[part]
    return F.linear(normed_BNE, weight_EE, bias_E)


def heads(block: ResidualAttentionBlock, normed_BNE: torch.Tensor, part: int) -> torch.Tensor:
    """(B, A, N, d): `in_projection` by head; (B, A, d) of one token each, (B, E)."""
    split_BNAd = in_projection(block, normed_BNE, part).unflatten(-1, (block.attn.num_heads, -1))
    return split_BNAd if normed_BNE.ndim == 2 else split_BNAd.transpose(1, 2)


def merge_heads(mixed_BANd: torch.Tensor) -> torch.Tensor:
    return mixed_BANd.transpose(1, 2).flatten(2)  # (B, N, E)


@lru_cache(maxsize=16)
def gaussian_window(grid: tuple[int, int], std: float) -> torch.Tensor:
    """(N, N): exp(-distance^2 / (2 std^2)) between patches, 0 in the row and column of the class token."""
    y, x = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    places_P2 = torch.stack([y.flatten(), x.flatten()], dim=1).float()
    squared_PP = (places_P2[:, None] - places_P2[None]).square().sum(dim=-1)
    return F.pad(torch.exp(-squared_PP / (2 * std**2)), (1, 0, 1, 0))


def block_numbers(numbers: tuple[int, ...], layers: int) -> list[int]:
    """Blocks (from 1) that a method names for 12 layers, for another depth: in proportion, rounded, each once, and
    never the last block. For 12 layers they are as named."""
    return sorted({max(1, min(layers - 1, round(number * layers / 12))) for number in numbers})
