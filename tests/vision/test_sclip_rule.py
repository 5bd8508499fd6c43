"""SCLIP's way from windows to labels, against golden values of the methods' public code and against small cases."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from parsers.errors import SettingError
from parsers.vocabulary import Vocabulary, VocabularyClass
from tests.vision.test_clip_dense import golden, golden_tower, needs_golden
from vision.clip.dense import dense_features
from vision.clip.ensemble import name_lists
from vision.clip.sclip_rule import SclipRule, bands, enlarge_rows, resize, stitch
from vision.clip.settings import ClipSettings
from vision.clip.slide import cut_slide, plan_slide, scaled_size, sclip_rule, window_corners

RNG = np.random.default_rng(5)
QUERIES = [0, 0, 1, 2, 3, 4]


def golden_rule(variant, patch, size, window, stride, area=None):
    """The rule for the golden image: six names, the first two of the background."""
    tower, inputs = golden_tower(patch), golden("inputs")
    image, texts = torch.from_numpy(inputs["img_rect"][:1]), torch.from_numpy(inputs[f"text_p{patch}"])
    corners = window_corners((96, 128), window, stride) if stride else ((0, 0),)
    maps = []
    for top, left in corners:
        crop = image[:, :, top:top + window[0], left:left + window[1]]
        patches, _ = dense_features(tower, crop, variant)
        grid = (window[0] // patch, window[1] // patch)
        maps.append((texts @ F.normalize(patches[0], dim=-1).T).unflatten(1, grid))
    return SclipRule(maps_BNgq=torch.stack(maps).numpy(), corners=corners, window=window, size=(96, 128),
                     class_N=np.array(QUERIES), class_ids=(0, 1, 2, 3, 4), logit_scale=40.0, background_threshold=0.3,
                     area_threshold=area)


def labels_of(rule, size, refinement="none", image=None, device="cpu"):
    winner, sure, ids = rule.decide(np.zeros((*size, 3), np.uint8) if image is None else image, refinement, device)
    assert sure.min() >= 0 and sure.max() <= 1.0001
    return ids[winner]


@needs_golden
@pytest.mark.parametrize("variant", ["naclip", "sclip"])
@pytest.mark.parametrize("patch", [16, 8])
@torch.inference_mode()
def test_windows_and_whole_pictures_give_the_golden_labels(variant, patch):
    values = golden("segmentor")
    slide = golden_rule(variant, patch, (60, 88), (64, 64), 32)
    assert (labels_of(slide, (60, 88)) == values[f"{variant}_p{patch}_slide_pred"]).all()
    whole = golden_rule(variant, patch, (96, 128), (96, 128), 0)
    assert (labels_of(whole, (96, 128)) == values[f"{variant}_p{patch}_whole_pred"]).all()


@needs_golden
@torch.inference_mode()
def test_area_threshold_gives_the_golden_labels():
    values = golden("segmentor")
    rule = golden_rule("sclip", 16, (60, 88), (64, 64), 32, area=0.25)
    assert (labels_of(rule, (60, 88)) == values["sclip_p16_slide_area_pred"]).all()


@needs_golden
@torch.inference_mode()
def test_stitched_maps_and_probabilities_equal_the_golden_ones():
    values = golden("segmentor")
    rule = golden_rule("naclip", 16, (60, 88), (64, 64), 32)
    maps = stitch(torch.from_numpy(rule.maps_BNgq), rule.corners, rule.window, rule.size)
    assert np.abs(maps.numpy() - values["naclip_p16_slide_logits"]).max() <= 1e-4
    _, sure, _ = rule.decide(np.zeros((60, 88, 3), np.uint8), "none", "cpu")
    best = values["naclip_p16_slide_probs"].max(axis=0)  # divided by the sum over the classes, each the best of names
    expected = F.interpolate(maps[None], (60, 88), mode="bilinear")[0].mul(40).softmax(dim=0)
    classes = torch.stack([expected[[i for i, c in enumerate(QUERIES) if c == k]].amax(dim=0) for k in range(5)])
    assert np.abs((classes.amax(dim=0) / classes.sum(dim=0)).numpy() - best).max() <= 1e-4
    certain = values["naclip_p16_slide_pred"] > 0
    assert np.abs(sure - classes.amax(dim=0).numpy())[certain].max() <= 1e-4


@needs_golden
@pytest.mark.parametrize(("variant", "patch", "area"), [
    ("naclip", 16, None), ("naclip", 8, None), ("sclip", 16, None), ("sclip", 8, None), ("sclip", 16, 0.25),
    ("sclip", 8, 0.1)])
@torch.inference_mode()
def test_smoothed_maps_give_the_golden_labels(variant, patch, area, monkeypatch):
    """The resized picture is given, normalised as the public code has it."""
    monkeypatch.setattr("vision.clip.sclip_rule.resize",
                        lambda image, size: golden("inputs")["img_rect"][0].transpose(1, 2, 0))
    rule = golden_rule(variant, patch, (60, 88), (64, 64), 32, area)
    name = f"{variant}_p{patch}_slide_pamr{'_area' if area else ''}_pred"
    assert (labels_of(rule, (60, 88), "pamr") == golden("segmentor")[name]).all()


def rule_of(maps, classes, class_ids, **options):
    """One window that is the whole picture, cells of 8 pixels."""
    maps = np.asarray(maps, np.float32)
    size = (maps.shape[1] * 8, maps.shape[2] * 8)
    return SclipRule(**{"maps_BNgq": maps[None], "corners": ((0, 0),), "window": size, "size": size,
                        "class_N": np.array(classes), "class_ids": class_ids, "logit_scale": 40.0,
                        "background_threshold": 0.0, "area_threshold": None} | options)


def test_the_best_name_of_a_class_decides_and_a_name_twice_only_lowers_probabilities():
    maps = RNG.normal(size=(4, 3, 3)) / 10
    once, twice = rule_of(maps, [1, 1, 2, 2], (0, 5, 6)), rule_of(maps[[0, 1, 2, 3, 3]], [1, 1, 2, 2, 2], (0, 5, 6))
    picture = np.zeros((24, 24, 3), np.uint8)
    winner, sure, ids = once.decide(picture, "none", "cpu")
    again, less, _ = twice.decide(picture, "none", "cpu")
    assert (winner == again).all() and (less <= sure + 1e-6).all() and (less < sure - 1e-6).any()
    assert set(ids[winner].flat) <= {5, 6}


@pytest.mark.parametrize(("threshold", "expected"), [(0.0, {5, 6}), (1.0, {0})])
def test_threshold_zero_removes_the_background_and_one_makes_everything_background(threshold, expected):
    rule = rule_of(RNG.normal(size=(2, 3, 3)) / 30, [1, 2], (0, 5, 6), background_threshold=threshold)
    assert set(labels_of(rule, (30, 20)).flat) == expected


def test_small_classes_leave_their_pixels_to_the_next_best():
    maps = np.zeros((3, 4, 4))
    maps[0], maps[1] = 0.1, 0.2
    maps[2, 0, 0] = 0.9
    assert 7 in labels_of(rule_of(maps, [1, 2, 3], (0, 5, 6, 7)), (32, 32))
    assert set(labels_of(rule_of(maps, [1, 2, 3], (0, 5, 6, 7), area_threshold=0.2), (32, 32)).flat) == {6}


@pytest.mark.parametrize("refinement", ["none", "pamr"])
def test_nothing_depends_on_how_many_names_and_rows_go_at_once(monkeypatch, refinement):
    """The picture is higher than a band of PAMR with its margins of 160 rows."""
    rule = rule_of(RNG.normal(size=(20, 9, 5)), sorted(RNG.integers(1, 6, 20)), (0, 1, 2, 3, 4, 5), area_threshold=0.05,
                   background_threshold=0.2)
    picture = RNG.integers(0, 256, (510, 40, 3), dtype=np.uint8)
    whole = labels_of(rule, (510, 40), refinement, picture)
    assert len(np.unique(whole)) > 2
    monkeypatch.setattr("vision.clip.sclip_rule.CHUNK_VALUES", 7 * 510 * 40)
    monkeypatch.setattr("vision.clip.sclip_rule.BAND_PIXELS", 40 * 25)
    assert len(list(bands(510, 40, 0))) == 21 and len(list(bands(510, 40, 160))) == 4
    assert (labels_of(rule, (510, 40), refinement, picture) == whole).all()


def test_pamr_is_guided_by_the_picture_as_it_was_resized():
    """What is lost when the picture is made smaller moves no edge."""
    fine = np.indices((48, 48)).sum(axis=0)[:, :, None].repeat(3, axis=2) % 2 * np.uint8(255)
    rule = rule_of(RNG.normal(size=(3, 3, 3)), [1, 2, 3], (0, 5, 6, 7))
    grey = np.full((48, 48, 3), 128, np.uint8)
    assert (labels_of(rule, (48, 48), "pamr", fine.astype(np.uint8)) == labels_of(rule, (48, 48), "pamr", grey)).all()


@pytest.mark.gpu
@pytest.mark.parametrize("refinement", ["none", "pamr"])
def test_the_gpu_gives_the_labels_of_the_cpu(refinement):
    rule = rule_of(RNG.normal(size=(20, 4, 5)), sorted(RNG.integers(1, 6, 20)), (0, 1, 2, 3, 4, 5), area_threshold=0.05,
                   background_threshold=0.2)
    picture = RNG.integers(0, 256, (50, 70, 3), dtype=np.uint8)
    on_cpu, on_gpu = (labels_of(rule, (50, 70), refinement, picture, device) for device in ("cpu", "cuda"))
    assert (on_cpu == on_gpu).mean() > 0.999


@pytest.mark.parametrize("size", [(7, 9), (1, 1), (40, 31)], ids=str)
def test_rows_of_an_enlarged_map_are_those_of_the_whole(size):
    maps = torch.from_numpy(RNG.normal(size=(3, 7, 9)))
    whole = F.interpolate(maps[None], size, mode="bilinear")[0]
    torch.testing.assert_close(enlarge_rows(maps, size, 0, size[0]), whole)
    middle = size[0] // 2
    torch.testing.assert_close(enlarge_rows(maps, size, middle, size[0]), whole[:, middle:])


def test_a_constant_map_is_stitched_to_itself():
    corners = window_corners((50, 83), (32, 32), 16)
    maps = stitch(torch.full((len(corners), 2, 4, 4), 0.25), corners, (32, 32), (50, 83))
    assert maps.shape == (2, 50, 83) and torch.allclose(maps, torch.tensor(0.25))


@pytest.mark.parametrize(("size", "window", "stride", "expected"), [
    ((336, 448), (224, 224), 112, [(0, 0), (0, 112), (0, 224), (112, 0), (112, 112), (112, 224)]),
    ((224, 224), (224, 224), 112, [(0, 0)]), ((230, 224), (224, 224), 112, [(0, 0), (6, 0)]),
    ((40, 300), (40, 224), 112, [(0, 0), (0, 76)])], ids=str)
def test_windows_cover_the_picture_and_end_with_it(size, window, stride, expected):
    assert list(window_corners(size, window, stride)) == expected


@pytest.mark.parametrize(("size", "expected"), [
    ((375, 500), (336, 448)), ((500, 375), (448, 336)), ((100, 1000), (205, 2048)), ((1, 5000), (21, 2048)),
    ((336, 336), (336, 336)), ((1, 1), (336, 336))], ids=str)
def test_the_ratio_is_kept_within_limits(size, expected):
    assert scaled_size(*size, 336) == expected


def test_resize_takes_the_nearest_four_pixels():
    ramp = np.repeat(np.arange(0, 240, 10, dtype=np.uint8)[None, :, None], 6, axis=0).repeat(3, axis=2)
    assert resize(ramp, (6, 24)) is ramp
    assert (resize(ramp, (3, 12))[:, :, 0] == ramp[0, ::2, 0] + 5).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (40, 31), (200, 300)], ids=str)
def test_windows_of_pictures_of_any_size(size):
    for options in ({}, {"stride": 0}, {"stride": 20, "short_side": 40}):
        slide = plan_slide(*size, 32, ClipSettings(rule="sclip", **options))
        windows = list(cut_slide(RNG.integers(0, 256, (*size, 3), dtype=np.uint8), slide))
        assert len(windows) == len(slide.corners) and all(w.shape == (*slide.window, 3) for w in windows)


def test_a_name_of_two_classes_takes_part_twice_and_very_many_names_are_cut_to_the_best(monkeypatch):
    vocabulary = Vocabulary(classes=(VocabularyClass(id=3, name="dog", subclasses=("puppy",)),
                                     VocabularyClass(id=8, name="wolf", subclasses=("puppy",))))
    lists = name_lists(vocabulary, ClipSettings())
    slide = plan_slide(32, 32, 32, ClipSettings(rule="sclip", stride=0, short_side=32))
    maps = [torch.randn(len(lists.words), 16)]
    rule = sclip_rule(maps, slide, lists, 8, 40.0, ClipSettings(rule="sclip", background_threshold=0.9))
    assert rule.class_ids == (0, 3, 8) and rule.class_N.tolist() == [1, 1, 2, 2] and rule.background_threshold == 0
    assert rule.maps_BNgq.shape == (1, 4, 4, 4) and (rule.maps_BNgq[0, 1] == rule.maps_BNgq[0, 3]).all()
    monkeypatch.setattr("vision.clip.slide.MOST_NAMES", 2)
    assert sclip_rule(maps, slide, lists, 8, 40.0, ClipSettings(rule="sclip")).maps_BNgq.shape[1] == 2


@pytest.mark.parametrize(("refinement", "allowed"), [("pydensecrf", "none, pamr"), ("pamr:iterations=5", "no options")])
def test_another_refinement_is_refused(refinement, allowed):
    with pytest.raises(SettingError) as caught:
        labels_of(rule_of(np.zeros((1, 2, 2)), [1], (0, 5)), (4, 4), refinement)
    assert allowed in caught.value.allowed
