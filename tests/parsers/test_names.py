import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.names import (
    MAX_NAME_LENGTH,
    mixed_words,
    name_key,
    name_problem,
    normalise_name,
    plain_key,
    scripts,
    shape_key,
    shorten,
)


@pytest.mark.parametrize(("text", "expected"), [
    pytest.param("  red \t\n panda ", "red panda", id="white space"),
    pytest.param("cafe\u0301", "caf\u00e9", id="NFC"),
    pytest.param("traffic\u00a0light", "traffic light", id="no-break space"),
    pytest.param("", "", id="empty"),
    pytest.param("ﬁsh", "ﬁsh", id="a ligature is kept as written"),
])
def test_normalise_name(text, expected):
    assert normalise_name(text) == expected


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    assert normalise_name(normalise_name(text)) == normalise_name(text)
    assert unicodedata.is_normalized("NFC", normalise_name(text))


@pytest.mark.parametrize(("one", "other"), [
    pytest.param("Dog", "dog", id="capitals"),
    pytest.param("STRASSE", "straße", id="case folding, not lower case"),
    pytest.param("ｄｏｇ", "dog", id="full width"),
    pytest.param("ﬁsh", "fish", id="ligature"),
    pytest.param("do\u200dg", "dog", id="invisible joiner"),
    pytest.param("cafe\u0301", "Café", id="decomposed"),
])
def test_same_name_same_key(one, other):
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(("one", "other"), [
    ("dog", "dogs"), ("pate", "pâté"), ("t-shirt", "t shirt"), ("cat", "сat"),
])
def test_different_names_differ(one, other):
    assert name_key(one) != name_key(other)


@pytest.mark.parametrize(("one", "other"), [
    pytest.param("cat", "с\u0430t", id="Cyrillic es and a"),
    pytest.param("BEAM", "ВЕАМ", id="Cyrillic capitals throughout"),
    pytest.param("HOE", "\u0397\u039f\u0395", id="Greek capitals throughout"),
    pytest.param("oven", "\u03bfven", id="Greek omicron"),
])
def test_look_alikes_have_one_shape(one, other):
    assert name_key(one) != name_key(other)
    assert shape_key(one) == shape_key(other)


@pytest.mark.parametrize(("one", "other"), [("dog", "собака"), ("pate", "pâté"), ("HH", "нн"), ("d0g", "dog")])
def test_visibly_different_names_have_different_shapes(one, other):
    assert shape_key(one) != shape_key(other)


@pytest.mark.parametrize(("one", "other"), [("t-shirt", "T shirt"), ("hot_dog", "hot dog"), ("bird (pet)", "bird pet")])
def test_punctuation_only(one, other):
    assert plain_key(one) == plain_key(other)
    assert name_key(one) != name_key(other)


@pytest.mark.parametrize(("text", "part"), [
    pytest.param("", "is empty", id="empty"),
    pytest.param(" \t\n ", "is empty", id="blank"),
    pytest.param("x" * (MAX_NAME_LENGTH + 1), "201 characters", id="one too many"),
    pytest.param("x" * 1000, "1,000 characters", id="a thousand"),
    pytest.param("do\x00g", "U+0000", id="null"),
    pytest.param("dog\x1b[31m", "U+001B", id="terminal escape"),
    pytest.param("dog\u202egod", "U+202E", id="right-to-left override"),
    pytest.param("do\u200bg", "U+200B", id="zero-width space"),
    pytest.param("\ufeffdog", "U+FEFF", id="byte order mark"),
    pytest.param("dog\ud800", "U+D800", id="lone surrogate"),
    pytest.param("dog\ue000", "U+E000", id="private use"),
    pytest.param("?!", "no letter or digit", id="punctuation"),
])
def test_refused_names(text, part):
    assert part in (name_problem(text) or "")


@pytest.mark.parametrize("text", [
    "x", "x" * MAX_NAME_LENGTH, "7", "собака", "犬", "کتاب\u200cها", "jack-o'-lantern", "  padded  ", "two\nlines",
])
def test_accepted_names(text):
    assert name_problem(text) is None


@pytest.mark.parametrize(("text", "expected"), [
    ("dog", {"LATIN"}), ("pâté 7", {"LATIN"}), ("ｄｏｇ", {"LATIN"}), ("собака", {"CYRILLIC"}), ("犬", {"CJK"}),
    ("сat", {"CYRILLIC", "LATIN"}), ("42!", set()),
])
def test_scripts(text, expected):
    assert scripts(text) == expected


def test_mixed_words_finds_the_word_and_leaves_bilingual_names_alone():
    assert mixed_words("red сat") == ["сat"]
    assert mixed_words("dog собака") == []


def test_shorten_is_safe_to_print():
    assert shorten("a\x1bb") == "'a\\x1bb'"
    assert len(shorten("x" * 1000)) < 50
