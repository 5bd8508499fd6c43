"""Which classes are in an image at all."""

import pytest
import torch

from parsers.vocabulary import Vocabulary, VocabularyClass
from vision.clip.ensemble import name_lists
from vision.clip.presence import evidence, presence, present
from vision.clip.settings import ClipSettings

LISTS = name_lists(
    Vocabulary(background=("sky", "sea"), classes=(
        VocabularyClass(id=1, name="pet", subclasses=("dog", "cat")), VocabularyClass(id=2, name="car"))),
    ClipSettings(superclass_in_list=False))
COSINES = {"pet": 0.1, "dog": 0.5, "cat": 0.2, "car": 0.3, "sky": 0.0, "sea": 0.4}
TABLE = torch.tensor([[COSINES[word]] for word in LISTS.words])


@pytest.mark.parametrize(("source", "expected"), [("super", [0.4, 0.1, 0.3]), ("super_or_sub", [0.4, 0.5, 0.3])])
def test_evidence(source, expected):
    assert evidence(torch.ones(1), TABLE, LISTS, source).tolist() == pytest.approx(expected)


def test_a_weak_subclass_never_lowers_the_evidence_of_the_name():
    table = torch.tensor([[0.9 if word == "pet" else 0.1] for word in LISTS.words])
    assert evidence(torch.ones(1), table, LISTS, "super_or_sub")[1] == pytest.approx(0.9)


@pytest.mark.parametrize("thresholds", [{}, {"presence_threshold": 0.25}], ids=["relative", "calibrated"])
def test_less_evidence_means_a_lower_logit(thresholds):
    scores, bias = presence(torch.tensor([0.1, 0.2, 0.3, 0.4]), (1, 2, 3, 4), thresholds)
    assert (scores.diff() > 0).all() and (bias.diff() > 0).all()
    assert scores.min() >= 0 and scores.max() <= 1 and bias.max() <= 0
    assert torch.isfinite(bias).all()


@pytest.mark.parametrize("values", [[0.2], [0.2, 0.2, 0.2], [0.0, 0.0]], ids=str)
def test_equal_scores_change_nothing(values):
    scores, bias = presence(torch.tensor(values), tuple(range(1, len(values) + 1)), {})
    assert scores.tolist() == [0.5] * len(values) and bias.tolist() == [0.0] * len(values)


def test_background_is_always_present():
    scores, bias = presence(torch.tensor([-1.0, 0.1, 0.4]), (0, 1, 2), {})
    assert scores[0] == 1 and bias[0] == 0
    alone_scores, alone_bias = presence(torch.tensor([0.3]), (0,), {})
    assert alone_scores.tolist() == [1.0] and alone_bias.tolist() == [0.0]


def test_calibrated_numbers():
    scores, bias = presence(torch.tensor([0.3, 0.2]), (1, 2), {
        "presence_threshold": 0.3, "presence_temperature": 0.1, "presence_weight": 2.0})
    assert scores.tolist() == pytest.approx([0.5, 1 / (1 + 2.718281828)], abs=1e-5)
    assert bias.tolist() == pytest.approx([2 * -0.693147, 2 * -1.313262], abs=1e-4)


def test_relative_threshold_is_mean_plus_one_standard_deviation():
    values = torch.tensor([0.1, 0.2, 0.6])
    scores, bias = presence(values, (1, 2, 3), {})
    expected = ((values - values.mean() - values.std()) / values.std()).sigmoid()
    assert torch.allclose(scores, expected)
    assert bias.max() == 0


def test_extreme_scores_stay_finite():
    thresholds = {"presence_threshold": 0.5, "presence_temperature": 1e-4}
    scores, bias = presence(torch.tensor([-1.0, 1.0]), (1, 2), thresholds)
    assert scores.tolist() == [0.0, 1.0]
    assert torch.isfinite(bias).all()


IDS = tuple(range(1, 11))


def test_five_and_five_scores_leave_nothing():
    """Mean 0.2 and standard deviation 0.105: the better ones are 0.949 of it above the mean."""
    assert present(torch.tensor([0.3] * 5 + [0.1] * 5), IDS, top=10) == []


def test_the_ranking_is_cut_at_the_threshold_and_at_the_limit():
    scores = torch.tensor([0.1, 0.9, 0.1, 0.8, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    assert present(scores, IDS) == [1, 3]
    assert present(scores, IDS, limit=1) == [1]
    assert present(scores, IDS, sigma=2.0) == [1]
    assert present(scores, IDS, sigma=-1.0) == [1, 3, 0, 2, 4, 5, 6, 7, 8, 9]
    assert present(scores, IDS, sigma=0.5, top=2) == [1] and present(scores, IDS, top=2) == []


def test_a_background_uses_a_place_and_is_never_present():
    scores, ids = torch.tensor([0.9, 0.8, 0.7, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]), (0, *IDS[:9])
    assert present(scores, ids, sigma=0.5, limit=2) == [1]
    assert present(scores, ids, sigma=0.5) == [1, 2]


@pytest.mark.parametrize("count", [1, 2, 10])
def test_of_equal_scores_none_is_below_the_threshold(count):
    assert present(torch.full((count,), 0.1), IDS[:count], limit=5) == list(range(min(count, 5)))


def test_of_no_classes_none_is_present():
    assert present(torch.zeros(0), ()) == [] and present(torch.tensor([0.3]), (0,)) == []
