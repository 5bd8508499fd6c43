import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers import Code, Provenance, Vocabulary, VocabularyClass, VocabularyError
from parsers.names import name_key

LLM = Provenance(source="llm", model="llava-phi2", date="2026-11-21")
OTHER_LLM = Provenance(source="llm", model="other", date="2026-11-22")
USER = Provenance(source="user")


def entry(number, name, **fields):
    return VocabularyClass(id=number, name=name, **fields)


def words(*entries, background=()):
    return Vocabulary(classes=entries, background=background)


def test_merging_adds_classes_words_and_values():
    one = words(entry(3, "dog", synonyms=("hound",), subclasses=("poodle",)), entry(1, "animal"), background=("sky",))
    other = words(entry(7, "Animal X"), entry(1, "Animal", gloss="living"),
                  entry(3, "dog", subclasses=("Poodle", "husky", "hound"), parent="Animal", color="#ff0000"),
                  background=("Sky", "wall"))
    merged = one.merge(other)
    assert merged.names == {3: "dog", 1: "animal", 7: "Animal X"}, "ids and order of the first, then what is new"
    dog = merged.classes[0]
    assert dog.subclasses == ("poodle", "husky") and dog.synonyms == ("hound",) and dog.color == "#ff0000"
    assert dog.parent == "animal", "a parent is written as the merged vocabulary writes it"
    assert merged.classes[1].gloss == "living" and merged.background == ("sky", "wall")


def test_the_result_is_not_frozen_and_inputs_stay():
    one = words(entry(1, "dog")).frozen()
    merged = one.merge(words(entry(2, "cat")).frozen())
    assert not merged.is_frozen and merged.names == {1: "dog", 2: "cat"} and one.names == {1: "dog"}


@pytest.mark.parametrize(("first", "second", "kept"), [
    pytest.param(None, None, None, id="none"), pytest.param(USER, None, USER, id="first only"),
    pytest.param(None, LLM, LLM, id="second only"), pytest.param(LLM, LLM, LLM, id="the same"),
    pytest.param(USER, LLM, LLM, id="a model's words join a person's"),
    pytest.param(LLM, USER, LLM, id="a person's words join a model's"),
])
def test_provenance_is_kept(first, second, kept):
    merged = words(entry(1, "dog", provenance=first)).merge(words(entry(1, "dog", provenance=second)))
    assert merged.classes[0].provenance == kept
    assert words(entry(1, "cat")).merge(words(entry(2, "dog", provenance=LLM))).classes[1].provenance == LLM


@pytest.mark.parametrize(("first", "second", "parts"), [
    pytest.param([entry(1, "dog")], [entry(1, "cat")], ["class 1 'dog'", "class 1 'cat'", "one id"], id="one id"),
    pytest.param([entry(1, "dog")], [entry(2, "Dog")], ["class 1 'dog'", "class 2 'Dog'"], id="two ids"),
    pytest.param([entry(1, "dog", gloss="animal")], [entry(1, "dog", gloss="food")],
                 ["gloss of class 1 'dog'", "'animal'", "'food'"], id="gloss"),
    pytest.param([entry(1, "dog", color="#000000")], [entry(1, "dog", color="#ffffff")],
                 ["color of class 1 'dog'", "#000000", "#ffffff"], id="color"),
    pytest.param([entry(1, "dog", provenance=LLM)], [entry(1, "dog", provenance=OTHER_LLM)],
                 ["provenance of class 1 'dog'", "llm llava-phi2 2026-11-21", "llm other 2026-11-22"], id="two models"),
    pytest.param([entry(1, "dog", synonyms=("hound",))], [entry(2, "hound")],
                 ["synonym 'hound'", "class 1 'dog'", "class 2 'hound'"], id="a synonym here is a class there"),
    pytest.param([entry(1, "dog", parent="cat"), entry(2, "cat")], [entry(1, "dog"), entry(2, "cat", parent="dog")],
                 ["parents lead back"], id="parents in a circle"),
    pytest.param([entry(1, "cat")], [entry(2, "сat")], ["looks the same", "class 1 'cat'"], id="look-alike"),
])
def test_contradictions_are_refused_and_name_both(first, second, parts):
    with pytest.raises(VocabularyError) as caught:
        words(*first).merge(words(*second))
    assert caught.value.code is Code.VOCABULARY_CONFLICT
    assert all(part in str(caught.value) for part in [*parts, "lexiseg vocabulary diff"]), str(caught.value)


def test_all_contradictions_are_told_at_once():
    names = "abcdefghijkl"
    with pytest.raises(VocabularyError) as caught:
        Vocabulary.from_names(list(names)).merge(Vocabulary.from_names([name * 2 for name in names]))
    assert "in 12 ways" in str(caught.value) and "and 4 more" in str(caught.value)


def test_difference():
    before = words(entry(1, "dog", synonyms=("hound",), subclasses=("a1", "b1")), entry(2, "cat"), entry(3, "cow"),
                   entry(4, "pig", provenance=LLM), background=("sky", "wall"))
    after = words(entry(1, "dog", synonyms=("hound", "doggy"), subclasses=("b1", "a1")), entry(9, "cat"),
                  entry(3, "ox"), entry(4, "pig", gloss="farm"), entry(5, "hen"), background=("wall", "sea"))
    assert before.diff(after).lines() == [
        "+ class 5 'hen'",
        "~ class 1 'dog': synonyms with 'doggy'",
        "~ class 1 'dog': subclasses in another order",
        "~ class 2 'cat': id 2 is now 9",
        "~ class 3 'cow': name 'cow' is now 'ox'",
        "~ class 4 'pig': gloss nothing is now 'farm'",
        "~ class 4 'pig': provenance llm llava-phi2 2026-11-21 is now nothing",
        "- background word 'sky'", "+ background word 'sea'"]
    assert after.diff(before).removed == (after.classes[4],)


def test_order_and_capitals_are_differences():
    one = Vocabulary.from_names("dog, cat")
    swapped = Vocabulary(classes=one.classes[::-1])
    assert one.diff(swapped).reordered and not one.diff(swapped).changed and len(one.diff(swapped).lines()) == 1
    assert [change.field for change in one.diff(Vocabulary.from_names("Dog, cat")).changed] == ["name"]
    exchanged = one.diff(Vocabulary.from_names("cat, dog"))
    assert [(change.field, change.before, change.after) for change in exchanged.changed] == [("id", 1, 2), ("id", 2, 1)]


ENTRIES = st.lists(st.builds(
    entry, st.integers(1, 4), st.sampled_from(["dog", "cat", "Cow", "hen"]),
    synonyms=st.sampled_from([(), ("x",), ("y", "z")]), subclasses=st.sampled_from([(), ("p", "q"), ("q", "p")]),
    gloss=st.sampled_from([None, "g"]), provenance=st.sampled_from([None, LLM, USER])), min_size=1, max_size=4)


@st.composite
def vocabularies(draw):
    try:
        return words(*draw(ENTRIES), background=draw(st.sampled_from([(), ("sky",), ("sky", "sea"), ("sea", "sky")])))
    except VocabularyError:
        return words(entry(1, "dog"))


@given(vocabularies(), vocabularies())
def test_a_difference_is_empty_only_between_equals(one, other):
    assert one.diff(other).is_empty == (one.digest == other.digest)
    assert bool(one.diff(other).lines()) != one.diff(other).is_empty


@given(vocabularies(), vocabularies())
def test_merging_renumbers_nothing_and_loses_nothing(one, other):
    assert one.merge(one) == one
    try:
        merged = one.merge(other)
    except VocabularyError as error:
        assert error.code is Code.VOCABULARY_CONFLICT
        return
    for vocabulary in (one, other):
        for before in vocabulary.classes:
            after = next(found for found in merged.classes if found.id == before.id)
            assert name_key(after.name) == name_key(before.name)
            assert {*before.synonyms, *before.subclasses} <= {*after.synonyms, *after.subclasses}
            assert before.gloss in (None, after.gloss)
    assert merged.merge(other) == merged
