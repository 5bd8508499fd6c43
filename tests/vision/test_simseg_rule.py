"""SimSeg's way from maps to labels, against golden values of its public code and against small cases."""

import numpy as np
import pytest
import torch

from parsers.errors import SettingError
from parsers.vocabulary import Vocabulary, VocabularyClass
from tests.vision.test_clip_dense import golden, needs_golden
from vision.clip.ensemble import name_lists, scaled_maps
from vision.clip.loda import loda_pool
from vision.clip.presence import evidence, present
from vision.clip.settings import ClipSettings
from vision.clip.simseg_rule import (
    SimSegRule,
    binary_crf,
    nearest,
    normalised_and_back,
    repeat,
    smooth_mask,
)
from vision.refine import refine
from vision.types import ScoreMap

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RNG = np.random.default_rng(7)


def golden_lists(values, case, subclasses):
    """Class 0 is the background; with subclasses the rows of `S` follow those of `T`."""
    counts = values[f"{case}_sub_counts"]
    classes = tuple(
        VocabularyClass(id=c, name=f"class {c}",
                        subclasses=tuple(f"kind {c} {i}" for i in range(counts[c])) if subclasses else ())
        for c in range(1, len(counts)))
    lists = name_lists(Vocabulary(background=("nothing",), classes=classes),
                       ClipSettings(superclass_in_list=not subclasses))
    starts = np.cumsum(counts) - counts
    rows = []
    for word in lists.words:
        kind, *numbers = word.split()
        number = [int(n) for n in numbers]
        rows.append(values[f"{case}_T"][0] if kind == "nothing" else values[f"{case}_T"][number[0]] if kind == "class"
                    else values[f"{case}_S"][starts[number[0]] + number[1]])
    return lists, torch.from_numpy(np.stack(rows))


def golden_rule(values, case, subclasses, **options):
    lists, table = golden_lists(values, case, subclasses)
    tokens, pooled = torch.from_numpy(values[f"{case}_tokens"]), torch.from_numpy(values[f"{case}_z"])
    scores = evidence(pooled, table, lists, "super")
    ranked = present(scores, lists.class_ids, top=len(values[f"{case}_topk_scores"]), sigma=1.0, limit=5)
    rows = sorted(ranked)
    patches = torch.nn.functional.normalize(tokens, dim=-1)
    maps, weights = scaled_maps(patches, pooled, table, lists, rows, options.pop("ensemble", "code"), 1.0)
    rule = SimSegRule(maps_KMgg=maps.unflatten(2, (18, 18)).numpy(), weights_KM=weights.numpy(), class_ids=tuple(rows),
                      scores=tuple(scores[rows].tolist()), side=288, interpolation="bilinear", mean=MEAN, std=STD,
                      **options)
    return rule, ranked


@needs_golden
@pytest.mark.parametrize("case", ["a", "b"])
@pytest.mark.parametrize("subclasses", [False, True], ids=["simseg", "llm-supervision"])
def test_every_step_equals_the_golden_one(case, subclasses, monkeypatch):
    values = golden("simseg")
    prefix = f"{case}_sub_" if subclasses else f"{case}_"
    rule, ranked = golden_rule(values, case, subclasses)
    assert ranked == values[prefix + "mask_class"].tolist()
    assert np.abs(rule.maps_KMgg[:, 0] - values[prefix + "rough_norm"]).max() < 1e-5
    picture = normalised_and_back(values[f"{case}_image"], MEAN, STD)
    assert (picture == values[f"{case}_image"] - values[f"{case}_image_minus"]).all()
    for index in range(len(ranked)):
        mask = binary_crf(picture, repeat(rule.maps_KMgg[index], 288)[0])
        assert (mask == values[prefix + "crf"][index]).all()
        assert (smooth_mask(mask, "closing") == values[prefix + "closed"][index]).all()
    size = values[f"{case}_gt"].shape
    monkeypatch.setattr("vision.clip.simseg_rule.squash", lambda image, side, interpolation: values[f"{case}_image"])
    score_map = ScoreMap(scores_CHW=np.zeros((1, 1, 1), np.float16), class_ids=(0,), names=("background",),
                         image_scores_C=np.zeros(1, np.float32), rule=rule)
    labels = refine(np.zeros((*size, 3), np.uint8), score_map, "pydensecrf").labels_HW
    assert (labels == values[prefix + "pred"]).all()


@needs_golden
def test_the_crf_in_torch_gives_the_golden_masks_too():
    values = golden("simseg")
    picture = normalised_and_back(values["a_image"], MEAN, STD)
    for rough, mask in zip(values["a_rough_norm"], values["a_crf"], strict=True):
        assert (binary_crf(picture, repeat(rough[None], 288)[0], "torch-crf") == mask).mean() > 0.999


@needs_golden
@pytest.mark.parametrize("case", ["a", "b"])
def test_weighted_text_equals_the_golden_one(case):
    from vision.clip.ensemble import class_texts, list_weights

    values = golden("simseg")
    lists, table = golden_lists(values, case, True)
    pooled = torch.from_numpy(values[f"{case}_z"])
    for row, class_id in enumerate(values[f"{case}_sub_weighted_class"]):
        listed, valid = lists.lists_CM[[class_id]], lists.valid_CM[[class_id]]
        weights = list_weights(pooled, table, listed, valid, "code", 1.0)[0][valid[0]].numpy()
        expected = values[f"{case}_sub_weights"][row]
        assert np.abs(weights - expected[~np.isnan(expected)]).max() < 1e-6
        text = class_texts(pooled, table, listed, valid, "code", 1.0)[0].numpy()
        assert np.abs(text - values[f"{case}_sub_weighted"][row]).max() < 1e-6


@needs_golden
@pytest.mark.parametrize("case", ["a", "b"])
def test_image_vector_and_ranking_equal_the_golden_ones(case):
    values = golden("simseg")
    pooled = loda_pool(torch.from_numpy(values[f"{case}_tokens"])[None])[0]
    assert np.abs(pooled.numpy() - values[f"{case}_z"]).max() < 1e-6
    scores = torch.from_numpy(values[f"{case}_T"]) @ pooled
    top = len(values[f"{case}_topk_scores"])
    best, order = scores.topk(top)
    assert order.tolist() == values[f"{case}_topk_index"].tolist()
    assert np.abs(best.numpy() - values[f"{case}_topk_scores"]).max() < 1e-6


def rule_of(maps, scores, **options):
    """One map per class, cells of 4 pixels."""
    maps = np.asarray(maps, np.float32)
    options = {"weights_KM": np.ones((len(maps), 1), np.float32)} | options
    if maps.ndim == 3:
        maps = maps[:, None]
    return SimSegRule(maps_KMgg=maps, class_ids=tuple(range(3, 3 + len(maps))), scores=tuple(scores),
                      side=maps.shape[-1] * 4, interpolation="bilinear", mean=MEAN, std=STD,
                      **{"morphology": "none"} | options)


def labels_of(rule, size=(16, 16), refinement="none"):
    winner, sure, ids = rule.decide(RNG.integers(0, 256, (*size, 3), dtype=np.uint8), refinement, "cpu")
    assert sure.min() >= 0 and sure.max() <= 1 and ids[0] == 0
    return ids[winner]


LEFT, ALL = np.zeros((4, 4)), np.ones((4, 4))
LEFT[:, :2] = 1


def test_the_class_with_the_higher_image_score_wins_the_overlap():
    assert (labels_of(rule_of([LEFT, ALL], [0.3, 0.2]))[:, :8] == 3).all()
    assert (labels_of(rule_of([LEFT, ALL], [0.2, 0.3])) == 4).all()


def test_overlap_by_pixel_looks_at_the_map():
    weak = np.full((4, 4), 0.6)
    assert (labels_of(rule_of([weak, LEFT], [0.3, 0.2], overlap_rule="pixel"))[:, :8] == 4).all()
    assert (labels_of(rule_of([weak, LEFT], [0.3, 0.2], overlap_rule="image")) == 3).all()


def test_what_no_mask_covers_and_a_score_of_nothing_are_background():
    assert (labels_of(rule_of([LEFT], [0.3]))[:, 8:] == 0).all()
    assert (labels_of(rule_of([ALL, ALL], [0.0, -0.1])) == 0).all()


def test_nothing_present_is_all_background():
    empty = rule_of(np.zeros((0, 1, 4, 4)), [], weights_KM=np.zeros((0, 1), np.float32))
    assert (labels_of(empty, (5, 9)) == 0).all()


@pytest.mark.parametrize(("vote", "expected"), [("majority", 0), ("union", 3)])
def test_masks_vote(vote, expected):
    rule = rule_of([[LEFT, 1 - LEFT, np.zeros((4, 4))]], [0.3], vote=vote,
                   weights_KM=np.array([[0.6, 0.4, 0.0]], np.float32))
    labels = labels_of(rule)
    assert (labels[:, :8] == 3).all() and (labels[:, 8:] == expected).all()


def test_crf_of_a_constant_colour_keeps_a_large_mask():
    pytest.importorskip("pydensecrf")
    map_SS = np.full((48, 48), 0.1, np.float32)
    map_SS[:, :24] = 0.9
    grey = np.full((48, 48, 3), 90, np.uint8)
    assert (binary_crf(grey, map_SS) == (map_SS > 0.5)).mean() > 0.98
    assert binary_crf(grey, np.full((48, 48), 0.9, np.float32)).all()


def brute_morphology(mask, grow, shrink):
    for times, what in ((grow, np.max), (shrink, np.min)):
        for _ in range(times):
            filled = np.pad(mask, 3, constant_values=what is np.min)
            mask = np.array([[what(filled[y:y + 7, x:x + 7]) for x in range(mask.shape[1])]
                             for y in range(mask.shape[0])])
    return mask


def test_closing_is_one_dilation_and_one_erosion_and_the_other_is_different():
    mask = RNG.random((40, 33)) < 0.03
    closed, grown = smooth_mask(mask, "closing"), smooth_mask(mask, "dilate5-erode3")
    assert (closed == brute_morphology(mask, 1, 1)).all() and (grown == brute_morphology(mask, 5, 3)).all()
    assert (closed != grown).any() and (smooth_mask(mask, "none") == mask).all()
    assert not (mask & ~closed).any()


def test_nearest_repeats_and_drops():
    assert nearest(4, 8).tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and nearest(4, 2).tolist() == [0, 2]
    assert nearest(288, 1).tolist() == [0] and nearest(2, 3).tolist() == [0, 0, 1]


@pytest.mark.parametrize(("refinement", "allowed"), [("pamr", "torch-crf"), ("torch-crf:stride=1", "no options")])
def test_another_refinement_is_refused(refinement, allowed):
    with pytest.raises(SettingError) as caught:
        labels_of(rule_of([LEFT], [0.3]), refinement=refinement)
    assert allowed in caught.value.allowed


@pytest.mark.gpu
def test_the_crf_on_the_gpu_gives_the_mask_of_the_cpu():
    picture = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    maps = repeat(RNG.random((1, 8, 8)).astype(np.float32), 64)[0]
    on_cpu, on_gpu = (binary_crf(picture, maps, "torch-crf", device) for device in ("cpu", "cuda"))
    assert (on_cpu == on_gpu).mean() > 0.999
