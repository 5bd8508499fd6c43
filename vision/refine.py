"""A score map becomes a label map at the size of the image.

Probabilities (softmax over the classes) are enlarged bilinearly and the largest wins. A class that can win no pixel is
dropped before, which is exact and saves most of the work. `pydensecrf` first moves the borders along the edges of the
picture.

Shapes: C classes; K classes that are left; h, w score map; H, W image; R rows of a band; L regions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from parsers.errors import Code, MissingPackageError, SettingError
from vision.types import LabelMap, LabelRule, Region, ScoreMap

METHODS = ("none", "pydensecrf")
BAND_PIXELS = 4_000_000
"""Pixels that are enlarged at once; bounds the memory."""

# Dense CRF: the constants of SimSeg / LLM-Supervision; sxy in pixels of the image, srgb in steps of 0..255.
CRF_GAUSSIAN = {"sxy": 3.0, "compat": 3.0}
CRF_BILATERAL = {"sxy": 40.0, "srgb": 13.0, "compat": 10.0}
CRF_ITERATIONS = 3
CRF_STRIDE = 2
"""The field is solved on a picture of half the size..."""
CRF_LARGEST_SIDE = 1000
"""... and never on a larger one than this."""
CRF_FLOOR = 0.2
"""A class that is nowhere the most probable and nowhere reaches this takes no part."""
CRF_EPS = 1e-8


def refine(image_HW3: NDArray[np.uint8], score_map: ScoreMap, method: str = "none", *,
           confidence: bool = False) -> LabelMap:
    """Labels of every pixel, with regions and scores.

    image: uint8 RGB; method: `none` or `pydensecrf`; confidence: also return the probability of each pixel's label.
    Raises SettingError for another method and MissingPackageError where pydensecrf is not installed. The same
    arguments give the same bytes.
    """
    if method not in METHODS:
        raise SettingError(Code.SETTING_INVALID, f"refine is {method!r}.", f"Allowed: {', '.join(METHODS)}.",
                           "lexiseg segment --help")
    if score_map.rule is not None:
        return _by_rule(image_HW3, score_map.rule, method, confidence)
    size = image_HW3.shape[:2]
    probabilities_Chw = _softmax(score_map.scores_CHW)
    if method == "none":
        kept = _possible_winners(probabilities_Chw)
    else:
        highest_C = probabilities_Chw.max(axis=(1, 2))
        kept = np.union1d(np.flatnonzero(highest_C >= CRF_FLOOR), probabilities_Chw.argmax(axis=0))
    probabilities_Khw = probabilities_Chw[kept]
    if method == "pydensecrf" and len(kept) > 1:
        probabilities_Khw = _dense_crf(image_HW3, probabilities_Khw)
    winner_HW, probability_HW = _enlarge(probabilities_Khw, *size)
    class_ids_K = np.array(score_map.class_ids, np.uint16)[kept]
    scores = _class_scores(winner_HW, probability_HW, class_ids_K)
    regions = _regions(winner_HW, probability_HW, class_ids_K)
    return LabelMap(labels_HW=class_ids_K[winner_HW], scores=scores, regions=regions,
                    confidence_HW=probability_HW.astype(np.float16) if confidence else None)


def _by_rule(image_HW3: NDArray[np.uint8], rule: LabelRule, method: str, confidence: bool) -> LabelMap:
    winner_HW, sure_HW, class_ids_K = rule.decide(image_HW3, method)
    return LabelMap(labels_HW=class_ids_K[winner_HW], scores=_class_scores(winner_HW, sure_HW, class_ids_K),
                    regions=_regions(winner_HW, sure_HW, class_ids_K),
                    confidence_HW=sure_HW.astype(np.float16) if confidence else None)


def _softmax(scores_Chw: NDArray[np.float16]) -> NDArray[np.float32]:
    exponents_Chw = scores_Chw.astype(np.float32)
    exponents_Chw -= exponents_Chw.max(axis=0)
    np.exp(exponents_Chw, out=exponents_Chw)
    exponents_Chw /= exponents_Chw.sum(axis=0)
    return exponents_Chw


def _possible_winners(probabilities_Chw: NDArray[np.float32]) -> NDArray[np.intp]:
    """Indices of the classes that may win a pixel: a pixel lies between four cells, and its enlarged probability
    between their least and largest, so a class whose largest is below another's least loses there."""
    padded_Chw = np.pad(probabilities_Chw, ((0, 0), (0, 1), (0, 1)), mode="edge")

    def of_four(extreme: np.ufunc) -> NDArray[np.float32]:
        pairs_Chw = extreme(padded_Chw[:, :, :-1], padded_Chw[:, :, 1:])
        return extreme(pairs_Chw[:, :-1], pairs_Chw[:, 1:])

    bound_hw = of_four(np.minimum).max(axis=0) - 1e-6  # rounding of the enlargement
    return np.flatnonzero((of_four(np.maximum) >= bound_hw).any(axis=(1, 2)))


def _enlarge(probabilities_Khw: NDArray[np.float32], height: int,
             width: int) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """(H, W) index of the most probable of the K classes (the first of equals) and its probability."""
    winner_HW = np.zeros((height, width), np.uint16)
    best_HW = np.zeros((height, width), np.float32)
    left_W, right_W, toward_W = _taps(probabilities_Khw.shape[2], width)
    up_H, _, toward_H = _taps(probabilities_Khw.shape[1], height)
    down_h = np.minimum(np.arange(1, probabilities_Khw.shape[1] + 1), probabilities_Khw.shape[1] - 1)
    wide_KhW = probabilities_Khw[:, :, left_W] * (1 - toward_W) + probabilities_Khw[:, :, right_W] * toward_W
    step_KhW = wide_KhW[:, down_h] - wide_KhW
    rows = max(1, BAND_PIXELS // width)
    for start in range(0, height, rows):
        band = slice(start, start + rows)
        best_RW, winner_RW, up_R, toward_R1 = best_HW[band], winner_HW[band], up_H[band], toward_H[band, None]
        for index, (wide_hW, step_hW) in enumerate(zip(wide_KhW, step_KhW, strict=True)):
            map_RW = step_hW[up_R]
            map_RW *= toward_R1
            map_RW += wide_hW[up_R]
            if index == 0:
                best_RW[:] = map_RW
            else:
                np.copyto(winner_RW, index, where=map_RW > best_RW)
                np.maximum(best_RW, map_RW, out=best_RW)
    return winner_HW, best_HW


def _taps(cells: int, pixels: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Per pixel the two cells that it lies between and how far it is toward the second (centres of pixels, borders
    repeated)."""
    place = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
    first = place.astype(np.intp)
    return first, np.minimum(first + 1, cells - 1), (place - first).astype(np.float32)


def _dense_crf(image_HW3: NDArray[np.uint8], probabilities_Khw: NDArray[np.float32]) -> NDArray[np.float32]:
    """(K, h', w') probabilities after mean field on a picture of half the size (less for very large ones)."""
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise MissingPackageError(Code.PACKAGE_MISSING, "refine is 'pydensecrf', and pydensecrf is not installed.",
                                  "It is compiled during installation, which needs g++.",
                                  "pip install lexiseg[crf], or use --refine none") from error
    height, width = image_HW3.shape[:2]
    stride = max(CRF_STRIDE if min(height, width) >= 2 * CRF_STRIDE else 1, max(height, width) / CRF_LARGEST_SIDE)
    small_h, small_w = (max(1, round(side / stride)) for side in (height, width))
    small_hw3 = np.array(Image.fromarray(image_HW3).resize((small_w, small_h), Image.Resampling.BOX))  # writable copy
    enlarged_Khw = np.stack([
        np.asarray(Image.fromarray(map_hw).resize((small_w, small_h), Image.Resampling.BILINEAR))
        for map_hw in probabilities_Khw])
    field = densecrf.DenseCRF2D(small_w, small_h, len(enlarged_Khw))
    field.setUnaryEnergy(-np.log(np.maximum(enlarged_Khw, CRF_EPS)).reshape(len(enlarged_Khw), -1))
    field.addPairwiseGaussian(sxy=CRF_GAUSSIAN["sxy"] / stride, compat=CRF_GAUSSIAN["compat"])
    field.addPairwiseBilateral(sxy=CRF_BILATERAL["sxy"] / stride, srgb=CRF_BILATERAL["srgb"],
                               rgbim=small_hw3, compat=CRF_BILATERAL["compat"])
    return np.array(field.inference(CRF_ITERATIONS), np.float32).reshape(enlarged_Khw.shape)


def _class_scores(winner_HW: NDArray[np.uint16], probability_HW: NDArray[np.float32],
                  class_ids_K: NDArray[np.uint16]) -> dict[int, float]:
    count_K = np.bincount(winner_HW.ravel(), minlength=len(class_ids_K))
    total_K = np.bincount(winner_HW.ravel(), weights=probability_HW.ravel(), minlength=len(class_ids_K))
    return {int(class_ids_K[index]): float(total_K[index] / count_K[index]) for index in np.flatnonzero(count_K)}


def _regions(winner_HW: NDArray[np.uint16], probability_HW: NDArray[np.float32],
             class_ids_K: NDArray[np.uint16]) -> tuple[Region, ...]:
    """Connected parts of all classes but the background, by class id and then in reading order."""
    from scipy import ndimage

    regions: list[Region] = []
    extents = ndimage.find_objects(winner_HW.astype(np.int32) + 1, max_label=len(class_ids_K))
    for index in np.argsort(class_ids_K, kind="stable"):
        class_id, extent = int(class_ids_K[index]), extents[index]
        if class_id == 0 or extent is None:
            continue
        parts_hw, count = ndimage.label(winner_HW[extent] == index, structure=np.ones((3, 3), np.int8))
        area_L = np.bincount(parts_hw.ravel())
        score_L = np.bincount(parts_hw.ravel(), weights=probability_HW[extent].ravel()) / np.maximum(area_L, 1)
        top, left = extent[0].start, extent[1].start
        for part, (y, x) in enumerate(ndimage.find_objects(parts_hw, max_label=count), start=1):
            regions.append(Region(id=len(regions) + 1, class_id=class_id, area=int(area_L[part]),
                                  score=float(score_L[part]),
                                  box=(left + x.start, top + y.start, x.stop - x.start, y.stop - y.start)))
    return tuple(regions)
