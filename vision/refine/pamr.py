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

    images: float32, of any scale. The probabilities of a pixel keep their sum. Memory: (Z + 2 K) H W float32.
    """
    weights_BZHW = _weights(images_B3HW, dilations)
    masks_BKHW = F.interpolate(probabilities_BKhw, size=images_B3HW.shape[2:], mode="bilinear", align_corners=True)
    for _ in range(iterations):
        mixed_BKHW = torch.zeros_like(masks_BKHW)
        for place, neighbours_BKHW in enumerate(_neighbours(masks_BKHW, dilations)):
            mixed_BKHW.addcmul_(neighbours_BKHW, weights_BZHW[:, place, None])
        masks_BKHW = mixed_BKHW
    return masks_BKHW


def _weights(images_B3HW: torch.Tensor, dilations: Sequence[int]) -> torch.Tensor:
    """(B, Z, H, W), sums over Z are 1."""
    around_B3ZHW = torch.stack(list(_neighbours(images_B3HW, dilations)), dim=2)
    own_B3HW = images_B3HW[:, :, None].expand(-1, -1, len(dilations), -1, -1)
    spread_B3HW = torch.cat([around_B3ZHW, own_B3HW], dim=2).std(dim=2)  # each dilation counts the pixel itself once
    difference_B3ZHW = (around_B3ZHW - images_B3HW[:, :, None]).abs_()
    likeness_B3ZHW = difference_B3ZHW.div_(EPS + SHARPNESS * spread_B3HW[:, :, None]).neg_()
    return likeness_B3ZHW.mean(dim=1).softmax(dim=1)


def _neighbours(maps_BKHW: torch.Tensor, dilations: Sequence[int]) -> Iterator[torch.Tensor]:
    """The maps shifted to each of the 8 neighbours at each dilation, borders repeated."""
    height, width = maps_BKHW.shape[2:]
    for dilation in dilations:
        padded = F.pad(maps_BKHW, (dilation,) * 4, mode="replicate")
        for y in (0, dilation, 2 * dilation):
            for x in (0, dilation, 2 * dilation):
                if (y, x) != (dilation, dilation):
                    yield padded[:, :, y:y + height, x:x + width]
