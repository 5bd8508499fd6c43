"""The dense CRF of pydensecrf, solved on a smaller picture and for the classes that matter.

Source: Kraehenbuehl and Koltun, NIPS 2011; the constants are those of SimSeg and LLM-Supervision.

Shapes: C classes; K classes that take part; h, w score map; s, t the smaller picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from parsers.errors import Code, MissingPackageError

# sxy in pixels of the image, srgb in steps of 0..255.
GAUSSIAN = {"sxy": 3.0, "compat": 3.0}
BILATERAL = {"sxy": 40.0, "srgb": 13.0, "compat": 10.0}
ITERATIONS = 3
STRIDE = 2
"""The field is solved on a picture of half the size..."""
LARGEST_SIDE = 1000
"""... and never on a larger one than this."""
FLOOR = 0.2
"""A class that is nowhere the most probable and nowhere reaches this takes no part."""
EPS = 1e-8


def participants(probabilities_Chw: NDArray[np.float32]) -> NDArray[np.intp]:
    """Indices of the classes that take part, ascending."""
    highest_C = probabilities_Chw.max(axis=(1, 2))
    return np.union1d(np.flatnonzero(highest_C >= FLOOR), probabilities_Chw.argmax(axis=0))


def dense_crf(image_HW3: NDArray[np.uint8], probabilities_Khw: NDArray[np.float32]) -> NDArray[np.float32]:
    """(K, s, t) probabilities after mean field on a picture of half the size (less for very large ones); K >= 2."""
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise MissingPackageError(Code.PACKAGE_MISSING, "refine is 'pydensecrf', and pydensecrf is not installed.",
                                  "It is compiled during installation, which needs g++.",
                                  "pip install lexiseg[crf], or use --refine none") from error
    height, width = image_HW3.shape[:2]
    stride = max(STRIDE if min(height, width) >= 2 * STRIDE else 1, max(height, width) / LARGEST_SIDE)
    small_s, small_t = (max(1, round(side / stride)) for side in (height, width))
    small_st3 = np.array(Image.fromarray(image_HW3).resize((small_t, small_s), Image.Resampling.BOX))  # writable copy
    enlarged_Kst = np.stack([
        np.asarray(Image.fromarray(map_hw).resize((small_t, small_s), Image.Resampling.BILINEAR))
        for map_hw in probabilities_Khw])
    field = densecrf.DenseCRF2D(small_t, small_s, len(enlarged_Kst))
    field.setUnaryEnergy(-np.log(np.maximum(enlarged_Kst, EPS)).reshape(len(enlarged_Kst), -1))
    field.addPairwiseGaussian(sxy=GAUSSIAN["sxy"] / stride, compat=GAUSSIAN["compat"])
    field.addPairwiseBilateral(sxy=BILATERAL["sxy"] / stride, srgb=BILATERAL["srgb"],
                               rgbim=small_st3, compat=BILATERAL["compat"])
    return np.array(field.inference(ITERATIONS), np.float32).reshape(enlarged_Kst.shape)
