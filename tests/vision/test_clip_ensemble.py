"""Several names per class, and their map."""

import numpy as np
import pytest
import torch

from parsers.vocabulary import Vocabulary, VocabularyClass
from tests.vision.test_clip_dense import golden, needs_golden
from vision.clip.ensemble import class_maps, class_texts, list_weights, min_max, name_lists, scaled_maps
from vision.clip.settings import ENSEMBLES, ClipSettings

PET = VocabularyClass(id=3, name="pet", synonyms=("companion",), subclasses=("dog", "cat"))
BIRD = VocabularyClass(id=7, name="bird")
VOCABULARY = Vocabulary(classes=(PET, BIRD))
WORDS = ("pet", "bird", "companion", "dog", "cat")  # the rows of the table; names of classes come first
PET_ROWS, BIRD_ROW = [0, 2, 3, 4], 1


def unit(*shape, seed=0):
    vectors = torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))
    return torch.nn.functional.normalize(vectors, dim=-1)


def words_of(lists, row):
    return [lists.words[i] for i, valid in zip(lists.lists_CM[row], lists.valid_CM[row], strict=True) if valid]


@pytest.mark.parametrize(("options", "expected"), [
    ({}, ["pet", "companion", "dog", "cat"]),
    ({"subclass_count": 1}, ["pet", "companion", "dog"]),
    ({"subclass_count": 0}, ["pet", "companion"]),
    ({"superclass_in_list": False}, ["dog", "cat"]),
    ({"superclass_in_list": False, "subclass_count": 1}, ["dog"]),
    ({"superclass_in_list": False, "subclass_count": 0}, ["pet", "companion"])], ids=str)
def test_list_of_a_class(options, expected):
    lists = name_lists(VOCABULARY, ClipSettings(**options))
    assert words_of(lists, 0) == expected
    assert words_of(lists, 1) == ["bird"]
    assert set(lists.words) <= set(WORDS) and lists.words[:2] == WORDS[:2]
    assert lists.class_ids == (3, 7) and lists.class_names == ("pet", "bird")
    assert [lists.words[i] for i in lists.own_C] == ["pet", "bird"]


def test_background_is_its_words_minus_the_names_of_classes():
    vocabulary = Vocabulary(classes=(PET, BIRD), background=("sky", "bird", "companion", "grass"))
    lists = name_lists(vocabulary, ClipSettings())
    assert lists.class_ids == (0, 3, 7) and lists.class_names[0] == "background"
    assert words_of(lists, 0) == ["sky", "grass"]


def test_no_background_class_without_background_words():
    assert 0 not in name_lists(VOCABULARY, ClipSettings()).class_ids
    only_own = Vocabulary(classes=(PET, BIRD), background=("bird",))
    assert 0 not in name_lists(only_own, ClipSettings()).class_ids


def maps_of(vocabulary, ensemble, temperature=0.02, seed=0, **options):
    lists = name_lists(vocabulary, ClipSettings(**options))
    table = unit(len(lists.words), 16, seed=seed)
    patches, pooled = unit(20, 16, seed=seed + 1), unit(16, seed=seed + 2)
    return class_maps(patches, pooled, table, lists, ensemble, temperature), patches, pooled, table, lists


@pytest.mark.parametrize(("ensemble", "temperature"), [("code", 1.0), ("softmax", 0.02), ("softmax", 0.5)])
def test_map_of_the_weighted_text_is_the_weighted_sum_of_maps(ensemble, temperature):
    maps, patches, pooled, table, _ = maps_of(VOCABULARY, ensemble, temperature)
    names = table[PET_ROWS]
    weights = ((names @ pooled) / temperature).softmax(dim=0)
    assert torch.allclose(maps[0], (weights[:, None] * (names @ patches.T)).sum(dim=0), atol=1e-5)
    assert torch.allclose(maps[1], table[BIRD_ROW] @ patches.T, atol=1e-6)


def test_code_ignores_the_temperature():
    assert torch.equal(maps_of(VOCABULARY, "code", 0.02)[0], maps_of(VOCABULARY, "code", 5.0)[0])


def test_max_is_the_largest_map():
    maps, patches, _, table, _ = maps_of(VOCABULARY, "max")
    assert torch.allclose(maps[0], (table[PET_ROWS] @ patches.T).amax(dim=0))
    assert torch.allclose(maps[1], table[BIRD_ROW] @ patches.T)


def test_map_mean_is_the_mean_of_scaled_maps_in_their_mean_range():
    maps, patches, _, table, _ = maps_of(VOCABULARY, "map-mean")
    single = table[PET_ROWS] @ patches.T
    low, high = single.amin(dim=1, keepdim=True), single.amax(dim=1, keepdim=True)
    expected = ((single - low) / (high - low)).mean(dim=0) * (high - low).mean() + low.mean()
    assert torch.allclose(maps[0], expected, atol=1e-6)
    assert torch.allclose(maps[1], table[BIRD_ROW] @ patches.T, atol=1e-6)


@pytest.mark.parametrize("ensemble", sorted(set(ENSEMBLES) - {"auto"}))
def test_one_name_per_class_is_the_plain_similarity(ensemble):
    """Also K = 1 with the class name as its own subclass."""
    itself = VocabularyClass(id=1, name="pet", subclasses=("pet", "dog"))
    own = Vocabulary.model_construct(background=(), classes=(itself, BIRD))  # a vocabulary would refuse it
    maps, patches, _, table, lists = maps_of(own, ensemble, subclass_count=1)
    assert lists.words == ("pet", "bird")
    assert torch.equal(maps, table @ patches.T)


@pytest.mark.parametrize("ensemble", sorted(set(ENSEMBLES) - {"auto"}))
def test_background_is_the_maximum_whatever_the_ensemble(ensemble):
    vocabulary = Vocabulary(classes=(PET, BIRD), background=("sky", "grass"))
    maps, patches, _, table, lists = maps_of(vocabulary, ensemble)
    rows = [lists.words.index(word) for word in ("sky", "grass")]
    assert torch.allclose(maps[0], (table[rows] @ patches.T).amax(dim=0), atol=1e-6)
    assert maps.shape == (3, 20)


def test_min_max_of_a_constant_map_is_not_nan():
    assert torch.equal(min_max(torch.full((2, 5), 0.3)), torch.zeros(2, 5))


def test_a_constant_picture_survives_map_mean():
    lists = name_lists(VOCABULARY, ClipSettings())
    patches, table = unit(1, 16).expand(20, 16), unit(len(lists.words), 16, seed=4)
    maps = class_maps(patches, unit(16, seed=5), table, lists, "map-mean", 0.02)
    assert torch.allclose(maps[0], (table[PET_ROWS] @ patches[0]).mean().expand(20), atol=1e-6)


@needs_golden
@pytest.mark.parametrize("case", ["a", "b"])
def test_code_weights_equal_the_golden_ones(case):
    values = golden("simseg")
    table = torch.from_numpy(values[f"{case}_S"])
    counts = values[f"{case}_sub_counts"]
    starts = np.concatenate([[0], np.cumsum(counts)])
    pooled = torch.from_numpy(values[f"{case}_z"])
    for index, entry in enumerate(values[f"{case}_sub_weighted_class"]):
        rows = torch.arange(starts[entry], starts[entry + 1])[None]
        text = class_texts(pooled, table, rows, torch.ones_like(rows, dtype=torch.bool), "code", 1.0)
        assert np.abs(text[0].numpy() - values[f"{case}_sub_weighted"][index]).max() < 1e-6


def test_mean_is_the_map_of_the_mean_text():
    maps, patches, _, table, _ = maps_of(VOCABULARY, "mean")
    assert torch.allclose(maps[0], patches @ table[PET_ROWS].mean(dim=0), atol=1e-6)
    assert torch.allclose(maps[1], table[BIRD_ROW] @ patches.T, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_superclass_plus_lambda_times_its_other_names(weight):
    lists = name_lists(VOCABULARY, ClipSettings())
    table, patches, pooled = unit(len(lists.words), 16), unit(20, 16, seed=1), unit(16, seed=2)
    others = table[PET_ROWS[1:]]
    mixture = ((others @ pooled) / 0.02).softmax(dim=0) @ others
    maps = class_maps(patches, pooled, table, lists, "super+lambda", 0.02, weight)
    assert torch.allclose(maps[0], patches @ (table[0] + weight * mixture) / (1 + weight), atol=1e-5)
    assert torch.allclose(maps[1], patches @ table[BIRD_ROW], atol=1e-6)


def test_superclass_counts_even_where_it_is_not_in_the_list():
    lists = name_lists(VOCABULARY, ClipSettings(superclass_in_list=False, subclass_count=1))
    table, patches, pooled = unit(len(lists.words), 16), unit(20, 16, seed=1), unit(16, seed=2)
    maps = class_maps(patches, pooled, table, lists, "super+lambda", 0.02, 1.0)
    pet, dog = (table[lists.words.index(word)] for word in ("pet", "dog"))
    assert torch.allclose(maps[0], patches @ (pet + dog) / 2, atol=1e-6)


def test_votes_are_counted_where_a_map_is_above_the_middle_of_its_range():
    maps, patches, pooled, table, _ = maps_of(VOCABULARY, "mask-vote", 0.05)
    single = table[PET_ROWS] @ patches.T
    low, high = single.amin(dim=1, keepdim=True), single.amax(dim=1, keepdim=True)
    weights = ((table[PET_ROWS] @ pooled) / 0.05).softmax(dim=0)
    votes = (weights[:, None] * ((single - low) / (high - low) > 0.5)).sum(dim=0)
    assert torch.allclose(maps[0], low.mean() + (high - low).mean() * votes, atol=1e-5)


@pytest.mark.parametrize("ensemble", sorted(set(ENSEMBLES) - {"auto"}))
def test_scaled_maps_are_those_of_the_classes_asked_for(ensemble):
    lists = name_lists(Vocabulary(classes=(PET, BIRD), background=("sky",)), ClipSettings())
    table, patches, pooled = unit(len(lists.words), 16), unit(20, 16, seed=1), unit(16, seed=2)
    maps, weights = scaled_maps(patches, pooled, table, lists, [1, 2], ensemble, 0.02)
    assert maps.amin() == 0 and maps.amax() <= 1 + 1e-6 and torch.allclose(weights.sum(dim=1), torch.ones(2))
    assert maps.shape == (2, 4 if ensemble == "mask-vote" else 1, 20)
    if ensemble != "mask-vote":
        whole = class_maps(patches, pooled, table, lists, ensemble, 0.02)
        assert torch.allclose(maps[:, 0], min_max(whole[1:]), atol=1e-5)
    none, _ = scaled_maps(patches, pooled, table, lists, [], ensemble, 0.02)
    assert none.shape[0] == 0


def test_weights_of_a_list_sum_to_one_and_leave_out_filling():
    lists = name_lists(VOCABULARY, ClipSettings())
    for kind in ("mean", "code", "softmax"):
        weights = list_weights(unit(16), unit(len(lists.words), 16), lists.lists_CM, lists.valid_CM, kind, 0.02)
        assert torch.allclose(weights.sum(dim=1), torch.ones(2)) and weights[1, 1:].abs().max() == 0
