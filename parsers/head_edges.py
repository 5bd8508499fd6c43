"""From probabilities to the edges of one caption's graph: decisions that belong together are taken together.

Each probability alone stands for one pair of tokens; where two of them exclude or demand each other, more is known
than "above one half". The rules are ours. Shape suffixes as in `parsers/head_network.py`; L lengths of names.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parsers.head_network import ATTRIBUTE, NONE, RELATION, Array

LEAST = 0.2
"""An edge that something else demands needs this probability."""

Kinds = NDArray[np.int64]


def choose_edges(edges_NN3: Array, object_NL: Array, attribute_NL: Array) -> tuple[Kinds, Kinds]:
    """The kind of every edge `[N, N]` and the number of tokens of an object's name that ends at each token `[N]`.

    Column 0 of `object_NL` and `attribute_NL` is the probability that no such name ends at the token."""
    lengths_N = 1 + object_NL[:, 1:].argmax(axis=1)
    kind_NN = edges_NN3.argmax(axis=2)
    _take_either_direction(edges_NN3, kind_NN)
    _name_or_attribute(edges_NN3, object_NL, kind_NN, lengths_N)
    _join_lone_names(edges_NN3, kind_NN, object_NL[:, 0] < 0.5, attribute_NL[:, 0] < 0.5)
    if not kind_NN.any() and len(kind_NN):
        i, j, kind = np.unravel_index(int(edges_NN3[:, :, 1:].argmax()), edges_NN3[:, :, 1:].shape)
        if edges_NN3[i, j, kind + 1] * 2 >= edges_NN3[i, j, NONE]:
            kind_NN[i, j] = kind + 1
    return kind_NN, lengths_N


def _take_either_direction(edges_NN3: Array, kind_NN: Kinds) -> None:
    """Two objects are hardly ever related in both directions: where "one or the other" is likelier than neither, the
    likelier direction is taken."""
    there = edges_NN3[:, :, RELATION]
    back = there.T
    free = (kind_NN == NONE) & (kind_NN.T == NONE)
    kind_NN[free & (there > back) & (2 * there + back > 1)] = RELATION


def _name_or_attribute(edges_NN3: Array, object_NL: Array, kind_NN: Kinds, lengths_N: Kinds) -> None:
    """A word before an object is part of its name ("tennis racket") or an attribute of it, not both."""
    longest = object_NL.shape[1] - 1
    for i in np.flatnonzero(kind_NN.any(axis=0) | kind_NN.any(axis=1)):
        lengths_L = object_NL[i, 1:] / max(1e-6, float(object_NL[i, 1:].sum()))
        for j in range(max(0, i - longest + 1), i):
            inside = float(lengths_L[i - j:].sum())
            attribute = float(edges_NN3[i, j, ATTRIBUTE])
            if i - j < lengths_N[i]:
                if attribute > inside:
                    lengths_N[i] = i - j
                elif kind_NN[i, j] == ATTRIBUTE:
                    kind_NN[i, j] = NONE
            elif kind_NN[i, j] == NONE and attribute > 0.5 * (1 - inside):
                kind_NN[i, j] = ATTRIBUTE


def _join_lone_names(edges_NN3: Array, kind_NN: Kinds, objects_N: NDArray[np.bool_],
                     attributes_N: NDArray[np.bool_]) -> None:
    """A graph has no lone name beside other facts: a likely name without an edge gets its likeliest one."""
    for j in np.flatnonzero(attributes_N & ~(kind_NN == ATTRIBUTE).any(axis=0)):
        i = int(edges_NN3[:, j, ATTRIBUTE].argmax())
        if edges_NN3[i, j, ATTRIBUTE] >= LEAST:
            kind_NN[i, j] = ATTRIBUTE
    for k in np.flatnonzero(objects_N & ~kind_NN.any(axis=1) & ~(kind_NN == RELATION).any(axis=0)):
        attribute, out, into = edges_NN3[k, :, ATTRIBUTE], edges_NN3[k, :, RELATION], edges_NN3[:, k, RELATION]
        best = max(float(attribute.max()), float(out.max()), float(into.max()))
        if best < LEAST:
            continue
        if best == out.max():
            kind_NN[k, int(out.argmax())] = RELATION
        elif best == into.max():
            kind_NN[int(into.argmax()), k] = RELATION
        else:
            kind_NN[k, int(attribute.argmax())] = ATTRIBUTE
