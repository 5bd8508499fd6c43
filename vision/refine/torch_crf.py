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

    given_KN = probabilities_BKHW.transpose(0, 1).flatten(1)  # (K, N)
    absent_KN = (probabilities_BKHW.amax(dim=(2, 3)).T == 0).repeat_interleave(height * width, dim=1)  # (K, N)
    unary_KN = given_KN.clamp_min(EPS).log().masked_fill_(absent_KN, float("-inf"))
    current_KN = unary_KN.softmax(dim=0)
    for _ in range(iterations):
        current_NK = current_KN.T.contiguous()
        message_NK = bilateral.filter(current_NK)
        near_PK = spatial.filter(current_NK.view(batch, -1, classes).transpose(0, 1).flatten(1))  # (P, B K)
        message_NK += near_PK.view(-1, batch, classes).transpose(0, 1).reshape(-1, classes)  # (N, K)
        current_KN = (unary_KN + message_NK.T.contiguous()).softmax(dim=0)
    return current_KN.view(classes, batch, height, width).transpose(0, 1).contiguous()  # (B, K, H, W)


@lru_cache(maxsize=8)
def _spatial_lattice(height: int, width: int, sxy: float, strength: float, device: torch.device) -> Lattice:
    """The lattice of the places of a picture, which pictures of one size share."""
    y_HW, x_HW = torch.meshgrid(torch.arange(height, device=device, dtype=torch.float32),
                                torch.arange(width, device=device, dtype=torch.float32), indexing="ij")
    return Lattice(torch.stack([x_HW, y_HW]).flatten(1) / sxy).normalise(strength)
