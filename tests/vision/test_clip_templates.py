"""Sentences for names."""

import pytest

from vision.clip.templates import IMAGENET_TEMPLATES, NAMED, chosen_templates


@pytest.mark.parametrize(("setting", "count"), [
    ("plain", 1), ("imagenet", 80), ("voc", 13), ("context", 11), ("coco", 7)])
def test_lists_have_the_published_length(setting, count):
    found = chosen_templates(setting, ("a {}",))
    assert len(found) == len(set(found)) == count and all(template.count("{}") == 1 for template in found)


def test_lists_are_chosen_among_the_eighty():
    for name in ("voc", "context", "coco"):
        assert set(NAMED[name]) <= set(IMAGENET_TEMPLATES)


def test_card_and_sentences_of_ones_own():
    assert chosen_templates("card", ("a {}",)) == ("a {}",)
    assert chosen_templates("card", ()) == IMAGENET_TEMPLATES
    assert chosen_templates("one {} here", ("a {}",)) == ("one {} here",)
