"""Open mIoU: a prediction counts as far as its name means the same (Zhou et al., arXiv 2311.03352).

    TP'[g]   = sum_p C[p, g] S[p, g]
    C'[p, g] = C[p, g] (1 - S[p, g]) off the diagonal, TP'[g] on it
    IoU'[g]  = TP'[g] / (column sum of C' + row sum of C' - TP')[g]
    mean     = sum over classes with ground truth / number of classes with ground truth or predictions

C counts pixels (predicted name, true class) over a whole dataset, ignored pixels left out; S are similarities in
[0, 1]. Where a prediction is a free name and no class of the dataset, it stands in the row of its most similar class,
with its own similarities; what it lacks to 1 in its own class's column is a miss, counted once (ours, the source knows
no free names). A permissive S inflates the figure: plain mIoU belongs beside it.

Shapes: H, W picture; P predicted names; G classes of the dataset.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from parsers.names import name_key

IGNORED = -1


class OpenScores(BaseModel):
    """Figures in [0, 1] over a dataset; None where it has no ground truth."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    open_miou: float | None
    mapped_miou: float | None
    """Plain mIoU after each name became its most similar class."""
    names: int
    """Different names that were predicted."""


def open_iou(counts_PG: NDArray[np.int64], similarity_PG: NDArray[np.float64],
             own_P: NDArray[np.intp]) -> NDArray[np.float64]:
    """IoU' of each class, NaN for one without ground truth and without predictions. own: the class in whose row each
    predicted name stands. Raises ValueError for similarities outside of [0, 1]."""
    if similarity_PG.size and (similarity_PG.min() < 0 or similarity_PG.max() > 1):
        raise ValueError("similarities are from 0 to 1")
    classes = counts_PG.shape[1]
    right_PG = counts_PG * similarity_PG
    rest_PG = counts_PG - right_PG
    own_PG = own_P[:, None] == np.arange(classes)
    truth_G = right_PG.sum(0) + rest_PG.sum(0)
    predicted_G = right_PG.sum(0) + own_PG.T.astype(float) @ np.where(own_PG, 0.0, rest_PG).sum(1)
    union_G = truth_G + predicted_G - right_PG.sum(0)
    return np.where(union_G > 0, right_PG.sum(0) / np.maximum(union_G, 1e-12), np.nan)


class OpenTally:
    """Counts of predicted names against the classes of a dataset, picture by picture."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self._row: dict[str, int] = {}
        self.names: list[str] = []
        """Predicted names in the order of the rows."""
        self.present: list[set[str]] = []
        """The classes of each picture's ground truth."""
        self._counts: list[NDArray[np.int64]] = []
        for name in self.classes:
            self._row_of(name)

    def add(self, truth_HW: NDArray[np.integer], predicted_HW: NDArray[np.integer], names: dict[int, str]) -> None:
        """One picture. truth: index of the class or `IGNORED`; predicted: ids that `names` names; an id without a
        name is a prediction of nothing, and a miss."""
        counted = truth_HW != IGNORED
        truth, predicted = truth_HW[counted].astype(np.int64), predicted_HW[counted].astype(np.int64)
        self.present.append({self.classes[row] for row in np.unique(truth)})
        for id in np.unique(predicted):
            row = self._row_of(names.get(int(id), ""))
            self._counts[row] += np.bincount(truth[predicted == id], minlength=len(self.classes))

    @property
    def counts_PG(self) -> NDArray[np.int64]:
        return np.stack(self._counts)

    def scores(self, similarity_PG: NDArray[np.float64]) -> OpenScores:
        """similarity: of `names` (rows) and `classes`, in [0, 1]; that of a class with itself is taken as 1."""
        counts_PG = self.counts_PG
        similarity_PG = np.where(self._same(), 1.0, similarity_PG)
        similarity_PG[[name == "" for name in self.names]] = 0.0
        own_P = similarity_PG.argmax(1)
        nothing_P = np.array([name == "" for name in self.names])
        own_P[nothing_P] = -1
        truth_G = counts_PG.sum(0)
        if not truth_G.any():
            return OpenScores(open_miou=None, mapped_miou=None, names=len(self._used(counts_PG)))
        iou_G = open_iou(counts_PG, similarity_PG, own_P)
        predicted_G = np.array([(counts_PG[own_P == g]).sum() for g in range(len(self.classes))])
        mapped_G = np.array([counts_PG[own_P == g, g].sum() for g in range(len(self.classes))])
        seen_G = truth_G > 0
        shown = int((seen_G | (predicted_G > 0)).sum())
        mapped = mapped_G[seen_G] / (truth_G + predicted_G - mapped_G)[seen_G]
        return OpenScores(open_miou=float(np.nansum(iou_G[seen_G]) / shown), mapped_miou=float(mapped.mean()),
                          names=len(self._used(counts_PG)))

    def _same(self) -> NDArray[np.bool_]:
        keys = [name_key(name) for name in self.classes]
        return np.array([[bool(name) and name_key(name) == key for key in keys] for name in self.names])

    def _used(self, counts_PG: NDArray[np.int64]) -> list[str]:
        return [name for name, count in zip(self.names, counts_PG.sum(1), strict=True) if count and name]

    def _row_of(self, name: str) -> int:
        key = name_key(name) if name else ""
        if key not in self._row:
            self._row[key] = len(self.names)
            self.names.append(name)
            self._counts.append(np.zeros(len(self.classes), np.int64))
        return self._row[key]
