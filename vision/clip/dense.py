"""Dense features from the vision transformer of open_clip.

Shapes: B batch; H, W image in pixels; h, w grid; P = h w patches, row by row; N = 1 + P tokens, the class token first;
E width of the transformer; D embedding; A attention heads; d = E / A.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import nn
from torch.nn import functional as F

from parsers.errors import Code, ModelError
from vision.clip.loda import loda_pool

NACLIP_STD = 5.0
"""Patches (NACLIP, WACV 2025)."""


def check_tower(visual: nn.Module, variant: str, where: str) -> None:
    """Raises ModelError (`model-unsupported`) for an image tower that `dense_features` cannot read."""
    if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None \
            or visual.pool_type not in ("tok", "avg") or visual.proj is None:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{where} has an image tower of type {type(visual).__name__} "
                         "without a class token or with attention pooling.",
                         "The plain vision transformer of open_clip (pool_type tok or avg).", "lexiseg models list")
    if variant != "loda" and not isinstance(visual.transformer.resblocks[-1].attn, nn.MultiheadAttention):
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{where} has custom attention blocks.",
                         f"{variant} needs standard attention in the last block.", "Use --variant loda.")


def dense_features(visual: VisionTransformer, images_B3HW: torch.Tensor, variant: str,
                   pooling: str = "model") -> tuple[torch.Tensor, torch.Tensor]:
    """Patch features (B, P, D), not of length 1, and image vectors (B, D) of length 1.

    images: normalised, H and W multiples of the patch. variant: `loda`, the patch tokens of the ordinary forward after
    `ln_post` and the projection; `maskclip`, the value path of the last block alone (MaskCLIP, ECCV 2022, without
    residual and MLP); `naclip`, key-key attention with a Gaussian window in the last block (NACLIP, reduced). pooling:
    `model`, the library's image embedding; `loda`, LoDA pooling of the ordinary patch tokens.
    """
    grid = (images_B3HW.shape[2] // visual.patch_size[0], images_B3HW.shape[3] // visual.patch_size[1])
    blocks = visual.transformer.resblocks
    tokens_BNE = _embed(visual, images_B3HW, grid)
    for block in blocks[:-1]:
        tokens_BNE = block(tokens_BNE)
    last_BNE = blocks[-1](tokens_BNE)
    if variant == "loda" or pooling == "loda":
        ordinary_BPD = _project(visual, last_BNE[:, 1:])
    if variant == "loda":
        patches_BPD = ordinary_BPD
    elif variant == "maskclip":
        patches_BPD = _project(visual, _value_path(blocks[-1], tokens_BNE)[:, 1:])
    else:
        patches_BPD = _project(visual, _neighbour_attention(blocks[-1], tokens_BNE, grid)[:, 1:])
    if pooling == "loda":
        return patches_BPD, loda_pool(ordinary_BPD)
    return patches_BPD, F.normalize(_image_embedding(visual, last_BNE), dim=-1)


def _embed(visual: VisionTransformer, images_B3HW: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    patches_BPE = visual.conv1(images_B3HW).flatten(2).transpose(1, 2)  # (B, P, E)
    class_B1E = visual.class_embedding.to(patches_BPE.dtype).expand(len(patches_BPE), 1, -1)
    tokens_BNE = torch.cat([class_B1E, patches_BPE], dim=1)  # (B, N, E)
    positions_NE = resize_positions(visual.positional_embedding, visual.grid_size, grid)
    return visual.ln_pre(tokens_BNE + positions_NE.to(tokens_BNE.dtype))


def resize_positions(positions_NE: torch.Tensor, trained: tuple[int, int], grid: tuple[int, int]) -> torch.Tensor:
    """Position embedding for another grid: bicubic (a = -0.75), 0.1 added to the size before the ratio is formed, as
    the public dense CLIP code does; unchanged when the number of patches is the trained one."""
    if grid[0] * grid[1] == trained[0] * trained[1]:
        return positions_NE
    table_1Ehw = positions_NE[1:].reshape(1, *trained, -1).permute(0, 3, 1, 2)  # (1, E, h, w)
    scale = ((grid[0] + 0.1) / trained[0], (grid[1] + 0.1) / trained[1])
    resized_1Ehw = F.interpolate(table_1Ehw.float(), scale_factor=scale, mode="bicubic", align_corners=False,
                                 recompute_scale_factor=False)
    return torch.cat([positions_NE[:1], resized_1Ehw[0].flatten(1).T.to(positions_NE.dtype)])  # (N, E)


def _project(visual: VisionTransformer, tokens_BPE: torch.Tensor) -> torch.Tensor:
    return visual.ln_post(tokens_BPE) @ visual.proj


def _image_embedding(visual: VisionTransformer, tokens_BNE: torch.Tensor) -> torch.Tensor:
    """(B, D): what the library's own forward returns."""
    if not visual.final_ln_after_pool:
        tokens_BNE = visual.ln_post(tokens_BNE)
    pooled_BE = tokens_BNE[:, 0] if visual.pool_type == "tok" else tokens_BNE[:, 1:].mean(dim=1)
    if visual.final_ln_after_pool:
        pooled_BE = visual.ln_post(pooled_BE)
    return pooled_BE @ visual.proj


def _in_projection(block: ResidualAttentionBlock, tokens_BNE: torch.Tensor, part: int) -> torch.Tensor:
    """Queries, keys or values (part 0, 1, 2) of a block, (B, N, E)."""
    attention = block.attn
    weight_EE = attention.in_proj_weight.chunk(3)[part]
    bias_E = None if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)[part]
    return F.linear(block.ln_1(tokens_BNE), weight_EE, bias_E)


def _value_path(block: ResidualAttentionBlock, tokens_BNE: torch.Tensor) -> torch.Tensor:
    return block.attn.out_proj(_in_projection(block, tokens_BNE, 2))


def _neighbour_attention(block: ResidualAttentionBlock, tokens_BNE: torch.Tensor,
                         grid: tuple[int, int]) -> torch.Tensor:
    heads = block.attn.num_heads
    keys_BANd, values_BANd = (
        _in_projection(block, tokens_BNE, part).unflatten(-1, (heads, -1)).transpose(1, 2) for part in (1, 2))
    window_NN = _gaussian_window(grid, NACLIP_STD).to(keys_BANd)
    mixed_BANd = F.scaled_dot_product_attention(keys_BANd, keys_BANd, values_BANd, attn_mask=window_NN)
    return block.attn.out_proj(mixed_BANd.transpose(1, 2).flatten(2))  # (B, N, E)


@lru_cache(maxsize=16)
def _gaussian_window(grid: tuple[int, int], std: float) -> torch.Tensor:
    """(N, N): exp(-distance^2 / (2 std^2)) between patches, 0 in the row and column of the class token."""
    y, x = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    places_P2 = torch.stack([y.flatten(), x.flatten()], dim=1).float()
    squared_PP = (places_P2[:, None] - places_P2[None]).square().sum(dim=-1)
    return F.pad(torch.exp(-squared_PP / (2 * std**2)), (1, 0, 1, 0))
