"""What the head knows of a word by itself."""

from __future__ import annotations

from parsers.lexicon import UNLINKED, Lexicon, Tables, stack

TABLES = Tables(words=("", "a", "sat", "dog"), links=("", "", "sit", ""), firsts=("on", "sit", "graze"),
                rests=("", "on", "on top of"), object_renames=("", "surfboard"), attribute_renames=("", "2"))


def test_words_become_rows_and_links():
    read = Lexicon(TABLES).read(("a", "dog", "sat", "on", "grazing", "surf", "board"))
    assert read.words.tolist() == [1, 3, 2, 0, 0, 0, 0]
    assert read.affixes.shape == (7, 3)
    assert read.firsts.tolist() == [3, 4, 1, 0, 2, 8, 9]
    assert read.keywords.tolist() == [UNLINKED, UNLINKED, UNLINKED, 1, UNLINKED, UNLINKED, UNLINKED]
    assert read.joined.tolist() == [UNLINKED] * 6 + [1]


def test_a_first_word_outside_the_table_is_the_base_form_of_its_token():
    lexicon = Lexicon(TABLES)
    tokens = ("robot", "welding", "a", "frame")
    assert lexicon.first_word(1, tokens) == "sit"
    assert lexicon.first_word(3 + 1, tokens) == "weld"


def test_keywords_mark_the_phrases_that_hold_them():
    lexicon = Lexicon(TABLES)
    assert sorted(lexicon.keywords) == ["of", "on", "top"]
    assert lexicon.keywords_KR.tolist() == [[0, 0, 1], [0, 1, 1], [0, 0, 1]]


def test_captions_of_one_length_become_a_batch():
    lexicon = Lexicon(TABLES)
    both = stack([lexicon.read(("a", "dog")), lexicon.read(("dog", "sat"))])
    assert both.words.tolist() == [[1, 3], [3, 2]]
    assert both.affixes.shape == (2, 2, 3)
