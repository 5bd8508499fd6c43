"""Which subclasses are left out."""

import pytest
import torch

from parsers.errors import Code, SettingError
from parsers.vocabulary import Vocabulary, VocabularyClass
from vision.clip.filters import filter_subclasses

VECTORS = {"pet": (1, 0, 0), "car": (0, 1, 0), "dog": (0.9, 0.1, 0.1), "hound": (0.9, 0.1, 0.12),
           "cat": (0.8, 0.2, 0.5), "taxi": (0.1, 0.95, 0.1), "cab": (0.2, 0.9, 0.4), "odd": (-0.2, -0.3, 0.9),
           "carriage": (0.3, 0.7, 0.6)}


def embed(names):
    return torch.nn.functional.normalize(torch.tensor([VECTORS[name] for name in names], dtype=torch.float32), dim=-1)


def kept(method, cutoff=None, pet=("dog", "hound", "cat"), car=("taxi", "cab")):
    vocabulary = Vocabulary(background=("sky",), classes=(
        VocabularyClass(id=1, name="pet", subclasses=pet), VocabularyClass(id=4, name="car", subclasses=car)))
    found = filter_subclasses(vocabulary, embed, method, cutoff)
    assert [entry.id for entry in found.classes] == [1, 4] and found.background == ("sky",)
    return [entry.subclasses for entry in found.classes]


def test_none_keeps_all():
    assert kept("none") == [("dog", "hound", "cat"), ("taxi", "cab")]


def by_hand(names, cutoff):
    """The published loop: of each unlike pair that is still there, the one with the smaller sum goes."""
    cosine = embed(names) @ embed(names).T
    gone = set()
    for i in range(len(names)):
        for j in range(len(names)):
            if cosine[i, j] <= cutoff and i != j and i not in gone and j not in gone:
                gone.add(i if cosine[i].sum() < cosine[j].sum() else j)
    return [name for index, name in enumerate(names) if index not in gone]


@pytest.mark.parametrize("cutoff", [0.1, 0.3, 0.46, 0.7, 0.9, 1.0])
def test_published_filter_equals_the_plain_loop(cutoff):
    pet, car = ("dog", "odd", "cat"), ("cab", "taxi", "carriage")
    found = kept("published", cutoff, pet, car)
    assert [*found[0], *found[1]] == by_hand([*pet, *car], cutoff)


def test_published_filter_drops_what_is_like_nothing():
    assert kept("published", 0.3, ("dog", "cat", "odd", "carriage"), ("cab",))[0] == ("dog", "cat", "carriage")


def test_too_like_a_class_name():
    assert kept("published-names") == [("cat",), ("cab",)]
    assert kept("published-names", 0.999) == [("dog", "hound", "cat"), ("taxi", "cab")]


def test_own_drops_duplicates_and_names_of_another_class():
    assert kept("own", None, ("dog", "hound", "cat", "carriage"), ("taxi", "cab")) == [("dog", "cat"), ("taxi", "cab")]


@pytest.mark.parametrize("method", ["published", "published-names", "own"])
def test_without_subclasses_nothing_happens(method):
    assert kept(method, None, (), ()) == [(), ()]


def test_too_many_for_all_pairs(monkeypatch):
    monkeypatch.setattr("vision.clip.filters.MOST", 3)
    with pytest.raises(SettingError) as caught:
        kept("published")
    assert caught.value.code == Code.SETTING_INVALID and "5 subclasses" in caught.value.given
