"""How well predicted labels fit the ground truth, summed picture by picture.

Shapes: H, W picture height and width; N classes of the ground truth.

The definition is the usual one of semantic segmentation: pixels of all pictures go into one confusion matrix, a
class's IoU is right / (in the ground truth + predicted - right), and mIoU is the mean over the classes that occur
in the ground truth. Ignored pixels are left out of everything. A predicted label that is none of the N classes is
wrong wherever it occurs, and is never left out. Published evaluation code takes the mean over the classes that occur
in the ground truth or in the prediction (`miou_all`); over a whole validation split that is mostly the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

IGNORED = -1
"""The row of pixels that do not count."""


class ClassScore(BaseModel):
    """One class over all pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    iou: float | None
    """In [0, 1]; None if the class is nowhere in the ground truth."""
    truth_pixels: int
    predicted_pixels: int


class Scores(BaseModel):
    """Figures in [0, 1] over some of the classes; None where nothing of them is in the ground truth."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    miou: float | None
    """Mean IoU over the classes that occur in the ground truth."""
    miou_all: float | None
    """Mean IoU over the classes that occur in the ground truth or are predicted somewhere; the latter have 0."""
    pixel_accuracy: float | None
    """Right pixels / pixels of these classes in the ground truth."""
    mean_accuracy: float | None
    """Mean over the classes of right pixels / pixels of the class in the ground truth."""
    classes: int
    """How many of the classes occur in the ground truth."""


class Confusion:
    """Counts of (true class, predicted class) pairs, for `class_count` classes and one column more for
    "none of them"."""

    def __init__(self, class_count: int) -> None:
        self.class_count = class_count
        self.matrix = np.zeros((class_count, class_count + 1), np.int64)

    def add(self, truth_HW: NDArray[np.integer], predicted_HW: NDArray[np.integer]) -> None:
        """Counts one picture. `truth_HW` holds rows 0..N-1 or `IGNORED`; `predicted_HW` holds columns 0..N, where N
        means "none of the classes". Raises ValueError for different shapes or values outside."""
        if truth_HW.shape != predicted_HW.shape:
            raise ValueError(f"ground truth is {truth_HW.shape}, prediction {predicted_HW.shape}")
        counted = truth_HW != IGNORED
        rows, columns = truth_HW[counted].astype(np.int64), predicted_HW[counted].astype(np.int64)
        if not rows.size:
            return
        if rows.min() < 0 or rows.max() >= self.class_count or columns.min() < 0 or columns.max() > self.class_count:
            raise ValueError(f"classes outside 0..{self.class_count}")
        cells = rows * (self.class_count + 1) + columns
        if cells.size < self.matrix.size:  # many classes: a histogram over all cells would cost more than a sort
            found, counts = np.unique(cells, return_counts=True)
            self.matrix.reshape(-1)[found] += counts
        else:
            self.matrix += np.bincount(cells, minlength=self.matrix.size).reshape(self.matrix.shape)

    def per_class(self) -> list[ClassScore]:
        """The N classes in order."""
        right, truth, predicted = self._sums()
        return [ClassScore(iou=float(r / (t + p - r)) if t else None, truth_pixels=int(t), predicted_pixels=int(p))
                for r, t, p in zip(right, truth, predicted, strict=True)]

    def scores(self, rows: Iterable[int] | None = None) -> Scores:
        """Figures over the given rows (None: all). What other pixels were wrongly given to a row's class counts
        against it, whichever rows are chosen."""
        right, truth, predicted = self._sums()
        chosen = np.arange(self.class_count) if rows is None else np.array(sorted(set(rows)), np.int64)
        occurring = chosen[truth[chosen] > 0]
        if not occurring.size:
            return Scores(miou=None, miou_all=None, pixel_accuracy=None, mean_accuracy=None, classes=0)
        named = np.count_nonzero((truth + predicted)[chosen])
        right, truth, predicted = right[occurring], truth[occurring], predicted[occurring]
        ious = right / (truth + predicted - right)
        return Scores(miou=float(np.mean(ious)), miou_all=float(ious.sum() / named),
                      pixel_accuracy=float(right.sum() / truth.sum()),
                      mean_accuracy=float(np.mean(right / truth)), classes=len(occurring))

    def _sums(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Right pixels, ground truth pixels and predicted pixels of each class, (N,) each."""
        return (np.diag(self.matrix[:, :-1]).copy(), self.matrix.sum(axis=1), self.matrix[:, :-1].sum(axis=0))
