"""The dense CRF of pydensecrf (Kraehenbuehl and Koltun, NIPS 2011), one field for all classes.

Shapes: K classes; H, W picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parsers.errors import Code, MissingPackageError
from vision.refine.settings import BILATERAL, SPATIAL

EPS = 1e-8


def dense_crf(image_HW3: NDArray[np.uint8], probabilities_KHW: NDArray[np.float32], *, stride: float = 1.0,
              iterations: int = 3) -> NDArray[np.float32]:
    """(K, H, W) probabilities after mean field; K >= 2.

    stride: by how much the image was made smaller; distances are in pixels of the original. Holds Python's lock while
    it computes. Raises MissingPackageError where pydensecrf is not installed.
    """
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise MissingPackageError(Code.PACKAGE_MISSING, "refine is 'pydensecrf', and pydensecrf is not installed.",
                                  "It is compiled during installation, which needs g++.",
                                  "pip install lexiseg[crf], or use --refine torch-crf") from error
    classes, height, width = probabilities_KHW.shape
    field = densecrf.DenseCRF2D(width, height, classes)
    field.setUnaryEnergy(-np.log(np.maximum(probabilities_KHW, EPS)).reshape(classes, -1))
    field.addPairwiseGaussian(sxy=SPATIAL["sxy"] / stride, compat=SPATIAL["compat"])
    field.addPairwiseBilateral(sxy=BILATERAL["sxy"] / stride, srgb=BILATERAL["srgb"],
                               rgbim=np.array(image_HW3), compat=BILATERAL["compat"])  # a copy: it must be writable
    return np.array(field.inference(iterations), np.float32).reshape(probabilities_KHW.shape)
