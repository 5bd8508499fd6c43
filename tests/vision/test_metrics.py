"""Figures against a count by hand, pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision.metrics import IGNORED, Confusion


def count_by_hand(pictures, class_count):
    """IoU by class, mIoU, pixel accuracy and mean accuracy from sets of pixel positions."""
    truth_of = {c: set() for c in range(class_count)}
    predicted_of = {c: set() for c in range(class_count)}
    counted = set()
    for number, (truth_HW, predicted_HW) in enumerate(pictures):
        for place in np.ndindex(truth_HW.shape):
            if truth_HW[place] == IGNORED:
                continue
            counted.add((number, place))
            truth_of[int(truth_HW[place])].add((number, place))
            if predicted_HW[place] < class_count:
                predicted_of[int(predicted_HW[place])].add((number, place))
    ious = {c: len(truth_of[c] & predicted_of[c]) / len(truth_of[c] | predicted_of[c]) if truth_of[c] else None
            for c in range(class_count)}
    there = [c for c in range(class_count) if truth_of[c]]
    right = {c: len(truth_of[c] & predicted_of[c]) for c in there}
    if not there:
        return ious, None, None, None
    return (ious, sum(ious[c] for c in there) / len(there), sum(right.values()) / len(counted),
            sum(right[c] / len(truth_of[c]) for c in there) / len(there))


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 3))
def test_figures_equal_a_count_by_hand(seed, class_count, picture_count):
    random = np.random.default_rng(seed)
    pictures = [(random.integers(IGNORED, class_count, shape), random.integers(0, class_count + 1, shape))
                for shape in random.integers(1, 9, (picture_count, 2))]
    confusion = Confusion(class_count)
    for truth_HW, predicted_HW in pictures:
        confusion.add(truth_HW, predicted_HW)
    ious, miou, pixel_accuracy, mean_accuracy = count_by_hand(pictures, class_count)
    scores = confusion.scores()
    assert [score.iou for score in confusion.per_class()] == pytest.approx([ious[c] for c in range(class_count)])
    assert scores.miou == pytest.approx(miou)
    assert scores.pixel_accuracy == pytest.approx(pixel_accuracy)
    assert scores.mean_accuracy == pytest.approx(mean_accuracy)


def test_both_ways_of_counting_agree():
    """Few classes take a histogram, many take a sort."""
    random = np.random.default_rng(0)
    truth_HW, predicted_HW = random.integers(0, 5, (40, 50)), random.integers(0, 5, (40, 50))
    few, many = Confusion(5), Confusion(300)
    few.add(truth_HW, predicted_HW)
    many.add(truth_HW, predicted_HW)
    assert (few.matrix[:, :5] == many.matrix[:5, :5]).all()
    assert few.matrix.sum() == many.matrix.sum() == truth_HW.size


def test_ignored_pixels_count_nowhere():
    confusion = Confusion(2)
    confusion.add(np.array([[0, IGNORED, 1]]), np.array([[0, 0, 1]]))
    assert [score.predicted_pixels for score in confusion.per_class()] == [1, 1]
    assert confusion.scores().miou == 1


def test_a_label_of_no_class_is_wrong_where_it_stands_and_nowhere_else():
    confusion = Confusion(2)
    confusion.add(np.array([[0, 0, 1, 1]]), np.array([[0, 2, 1, 1]]))
    first, second = confusion.per_class()
    assert (first.iou, second.iou) == (0.5, 1)
    assert confusion.scores().pixel_accuracy == 0.75


def test_the_mean_is_over_classes_in_the_ground_truth():
    confusion = Confusion(3)
    confusion.add(np.array([[0, 0]]), np.array([[0, 2]]))
    scores = confusion.scores()
    assert (scores.miou, scores.classes) == (0.5, 1)
    assert [score.iou for score in confusion.per_class()] == [0.5, None, None]
    assert confusion.per_class()[2].predicted_pixels == 1


def test_rows_choose_the_classes_of_a_figure_but_errors_elsewhere_still_count():
    confusion = Confusion(3)
    confusion.add(np.array([[0, 1, 1, 2]]), np.array([[0, 0, 1, 2]]))
    assert confusion.scores([0]).miou == 0.5
    assert confusion.scores([0, 2]).miou == 0.75
    assert confusion.scores([1]).pixel_accuracy == 0.5


def test_nothing_counted_gives_no_figures():
    confusion = Confusion(2)
    confusion.add(np.array([[IGNORED]]), np.array([[0]]))
    assert confusion.scores().miou is None
    assert confusion.scores([1]).classes == 0


@pytest.mark.parametrize(("truth", "predicted"), [
    pytest.param([[0, 1]], [[0]], id="other shape"),
    pytest.param([[2]], [[0]], id="true class outside"),
    pytest.param([[-2]], [[0]], id="true class below"),
    pytest.param([[0]], [[3]], id="predicted class outside"),
    pytest.param([[0]], [[-1]], id="predicted class below"),
])
def test_what_does_not_fit_is_refused(truth, predicted):
    with pytest.raises(ValueError, match=r"ground truth is|outside"):
        Confusion(2).add(np.array(truth), np.array(predicted))


def histogram_scores(pictures, class_count):
    """The way of published evaluation code: per picture a histogram of the right pixels, of the predicted and of the
    true ones; their sums; the mean over the classes that have any pixel; ignored pixels are taken out before."""
    edges = np.arange(class_count + 1) - 0.5
    right, predicted, true = (np.zeros(class_count) for _ in range(3))
    for truth_HW, predicted_HW in pictures:
        kept = truth_HW != IGNORED
        truth, guess = truth_HW[kept], predicted_HW[kept]
        right += np.histogram(guess[guess == truth], edges)[0]
        predicted += np.histogram(guess, edges)[0]
        true += np.histogram(truth, edges)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        iou, accuracy = right / (true + predicted - right), right / true
    return np.nanmean(iou), np.nanmean(accuracy), right.sum() / true.sum()


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_figures_equal_those_of_published_evaluation_code(seed, class_count):
    random = np.random.default_rng(seed)
    pictures = [(random.integers(IGNORED, class_count, (5, 7)), random.integers(0, class_count, (5, 7)))
                for _ in range(3)]
    confusion = Confusion(class_count)
    for truth_HW, predicted_HW in pictures:
        confusion.add(truth_HW, predicted_HW)
    scores = confusion.scores()
    assert (scores.miou_all, scores.mean_accuracy, scores.pixel_accuracy) == pytest.approx(
        histogram_scores(pictures, class_count))
    assert scores.miou >= scores.miou_all, "a class that is only predicted has 0 there and does not count here"
