"""Open mIoU by hand, and where it must agree with the plain one."""

import numpy as np
import pytest

from vision.llmformer.open_miou import OpenTally, open_iou
from vision.metrics import Confusion

NAMES = ("dog", "cat", "grass")


def tally(truth, predicted, names=None):
    counted = OpenTally(NAMES)
    counted.add(np.array(truth), np.array(predicted), names or dict(enumerate(NAMES)))
    return counted


def test_identity_gives_plain_iou():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(-1, 3, (20, 20)), rng.integers(0, 3, (20, 20))
    plain = Confusion(3)
    plain.add(truth, predicted)
    counted = tally(truth, predicted)
    found = open_iou(counted.counts_PG, np.eye(3), np.arange(3))
    assert found == pytest.approx([score.iou for score in plain.per_class()])
    scores = counted.scores(np.eye(3))
    assert scores.open_miou == pytest.approx(plain.scores().miou)
    assert scores.mapped_miou == pytest.approx(plain.scores().miou)


def test_when_all_names_mean_the_same_everything_is_right():
    counted = tally([[0, 1], [2, 2]], [[1, 1], [0, 2]])
    assert open_iou(counted.counts_PG, np.ones((3, 3)), np.arange(3)) == pytest.approx([1, 1, 1])


def test_a_hand_made_case():
    # 4 dog pixels: 3 called dog, 1 called cat; 2 cat pixels: both called cat; dog and cat are half alike
    counted = tally([[0, 0, 0, 0, 1, 1]], [[0, 0, 0, 1, 1, 1]])
    similarity = np.array([[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]])
    # dog: TP' 3 + 0.5, column 3.5 + 0.5, row 3.5 -> 3.5 / 4; cat: TP' 2, column 2, row 2 + 0.5 -> 2 / 2.5
    assert open_iou(counted.counts_PG, similarity, np.arange(3))[:2] == pytest.approx([3.5 / 4, 2 / 2.5])
    assert counted.scores(similarity).open_miou == pytest.approx((3.5 / 4 + 0.8) / 2)


def test_values_stay_between_zero_and_one():
    rng = np.random.default_rng(1)
    for _ in range(20):
        counted = tally(rng.integers(0, 3, (8, 8)), rng.integers(0, 6, (8, 8)),
                        dict(enumerate((*NAMES, "hound", "lawn", ""))))
        found = open_iou(counted.counts_PG, rng.random((len(counted.names), 3)), rng.integers(0, 3, len(counted.names)))
        assert (found >= 0).all() and (found <= 1).all()


def test_free_names_count_as_far_as_they_are_alike():
    counted = tally([[0, 0, 2, 2]], [[7, 7, 2, 2]], {7: "hound", 2: "grass"})
    assert counted.names == ["dog", "cat", "grass", "hound"]
    similarity = np.vstack([np.eye(3), [0.8, 0.3, 0.0]])
    scores = counted.scores(similarity)
    # dog: TP' 1.6 of 2; nothing else was called a dog
    assert scores.open_miou == pytest.approx((0.8 + 1) / 2)
    assert scores.mapped_miou == pytest.approx(1.0)
    assert scores.names == 2


def test_a_class_that_is_only_predicted_lowers_the_mean():
    assert tally([[0, 0]], [[0, 1]]).scores(np.eye(3)).open_miou == pytest.approx(0.5 / 2)


def test_a_prediction_of_nothing_is_a_miss():
    scores = tally([[0, 0]], [[0, 99]]).scores(np.vstack([np.eye(3), np.ones(3)]))
    assert scores.open_miou == pytest.approx(0.5) and scores.mapped_miou == pytest.approx(0.5)
    assert scores.names == 1


def test_ignored_pixels_do_not_count_and_nothing_gives_none():
    assert tally([[-1, -1]], [[0, 1]]).scores(np.eye(3)).open_miou is None


def test_spelling_does_not_make_another_name():
    counted = tally([[0]], [[5]], {5: "DOG"})
    assert counted.names == list(NAMES)


def test_similarities_outside_are_refused():
    with pytest.raises(ValueError, match="from 0 to 1"):
        open_iou(np.zeros((3, 3), np.int64), np.full((3, 3), 1.5), np.arange(3))
