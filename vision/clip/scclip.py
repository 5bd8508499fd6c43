"""SC-CLIP (TIP 2025): outlier patches repaired, patches mixed by the likeness of the middle layers, levels added.

Written for batches and for grids of any shape; the public code takes one square image with at least 31 patches. The
numbers of blocks are given for 12 layers and scaled to the depth (`attention.block_numbers`).

Shapes: B batch; h, w grid; P = h w patches, row by row; N = 1 + P tokens, the class token first; E width; K
neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch.nn import functional as F

from vision.clip.attention import KEYS, VALUES, block_numbers, heads, merge_heads

NEIGHBOURS = 30
CONTAMINATION = 0.05
"""Share of the patches that may be outliers."""
BETA = 0.4
"""Cosines below it do not count when patches are aggregated."""
SHARPNESS = 3.0
CLASS_SHARE = 0.3
"""Of the class token, added to every patch."""
MIDDLE = (9,)
"""The block after which patches are compared for the attention, and for the first aggregation."""
LATE = (4,)
"""The block after which they are compared for the last aggregation."""
LEVELS = (4, 5, 6, 7, 8, 9, 10)
"""The blocks whose outputs are added."""
EPS = 1e-6
TINY = 1e-30


def sc_clip(block: ResidualAttentionBlock, outputs: Sequence[torch.Tensor], grid: tuple[int, int]) -> torch.Tensor:
    """(B, P, E): what the patches are instead of the last block's output; before `ln_post`.

    block: the last block; outputs: of the blocks before it, in order, each (B, N, E).
    """
    layers = len(outputs) + 1
    last_BNE = outputs[-1]
    outlier_BP = outliers(last_BNE[:, 1:])
    middle_BPE = repair(_at(outputs, MIDDLE, layers)[:, 1:], outlier_BP, grid)
    likeness_BPP = cosines(middle_BPE)
    late_BPP = aggregation(cosines(_at(outputs, LATE, layers)[:, 1:]))
    patches_BPE = aggregation(likeness_BPP) @ repair(last_BNE[:, 1:], outlier_BP, grid)
    level_BNE = torch.stack([outputs[number - 1] for number in block_numbers(LEVELS, layers)]).sum(dim=0)
    final_BPE = torch.zeros(())
    for part_BPE, class_B1E in ((patches_BPE, last_BNE[:, :1]), (level_BNE[:, 1:], level_BNE[:, :1])):
        mixed_BPE = _mixed_attention(block, part_BPE, likeness_BPP) + CLASS_SHARE * class_B1E
        final_BPE = final_BPE + late_BPP @ mixed_BPE
    return final_BPE


def _at(outputs: Sequence[torch.Tensor], numbers: tuple[int], layers: int) -> torch.Tensor:
    return outputs[block_numbers(numbers, layers)[0] - 1]


def local_outlier_factor(patches_BPE: torch.Tensor, neighbours: int = NEIGHBOURS) -> torch.Tensor:
    """(B, P): the mean density of a patch's neighbours over its own, as SC-CLIP's code has it (squared distances; the
    reach of a neighbour is at least the patch's own K-th distance). About 1 for a patch like the others; exactly 1 for
    a patch without neighbours."""
    count = min(neighbours, patches_BPE.shape[1] - 1)
    if count < 1:
        return torch.ones(patches_BPE.shape[:2], device=patches_BPE.device)
    patches_BPE = patches_BPE.float()
    distance_BPP = torch.cdist(patches_BPE, patches_BPE, compute_mode="donot_use_mm_for_euclid_dist").square()
    nearest_BPK, index_BPK = distance_BPP.topk(count + 1, largest=False)  # the first is the patch itself
    reach_BPK = torch.maximum(nearest_BPK[..., 1:], nearest_BPK[..., -1:])
    density_BP = count / reach_BPK.mean(dim=-1).clamp_min(TINY)  # alike patches: very dense, never infinite
    around_BPK = density_BP[:, None].expand(-1, density_BP.shape[1], -1).gather(2, index_BPK[..., 1:])
    return (around_BPK / density_BP[..., None]).mean(dim=-1)


def outliers(patches_BPE: torch.Tensor) -> torch.Tensor:
    """(B, P) bool: the patches of each image whose local outlier factor is above the 95th percentile; none where all
    patches are alike."""
    factor_BP = local_outlier_factor(patches_BPE)
    return factor_BP > factor_BP.quantile(1 - CONTAMINATION, dim=1, keepdim=True)


def repair(patches_BPE: torch.Tensor, outlier_BP: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(B, P, E): each outlier becomes the mean of those of its eight neighbours that are none; without such a
    neighbour it stays."""
    map_BEhw = patches_BPE.transpose(1, 2).unflatten(2, grid)  # (B, E, h, w)
    outlier_B1hw = outlier_BP[:, None].unflatten(2, grid)  # (B, 1, h, w)
    good_B1hw = (~outlier_B1hw).to(map_BEhw.dtype)
    total_BEhw, count_B1hw = (F.avg_pool2d(part, 3, stride=1, padding=1, divisor_override=1)
                              for part in (map_BEhw * good_B1hw, good_B1hw))
    mean_BEhw = total_BEhw / count_B1hw.clamp_min(1)
    repaired_BEhw = torch.where(outlier_B1hw & (count_B1hw > 0), mean_BEhw, map_BEhw)
    return repaired_BEhw.flatten(2).transpose(1, 2)


def cosines(patches_BPE: torch.Tensor) -> torch.Tensor:
    """(B, P, P)."""
    unit_BPE = F.normalize(patches_BPE, dim=-1)
    return unit_BPE @ unit_BPE.transpose(1, 2)


def aggregation(likeness_BPP: torch.Tensor) -> torch.Tensor:
    """(B, P, P): cosines below 0.4 are 0; then each row divided by its sum."""
    kept_BPP = likeness_BPP.masked_fill(likeness_BPP < BETA, 0)
    return kept_BPP / (kept_BPP.sum(dim=-1, keepdim=True) + EPS)


def _mixed_attention(block: ResidualAttentionBlock, patches_BPE: torch.Tensor,
                     likeness_BPP: torch.Tensor) -> torch.Tensor:
    """(B, P, E): the mean of attention by likeness and key-key attention, without residual connection and MLP."""
    normed_BPE = block.ln_1(patches_BPE)
    keys_BAPd, values_BAPd = (heads(block, normed_BPE, part) for part in (KEYS, VALUES))
    contrast_BPP = (likeness_BPP - likeness_BPP.mean(dim=(1, 2), keepdim=True)) * SHARPNESS
    itself_PP = torch.eye(contrast_BPP.shape[1], dtype=torch.bool, device=contrast_BPP.device)
    below_BPP = (contrast_BPP < 0) & ~itself_PP  # where all patches are alike, rounding must not leave a row empty
    weights_BPP = contrast_BPP.masked_fill(below_BPP, float("-inf")).float().softmax(dim=-1)
    by_likeness_BAPd = weights_BPP.to(values_BAPd.dtype)[:, None] @ values_BAPd
    by_keys_BAPd = F.scaled_dot_product_attention(keys_BAPd, keys_BAPd, values_BAPd)
    return block.attn.out_proj(merge_heads((by_likeness_BAPd + by_keys_BAPd) / 2))
