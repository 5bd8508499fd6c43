import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers import Vocabulary, VocabularyClass
from parsers.matching import How, Role


def vocabulary(*names, background=(), **extras):
    """Classes with ids from 1; `extras` maps a name (with _ for blanks) to more fields."""
    classes = [VocabularyClass(id=number, name=name, **extras.get(name.replace(" ", "_"), {}))
               for number, name in enumerate(names, start=1)]
    return Vocabulary(classes=tuple(classes), background=background)


ANIMALS = vocabulary(
    "animal", "dog", "cat", "person", "traffic light", "light", "pole", "tvmonitor", "bottle", "scissors", "glass",
    background=("sky", "blue wall"), dog={"synonyms": ("hound",), "subclasses": ("puppy", "poodle"),
                                          "parent": "animal"}, cat={"subclasses": ("kitten",), "parent": "animal"})


@pytest.mark.parametrize(("text", "name", "how", "role", "part"), [
    pytest.param("dog", "dog", How.EXACT, Role.NAME, "dog", id="exact"),
    pytest.param("DOG", "dog", How.EXACT, Role.NAME, "dog", id="capitals"),
    pytest.param(" the  dog ", "dog", How.EXACT, Role.NAME, "dog", id="article"),
    pytest.param("hound", "dog", How.EXACT, Role.SYNONYM, "hound", id="synonym"),
    pytest.param("poodle", "dog", How.EXACT, Role.SUBCLASS, "poodle", id="subclass"),
    pytest.param("TV monitor", "tvmonitor", How.SPELLING, Role.NAME, "tv monitor", id="gap"),
    pytest.param("traffic-light", "traffic light", How.SPELLING, Role.NAME, "traffic-light", id="hyphen"),
    pytest.param("puppies", "dog", How.NUMBER, Role.SUBCLASS, "puppies", id="plural of a subclass"),
    pytest.param("two dogs", "dog", How.NUMBER, Role.NAME, "dogs", id="counted plural"),
    pytest.param("3 cats", "cat", How.NUMBER, Role.NAME, "cats", id="count in digits"),
    pytest.param("people", "person", How.NUMBER, Role.NAME, "people", id="irregular plural"),
    pytest.param("traffic lights", "traffic light", How.NUMBER, Role.NAME, "traffic lights", id="plural of two words"),
    pytest.param("scissor", "scissors", How.NUMBER, Role.NAME, "scissor", id="singular of a class in the plural"),
    pytest.param("bottles of wine", "bottle", How.HEAD, Role.NAME, "bottles", id="of"),
    pytest.param("traffic light pole", "pole", How.HEAD, Role.NAME, "pole", id="the head of a compound"),
    pytest.param("red traffic light", "traffic light", How.HEAD, Role.NAME, "traffic light", id="the longest head"),
    pytest.param("black and white cat", "cat", How.HEAD, Role.NAME, "cat", id="coordinated adjectives"),
    pytest.param("a dog with a hat", "dog", How.HEAD, Role.NAME, "dog", id="prepositional phrase"),
    pytest.param("a man that is a person", "person", None, None, "", id="relative clause"),
    pytest.param("a person riding a cat", "person", How.HEAD, Role.NAME, "person", id="participle"),
    pytest.param("people dressed in black", "person", How.HEAD, Role.NAME, "people", id="past participle"),
    pytest.param("a group of people", "person", How.HEAD, Role.NAME, "people", id="group of"),
    pytest.param("pair of old dogs", "dog", How.HEAD, Role.NAME, "dogs", id="pair of"),
    pytest.param("dog (pet)", "dog", How.HEAD, Role.NAME, "dog", id="brackets"),
])
def test_ways_to_match(text, name, how, role, part):
    result = ANIMALS.match(text)
    assert (result.how, result.part) == (how, part), str(result)
    if how is None:
        assert result.entry is None and not result.candidates
    else:
        assert result.entry.name == name and result.candidates[0].role is role and not result.is_ambiguous


@pytest.mark.parametrize(("text", "mentioned"), [
    pytest.param("traffic light shop", ["traffic light", "light"], id="only a modifier is a class"),
    pytest.param("no dogs", ["dog"], id="denied"),
    pytest.param("toy dog", ["dog"], id="toy"),
    pytest.param("hot dogs", ["dog"], id="lexical compound"),
    pytest.param("big hot dog", ["dog"], id="lexical compound with an adjective"),
    pytest.param("mouse (cat)", ["cat"], id="brackets are no head"),
    pytest.param("woman wearing glasses", [], id="what is worn is not the head"),
    pytest.param("glasses", [], id="a plural of another sense"),
    pytest.param("cat and mouse", ["cat"], id="two things, the last unknown"),
    pytest.param("sandwich", [], id="unknown"),
    pytest.param("собака", [], id="another script"),
    pytest.param("", [], id="empty"), pytest.param("?", [], id="punctuation"), pytest.param("of", [], id="preposition"),
    pytest.param("the", [], id="article"), pytest.param("dog " * 100, [], id="too long"),
    pytest.param("do\x00g", [], id="control character"), pytest.param("\ud800", [], id="lone surrogate"),
])
def test_what_is_no_match_says_why_and_what_it_mentions(text, mentioned):
    result = ANIMALS.match(text)
    assert result.how is None and result.entry is None and result.candidates == () and result.reason
    assert [entry.name for entry in result.mentioned] == mentioned
    assert "nothing" in str(result)


def test_a_plural_of_another_sense_is_one_only_while_it_stands_alone():
    words = vocabulary("glasses", "wine glass", "glass")
    assert words.match("wine glasses").entry.name == "wine glass"
    assert words.match("glasses").entry.name == "glasses" and words.match("reading glasses").entry.name == "glasses"
    assert words.match("glass").entry.name == "glass" and vocabulary("glass").match("glasses", "glass").how is None
    assert vocabulary("glasses").match("glass").how is None


def test_two_things_in_one_name_are_ambiguous():
    result = ANIMALS.match("dogs and kittens")
    assert result.is_ambiguous and result.entry is None
    assert [one.entry.name for one in result.candidates] == ["dog", "cat"]
    assert str(result).startswith("'dogs and kittens': one of class 2 'dog'")
    assert ANIMALS.match("dogs and puppies").entry.name == "dog", "both are one class"


def test_a_plural_of_two_names_is_ambiguous_until_a_lemma_decides():
    words = vocabulary("axe", "axis")
    assert [one.entry.name for one in words.match("axes").candidates] == ["axe", "axis"]
    decided = words.match("axes", lemma="axis")
    assert decided.entry.name == "axis" and decided.how is How.LEMMA


def test_a_lemma_stands_for_the_head_whether_it_has_the_other_words_or_not():
    words = vocabulary("dog", "hot dog")
    assert words.match("red dogs", lemma="dog").entry.name == "dog"
    assert words.match("hot dogs", lemma="dog").entry.name == "hot dog"
    assert words.match("hot dogs", lemma="hot dog").entry.name == "hot dog"


def test_a_subclass_of_two_classes_is_ambiguous():
    words = vocabulary("bird", "toy", bird={"subclasses": ("duck",)}, toy={"subclasses": ("duck",)})
    assert [one.entry.name for one in words.match("ducks").candidates] == ["bird", "toy"]


def test_of_a_class_and_its_parent_the_class_is_meant():
    words = vocabulary("animal", "dog", animal={"subclasses": ("poodle",)},
                       dog={"subclasses": ("poodle",), "parent": "animal"})
    assert words.match("poodle").entry.name == "dog"


def test_names_that_differ_in_punctuation_only_are_ambiguous_for_a_third_spelling():
    words = vocabulary("t-shirt", "t shirt")
    assert words.match("t-shirt").entry.id == 1 and words.match("T Shirt").entry.id == 2
    assert words.match("t_shirt").is_ambiguous


def test_background_words_are_found_where_no_class_is():
    sky = ANIMALS.match("blue sky")
    assert sky.is_background and sky.entry is None and not sky.is_ambiguous and sky.candidates[0].word == "sky"
    assert str(sky) == "'blue sky': the background (head, background 'sky')"
    words = vocabulary("plant", background=("tree",), plant={"subclasses": ("tree",)})
    assert words.match("trees").entry.name == "plant"


def test_a_class_that_is_its_own_subclass_matches_as_its_name():
    words = vocabulary("dog", dog={"subclasses": ("dog", "poodle")})
    assert [one.role for one in words.match("dogs").candidates] == [Role.NAME]


@pytest.mark.parametrize("name", ["swimming pool", "hot dog", "toy", "fish and chips", "glasses", "wedding cake",
                                  "no entry", "bird (pet)", "door, double door", "no", "two", "the", "bottle of wine",
                                  "犬"])
def test_a_name_of_any_form_matches_itself(name):
    words = vocabulary("cake", "chips", "entry", "bird", name)
    assert words.match(name).entry.name == name and words.match(name).how is How.EXACT


@pytest.mark.parametrize("text", ["big bottles of wine", "a glass of milk on a table"])
def test_a_name_with_its_own_preposition_is_found_behind_an_adjective(text):
    words = vocabulary("bottle", "bottle of wine", "glass of milk on a table")
    assert words.match(text).entry.name in ("bottle of wine", "glass of milk on a table")


def test_a_changed_copy_knows_its_own_words():
    assert ANIMALS.match("dog").entry is not None
    changed = ANIMALS.model_copy(update={"classes": ANIMALS.classes[2:]})
    assert changed.match("dog").entry is None and ANIMALS.match("dog").entry is not None


def test_matching_changes_neither_equality_nor_digest():
    fresh = Vocabulary(classes=ANIMALS.classes, background=ANIMALS.background)
    ANIMALS.match("dog")
    assert fresh == ANIMALS and fresh.digest == ANIMALS.digest and fresh.model_dump() == ANIMALS.model_dump()
    assert pickle.loads(pickle.dumps(ANIMALS)).match("dog").entry.name == "dog"


@given(st.text(max_size=60), st.none() | st.text(max_size=20))
def test_any_text_has_a_result(text, lemma):
    result = ANIMALS.match(text, lemma)
    assert (result.how is None) == (result.candidates == ()) == bool(result.reason)
    assert str(result)


WORDS = ["dog", "dogs", "cat", "traffic", "light", "lights", "pole", "of", "with", "a", "two", "no", "and", "toy",
         "hot",
         "group", "sky", "riding", "the"]


@given(st.lists(st.sampled_from(WORDS), max_size=8))
def test_any_words_have_a_result_and_each_class_once(words):
    result = ANIMALS.match(" ".join(words))
    names = [one.entry.name for one in result.candidates if one.entry]
    assert len(names) == len(set(names))
    assert result.part in " ".join(words)
