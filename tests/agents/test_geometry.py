"""Relations between boxes (x, y, width, height; y grows downwards)."""

import pytest

from agents.geometry import INVERSE, gap, holds, relation_of, same_relation

LEFT, RIGHT, UNDER = (0, 50, 20, 20), (70, 50, 20, 20), (70, 71, 25, 15)


@pytest.mark.parametrize(("words", "relation"), [
    ("to the left of", "left"), ("is on the right of", "right"), ("on top of", "on"), ("stands on", "on"),
    ("hangs above", "above"), ("is underneath", "below"), ("next to", "near"), ("close to", "near"), ("in", "in"),
    ("in front of", "front"), ("hides behind", "behind"), ("holds", None), ("", None), ("within", "in")])
def test_words_of_relations(words, relation):
    assert relation_of(words) == relation


@pytest.mark.parametrize(("relation", "subject", "other", "answer"), [
    ("left", LEFT, RIGHT, True), ("left", RIGHT, LEFT, False), ("right", RIGHT, LEFT, True),
    ("above", RIGHT, UNDER, True), ("below", UNDER, RIGHT, True), ("below", RIGHT, UNDER, False),
    ("above", LEFT, RIGHT, False), ("on", RIGHT, UNDER, True), ("on", LEFT, UNDER, False),
    ("on", (10, 10, 10, 10), (0, 0, 100, 100), True), ("in", (10, 10, 10, 10), (0, 0, 100, 100), True),
    ("in", (0, 0, 100, 100), (10, 10, 10, 10), False), ("near", RIGHT, UNDER, True), ("near", LEFT, RIGHT, False),
    ("behind", LEFT, RIGHT, None), ("front", LEFT, RIGHT, None)])
def test_what_boxes_tell(relation, subject, other, answer):
    assert holds(relation, subject, other) is answer


@pytest.mark.parametrize(("words", "other", "answer"), [
    ("next to", "stands beside", True), ("behind", "in front of", False), ("behind", "hides behind", True),
    ("holds", "is holding", True), ("hold", "held up", False), ("holds", "wears", False), ("holds", "behind", False),
    ("", "", True)])
def test_wordings_of_one_relation(words, other, answer):
    assert same_relation(words, other) is answer and same_relation(other, words) is answer


def test_inverses_are_mutual():
    assert all(INVERSE[INVERSE[relation]] == relation for relation in INVERSE)


def test_left_and_right_are_each_others_mirror():
    for one, other in ((LEFT, RIGHT), (RIGHT, UNDER), (LEFT, UNDER)):
        assert holds("left", one, other) == holds("right", other, one)
        assert holds("above", one, other) == holds("below", other, one)
        assert gap(one, other) == gap(other, one)


def test_the_gap_between_boxes():
    assert gap((0, 0, 10, 10), (13, 14, 5, 5)) == 5
    assert gap((0, 0, 10, 10), (5, 5, 10, 10)) == 0
