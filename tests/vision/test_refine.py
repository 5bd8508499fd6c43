"""Score maps become labels, scores and regions."""

import sys
import tracemalloc

import numpy as np
import pytest

from parsers.errors import Code, MissingPackageError, SettingError
from vision import ScoreMap, refine
from vision.refine import METHODS, RefineSettings, parse_refinement, participants, refine_probabilities

PICTURE = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def score_map(scores_CHW, class_ids=None) -> ScoreMap:
    scores = np.asarray(scores_CHW, np.float16)
    ids = tuple(class_ids or range(1, len(scores) + 1))
    return ScoreMap(scores_CHW=scores, class_ids=ids, names=tuple(f"class {i}" for i in ids),
                    image_scores_C=np.ones(len(ids), np.float32))


def random_map(classes=30, size=(6, 8), seed=0, spread=3.0):
    return score_map(np.random.default_rng(seed).normal(0, spread, (classes, *size)))


def enlarged_by_torch(scores, size):
    import torch

    probabilities = torch.from_numpy(scores.scores_CHW.astype(np.float32)).softmax(dim=0)
    return torch.nn.functional.interpolate(probabilities[None], size=size, mode="bilinear")[0].numpy()


@pytest.mark.parametrize("size", [(48, 64), (5, 7), (1, 1), (100, 3)], ids=str)
@pytest.mark.parametrize("spread", [0.1, 5.0])
@pytest.mark.parametrize("cells", [(6, 8), (1, 5), (9, 2), (1, 1)], ids=str)
def test_labels_are_the_argmax_of_all_enlarged_probabilities(size, spread, cells):
    """Leaving out the classes that cannot win, where they cannot win, changes nothing."""
    scores = random_map(spread=spread, size=cells)
    result = refine(np.zeros((*size, 3), np.uint8), scores, confidence=True)
    expected = enlarged_by_torch(scores, size)
    clear = np.sort(expected, axis=0)[-1] - np.sort(expected, axis=0)[-2] > 1e-5
    assert result.labels_HW.shape == size and result.labels_HW.dtype == np.uint16
    assert (result.labels_HW == expected.argmax(axis=0) + 1)[clear].all() and clear.mean() > 0.9
    assert np.abs(result.confidence_HW - expected.max(axis=0)).max() < 1e-3


def test_a_class_that_wins_in_one_corner_alone_is_found():
    scores = np.zeros((3, 6, 8))
    scores[0] = 4
    for index, (row, column) in enumerate([(0, 0), (5, 7)], start=1):
        scores[index, row, column] = 8
    labels_HW = refine(PICTURE, score_map(scores)).labels_HW
    assert labels_HW[0, 0] == 2 and labels_HW[-1, -1] == 3 and (labels_HW[:, 16:48] == 1).all()


def test_equal_probabilities_go_to_the_first_class():
    assert (refine(PICTURE, score_map(np.zeros((5, 6, 8)), (7, 3, 9, 1, 2))).labels_HW == 7).all()


def test_bands_do_not_show(monkeypatch):
    whole = refine(PICTURE, random_map(), confidence=True)
    monkeypatch.setattr(sys.modules["vision.refine.enlarge"], "BAND_PIXELS", 200)
    banded = refine(PICTURE, random_map(), confidence=True)
    assert (whole.labels_HW == banded.labels_HW).all() and (whole.confidence_HW == banded.confidence_HW).all()


def test_chunks_of_classes_do_not_show(monkeypatch):
    whole = refine(PICTURE, random_map(spread=0.1), confidence=True)
    monkeypatch.setattr(sys.modules["vision.refine.enlarge"], "CLASS_VALUES", 4 * 6 * 64)
    chunked = refine(PICTURE, random_map(spread=0.1), confidence=True)
    assert len(np.unique(whole.labels_HW)) > 8
    assert (whole.labels_HW == chunked.labels_HW).all() and (whole.confidence_HW == chunked.confidence_HW).all()


@pytest.mark.parametrize("method", ["none", "pydensecrf"])
def test_twenty_thousand_classes_need_no_map_each_at_full_size(method):
    """All of them at 500 x 375 would be 15 GB. Noise is the worst case: thousands of classes may win somewhere."""
    scores = random_map(classes=20_000, size=(14, 19), spread=1.0)
    image = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    tracemalloc.start()
    try:
        labels_HW = refine(image, scores, method).labels_HW
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert labels_HW.shape == (375, 500) and len(np.unique(labels_HW)) > 50
    assert peak < 300e6


def test_confidence_only_on_request():
    assert refine(PICTURE, random_map()).confidence_HW is None


def test_class_ids_not_positions_are_written():
    scores = np.full((3, 4, 4), -5.0)
    scores[0, :, :2], scores[2, :, 2:] = 5, 5
    result = refine(np.zeros((4, 4, 3), np.uint8), score_map(scores, (0, 4, 65534)))
    assert np.unique(result.labels_HW).tolist() == [0, 65534]
    assert set(result.scores) == {0, 65534}
    assert [region.class_id for region in result.regions] == [65534]  # the background has none


def test_regions():
    """Two parts of class 2 that touch at a corner are one; class 1 around them is cut in two."""
    pattern = np.array([[2, 2, 1, 1],
                        [2, 2, 1, 1],
                        [1, 1, 2, 2],
                        [1, 1, 2, 1]])
    scores = np.stack([np.where(pattern == c, 4.0, -4.0) for c in (1, 2)])
    result = refine(np.zeros((4, 4, 3), np.uint8), score_map(scores), confidence=True)
    assert (result.labels_HW == pattern).all()
    found = [(r.id, r.class_id, r.box, r.area) for r in result.regions]
    assert found == [(1, 1, (0, 0, 4, 4), 8), (2, 1, (3, 3, 1, 1), 1), (3, 2, (0, 0, 4, 4), 7)]
    probability = 1 / (1 + np.exp(-8))
    assert all(region.score == pytest.approx(probability, abs=1e-5) for region in result.regions)
    assert result.scores == {1: pytest.approx(probability, abs=1e-5), 2: pytest.approx(probability, abs=1e-5)}


def test_one_class_takes_the_whole_image():
    result = refine(PICTURE, score_map(np.zeros((1, 3, 4))), "pydensecrf")
    assert (result.labels_HW == 1).all() and result.scores == {1: 1.0}
    assert result.regions[0].box == (0, 0, 64, 48) and result.regions[0].area == 48 * 64


def two_halves(height=64, width=64):
    """A picture with an edge at column 28, and scores that see it at column 32."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, 28:] = 220
    scores = np.zeros((2, 8, 8))
    scores[0, :, :4], scores[1, :, 4:] = 2, 2
    return picture, score_map(scores)


@pytest.mark.parametrize("options", ["", ":binary=true", ":stride=1,floor=0"], ids=["default", "binary", "full"])
@pytest.mark.parametrize("method", ["pydensecrf", "torch-crf"])
def test_crf_moves_the_border_to_the_edge(method, options):
    picture, scores = two_halves()
    truth = np.where(np.arange(64) < 28, 1, 2)
    plain = (refine(picture, scores).labels_HW != truth).mean()
    refined = (refine(picture, scores, method + options).labels_HW != truth).mean()
    assert plain > 0.03 and refined < 0.02


def test_pamr_moves_the_border_to_the_edge():
    picture, scores = two_halves()
    truth = np.where(np.arange(64) < 28, 1, 2)
    assert (refine(picture, scores, "pamr").labels_HW != truth).mean() < 0.03


def test_classes_without_support_change_nothing():
    """A class whose probability is almost 0 takes no part, and the field without it is the field with it."""
    picture, scores = two_halves()
    absent = np.full((3, 8, 8), -30.0)
    more = score_map(np.concatenate([scores.scores_CHW, absent]))
    one, other = (refine(picture, more, f"pydensecrf:floor={floor}", confidence=True) for floor in (0.2, 0.0))
    assert (one.labels_HW == other.labels_HW).all()
    assert np.abs(one.confidence_HW.astype(float) - other.confidence_HW).max() < 2e-3


def test_who_takes_part():
    probabilities = np.zeros((4, 1, 3), np.float32)
    probabilities[0], probabilities[1, 0, 1], probabilities[2, 0, 2] = 0.5, 0.6, 0.19
    assert participants(probabilities, 0.2).tolist() == [0, 1]
    assert participants(probabilities, 0.19).tolist() == [0, 1, 2]
    assert participants(probabilities, 0).tolist() == [0, 1, 2, 3]
    assert participants(np.full((20, 2, 2), 0.05, np.float32), 0.2).tolist() == [0]  # the most probable always


def test_two_classes_need_no_field_of_their_own():
    """Each against the rest is then one and the same field."""
    picture, _ = two_halves()
    first = np.linspace(0.2, 0.9, 64, dtype=np.float32).reshape(8, 8)
    maps = np.stack([first, 1 - first])
    together, apart = (refine_probabilities(picture, maps, "pydensecrf", settings=RefineSettings(binary=binary))
                       for binary in (False, True))
    assert np.abs(together - apart).max() < 1e-4


@pytest.mark.parametrize(("picture_size", "stride", "size"), [
    ((64, 64), None, (21, 21)), ((64, 64), 1, (64, 64)), ((64, 64), 4, (16, 16)),
    ((64, 64), 50, (64, 64)),  # nothing would be left of it
    ((30, 257), None, (8, 64)),
    ((30, 5000), None, (6, 1000)),
], ids=str)
def test_the_field_is_solved_on_a_smaller_picture(picture_size, stride, size):
    picture, _ = two_halves(*picture_size)
    maps = np.full((2, 8, 8), 0.5, np.float32)
    assert refine_probabilities(picture, maps, "pydensecrf", settings=RefineSettings(stride=stride)).shape[1:] == size


@pytest.mark.parametrize("wrong", [{"stride": 0}, {"floor": 1.5}, {"iterations": -1}, {"largest_side": 3}], ids=str)
def test_settings_that_are_not_allowed(wrong):
    with pytest.raises(SettingError) as caught:
        RefineSettings(**wrong)
    assert caught.value.code == Code.SETTING_INVALID and next(iter(wrong)) in str(caught.value)


def test_crf_on_a_constant_picture_keeps_a_clear_mask():
    picture, scores = two_halves()
    result = refine(np.full_like(picture, 90), scores, "pydensecrf")
    assert (result.labels_HW[:, :30] == 1).all() and (result.labels_HW[:, 34:] == 2).all()


def test_crf_does_not_write_into_its_arguments_and_repeats():
    picture, scores = two_halves()
    picture.setflags(write=False)
    before = scores.scores_CHW.copy()
    first, second = (refine(picture, scores, "pydensecrf", confidence=True) for _ in range(2))
    assert (first.confidence_HW == second.confidence_HW).all() and first.regions == second.regions
    assert (scores.scores_CHW == before).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (1, 400), (2, 2)], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_odd_sizes(size, method):
    result = refine(np.zeros((*size, 3), np.uint8), random_map(), method, confidence=True)
    assert result.labels_HW.shape == size and np.isfinite(result.confidence_HW).all()
    assert sum(region.area for region in result.regions) == size[0] * size[1]


def test_logits_of_any_height_give_finite_probabilities():
    result = refine(PICTURE, score_map(np.array([[[-60000.0]], [[60000.0]]])), confidence=True)
    assert (result.labels_HW == 2).all() and (result.confidence_HW == 1).all()


def test_options_are_read():
    assert parse_refinement("none") == ("none", RefineSettings())
    assert parse_refinement("pamr:iterations=4") == ("pamr", RefineSettings(iterations=4))
    assert parse_refinement("torch-crf:stride=1,floor=0.5,binary=true,largest_side=400") == (
        "torch-crf", RefineSettings(stride=1, floor=0.5, binary=True, largest_side=400))


@pytest.mark.parametrize("text", ["", "sam", "none:stride=1", "torch-crf:", "torch-crf:stride", "torch-crf:stride=two",
                                  "torch-crf:floor=nan", "torch-crf:binary=yes", "torch-crf:depth=3",
                                  "torch-crf:stride=0", "torch-crf stride=1"])
def test_options_that_are_not_understood(text):
    with pytest.raises(SettingError) as caught:
        parse_refinement(text)
    assert caught.value.code == Code.SETTING_INVALID


def test_options_change_the_result():
    scores = random_map()
    plain, more = (refine(PICTURE, scores, method, confidence=True).confidence_HW
                   for method in ("pydensecrf", "pydensecrf:iterations=5"))
    assert (plain != more).any()


def test_unknown_method():
    with pytest.raises(SettingError) as caught:
        refine(PICTURE, random_map(), "magic")
    assert caught.value.code == Code.SETTING_INVALID and "pydensecrf" in str(caught.value)


def test_missing_package_names_the_way_to_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(MissingPackageError) as caught:
        refine(PICTURE, random_map(), "pydensecrf")
    assert caught.value.code == Code.PACKAGE_MISSING
    assert "lexiseg[crf]" in str(caught.value) and "g++" in str(caught.value)
