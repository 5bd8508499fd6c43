"""Names of several words that a text uses as one: read whole, and put back as they were."""

import pytest

from parsers.reader import SceneReader
from parsers.terms import NOUNS, hide_terms

TERMS = ("ballot box with ballot", "ballot box", "woman’s boot", "television", "brick wall")
TEXT = ("A television, a large brown ballot box with ballot and a small woman’s boot in front of a brick wall. "
        "The ballot box with ballot is to the left of the woman’s boot. There is no ballot box.")


@pytest.fixture(scope="module")
def reader():
    return SceneReader(use_head=False)


def test_names_are_read_whole_with_what_is_said_of_them(reader):
    (plain,), (priors,) = reader.read([TEXT]), reader.read([TEXT], TERMS)
    assert "woman’s boot" not in [one.name for one in plain.objects]
    assert [(one.name, one.lemma, one.attributes) for one in priors.objects] == [
        ("television", "television", ()), ("ballot box with ballot", "ballot box with ballot", ("large", "brown")),
        ("woman’s boot", "woman’s boot", ("small",)), ("brick wall", "brick wall", ())]
    said = [(priors.objects[one.subject].name, one.predicate, priors.objects[one.object].name)
            for one in priors.relations]
    assert ("ballot box with ballot", "to the left of", "woman’s boot") in said
    assert priors.absent == ("ballot box",) and priors.text == TEXT


def test_without_terms_nothing_changes(reader):
    assert reader.read([TEXT], ()) == reader.read([TEXT])
    other = "Two dogs chase a red ball."
    assert reader.read([other], TERMS) == reader.read([other])


def test_the_longest_name_wins_in_any_case_and_parts_of_words_are_none():
    hidden, standing = hide_terms("Ballot Box With Ballot, ballot boxes and a BALLOT BOX", TERMS)
    assert hidden == "lamp, ballot boxes and a chair"
    assert standing == {"lamp": "ballot box with ballot", "chair": "ballot box"}


def test_nouns_of_the_text_do_not_stand_in_and_many_names_keep_their_words():
    hidden, standing = hide_terms("a lamp and a television", TERMS)
    assert hidden == "a lamp and a chair" and standing == {"chair": "television"}
    names = [f"thing {i} of {i}" for i in range(len(NOUNS) + 3)]
    hidden, standing = hide_terms(", ".join(names), names)
    assert len(standing) == len(NOUNS) and hidden.endswith(", ".join(names[-3:]))
