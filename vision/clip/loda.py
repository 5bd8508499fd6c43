"""LoDA pooling: one vector from tokens by the largest values of each channel (SimSeg, CVPR 2023).

Shapes: B batch; N tokens; D channels.
"""

from __future__ import annotations

import torch

IMAGE_K = 5
MASKED = -10_000.0
EPS = 1e-8


def top_k_mean(tokens_BND: torch.Tensor, k: int, mask_BN: torch.Tensor | None = None) -> torch.Tensor:
    """(B, D): per channel the mean of the k largest values over the tokens.

    mask_BN: true where a token counts; the others never change the result. k shrinks to the smallest number of
    tokens that count in any row of the batch.
    """
    k = min(k, tokens_BND.shape[1])
    if mask_BN is not None:
        k = min(k, int(mask_BN.sum(dim=1).min()))
        tokens_BND = tokens_BND.masked_fill(~mask_BN[..., None], MASKED)
    return tokens_BND.topk(k, dim=1, sorted=False).values.mean(dim=1)


def loda_pool(tokens_BND: torch.Tensor, k: int = IMAGE_K, mask_BN: torch.Tensor | None = None) -> torch.Tensor:
    """(B, D) of length 1: `top_k_mean`, then divided by its length + 1e-8. At least in single precision: in half
    precision 1e-8 and the squares of small values would be 0."""
    pooled_BD = top_k_mean(tokens_BND.to(torch.promote_types(tokens_BND.dtype, torch.float32)), k, mask_BN)
    return pooled_BD / (pooled_BD.norm(dim=-1, keepdim=True) + EPS)
