"""What SimSeg is trained by: LoDA vectors of images and captions, and a symmetric contrast of a whole batch.

Shapes: B pairs of one process; G pairs of all processes; D embedding.
"""

from __future__ import annotations

import torch
from torch import distributed
from torch.nn import functional as F

LOWEST, HIGHEST = 0.001, 0.5
"""Limits of the learned temperature."""


def contrast(images_BD: torch.Tensor, texts_BD: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    """The mean of image-to-text and text-to-image cross-entropy; the other pairs of the batch are wrong answers.

    Both of length 1, pair by pair. temperature: learned, clamped to [0.001, 0.5], which also stops its gradient
    outside. Where several processes train together the wrong answers come from all of them, with gradient.
    """
    scale = 1 / temperature.clamp(LOWEST, HIGHEST)
    all_images_GD, all_texts_GD, first = images_BD, texts_BD, 0
    if distributed.is_available() and distributed.is_initialized():
        from torch.distributed.nn.functional import all_gather

        all_images_GD, all_texts_GD = (torch.cat(all_gather(part_BD)) for part_BD in (images_BD, texts_BD))
        first = distributed.get_rank() * len(images_BD)
    target_B = torch.arange(first, first + len(images_BD), device=images_BD.device)
    to_texts = F.cross_entropy(scale * images_BD @ all_texts_GD.T, target_B)
    to_images = F.cross_entropy(scale * texts_BD @ all_images_GD.T, target_B)
    return (to_texts + to_images) / 2
