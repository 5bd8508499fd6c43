"""Dense features from the vision transformer of open_clip, by the method that reads them.

Shapes: B batch; H, W image in pixels; h, w grid; P = h w patches, row by row; N = 1 + P tokens, the class token first;
E width of the transformer; D embedding; A attention heads; d = E / A.
"""

from __future__ import annotations

import torch
from open_clip.transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F

from parsers.errors import Code, ModelError
from vision.clip.attention import Projected, class_token, last_block
from vision.clip.loda import loda_pool
from vision.clip.resclip import (
    Feedback,
    ResclipNumbers,
    feedback_attention,
    mean_cross_attention,
    provisional_labels,
    res_clip,
)
from vision.clip.scclip import sc_clip

LEVELS = ("resclip", "sc-clip")
"""Variants that read what leaves the blocks before the last one, too."""
ORDINARY = ("vanilla", "loda")
"""Variants that read the tokens of the ordinary forward: plain CLIP, and models that were trained by LoDA."""


def check_tower(visual: nn.Module, variant: str, where: str) -> None:
    """Raises ModelError (`model-unsupported`) for an image tower that `dense_features` cannot read."""
    if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None \
            or visual.pool_type not in ("tok", "avg") or visual.proj is None:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{where} has an image tower of type {type(visual).__name__} "
                         "without a class token or with attention pooling.",
                         "The plain vision transformer of open_clip (pool_type tok or avg).", "lexiseg models list")
    blocks = visual.transformer.resblocks
    if variant not in ORDINARY and not all(isinstance(block.attn, nn.MultiheadAttention) for block in blocks):
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{where} has custom attention blocks.",
                         f"{variant} needs standard attention in its blocks.", "Use --variant vanilla or loda.")
    if variant in LEVELS and len(blocks) < 2:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{where} has {len(blocks)} block.",
                         f"{variant} reads blocks before the last one.", "Use --variant naclip.")


def dense_features(visual: VisionTransformer, images_B3HW: torch.Tensor, variant: str, pooling: str = "model", *,
                   residual: bool | None = None, feedback: Feedback | None = None,
                   numbers: ResclipNumbers | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Patch features (B, P, D), not of length 1, and image vectors (B, D) of length 1.

    images: normalised, of any size; what is left over beyond whole patches is not looked at, and an image smaller than
    a patch is enlarged to one. variant: `vanilla` and `loda`, the patch tokens of the ordinary forward after `ln_post`
    and the projection; `maskclip`, `sclip`, `clearclip`, `naclip`, another last block (`attention.last_block`);
    `resclip` and `sc-clip`, their files. pooling: `model`, the library's image embedding; `loda`, LoDA pooling of the
    ordinary patch tokens. residual: with or without the residual connection and the MLP of the last block; None: as
    the method has it (`resclip`, `sc-clip` and `loda` have no other way). feedback: what ResCLIP's second pass looks
    for; None: no second pass. numbers: ResCLIP's.
    """
    images_B3HW = _at_least_a_patch(images_B3HW, visual.patch_size)
    grid = (images_B3HW.shape[2] // visual.patch_size[0], images_B3HW.shape[3] // visual.patch_size[1])
    blocks = visual.transformer.resblocks
    entering = [_embed(visual, images_B3HW, grid)]
    for block in blocks[:-1]:  # only methods that read several levels keep them: memory that is free again is warm
        entering = [*(entering if variant in LEVELS else ()), block(entering[-1])]
    projected = None
    if variant in ORDINARY or pooling == "loda":
        last_BNE = blocks[-1](entering[-1])
        ordinary_BPD = _project(visual, last_BNE[:, 1:])
    elif visual.pool_type == "tok":
        projected = Projected(blocks[-1], entering[-1])
        last_BNE = class_token(blocks[-1], entering[-1], projected)
    else:
        last_BNE = blocks[-1](entering[-1])
    if variant == "loda" or (variant == "vanilla" and residual is not False):
        patches_BPD = ordinary_BPD
    elif variant == "sc-clip":
        patches_BPD = _project(visual, sc_clip(blocks[-1], entering[1:], grid))
    elif variant == "resclip":
        patches_BPD = _res_clip(visual, entering, images_B3HW, grid, feedback, numbers or ResclipNumbers())
    else:
        patches_BPD = _project(visual, last_block(blocks[-1], entering[-1], variant, grid, residual,
                                                   projected=projected)[:, 1:])
    if pooling == "loda":
        return patches_BPD, loda_pool(ordinary_BPD)
    return patches_BPD, F.normalize(_image_embedding(visual, last_BNE), dim=-1)


def _res_clip(visual: VisionTransformer, entering: list[torch.Tensor], images_B3HW: torch.Tensor,
              grid: tuple[int, int], feedback: Feedback | None, numbers: ResclipNumbers) -> torch.Tensor:
    """(B, P, D): the first pass, and with feedback the second."""
    blocks = visual.transformer.resblocks
    cross_BANN = mean_cross_attention(blocks, entering)
    first_BNE = res_clip(blocks[-1], entering[-1], cross_BANN, grid, numbers=numbers)
    patches_BPD = _project(visual, first_BNE[:, 1:])
    if feedback is None:
        return patches_BPD
    labels_Bhw = provisional_labels(patches_BPD, images_B3HW, grid, feedback, visual.patch_size, numbers.threshold)
    second_BNE = res_clip(blocks[-1], entering[-1], cross_BANN, grid, numbers=numbers,
                          feedback_BNN=feedback_attention(labels_Bhw))
    return _project(visual, second_BNE[:, 1:])


def _at_least_a_patch(images_B3HW: torch.Tensor, patch: tuple[int, int]) -> torch.Tensor:
    size = (max(images_B3HW.shape[2], patch[0]), max(images_B3HW.shape[3], patch[1]))
    if size == tuple(images_B3HW.shape[2:]):
        return images_B3HW
    return F.interpolate(images_B3HW, size, mode="bilinear")


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
