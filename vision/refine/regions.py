"""Connected parts of a label map, found on its runs.

A run is the longest stretch of equal labels in a row. Runs of the same class that touch, also at a corner, in the row
below are linked; what hangs together is a part. All classes are done at once.

Shapes: H, W image; K classes; U runs; V runs above the last row; P pairs of runs that touch; L parts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vision.types import Region


def find_regions(winner_HW: NDArray[np.uint16], probability_HW: NDArray[np.float32],
                 class_ids_K: NDArray[np.uint16]) -> tuple[dict[int, float], tuple[Region, ...]]:
    """Mean probability of each class that occurs, and the connected parts (8-neighbourhood) of all classes but the
    background (id 0), by class id and then in reading order."""
    winners, size, width = winner_HW.ravel(), winner_HW.size, winner_HW.shape[1]
    begins = np.empty(size, np.bool_)
    np.not_equal(winners[1:], winners[:-1], out=begins[1:])
    begins[::width] = True
    start_U = np.flatnonzero(begins)
    end_U = np.append(start_U[1:], size)
    class_U = winners[start_U]
    total_U = np.add.reduceat(probability_HW.ravel(), start_U, dtype=np.float64)
    scores = _class_scores(class_U, end_U - start_U, total_U, class_ids_K)

    part_U, count = _parts(start_U, end_U, class_U, width, size)
    _, first_L = np.unique(part_U, return_index=True)
    area_L = np.bincount(part_U, weights=end_U - start_U).astype(np.intp)
    total_L = np.bincount(part_U, weights=total_U)
    left_L, right_L, bottom_L = np.full(count, width), np.zeros(count, np.intp), np.zeros(count, np.intp)
    row_U = start_U // width
    np.minimum.at(left_L, part_U, start_U - row_U * width)
    np.maximum.at(right_L, part_U, end_U - row_U * width)
    np.maximum.at(bottom_L, part_U, row_U + 1)
    top_L, class_L = row_U[first_L], class_ids_K[class_U[first_L]]
    order = [part for part in np.lexsort((first_L, class_L)) if class_L[part] != 0]
    columns = (values[order].tolist() for values in
               (class_L, area_L, total_L / area_L, left_L, top_L, right_L - left_L, bottom_L - top_L))
    return scores, tuple(
        Region(id=number, class_id=class_id, area=area, score=score, box=(x, y, across, down))
        for number, (class_id, area, score, x, y, across, down) in enumerate(zip(*columns, strict=True), start=1))


def _class_scores(class_U: NDArray[np.uint16], length_U: NDArray[np.intp], total_U: NDArray[np.float64],
                  class_ids_K: NDArray[np.uint16]) -> dict[int, float]:
    pixels_K = np.bincount(class_U, weights=length_U)
    total_K = np.bincount(class_U, weights=total_U)
    return {int(class_ids_K[index]): float(total_K[index] / pixels_K[index]) for index in np.flatnonzero(pixels_K)}


def _parts(start_U: NDArray[np.intp], end_U: NDArray[np.intp], class_U: NDArray[np.uint16], width: int,
           size: int) -> tuple[NDArray[np.int32], int]:
    """The part of each run, and how many parts there are."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    above = int(np.searchsorted(start_U, size - width))  # runs of all rows but the last
    row_V = start_U[:above] // width * width  # first pixel of the row
    first_V = np.searchsorted(start_U, np.maximum(start_U[:above] - 1, row_V) + width, side="right") - 1
    last_V = np.searchsorted(start_U, np.minimum(end_U[:above], row_V + width - 1) + width, side="right") - 1
    touching_V = last_V - first_V + 1
    upper_P = np.repeat(np.arange(above), touching_V)
    lower_P = np.arange(len(upper_P)) + np.repeat(first_V - np.cumsum(touching_V) + touching_V, touching_V)
    same_P = class_U[upper_P] == class_U[lower_P]
    upper_P, lower_P = upper_P[same_P], lower_P[same_P]
    graph_UU = coo_array((np.ones(len(upper_P), np.int8), (upper_P, lower_P)), shape=(len(start_U), len(start_U)))
    count, part_U = connected_components(graph_UU, directed=False)
    return part_U, int(count)
