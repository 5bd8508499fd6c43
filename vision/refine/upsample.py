"""Probabilities of a smaller picture follow the edges of the picture itself.

Joint bilateral upsampling (Kopf et al., SIGGRAPH 2007): a pixel takes from the cells around it, most from those of its
own colour. The weights by place are the bilinear ones, and only pixels whose four cells disagree are looked at; both
are our choice, and the second makes it cheap.

Shapes: K classes; s, t the smaller picture; H, W the picture; N pixels whose cells disagree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vision.refine.enlarge import taps

VALUES = 4_000_000
"""Pixels x classes that are looked at in one go; bounds the memory."""
LEAST = 1e-6
"""Share of a cell's weight that is left to it whatever its colour, so that no pixel is without weights."""


def follow_edges(image_HW3: NDArray[np.uint8], picture_st3: NDArray[np.uint8], probabilities_Kst: NDArray[np.float32],
                 winner_HW: NDArray[np.uint16], best_HW: NDArray[np.float32], *, srgb: float) -> None:
    """Decides anew, in place, about the pixels whose four cells have different winners.

    picture: `image` made smaller, uint8 RGB. winner, best: index of the most probable class and its probability, as
    `enlarge` gives them. srgb: standard deviation of colour in steps of 0..255.
    """
    classes, height, width = probabilities_Kst.shape
    up_H, down_H, toward_H = taps(height, image_HW3.shape[0])
    left_W, right_W, toward_W = taps(width, image_HW3.shape[1])
    winner_st = probabilities_Kst.argmax(axis=0)
    corners = [winner_st[rows_H][:, columns_W] for rows_H in (up_H, down_H) for columns_W in (left_W, right_W)]
    y_N, x_N = np.nonzero((corners[0] != corners[1]) | (corners[0] != corners[2]) | (corners[0] != corners[3]))
    cells_PK = np.ascontiguousarray(probabilities_Kst.reshape(classes, -1).T)
    colours_P3 = picture_st3.reshape(-1, 3).astype(np.float32)
    pixels = max(1, VALUES // classes)
    for start in range(0, len(y_N), pixels):
        y, x = y_N[start:start + pixels], x_N[start:start + pixels]
        colour_N3 = image_HW3[y, x].astype(np.float32)
        sums_NK, total_N = np.zeros((len(y), classes), np.float32), np.zeros(len(y), np.float32)
        for rows_H, by_row_H in ((up_H, 1 - toward_H), (down_H, toward_H)):
            for columns_W, by_column_W in ((left_W, 1 - toward_W), (right_W, toward_W)):
                cell_N = rows_H[y] * width + columns_W[x]
                away_N3 = colours_P3[cell_N] - colour_N3
                alike_N = np.exp(np.einsum("nc,nc->n", away_N3, away_N3) * np.float32(-0.5 / srgb**2))
                weight_N = by_row_H[y] * by_column_W[x] * (alike_N + np.float32(LEAST))
                total_N += weight_N
                sums_NK += weight_N[:, None] * cells_PK[cell_N]
        index_N = sums_NK.argmax(axis=1)
        winner_HW[y, x] = index_N
        best_HW[y, x] = sums_NK[np.arange(len(y)), index_N] / total_N
