"""Reference graphs and their alignment with captions."""

from __future__ import annotations

import pytest

from parsers.captions import read_caption
from parsers.errors import DatasetError
from parsers.train.graphs import ATTRIBUTE, OBJECT, Aligner, Anchor, Example, items_of, parse_graph, read_factual

COUNTED = [Example(f"two {name}", parse_graph(f"( {name} , is , 2 )")) for name in ("dogs", "cats", "cups", "men")]


def target_of(caption: str, graph: str):
    example = Example(caption, parse_graph(graph))
    return Aligner([*COUNTED, example]).target(example)


def test_a_graph_string_becomes_facts_in_one_spelling():
    assert parse_graph("( Bus,is , red ) , ( bus , on top  of , street ) , ( bus , is , red )") == (
        ("bus", "is", "red"), ("bus", "on top of", "street"))
    assert parse_graph("( urban park )") == (("urban park",),)
    assert parse_graph("") == ()
    assert parse_graph("( a , b )") == ()


def test_items_are_objects_and_attributes_once_each():
    facts = parse_graph("( bus , is , red ) , ( bus , on , street )")
    assert items_of(facts) == [(OBJECT, "bus"), (ATTRIBUTE, "red"), (OBJECT, "street")]


def test_copied_names_are_anchored_at_their_last_token():
    target = target_of("traffic light above the street", "( traffic light , above , street )")
    assert target.object_anchors == (Anchor(1, 2, ""), Anchor(4, 1, ""))
    assert target.relations == ((1, "above", 4),)
    assert target.lost == 0


def test_a_number_that_goes_with_a_word_in_other_captions_is_anchored_there():
    target = target_of("there are two birds", "( birds , is , 2 )")
    assert target.attribute_anchors == (Anchor(2, 1, "2"),)
    assert target.attributes == ((3, 2),)


def test_an_attribute_that_no_word_says_is_anchored_at_its_object():
    target = target_of("a cat has pointy ears", "( cat , have , ears ) , ( ears , is , sharp )")
    assert target.attribute_anchors == (Anchor(4, 1, "sharp"),)
    assert target.attributes == ((4, 4),)


def test_a_misspelt_name_is_anchored_where_it_stands():
    target = target_of("graffitti on the side walk", "( graffiti , on , sidewalk )")
    assert target.object_anchors == (Anchor(0, 1, "graffiti"), Anchor(4, 1, "sidewalk"))


def test_of_two_tokens_with_one_name_the_nearer_one_takes_the_fact():
    target = target_of("a man in a red shirt beside a man in a blue shirt",
                       "( man , in , shirt ) , ( shirt , is , red ) , ( shirt , is , blue ) , ( man , beside , man )")
    assert target.attributes == ((5, 4), (12, 11))
    assert (1, "beside", 8) in target.relations


def test_a_name_inside_a_longer_name_is_not_its_anchor():
    target = target_of("dog beside a hot dog", "( dog , beside , hot dog )")
    assert target.relations == ((0, "beside", 4),)


def test_a_fact_without_a_word_for_its_object_is_lost():
    target = target_of("the cows are taking a walk", "( cows , near , zebra )")
    assert target.lost == 1
    assert target.relations == ()


def test_a_caption_keeps_the_spelling_of_a_name_that_spans_tokens():
    caption = read_caption("A  T-shirt of the CAT's  owner, 2.5 m")
    assert caption.tokens == ("a", "t-shirt", "of", "the", "cat", "'s", "owner", ",", "2.5", "m")
    assert caption.span(4, 6) == "cat's owner"


def test_a_split_without_its_columns_is_refused(tmp_path):
    (tmp_path / "train.csv").write_text("text,graph\na,b\n")
    with pytest.raises(DatasetError, match="caption and scene_graph"):
        read_factual(tmp_path / "train.csv")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_factual(tmp_path / "none.csv")
