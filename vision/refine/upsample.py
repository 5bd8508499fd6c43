"""Probabilities of a smaller picture follow the edges of the picture itself.

Joint bilateral upsampling (Kopf et al., SIGGRAPH 2007): a pixel takes from the cells around it, most from those of its
own colour. The weights by place are the bilinear ones, and only pixels whose four cells disagree are looked at; both
are our choice, and the second makes it cheap.

Shapes: K classes; s, t the smaller picture; H, W the picture; N pixels whose cells disagree; 4 their cells.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vision.refine.enlarge import taps

PIXELS = 100_000
"""That are looked at in one go; bounds the memory."""
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
    for start in range(0, len(y_N), PIXELS):
        y, x = y_N[start:start + PIXELS], x_N[start:start + PIXELS]
        cells_N4 = np.stack([rows * width + columns for rows in (up_H[y], down_H[y])
                             for columns in (left_W[x], right_W[x])], axis=1)
        down_N, right_N = toward_H[y], toward_W[x]
        place_N4 = np.stack([by_row * by_column for by_row in (1 - down_N, down_N)
                             for by_column in (1 - right_N, right_N)], axis=1)
        away_N43 = colours_P3[cells_N4] - image_HW3[y, x].astype(np.float32)[:, None]
        alike_N4 = np.exp((away_N43 * away_N43).sum(axis=2) / np.float32(-2 * srgb * srgb))
        weights_N4 = place_N4 * (alike_N4 + np.float32(LEAST))
        sums_NK = np.einsum("nf,nfk->nk", weights_N4, cells_PK[cells_N4])
        winner_HW[y, x] = sums_NK.argmax(axis=1)
        best_HW[y, x] = sums_NK.max(axis=1) / weights_N4.sum(axis=1)
