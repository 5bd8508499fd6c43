"""The dense CRF in plain torch: no compiler, CPU or GPU, several pictures at once.

The same model as pydensecrf's: mean field with a Potts penalty and two Gaussian kernels, each on its own permutohedral
lattice and normalised symmetrically.

Shapes: B pictures of one size; H, W that size; K classes; N = B H W pixels; P = H W.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from vision.refine.lattice import Lattice

EPS = 1e-8


@torch.inference_mode()
def mean_field(images_BHW3: torch.Tensor, probabilities_BKHW: torch.Tensor, *, spatial_sxy: float,
               spatial_compat: float, bilateral_sxy: float, bilateral_srgb: float, bilateral_compat: float,
               iterations: int) -> torch.Tensor:
    """(B, K, H, W) float32 probabilities after `iterations` steps of mean field.

    images: uint8 RGB; probabilities: float32; deviations sxy in pixels of these pictures, srgb in steps of 0..255;
    compat: what it costs two pixels that are equal in the kernel to differ. A class whose probability is 0 everywhere
    stays at 0: pictures with fewer classes may be filled up.
    """
    batch, classes, height, width = probabilities_BKHW.shape
    device = probabilities_BKHW.device
    y_HW, x_HW = torch.meshgrid(torch.arange(height, device=device, dtype=torch.float32),
                                torch.arange(width, device=device, dtype=torch.float32), indexing="ij")
    places_2N = torch.stack([x_HW, y_HW]).flatten(1).repeat(1, batch) / bilateral_sxy
    colours_3N = images_BHW3.to(device).permute(3, 0, 1, 2).flatten(1).float() / bilateral_srgb
    picture_N = torch.arange(batch, device=device).repeat_interleave(height * width)
    bilateral = Lattice(torch.cat([places_2N, colours_3N]), picture_N).normalise(bilateral_compat)
    spatial = _spatial_lattice(height, width, spatial_sxy, spatial_compat, device)

    given_NK = probabilities_BKHW.permute(0, 2, 3, 1).reshape(-1, classes)
    absent_BK = probabilities_BKHW.amax(dim=(2, 3)) == 0
    unary_NK = given_NK.clamp_min(EPS).log_()
    unary_NK.view(batch, -1, classes).masked_fill_(absent_BK[:, None], float("-inf"))
    current_NK = _softmax(unary_NK.clone())
    for _ in range(iterations):
        message_NK = bilateral.filter(current_NK)
        near_PK = spatial.filter(current_NK.view(batch, -1, classes).transpose(0, 1).flatten(1))  # (P, B K)
        message_NK += near_PK.view(-1, batch, classes).transpose(0, 1).reshape(-1, classes)  # (N, K)
        message_NK -= spatial_compat + bilateral_compat  # about the most that it can be
        current_NK = _softmax(message_NK.add_(unary_NK))
    return current_NK.view(batch, height, width, classes).permute(0, 3, 1, 2).contiguous()  # (B, K, H, W)


def _softmax(logits_NK: torch.Tensor) -> torch.Tensor:
    """In place, over the classes. Logits are from about -20 to 0, so none is too large, and no maximum is sought."""
    return logits_NK.exp_().div_(logits_NK @ logits_NK.new_ones(logits_NK.shape[1], 1))


@lru_cache(maxsize=8)
def _spatial_lattice(height: int, width: int, sxy: float, strength: float, device: torch.device) -> Lattice:
    """The lattice of the places of a picture, which pictures of one size share."""
    y_HW, x_HW = torch.meshgrid(torch.arange(height, device=device, dtype=torch.float32),
                                torch.arange(width, device=device, dtype=torch.float32), indexing="ij")
    return Lattice(torch.stack([x_HW, y_HW]).flatten(1) / sxy).normalise(strength)
