"""From the maps of the classes that are present to labels, as SimSeg does it (CVPR 2023, its evaluation code).

Per class: the map, scaled to [0, 1] and enlarged by repetition; a dense CRF of two labels on the square picture; a
closing. Where masks overlap the class with the higher image score wins; what no mask covers is background. With several
maps per class (LLM-Supervision's masks per subclass) the masks vote.

Shapes: H, W image; S side of the square picture; g cells per side; K classes that are present; M maps of a class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision.refine.enlarge import turn
from vision.refine.settings import BILATERAL, SPATIAL, method_of_rule
from vision.windows import FILTERS

ITERATIONS = 3
KERNEL = 7
"""Pixels a side. The published call passes 5 and 3 where OpenCV expects an output array: once each is what happens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSegRule:
    """Everything but the image that labels follow from."""

    maps_KMgg: NDArray[np.float32]
    """In [0, 1]; classes in the order of their rows in the vocabulary."""
    weights_KM: NDArray[np.float32]
    """Of the maps of a class when they vote; 0 for filling, else a row sums to 1."""
    class_ids: tuple[int, ...]
    scores: tuple[float, ...]
    """Cosine of image and class name."""
    side: int
    """S, a multiple of g."""
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Of the model's normalisation, whose rounding the picture for the CRF carries."""
    vote: str = "majority"
    overlap_rule: str = "image"
    morphology: str = "closing"

    def decide(self, image_HW3: NDArray[np.uint8], refinement: str,
               device: str) -> tuple[NDArray[np.uint16], NDArray[np.float32], NDArray[np.uint16]]:
        """The winner of every pixel as an index into the class ids, how sure it is in [0, 1], and the class ids, the
        background first. Sure is the scaled map at the pixel; for the background 1 minus the largest of them.
        refinement: `none` leaves the CRF out, `torch-crf` solves it without pydensecrf, on the device; raises
        SettingError for another one."""
        method = method_of_rule("simseg", refinement)
        height, width = image_HW3.shape[:2]
        picture_SS3 = None if method == "none" else squash(image_HW3, self.side, self.interpolation)
        if picture_SS3 is not None:
            picture_SS3 = normalised_and_back(picture_SS3, self.mean, self.std)
        winner_HW, best_HW = np.zeros((height, width), np.uint16), np.zeros((height, width))
        sure_HW, highest_HW = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
        rows_H, columns_W = nearest(self.side, height), nearest(self.side, width)
        for index, (maps_Mgg, weights_M, score) in enumerate(
                zip(self.maps_KMgg, self.weights_KM, self.scores, strict=True), start=1):
            mask_SS, map_SS = self._mask(maps_Mgg[weights_M > 0], weights_M[weights_M > 0], picture_SS3, method,
                                          device)
            mask_HW, map_HW = (part[np.ix_(rows_H, columns_W)] for part in (mask_SS, map_SS))
            value_HW = mask_HW * (score if self.overlap_rule == "image" else score * map_HW)
            wins_HW = value_HW > best_HW
            winner_HW[wins_HW], best_HW[wins_HW], sure_HW[wins_HW] = index, value_HW[wins_HW], map_HW[wins_HW]
            highest_HW = np.maximum(highest_HW, map_HW)
        sure_HW = np.where(winner_HW == 0, 1 - highest_HW, sure_HW)
        return winner_HW, sure_HW, np.array((0, *self.class_ids), np.uint16)

    def _mask(self, maps_Mgg: NDArray[np.float32], weights_M: NDArray[np.float32],
              picture_SS3: NDArray[np.uint8] | None, method: str,
              device: str) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """(S, S) mask of one class after the morphology, and its map."""
        maps_MSS = repeat(maps_Mgg, self.side)
        masks_MSS = [map_SS > 0.5 if picture_SS3 is None else binary_crf(picture_SS3, map_SS, method, device)
                     for map_SS in maps_MSS]
        share_SS = np.tensordot(weights_M, np.stack(masks_MSS).astype(np.float32), 1)
        voted_SS = share_SS > (0.5 if self.vote == "majority" else 0)
        return smooth_mask(voted_SS, self.morphology), np.tensordot(weights_M, maps_MSS, 1)


def squash(image_HW3: NDArray[np.uint8], side: int, interpolation: str) -> NDArray[np.uint8]:
    """(S, S, 3): the whole picture as a square, whatever its ratio."""
    return np.asarray(Image.fromarray(image_HW3).resize((side, side), FILTERS[interpolation]))


def normalised_and_back(picture_SS3: NDArray[np.uint8], mean: tuple[float, ...],
                        std: tuple[float, ...]) -> NDArray[np.uint8]:
    """The picture as the published code hands it to the CRF: normalised and back in single precision, and cut to
    whole numbers, which lowers some bytes by 1."""
    mean_3, std_3 = np.array(mean, np.float32), np.array(std, np.float32)
    normal_SS3 = (picture_SS3.astype(np.float32) / np.float32(255) - mean_3) / std_3
    return ((normal_SS3 * std_3 + mean_3) * np.float32(255)).astype(np.uint8)


def repeat(maps_Mgg: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """(M, S, S): every cell as often as it has pixels."""
    return maps_Mgg.repeat(side // maps_Mgg.shape[1], axis=1).repeat(side // maps_Mgg.shape[2], axis=2)


def nearest(cells: int, pixels: int) -> NDArray[np.intp]:
    """Per pixel the cell it takes its value from when a map is enlarged by nearest neighbour, as OpenCV has it."""
    return np.minimum(np.floor(np.arange(pixels) * (1 / (pixels / cells))).astype(np.intp), cells - 1)


def binary_crf(picture_SS3: NDArray[np.uint8], map_SS: NDArray[np.float32], method: str = "pydensecrf",
               device: str = "cpu") -> NDArray[np.bool_]:
    """(S, S) mask: a fully connected CRF of background and foreground, with probability `map`; distances in pixels of
    the square picture. device: of `torch-crf`. Raises MissingPackageError where pydensecrf is asked for and not
    installed."""
    pair_2SS = np.stack([1 - map_SS, map_SS]).astype(np.float32)
    if method == "pydensecrf":
        from vision.refine.dense_crf import dense_crf

        refined_2SS = dense_crf(picture_SS3, pair_2SS, iterations=ITERATIONS)
    else:
        import torch

        from vision.refine.torch_crf import mean_field

        with turn(device):
            refined_2SS = mean_field(
                torch.from_numpy(picture_SS3.copy())[None], torch.from_numpy(pair_2SS)[None].to(device),
                spatial_sxy=SPATIAL["sxy"], spatial_compat=SPATIAL["compat"], bilateral_sxy=BILATERAL["sxy"],
                bilateral_srgb=BILATERAL["srgb"], bilateral_compat=BILATERAL["compat"],
                iterations=ITERATIONS)[0].cpu().numpy()
    return refined_2SS[1] > refined_2SS[0]


def smooth_mask(mask_SS: NDArray[np.bool_], morphology: str) -> NDArray[np.bool_]:
    """`closing`: one dilation and one erosion with 7 x 7 ones; `dilate5-erode3`: five and three; `none`. Beyond the
    border nothing grows and nothing is lost."""
    from scipy import ndimage

    grow, shrink = {"closing": (1, 1), "dilate5-erode3": (5, 3), "none": (0, 0)}[morphology]
    for _ in range(grow):
        mask_SS = ndimage.maximum_filter(mask_SS, KERNEL, mode="constant", cval=0)
    for _ in range(shrink):
        mask_SS = ndimage.minimum_filter(mask_SS, KERNEL, mode="constant", cval=1)
    return mask_SS
