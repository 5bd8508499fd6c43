"""Probabilities of a smaller picture follow the edges of the picture itself.

Joint bilateral upsampling (Kopf et al., SIGGRAPH 2007): a pixel takes from the cells around it, most from those of its
own colour. The weights by place are the bilinear ones, and only pixels whose four cells disagree are looked at; both
are our choice, and the second makes it cheap.

Shapes: K classes; s, t the smaller picture; H, W the picture; N pixels whose cells disagree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision.refine.enlarge import taps

VALUES = 4_000_000
"""Pixels x classes that are looked at in one go; bounds the memory."""
LEAST = 1e-6
"""Share of a cell's weight that is left to it whatever its colour, so that no pixel is without weights."""


def follow_edges(image_HW3: NDArray[np.uint8], picture_st3: NDArray[np.uint8], probabilities_Kst: NDArray[np.float32],
                 *, srgb: float) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """(H, W) index of the most probable class and its probability.

    picture: `image` made smaller, uint8 RGB. srgb: standard deviation of colour in steps of 0..255. Between four cells
    with one winner all maps are bilinear, so it wins there, with what is bilinear between its probabilities.
    """
    classes, height, width = probabilities_Kst.shape
    rows, columns = image_HW3.shape[:2]
    winner_st, best_st = probabilities_Kst.argmax(axis=0).astype(np.uint16), probabilities_Kst.max(axis=0)
    if (rows, columns) == (height, width):
        return winner_st, best_st
    up_H, down_H, toward_H = taps(height, rows)
    left_W, right_W, toward_W = taps(width, columns)
    next_st = np.pad(winner_st, ((0, 1), (0, 1)), mode="edge")
    disagree_st = (next_st[1:, :-1] != winner_st) | (next_st[:-1, 1:] != winner_st) | (next_st[1:, 1:] != winner_st)
    winner_HW = winner_st[up_H][:, left_W]
    best_HW = np.array(Image.fromarray(best_st).resize((columns, rows), Image.Resampling.BILINEAR))
    y_N, x_N = np.nonzero(disagree_st[up_H][:, left_W])
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
    return winner_HW, best_HW
