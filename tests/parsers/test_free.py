"""What is said of a picture as its vocabulary, and the names of all pictures as one."""

from __future__ import annotations

import itertools

import pytest

from parsers import ObjectPrior, ScenePriors, Vocabulary, VocabularyError
from parsers.free import PLACES, merged_vocabulary, names_of, own_vocabulary, things_named
from parsers.prepared import PreparedRow


def said(*things, absent=(), presence=(), key="a.png", model="nobody"):
    """things: "dog", or "red big dog" with attributes before the name."""
    objects = tuple(ObjectPrior(name=thing.split()[-1], lemma=thing.split()[-1], attributes=tuple(thing.split()[:-1]))
                    for thing in things)
    return PreparedRow(image_id=key, prompt_id="detailed", model_id=model, presence=dict(presence),
                       priors=ScenePriors(text="a text", objects=objects, absent=tuple(absent)))


def test_things_are_called_with_their_attributes_too():
    named = names_of(said("red car", "dog", "old blue Car"))
    assert named == {"car": ("red car", "old car", "blue car"), "dog": ()}
    vocabulary = own_vocabulary(named)
    assert [(entry.id, entry.name, entry.subclasses) for entry in vocabulary.classes] == [
        (1, "car", ("red car", "old car", "blue car")), (2, "dog", ())]
    assert vocabulary.background_words == PLACES


def test_what_is_denied_is_not_looked_for():
    row = said("dog", "cat", "car", "sheep", absent=["cars"], presence={"cat": False, "dog": None, "sheep": True})
    row = row.model_copy(update={"priors": row.priors.model_copy(update={"absent": ("Car",)})})
    assert list(things_named(row.priors)) == ["cat", "dog", "sheep"]
    assert list(names_of(row)) == ["dog", "sheep"]


@pytest.mark.parametrize("name", ["background", "\x07bell", "...", "сat", "x" * 300])
def test_what_cannot_be_a_class_is_left_out(name):
    row = PreparedRow(image_id="a", prompt_id="simple", model_id="nobody", priors=ScenePriors(
        text="", objects=(ObjectPrior(name=name, lemma=name), ObjectPrior(name="dog", lemma="dog"))))
    assert list(names_of(row)) == ["dog"]


def test_a_phrase_never_repeats_another_name():
    row = PreparedRow(image_id="a", prompt_id="simple", model_id="nobody", priors=ScenePriors(text="", objects=(
        ObjectPrior(name="bear", lemma="bear", attributes=("polar",)),
        ObjectPrior(name="polar bear", lemma="polar bear", attributes=("big", "\x00")))))
    assert names_of(row) == {"bear": (), "polar bear": ("big polar bear",)}
    own_vocabulary(names_of(row))


def test_one_vocabulary_for_all_whatever_the_order():
    rows = [said("red dog", model="b"), said("dog", "zebra", model="a"), said(), said("Cat", presence={"cat": None})]
    found = {merged_vocabulary(order).digest for order in itertools.permutations(rows)}
    merged = merged_vocabulary(rows)
    assert found == {merged.digest}
    assert [(entry.id, entry.name) for entry in merged.classes] == [(1, "cat"), (2, "dog"), (3, "zebra")]
    assert merged.classes[1].subclasses == () and merged.classes[1].provenance.model == "a"
    assert merged_vocabulary([said()]).classes == ()


def test_a_picture_and_its_job_agree_in_order_and_colour():
    rows = [said("dog", "ape"), said("zebra", "bus")]
    merged = merged_vocabulary(rows)
    ids = {entry.name: entry.id for entry in merged.classes}
    for row in rows:
        alone, together = own_vocabulary(names_of(row)), own_vocabulary(names_of(row), ids)
        assert [entry.id for entry in alone.classes] == [1, 2]
        assert list(together.names.values()) == list(alone.names.values()) and list(together.names) == sorted(
            together.names)
        assert [entry.rgb for entry in alone.classes] == [entry.rgb for entry in together.classes]
        assert {entry.name: entry.rgb for entry in together.classes}.items() <= {
            entry.name: entry.rgb for entry in merged.classes}.items()


def test_ids_leave_out_the_one_that_means_ignore():
    merged = merged_vocabulary([said(*(f"thing{number:03}" for number in range(300)))])
    assert 255 not in merged.names and max(merged.names) == 301
    Vocabulary.model_validate(merged.model_dump())


def test_too_many_names_are_refused(monkeypatch):
    monkeypatch.setattr("parsers.free.MAX_ID", 4)
    monkeypatch.setattr("parsers.vocabulary.MAX_ID", 4)
    with pytest.raises(VocabularyError, match="4 class names"):
        merged_vocabulary([said("a1", "b1", "c1", "d1")])
