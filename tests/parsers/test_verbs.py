"""Base forms of verbs."""

from __future__ import annotations

import pytest

from parsers.verbs import base_forms


@pytest.mark.parametrize(("word", "base"), [
    ("sitting", "sit"), ("riding", "ride"), ("welding", "weld"), ("opening", "open"), ("showing", "show"),
    ("flies", "fly"), ("carried", "carry"), ("watches", "watch"), ("drives", "drive"), ("placed", "place"),
    ("parked", "park"), ("rolling", "roll"), ("sprinkled", "sprinkle"), ("hanging", "hang"), ("eats", "eat"),
    ("on", "on"), ("across", "across"), ("is", "is"), ("", ""), (".", "."), ("ing", "ing"), ("red", "red"),
])
def test_the_likeliest_base_form(word, base):
    assert base_forms(word)[0] == base


def test_the_word_itself_is_always_a_candidate():
    assert all(word in base_forms(word) for word in ("sitting", "ss", "eed", "aaing", "s", "ies"))
