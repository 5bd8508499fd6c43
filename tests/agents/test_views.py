"""Several descriptions of one picture: what each view shows, and what enough of the descriptions say."""

import numpy as np
import pytest

from agents.card import MAX_VIEWS
from agents.description import describe_views, extract_priors
from agents.picture import Picture
from agents.telling import tell_picture
from agents.views import VIEWS, View, agreed, needed
from parsers.errors import AnswerError, Code, SettingError
from parsers.priors import ObjectPrior, RelationPrior, ScenePriors
from parsers.reader import SceneReader


def said(*things: str, relations=(), absent=(), text="text"):
    """Priors of things such as "red dog", of relations such as (0, "above", 1)."""
    return ScenePriors(text=text, absent=absent, objects=tuple(
        ObjectPrior(name=words.split()[-1], lemma=words.split()[-1], attributes=tuple(words.split()[:-1]))
        for words in things), relations=tuple(RelationPrior(subject=one, predicate=words, object=other)
                                              for one, words, other in relations))


def names(priors):
    return [thing.name for thing in priors.objects]


def stated(priors):
    return {(priors.objects[one.subject].name, one.predicate, priors.objects[one.object].name)
            for one in priors.relations}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("shape", [(64, 96), (96, 64), (1, 1), (1, 40), (40, 2)])
def test_a_view_is_the_picture_moved_and_mirrored(view, shape):
    image_HW3 = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    shown_HW3 = view.of(Picture(image_HW3)).image_HW3
    assert shown_HW3.shape == image_HW3.shape
    step = max(1, round(min(shape) / 32))
    at_y, at_x = np.mgrid[:shape[0], :shape[1]]
    y, x = at_y - step * view.down, at_x - step * view.right
    inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    here = shape[1] - 1 - at_x if view.mirrored else at_x
    assert inside.any() or max(step * abs(view.down), step * abs(view.right)) >= min(shape)
    assert (shown_HW3[at_y[inside], here[inside]] == image_HW3[y[inside], x[inside]]).all()


def test_views_are_different_and_begin_with_the_picture_itself(picture):
    assert VIEWS[0] == View() and len(set(VIEWS)) == len(VIEWS) == MAX_VIEWS
    assert len({view.of(picture).image_HW3.tobytes() for view in VIEWS}) == MAX_VIEWS
    assert VIEWS[0].of(picture).image_HW3.tobytes() == picture.image_HW3.tobytes()


def test_one_description_stays_as_it_is():
    priors = said("dog", "dog", relations=[(0, "to the right of", 1)])
    assert agreed([priors]) is priors


@pytest.mark.parametrize(("views", "least"), [(1, 1), (2, 1), (3, 2), (5, 2), (6, 3), (8, 3), (10, 4)])
def test_more_than_a_third_have_to_name_a_thing(views, least):
    assert needed(views) == least
    empty = [said()] * (views - least)
    assert names(agreed([*empty, *[said("dog")] * least])) == ["dog"]
    if views > 1:
        assert names(agreed([*empty, said(), *[said("dog")] * (least - 1)])) == []


def test_a_name_is_one_object_and_counts_once_per_view():
    assert names(agreed([said("dog", "dog", "cat"), said("cat"), said()])) == ["cat"]


def test_attributes_are_those_of_most_views_that_name_the_thing():
    (dog,) = agreed([said("small red dog"), said("red dog"), said("large dog"), said(), said()]).objects
    assert dog.attributes == ("red",)


def test_a_count_is_that_of_most_views():
    two = ScenePriors(text="t", objects=(ObjectPrior(name="dogs", lemma="dog", count=2),))
    (dog,) = agreed([two, said("dog"), said("dog", "dog")]).objects
    assert (dog.name, dog.count) == ("dogs", 2)


def test_left_and_right_change_places_in_a_mirror():
    plain = said("dog", "cat", relations=[(0, "to the right of", 1)])
    mirrored = said("dog", "cat", relations=[(0, "to the left of", 1)])
    assert [view.mirrored for view in VIEWS[:4]] == [False, True, False, True]
    assert stated(agreed([plain, mirrored, plain, mirrored])) == {("cat", "to the left of", "dog")}


def test_a_mirror_leaves_other_relations_alone():
    above = said("dog", "cat", relations=[(0, "above", 1)])
    below = said("dog", "cat", relations=[(1, "below", 0)])
    assert stated(agreed([above, below])) == {("dog", "above", "cat")}


def test_of_contrary_statements_that_of_more_views_is_kept():
    front, behind = (said("dog", "cat", relations=[(0, words, 1)]) for words in ("in front of", "behind"))
    assert stated(agreed([front, behind, front])) == {("dog", "in front of", "cat")}
    assert stated(agreed([front, behind])) == set()


def test_two_things_stand_in_one_relation_that_of_most_views():
    near, above = (said("dog", "cat", relations=[(0, words, 1)]) for words in ("next to", "above"))
    assert stated(agreed([near, above, near])) == {("dog", "next to", "cat")}
    turned = said("dog", "cat", relations=[(1, "next to", 0)])
    assert stated(agreed([near, above, turned])) == {("dog", "next to", "cat")}


def test_relations_of_things_that_are_not_kept_are_left_out():
    priors = agreed([said("dog", "cat", relations=[(0, "above", 1)]), said("dog"), said("dog"), said(), said()])
    assert (names(priors), priors.relations) == (["dog"], ())


def test_what_is_denied_is_denied_by_enough_views_and_named_by_none():
    denying = said("dog", absent=("cat",))
    assert agreed([denying, denying, said("dog")]).absent == ("cat",)
    assert agreed([denying, said("dog"), said("dog")]).absent == ()
    assert agreed([denying, denying, said("cat"), said("cat")]).absent == ()


def test_all_texts_are_kept_each_once():
    priors = agreed([said("dog", text="A dog."), said("dog", text="A dog."), said("cat", text="A cat.")])
    assert priors.text == "A dog.\nA cat."


def test_nothing_in_common_is_no_object():
    assert agreed([said("dog"), said("cat"), said("cow")]).reason == "no-objects"
    assert agreed([said("dog"), said("dog"), said()]).reason is None


def test_each_view_is_a_question_and_is_kept(llm, make_source, tmp_path, picture):
    source = make_source(tmp_path / "store")
    llm.says("A dog next to a cat.", "A dog.", "A dog and a cow.")
    found = extract_priors(source, picture, SceneReader(), "detailed", views=3)
    assert names(found.priors) == ["dog"] and llm.calls == 3
    assert len({str(request["messages"]) for request in llm.requests}) == 3
    assert extract_priors(source, picture, SceneReader(), "detailed", views=3) == found and llm.calls == 3


def test_the_number_of_views_is_the_cards_or_the_askers(llm, source, picture):
    llm.answer = lambda request: "A dog."
    assert (source.model.views, len(describe_views(source, picture))) == (1, 1)
    assert len(describe_views(source, picture, views=4)) == 4
    for wrong in (0, MAX_VIEWS + 1):
        with pytest.raises(SettingError) as error:
            describe_views(source, picture, views=wrong)
        assert error.value.code is Code.SETTING_INVALID


def test_a_picture_is_told_of_by_the_views_that_were_described(llm, source, picture):
    answers = iter(["A dog.", "", "", "A dog.", '{"answer": "yes"}'])
    llm.answer = lambda request: next(answers)
    told = tell_picture(source, "a.png", picture, SceneReader(), views=3)
    assert (names(told.priors), told.presence, told.prompt_id) == (["dog"], {"dog": True}, "detailed, 3 views")
    llm.answer = lambda request: ""
    with pytest.raises(AnswerError):
        tell_picture(source, "a.png", picture, SceneReader(), views=2)
