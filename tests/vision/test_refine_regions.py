"""Connected parts against one call of scipy's labelling per class."""

import numpy as np
import pytest
from scipy import ndimage

from vision.refine.regions import find_regions


def reference(winner_HW, probability_HW, class_ids_K):
    """The parts of each class, one class after the other."""
    regions, scores = [], {}
    for index in np.argsort(class_ids_K, kind="stable"):
        mask_HW, class_id = winner_HW == index, int(class_ids_K[index])
        if mask_HW.any():
            scores[class_id] = probability_HW[mask_HW].mean(dtype=np.float64)
        if class_id == 0:
            continue
        parts_HW, _ = ndimage.label(mask_HW, structure=np.ones((3, 3)))
        for part, (y, x) in enumerate(ndimage.find_objects(parts_HW), start=1):
            pixels_HW = parts_HW == part
            regions.append((len(regions) + 1, class_id, (x.start, y.start, x.stop - x.start, y.stop - y.start),
                            int(pixels_HW.sum()), probability_HW[pixels_HW].mean(dtype=np.float64)))
    return scores, regions


def check(winner_HW, class_ids_K):
    probability_HW = np.random.default_rng(5).random(winner_HW.shape).astype(np.float32)
    scores, regions = find_regions(winner_HW.astype(np.uint16), probability_HW, class_ids_K)
    expected_scores, expected = reference(winner_HW, probability_HW, class_ids_K)
    assert [(r.id, r.class_id, r.box, r.area) for r in regions] == [entry[:4] for entry in expected]
    np.testing.assert_allclose([r.score for r in regions], [entry[4] for entry in expected], rtol=1e-12)
    assert scores == pytest.approx(expected_scores, rel=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 2), (23, 31), (60, 7)], ids=str)
@pytest.mark.parametrize("classes", [1, 2, 3, 9])
def test_random_labels_give_the_parts_that_labelling_class_by_class_gives(size, classes):
    generator = np.random.default_rng(classes)
    class_ids_K = generator.permutation(100)[:classes].astype(np.uint16)
    for blur in (1, 3):  # single pixels; blocks
        small = generator.integers(0, classes, (-(-size[0] // blur), -(-size[1] // blur)))
        check(small.repeat(blur, 0).repeat(blur, 1)[:size[0], :size[1]], class_ids_K)


@pytest.mark.parametrize("background", [0, 1], ids=["background first", "background second"])
def test_the_background_has_a_score_and_no_parts(background):
    winner_HW = np.random.default_rng(0).integers(0, 2, (12, 9))
    class_ids_K = np.array([3, 3], np.uint16)
    class_ids_K[background] = 0
    check(winner_HW, class_ids_K)


def test_shapes_that_close_late_are_one_part():
    """A spiral, a comb open at the top, and a staircase of corners."""
    spiral = np.array([[1, 1, 1, 1, 1, 1, 1],
                       [0, 0, 0, 0, 0, 0, 1],
                       [1, 1, 1, 1, 1, 0, 1],
                       [1, 0, 0, 0, 1, 0, 1],
                       [1, 0, 1, 1, 1, 0, 1],
                       [1, 0, 0, 0, 0, 0, 1],
                       [1, 1, 1, 1, 1, 1, 1]])
    comb = np.zeros((6, 9), int)
    comb[:, ::2], comb[-1] = 1, 1
    for pattern in (spiral, spiral.T, spiral[::-1], comb, comb[::-1], np.eye(8, dtype=int), np.eye(8, dtype=int)[::-1]):
        check(pattern, np.array([1, 2], np.uint16))


def test_no_part_goes_on_from_the_end_of_a_row_to_the_next():
    winner_HW = np.zeros((4, 5), int)
    winner_HW[1, -1] = winner_HW[2, 0] = 1
    check(winner_HW, np.array([1, 2], np.uint16))
