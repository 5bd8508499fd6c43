"""Edges that are decided together."""

from __future__ import annotations

import numpy as np

from parsers.head_edges import choose_edges
from parsers.head_network import ATTRIBUTE, NONE, RELATION


def decide(tokens: int, edges: dict[tuple[int, int, int], float], spans: dict[int, list[float]] | None = None,
           values: tuple[int, ...] = ()):
    """Chosen edges and lengths. `edges` holds (from, to, kind) with its probability, `spans` the probabilities that
    an object's name of 0, 1, 2, 3, 4 tokens ends at a token; `values` are tokens that likely end an attribute."""
    edges_NN3 = np.zeros((tokens, tokens, 3), np.float32)
    for place, probability in edges.items():
        edges_NN3[place] = probability
    edges_NN3[:, :, NONE] = 1 - edges_NN3.sum(axis=2)
    object_NL = np.tile(np.array([0.9, 0.1, 0, 0, 0], np.float32), (tokens, 1))
    for token, probabilities in (spans or {}).items():
        object_NL[token] = probabilities
    attribute_NL = np.tile(np.array([0.9, 0.1, 0, 0, 0], np.float32), (tokens, 1))
    attribute_NL[list(values)] = [0.1, 0.9, 0, 0, 0]
    kind_NN, lengths_N = choose_edges(edges_NN3, object_NL, attribute_NL)
    return {(int(i), int(j), int(kind_NN[i, j])) for i, j in np.argwhere(kind_NN)}, lengths_N.tolist()


def test_an_edge_that_is_likelier_than_none_is_taken():
    assert decide(3, {(0, 2, RELATION): 0.6, (2, 1, ATTRIBUTE): 0.4})[0] == {(0, 2, RELATION)}


def test_one_direction_of_two_is_taken_where_neither_is_unlikely():
    assert decide(3, {(0, 2, RELATION): 0.45, (2, 0, RELATION): 0.4})[0] == {(0, 2, RELATION)}
    assert decide(3, {(0, 1, RELATION): 0.9, (0, 2, RELATION): 0.3, (2, 0, RELATION): 0.2})[0] == {(0, 1, RELATION)}


def test_a_word_is_part_of_a_name_or_an_attribute_of_it():
    edges, lengths = decide(3, {(0, 2, RELATION): 0.9, (2, 1, ATTRIBUTE): 0.6}, {2: [0.1, 0.2, 0.7, 0, 0]})
    assert (edges, lengths[2]) == ({(0, 2, RELATION)}, 2)
    edges, lengths = decide(3, {(0, 2, RELATION): 0.9, (2, 1, ATTRIBUTE): 0.8}, {2: [0.1, 0.4, 0.5, 0, 0]})
    assert (edges, lengths[2]) == ({(0, 2, RELATION), (2, 1, ATTRIBUTE)}, 1)
    edges, lengths = decide(3, {(0, 2, RELATION): 0.9, (2, 1, ATTRIBUTE): 0.45}, {2: [0.0, 0.6, 0.4, 0, 0]})
    assert (edges, lengths[2]) == ({(0, 2, RELATION), (2, 1, ATTRIBUTE)}, 1)


def test_a_likely_name_without_an_edge_gets_its_likeliest_one():
    known = {(0, 1, RELATION): 0.9}
    name = {3: [0.1, 0.9, 0, 0, 0]}
    assert decide(4, known | {(3, 1, RELATION): 0.3}, name)[0] == {(0, 1, RELATION), (3, 1, RELATION)}
    assert decide(4, known | {(1, 3, RELATION): 0.3}, name)[0] == {(0, 1, RELATION), (1, 3, RELATION)}
    assert decide(4, known | {(3, 2, ATTRIBUTE): 0.3}, name)[0] == {(0, 1, RELATION), (3, 2, ATTRIBUTE)}
    assert decide(4, known | {(3, 1, RELATION): 0.1}, name)[0] == {(0, 1, RELATION)}
    assert decide(4, known | {(1, 2, ATTRIBUTE): 0.3}, values=(2,))[0] == {(0, 1, RELATION), (1, 2, ATTRIBUTE)}


def test_a_caption_without_any_edge_gets_one_that_is_half_as_likely_as_none():
    assert decide(2, {(0, 1, RELATION): 0.4})[0] == {(0, 1, RELATION)}
    assert decide(2, {(0, 1, RELATION): 0.2})[0] == set()
    assert decide(0, {})[0] == set()
