"""The learned head's network in NumPy: from rows of embedding tables to scores of edges, predicates and names.

Captions of one length are scored together, so nothing is padded and a caption's scores do not depend on its
neighbours. Shape suffixes: B captions, N tokens, D features of a token, P features of a pair, E edges, K classes.

The network: word and affix embeddings, two bidirectional LSTM layers, a vector for every ordered pair of tokens that
also sees the strongest pairs of its row and column, and classifiers. The composition is ours; its parts are the LSTM
(Hochreiter and Schmidhuber, 1997) and scoring of token pairs (Dozat and Manning, 2017).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Ints = NDArray[np.int64]
Arrays = Mapping[str, Array]

FARTHEST = 8
"""Distances between tokens beyond this count as this."""
NONE, ATTRIBUTE, RELATION = 0, 1, 2
"""Kinds of edges."""


def encode(arrays: Arrays, words_BN: Ints, affixes_BN3: Ints) -> Array:
    """Token vectors `[B, N, D]`."""
    affixes = [arrays[f"affix_{k}.weight"][affixes_BN3[:, :, k]] for k in range(3)]
    x_BND = np.concatenate([arrays["word.weight"][words_BN], *affixes], axis=2)
    for layer in range(2):
        x_BND = np.concatenate([_lstm(arrays, x_BND, layer, reverse) for reverse in (False, True)], axis=2)
    return x_BND


def _lstm(arrays: Arrays, x_BND: Array, layer: int, reverse: bool) -> Array:
    """One direction of one LSTM layer; gates in the order input, forget, cell, output."""
    suffix = f"l{layer}" + ("_reverse" if reverse else "")
    inputs = x_BND @ arrays[f"lstm.weight_ih_{suffix}"].T
    inputs += arrays[f"lstm.bias_ih_{suffix}"] + arrays[f"lstm.bias_hh_{suffix}"]
    recurrent = np.ascontiguousarray(arrays[f"lstm.weight_hh_{suffix}"].T)
    batch, length, _ = x_BND.shape
    size = recurrent.shape[0]
    hidden = np.zeros((batch, size), np.float32)
    cell = np.zeros((batch, size), np.float32)
    out = np.empty((batch, length, size), np.float32)
    for t in reversed(range(length)) if reverse else range(length):
        gates = inputs[:, t] + hidden @ recurrent
        cell = (_sigmoid(gates[:, size:2 * size]) * cell
                + _sigmoid(gates[:, :size]) * np.tanh(gates[:, 2 * size:3 * size]))
        hidden = _sigmoid(gates[:, 3 * size:]) * np.tanh(cell)
        out[:, t] = hidden
    return out


def pairs(arrays: Arrays, x_BND: Array) -> Array:
    """A vector for every ordered pair of tokens, `[B, N, N, P]`; [b, i, j] is for an edge from token i to token j."""
    place = np.arange(x_BND.shape[1])
    distance_NN = np.clip(place[None, :] - place[:, None], -FARTHEST, FARTHEST) + FARTHEST
    p = _linear(arrays, "pair_from", x_BND)[:, :, None] + _linear(arrays, "pair_to", x_BND)[:, None]
    p = _relu(p + arrays["distance.weight"][distance_NN])
    rows_BNP, columns_BNP = p.max(axis=2), p.max(axis=1)
    lines_BNP = np.concatenate([rows_BNP, columns_BNP], axis=2)
    seen = _linear(arrays, "pair_self", p) + _linear(arrays, "pair_back", p.swapaxes(1, 2))
    seen += _linear(arrays, "line_from", lines_BNP)[:, :, None] + _linear(arrays, "line_to", lines_BNP)[:, None]
    return p + _relu(seen)


def edge_scores(arrays: Arrays, p_BNNP: Array) -> Array:
    """Scores `[B, N, N, 3]` of NONE, ATTRIBUTE and RELATION."""
    return _linear(arrays, "edge", p_BNNP)


def relation_vectors(arrays: Arrays, x_BND: Array, p_BNNP: Array, edges_E3: Ints) -> tuple[Array, Array]:
    """A vector for the predicate of every edge (caption, from, to), which looks at all tokens of its caption; and
    the vectors of those tokens `[E, N, D]`."""
    p_EP = p_BNNP[edges_E3[:, 0], edges_E3[:, 1], edges_E3[:, 2]]
    x_END = x_BND[edges_E3[:, 0]]
    attention_EN = softmax(_pointer(arrays, "", p_EP, x_END))
    context_ED = (attention_EN[:, :, None] * x_END).sum(axis=1)
    return _relu(_linear(arrays, "relation", np.concatenate([p_EP, context_ED], axis=1))), x_END


def first_scores(arrays: Arrays, z_EP: Array, x_END: Array, firsts_EN: Ints) -> Array:
    """Scores of a predicate's first word, `[E, K + N]`: the words of the table, then each token's own base form.
    Pointing at a token counts for the row in `firsts_EN` that the token spells."""
    table_EK = _linear(arrays, "first", z_EP)
    scores = np.concatenate([table_EK, np.zeros(firsts_EN.shape, np.float32)], axis=1)
    np.add.at(scores, (np.arange(len(scores))[:, None], firsts_EN), _pointer(arrays, "first_", z_EP, x_END))
    return scores


def rest_scores(arrays: Arrays, z_EP: Array, first_E: Ints, x_END: Array, keywords_EN: Ints,
                keywords_KR: Array) -> Array:
    """Scores of the rest of a predicate whose first word is known, `[E, R]`. Pointing at a token counts for all
    phrases that hold it."""
    again = arrays["first_again.weight"]
    z_EP = z_EP + again[np.minimum(first_E, len(again) - 1)]
    spelt_EK = np.zeros((len(z_EP), len(keywords_KR) + 1), np.float32)     # the last column takes unlinked tokens
    np.add.at(spelt_EK, (np.arange(len(z_EP))[:, None], keywords_EN), _pointer(arrays, "rest_", z_EP, x_END))
    return _linear(arrays, "rest", z_EP) + spelt_EK[:, :-1] @ keywords_KR


def name_scores(arrays: Arrays, x_BND: Array, joined_BN: Ints) -> dict[str, Array]:
    """For each token as the end of an object's name and of an attribute: scores of the name's number of tokens (0:
    no name ends here), and of the words that can take the name's place (0: it is copied)."""
    t_BNP = _relu(_linear(arrays, "name", x_BND))
    scores = {key: _linear(arrays, key, t_BNP)
              for key in ("object_length", "object_rename", "attribute_length", "attribute_rename")}
    b, n = np.nonzero(joined_BN >= 0)
    scores["object_rename"][b, n, joined_BN[b, n]] += _linear(arrays, "joined", t_BNP)[b, n, 0]
    return scores


def _pointer(arrays: Arrays, prefix: str, from_EP: Array, to_END: Array) -> Array:
    """How much each edge points at each token, `[E, N]`."""
    keys = _linear(arrays, f"{prefix}key", to_END)
    queries = _linear(arrays, f"{prefix}query", from_EP)
    scores: Array = (keys * queries[:, None]).sum(axis=2) * np.float32(keys.shape[2] ** -0.5)
    return scores


def softmax(scores: Array) -> Array:
    """Probabilities over the last axis."""
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def _linear(arrays: Arrays, name: str, x: Array) -> Array:
    flat = x.reshape(-1, x.shape[-1]) @ arrays[f"{name}.weight"].T
    if (bias := arrays.get(f"{name}.bias")) is not None:
        flat += bias
    return flat.reshape(*x.shape[:-1], -1)


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)


def _sigmoid(x: Array) -> Array:
    half = np.float32(0.5)
    return np.asarray(half + half * np.tanh(half * x), np.float32)
