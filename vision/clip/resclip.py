"""ResCLIP (CVPR 2025): query-key maps of middle blocks in the last one (RCS), and a second pass in which patches of
one provisional class attend to each other (SFR).

Where the public code and a plain reading of the method differ, the code is followed, and it is said so. The numbers
of blocks are given for 12 layers and scaled to the depth (`attention.block_numbers`).

Shapes: B batch; H, W window in pixels; h, w grid; P = h w patches, row by row; N = 1 + P tokens, the class token
first; E width; A attention heads; d = E / A; D embedding; M names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch.nn import functional as F

from vision.clip.attention import (
    KEYS,
    NACLIP_STD,
    QUERIES,
    VALUES,
    block_numbers,
    gaussian_window,
    heads,
    merge_heads,
)

CROSS = (6, 7, 8, 9)
"""The blocks whose query-key maps are averaged."""
PAMR_ITERATIONS = 10
PAMR_DILATIONS = (8, 16)
NAMES_AT_ONCE = 64
"""Maps that are enlarged and smoothed together; bounds the memory."""

Smooth = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResclipNumbers:
    """The method's numbers; the defaults are those published for PASCAL VOC with background."""

    cross_scale: float = 2.0
    cross_share: float = 0.3
    """Of the middle blocks' query-key maps, in [0, 1]."""
    feedback_scale: float = 2.2
    feedback_share: float = 0.7
    """Of the provisional classes, in [0, 1]."""
    threshold: float = 0.5
    """A pixel whose most probable name is below it belongs to the first name, as in the public code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What the second pass needs to know: what is looked for, per image."""

    texts: Sequence[torch.Tensor]
    """Per image the (M, D) text vectors of length 1 of its names."""
    logit_scale: float
    smooth: Smooth | None = None
    """(B, 3, H, W) normalised images and (B, M, H, W) maps to smoother maps; None for PAMR with 10 iterations and
    dilations 8 and 16, as published."""


def cross_attention(block: ResidualAttentionBlock, tokens_BNE: torch.Tensor) -> torch.Tensor:
    """(B, A, N, N): the ordinary query-key attention of a block, from the tokens that enter it."""
    normed_BNE = block.ln_1(tokens_BNE)
    queries_BANd, keys_BANd = (heads(block, normed_BNE, part) for part in (QUERIES, KEYS))
    logits_BANN = queries_BANd * queries_BANd.shape[-1]**-0.5 @ keys_BANd.transpose(2, 3)
    return logits_BANN.float().softmax(dim=-1).to(logits_BANN.dtype)


def mean_cross_attention(blocks: Sequence[ResidualAttentionBlock], entering: Sequence[torch.Tensor]) -> torch.Tensor:
    """(B, A, N, N): the mean of the maps of the middle blocks. blocks: all; entering: what enters each of them."""
    numbers = block_numbers(CROSS, len(blocks))
    total_BANN = torch.zeros(())
    for number in numbers:
        total_BANN = total_BANN + cross_attention(blocks[number - 1], entering[number - 1])
    return total_BANN / len(numbers)


def res_clip(block: ResidualAttentionBlock, tokens_BNE: torch.Tensor, cross_BANN: torch.Tensor, grid: tuple[int, int],
             *, feedback_BNN: torch.Tensor | None = None, numbers: ResclipNumbers | None = None) -> torch.Tensor:
    """(B, N, E): the last block, without residual connection and MLP.

    cross: `mean_cross_attention`; feedback: `feedback_attention` per image, None for the first pass (and for RCS
    alone). The feedback is rounded to half precision twice, as the public code does.
    """
    numbers = numbers or ResclipNumbers()
    normed_BNE = block.ln_1(tokens_BNE)
    keys_BANd, values_BANd = (heads(block, normed_BNE, part) for part in (KEYS, VALUES))
    logits_BANN = keys_BANd @ keys_BANd.transpose(2, 3) * keys_BANd.shape[-1]**-0.5
    if feedback_BNN is not None:
        highest_B11 = feedback_BNN.amax(dim=(1, 2), keepdim=True)
        share_BNN = (feedback_BNN / highest_B11).half() * numbers.feedback_share
        logits_BANN = numbers.feedback_scale * (
            (1 - numbers.feedback_share) * logits_BANN + share_BNN[:, None].to(logits_BANN.dtype))
    logits_BANN = logits_BANN + gaussian_window(grid, NACLIP_STD).to(logits_BANN)
    weights_BANN = logits_BANN.float().softmax(dim=-1).to(values_BANd.dtype)
    weights_BANN = numbers.cross_scale * ((1 - numbers.cross_share) * weights_BANN + numbers.cross_share * cross_BANN)
    return block.attn.out_proj(merge_heads(weights_BANN @ values_BANd))


def provisional_labels(patches_BPD: torch.Tensor, images_B3HW: torch.Tensor, grid: tuple[int, int],
                       feedback: Feedback, patch: tuple[int, int], threshold: float) -> torch.Tensor:
    """(B, h, w): the index of the name that wins most pixels of each patch (the smallest of equals).

    patches: of the first pass. Their cosines with the names are enlarged to the window, smoothed, and made
    probabilities over the names; a pixel whose most probable name is below the threshold counts for the first name.
    """
    labels = []
    for patches_PD, image_3HW, texts_MD in zip(patches_BPD, images_B3HW, feedback.texts, strict=True):
        best_HW, name_HW = _most_probable(F.normalize(patches_PD, dim=-1), image_3HW, grid, feedback, texts_MD)
        name_HW = name_HW.masked_fill(best_HW < threshold, 0)
        pixels_hwK = (name_HW[:grid[0] * patch[0], :grid[1] * patch[1]]
                      .unfold(0, patch[0], patch[0]).unfold(1, patch[1], patch[1]).flatten(2))
        labels.append(pixels_hwK.mode(dim=-1).values)
    return torch.stack(labels)


def _most_probable(patches_PD: torch.Tensor, image_3HW: torch.Tensor, grid: tuple[int, int], feedback: Feedback,
                   texts_MD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(H, W) probability and index of the most probable name; names in chunks, so that any number of them fits."""
    smooth = feedback.smooth or _pamr
    size = image_3HW.shape[1:]
    best_HW = total_HW = torch.full(size, float("-inf"), device=patches_PD.device)
    name_HW = torch.zeros(size, dtype=torch.long, device=patches_PD.device)
    for start in range(0, len(texts_MD), NAMES_AT_ONCE):
        cosine_MP = texts_MD[start:start + NAMES_AT_ONCE] @ patches_PD.T
        maps_1MHW = F.interpolate(cosine_MP[None].unflatten(2, grid).float(), size, mode="bilinear")
        logits_MHW = feedback.logit_scale * smooth(image_3HW[None].float(), maps_1MHW)[0]
        highest_HW, index_HW = logits_MHW.max(dim=0)
        name_HW = torch.where(highest_HW > best_HW, index_HW + start, name_HW)
        best_HW = torch.maximum(best_HW, highest_HW)
        total_HW = torch.logaddexp(total_HW, logits_MHW.logsumexp(dim=0))
    return (best_HW - total_HW).exp(), name_HW


def _pamr(image_B3HW: torch.Tensor, maps_BMHW: torch.Tensor) -> torch.Tensor:
    from vision.refine.pamr import pamr

    return pamr(image_B3HW, maps_BMHW, iterations=PAMR_ITERATIONS, dilations=PAMR_DILATIONS)


def feedback_attention(labels_Bhw: torch.Tensor, std: float = NACLIP_STD) -> torch.Tensor:
    """(B, N, N): how much each patch should attend to the others of its class; rows of patches sum to 1, row and
    column of the class token are 0.

    1 for patches of one label that see each other over patches of that label, less with the distance for the others
    of one label, 0 for another label; then each row is smoothed by a Gaussian of `std` along the *flattened* patches,
    as in the public code.
    """
    return torch.stack([_feedback_of_one(labels_hw, std) for labels_hw in labels_Bhw])


def _feedback_of_one(labels_hw: torch.Tensor, std: float) -> torch.Tensor:
    height, width = labels_hw.shape
    count = height * width
    place_P = torch.arange(count, device=labels_hw.device)
    y_P, x_P = place_P // width, place_P % width
    steps_PP = torch.maximum((y_P[:, None] - y_P).abs(), (x_P[:, None] - x_P).abs())
    farthest = max(height, width) - 1
    flat_P = labels_hw.flatten()
    share_PP = (flat_P[:, None] == flat_P).float()
    if farthest:
        decay_PP = torch.exp(-steps_PP / farthest)
        share_PP = torch.where(_sees(labels_hw, y_P, x_P, steps_PP, farthest), share_PP, share_PP * decay_PP)
    side = min(count, int(6 * std + 1)) // 2 * 2 + 1  # odd
    away = torch.arange(side, device=labels_hw.device) - side // 2
    kernel = torch.exp(-away.square() / (2 * std**2))
    smooth_PP = F.conv1d(share_PP[:, None], (kernel / kernel.sum())[None, None], padding=side // 2)[:, 0]
    return F.pad(smooth_PP / (smooth_PP.sum(dim=1, keepdim=True) + 1e-8), (1, 0, 1, 0))


def _sees(labels_hw: torch.Tensor, y_P: torch.Tensor, x_P: torch.Tensor, steps_PP: torch.Tensor,
          farthest: int) -> torch.Tensor:
    """(P, P) bool: every place that is looked at on the way from one patch to another has the first one's label.

    The line is cut into as many parts as the grid has steps, and as many of them are looked at, from the first patch
    on, as the two patches are steps apart: the public code's rule, which looks at the whole line only for patches at
    opposite borders.
    """
    clear_PP = torch.ones_like(steps_PP, dtype=torch.bool)
    own_P1 = labels_hw.flatten()[:, None]
    for step, way in enumerate(torch.linspace(0, 1, farthest + 1, device=labels_hw.device)):
        row_PP, column_PP = ((place_P[:, None] * (1 - way) + place_P * way).round().long() for place_P in (y_P, x_P))
        clear_PP &= (labels_hw[row_PP, column_PP] == own_P1) | (step > steps_PP)
    return clear_PP
