"""Pixel-adaptive mask refinement (PAMR; Araslanov and Roth, CVPR 2020) in plain torch.

Each pixel's probabilities become a weighted mean of those of its neighbours, again and again; a neighbour weighs more
the less its colour differs, measured in local standard deviations of each channel.

Shapes: B pictures; H, W; K classes; Z = 8 neighbours x dilations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional as F

ITERATIONS = 10
DILATIONS = (8, 16)
"""Pixels (NACLIP and ITACLIP)."""
SHARPNESS = 0.1
EPS = 1e-8


@torch.inference_mode()
def pamr(images_B3HW: torch.Tensor, probabilities_BKhw: torch.Tensor, *, iterations: int = ITERATIONS,
         dilations: Sequence[int] = DILATIONS) -> torch.Tensor:
    """(B, K, H, W) probabilities; what is given is enlarged bilinearly with corners aligned where it is smaller.

    images: float32, of any scale. The probabilities of a pixel keep their sum.
    """
    masks_BKHW = F.interpolate(probabilities_BKhw, size=images_B3HW.shape[2:], mode="bilinear", align_corners=True)
    return mix(masks_BKHW, neighbour_weights(images_B3HW, dilations), iterations=iterations, dilations=dilations)


@torch.inference_mode()
def neighbour_weights(images_B3HW: torch.Tensor, dilations: Sequence[int] = DILATIONS) -> torch.Tensor:
    """(B, Z, H, W), sums over Z are 1. One neighbour at a time, so little more than the result is ever there."""
    counted = 9 * len(dilations)  # each dilation counts the pixel itself once
    mean_B3HW = images_B3HW * (len(dilations) / counted)
    for around_B3HW in _neighbours(images_B3HW, dilations):
        mean_B3HW += around_B3HW / counted
    squares_B3HW = (images_B3HW - mean_B3HW).square_().mul_(len(dilations))
    for around_B3HW in _neighbours(images_B3HW, dilations):
        squares_B3HW += (around_B3HW - mean_B3HW).square_()
    scale_B3HW = squares_B3HW.div_(counted - 1).sqrt_().mul_(SHARPNESS).add_(EPS)  # of standard deviations
    weights_BZHW = images_B3HW.new_empty(len(images_B3HW), 8 * len(dilations), *images_B3HW.shape[2:])
    for place, around_B3HW in enumerate(_neighbours(images_B3HW, dilations)):
        weights_BZHW[:, place] = (around_B3HW - images_B3HW).abs_().div_(scale_B3HW).mean(dim=1).neg_()
    weights_BZHW -= weights_BZHW.amax(dim=1, keepdim=True)
    weights_BZHW.exp_()
    weights_BZHW /= weights_BZHW.sum(dim=1, keepdim=True)
    return weights_BZHW


@torch.inference_mode()
def mix(masks_BKHW: torch.Tensor, weights_BZHW: torch.Tensor, *, iterations: int = ITERATIONS,
        dilations: Sequence[int] = DILATIONS) -> torch.Tensor:
    """(B, K, H, W): the maps after so many weighted means; each map for itself."""
    for _ in range(iterations):
        mixed_BKHW = torch.zeros_like(masks_BKHW)
        for place, neighbours_BKHW in enumerate(_neighbours(masks_BKHW, dilations)):
            mixed_BKHW.addcmul_(neighbours_BKHW, weights_BZHW[:, place, None])
        masks_BKHW = mixed_BKHW
    return masks_BKHW


def _neighbours(maps_BKHW: torch.Tensor, dilations: Sequence[int]) -> Iterator[torch.Tensor]:
    """The maps shifted to each of the 8 neighbours at each dilation, borders repeated."""
    height, width = maps_BKHW.shape[2:]
    for dilation in dilations:
        padded = F.pad(maps_BKHW, (dilation,) * 4, mode="replicate")
        for y in (0, dilation, 2 * dilation):
            for x in (0, dilation, 2 * dilation):
                if (y, x) != (dilation, dilation):
                    yield padded[:, :, y:y + height, x:x + width]
