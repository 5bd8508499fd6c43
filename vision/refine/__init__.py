"""A score map becomes a label map at the size of the image.

Probabilities (softmax over the classes) are enlarged bilinearly and the largest wins. `pydensecrf` first moves the
borders along the edges of the picture. docs/refinement.md compares the methods.

Shapes: C classes; K classes that take part; h, w score map; H, W image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parsers.errors import Code, SettingError
from vision.refine.dense_crf import dense_crf, participants
from vision.refine.enlarge import enlarge, softmax
from vision.refine.regions import find_regions
from vision.types import LabelMap, ScoreMap

METHODS = ("none", "pydensecrf")


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
        winner_HW, probability_HW, class_ids_K = score_map.rule.decide(image_HW3, method)
    else:
        winner_HW, probability_HW, class_ids_K = _most_probable(image_HW3, score_map, method)
    scores, regions = find_regions(winner_HW, probability_HW, class_ids_K)
    return LabelMap(labels_HW=class_ids_K[winner_HW], scores=scores, regions=regions,
                    confidence_HW=probability_HW.astype(np.float16) if confidence else None)


def _most_probable(image_HW3: NDArray[np.uint8], score_map: ScoreMap,
                   method: str) -> tuple[NDArray[np.uint16], NDArray[np.float32], NDArray[np.uint16]]:
    """(H, W) winners as indices into the class ids, (H, W) their probabilities, and the class ids."""
    probabilities_Khw = softmax(score_map.scores_CHW)
    class_ids_K = np.array(score_map.class_ids, np.uint16)
    if method == "pydensecrf":
        kept_K = participants(probabilities_Khw)
        probabilities_Khw, class_ids_K = probabilities_Khw[kept_K], class_ids_K[kept_K]
        if len(class_ids_K) > 1:
            probabilities_Khw = dense_crf(image_HW3, probabilities_Khw)
    return *enlarge(probabilities_Khw, *image_HW3.shape[:2]), class_ids_K
