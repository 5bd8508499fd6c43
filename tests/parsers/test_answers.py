import itertools
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator

from parsers import AnswerError, Code, NameList, read_clusters, read_model, read_names, read_text
from parsers.answer_text import MAX_LENGTH
from parsers.names import name_problem

BREEDS = ("poodle", "husky", "beagle")


@pytest.mark.parametrize("answer", [
    '["poodle", "husky", "beagle"]', '```json\n["poodle", "husky", "beagle"]\n```', "['poodle', 'husky', 'beagle',]",
    '{"subclasses": ["poodle", "husky", "beagle"]}', '{"dog": {"subclasses": ["poodle", "husky", "beagle"]}}',
    '{"reason": "they are dogs", "breeds": ["poodle", "husky", "beagle"]}',
    '{"1": "poodle", "2": "husky", "3": "beagle"}',
    '[{"name": "poodle", "about": "curly"}, {"name": "husky"}, {"name": "beagle"}]', '{"poodle", "husky", "beagle"}',
    '{"names": "poodle, husky, beagle"}', '["1. poodle", "2. husky", "3. beagle - hunts"]', "[poodle, husky, beagle]",
    'The dogs [in my view] are: ["poodle", "husky", "beagle"]. Good?', '["poodle"]\n["husky"]\n["beagle"]',
    "<think>first [a], then [b]</think>\n1. poodle\n2. husky\n3. beagle",
    "Answer: poodle, husky, beagle<|im_end|>\n4. x",
    "poodle, husky, beagle\nUser: and cats?\n1. tabby", "<|assistant|> poodle, husky, beagle</s>",
    "- poodle\n- husky\n- beagle",
    '{"class": "dog", "subclasses": ["poodle", "husky", "beagle"]}',
    '{"dogs": [{"breed": "small", "name": "poodle", "colors": ["brown"]}, {"name": "husky"}, {"name": "beagle"}]}',
    "Sorry for the wait!\n1. poodle\n2. husky\n3. beagle",
    '\ufeff["poo\u200bdle", "husky", "beagle"]', "| poodle, husky, beagle |", '["Poodle", "HUSKY", "beagle"]'.lower(),
])
def test_names_in_many_forms(answer):
    assert read_names(answer, count=3) == NameList(names=BREEDS, asked=3)


def test_repeats_surplus_and_what_is_no_name_are_left_out_and_told():
    answer = '["Poodle", "poodle", "the poodle", 7, null, "none", "red\x07dog", "?", "husky", "LONG", "beagle", "pug"]'
    found = read_names(answer.replace("LONG", "x" * 300), count=3)
    assert found.names == ("Poodle", "red dog", "husky")
    assert (found.repeats, found.surplus, found.complete) == (2, 2, True)
    assert [reason.split(" ", 1)[1] for reason in found.refused] == ["is no text", "is no text", "is empty",
                                                                     "is 300 characters long"]
    assert found.notes()[:2] == ["names repeated: 2", "names beyond the 3 asked for: 2"]


def test_too_few_are_noted_and_fewer_than_needed_are_an_error():
    found = read_names("1. poodle\n2. husky", count=10)
    assert found.names == ("poodle", "husky") and found.notes() == ["asked for 10 names, got 2"]
    with pytest.raises(AnswerError) as caught:
        read_names("1. poodle\n2. husky", count=10, at_least=3)
    assert caught.value.code is Code.ANSWER_UNFIT and "asked for 10 names, got 2" in caught.value.given
    assert caught.value.allowed == "At least 3 names."


def test_an_end_in_the_middle_keeps_whole_names():
    found = read_names('{"subclasses": ["poodle", "husky", "bea', count=5)
    assert found.names == ("poodle", "husky") and not found.complete
    assert "the answer ends in the middle" in found.notes()
    with pytest.raises(AnswerError) as caught:
        read_names('["poo')
    assert caught.value.code is Code.ANSWER_TRUNCATED


@pytest.mark.parametrize("answer", ["贵宾犬、哈士奇、柯基", "1. 贵宾犬\n2. 哈士奇\n3. 柯基",
                                    '["贵宾犬", "哈士奇", "柯基"]',
                                    "「贵宾犬」，「哈士奇」，「柯基」"])
def test_names_in_another_script(answer):
    assert read_names(answer).names == ("贵宾犬", "哈士奇", "柯基")


def test_allowed_names_are_found_and_returned_as_they_are_written():
    allowed = ["Animals", "bird (pet)", "T-shirt", "traffic light", "axis", "axe", "crane (bird)", "crane (machine)"]
    answer = '["animal", "Bird", "t shirt", "TRAFFIC LIGHTS", "axis", "axe", "crane", "dogs"]'
    found = read_names(answer, allowed=allowed)
    assert found.names == ("Animals", "bird (pet)", "T-shirt", "traffic light", "axis", "axe")
    assert found.refused == ("'crane' is none of the given names", "'dogs' is none of the given names")
    assert read_names("none", allowed=allowed, at_least=0).names == ()
    assert read_names("[]", allowed=allowed, at_least=0).names == ()
    assert read_names('["No"]', allowed=["no", "yes"]).names == ("no",)
    with pytest.raises(AnswerError, match="of those given"):
        read_names("- dogs", allowed=allowed)


@pytest.mark.parametrize(("answer", "code"), [
    pytest.param("", Code.ANSWER_EMPTY, id="empty"), pytest.param(" \n\x00\u200b", Code.ANSWER_EMPTY, id="blank"),
    pytest.param("<|im_end|>", Code.ANSWER_EMPTY, id="special token"),
    pytest.param("I'm sorry, but I can't help with that.", Code.ANSWER_REFUSED, id="refusal"),
    pytest.param("Es tut mir leid, das kann ich nicht.", Code.ANSWER_REFUSED, id="refusal in another language"),
    pytest.param("As an AI language model, I have no dogs.", Code.ANSWER_REFUSED, id="refusal with a comma"),
    pytest.param("A dog is an animal that barks.", Code.ANSWER_UNREADABLE, id="prose"),
    pytest.param("<think>dogs, cats", Code.ANSWER_TRUNCATED, id="only reasoning"),
    pytest.param("[]", Code.ANSWER_UNFIT, id="empty list"), pytest.param("[1, 2]", Code.ANSWER_UNFIT, id="numbers"),
    pytest.param('{"dog": ["poodle"], "cat": ["tabby"]}', Code.ANSWER_UNFIT, id="two lists"),
    pytest.param('{"a": "x", "b": "y"}', Code.ANSWER_UNFIT, id="object"),
    pytest.param("x" * (MAX_LENGTH + 1), Code.ANSWER_UNFIT, id="too long"),
    pytest.param("[" * 1000, Code.ANSWER_UNREADABLE, id="too deep"),
])
def test_what_is_no_list_of_names(answer, code):
    with pytest.raises(AnswerError) as caught:
        read_names(answer)
    assert caught.value.code is code, caught.value
    assert len(caught.value.given) < 400 and caught.value.next_step


NAMES = ["dog", "cat", "pizza", "traffic light"]
CLUSTERS = {"animals": ("dog", "cat"), "other": ("pizza", "traffic light")}


@pytest.mark.parametrize("answer", [
    '{"animals": ["dog", "cat"], "other": ["pizza", "traffic light"]}',
    '{"clusters": {"animals": ["Dogs", "cats"], "other": ["pizza", "traffic-light"]}}',
    '[{"name": "animals", "members": ["dog", "cat"]}, {"name": "other", "members": ["pizza", "traffic light"]}]',
    '{"clusters": [{"cluster": "animals", "items": ["dog", "cat"]}, {"cluster": "other", "items": ["pizza", '
    '"traffic light"]}]}',
    '{"animals": "dog, cat", "other": "pizza, traffic light"}',
    '{"animals": {"dog": 1, "cat": 2}, "other": {"pizza": 1, '
    '"traffic light": 1}}', '{"dog": "animals", "cat": "animals", "pizza": "other", "traffic light": "other"}',
    '{"animals": ["dog", "cat"]}\n{"other": ["pizza", "traffic light"]}',
    '[{"animals": ["dog", "cat"]}, {"other": ["pizza", "traffic light"]}]',
    '{"animals": ["dog", "dog", "cat", "Dog"], "other": ["pizza", "traffic light"], }',
    "animals: dog, cat\nother: pizza, traffic light",
    "**animals**\n- dog\n- cat\n\n**other**\n- pizza\n- traffic lights",
])
def test_clusters_in_many_forms(answer):
    assert read_clusters(answer, names=NAMES) == CLUSTERS
    assert read_clusters(answer, names=NAMES, clusters=["animals", "other"]) == CLUSTERS


def test_a_single_cluster_of_any_form():
    for answer in ('{"pets": ["dog", "cat"]}', '{"pets": {"dog": 1, "cat": 2}}', '{"a": {"pets": ["dog", "cat"]}}',
                   "pets: dog, cat", '{"class": "pets", "subclasses": ["dog", "cat"]}',
                   '{"dog": "pets", "cat": "pets"}'):
        assert read_clusters(answer, names=["dog", "cat"]) == {"pets": ("dog", "cat")}, answer


def test_a_mapping_of_given_classes_to_free_names():
    answer = '{"Dogs": ["poodle", "husky"], "bus": ["school bus", "poodle"]}'
    assert read_clusters(answer, clusters=["dog", "bus"]) == {"dog": ("poodle", "husky"), "bus": ("school bus",
                                                                                                  "poodle")}


@pytest.mark.parametrize(("answer", "parts"), [
    pytest.param('{"a": ["dog"], "b": ["pizza", "traffic light"]}', ["'cat' is in no cluster"], id="missing"),
    pytest.param('{"a": ["dog", "cat", "cow"], "b": ["pizza", "traffic light"]}', ["'cow' is none"], id="unknown"),
    pytest.param('{"a": ["dog", "cat"], "b": ["pizza", "cats", "traffic light"]}', ["'cat' is in both 'a' and 'b'"],
                 id="two"),
    pytest.param('{"a": ["cow"], "b": ["ox"]}', ["'cow'", "'ox'", "'dog' is in no", "and 1 more"], id="all are told"),
    pytest.param('{"": ["dog", "cat", "pizza", "traffic light"]}', ["cluster ''"], id="no name"),
    pytest.param('{"a": [7]}', ["'7' is no text"], id="number"), pytest.param('{"a": []}', ["in no cluster"],
                                                                              id="empty"),
])
def test_a_partition_that_is_none_names_what_is_wrong(answer, parts):
    with pytest.raises(AnswerError) as caught:
        read_clusters(answer, names=NAMES)
    assert caught.value.code is Code.ANSWER_UNFIT
    assert all(part in caught.value.given for part in parts), caught.value.given


@pytest.mark.parametrize(("answer", "code"), [
    ('{"animals": ["dog", "cat"], "oth', Code.ANSWER_TRUNCATED), ("", Code.ANSWER_EMPTY), ("no idea",
                                                                                           Code.ANSWER_UNREADABLE),
    ('[["dog", "cat"], ["pizza"]]', Code.ANSWER_UNREADABLE), ("{}", Code.ANSWER_UNREADABLE),
    ("I cannot help with that.", Code.ANSWER_REFUSED), ('{"animals": null}', Code.ANSWER_UNFIT),
])
def test_what_is_no_clusters(answer, code):
    with pytest.raises(AnswerError) as caught:
        read_clusters(answer)
    assert caught.value.code is code


def test_given_clusters_must_all_be_there():
    with pytest.raises(AnswerError, match="the cluster 'food' is missing"):
        read_clusters('{"animals": ["dog"]}', clusters=["animals", "food"])
    with pytest.raises(AnswerError, match="the cluster 'cars' is none of the given names"):
        read_clusters('{"cars": ["dog"]}', clusters=["animals"])


@pytest.mark.parametrize(("answer", "text"), [
    ("A dog on a beach.", "A dog on a beach."), ("Description: A dog\non a beach.", "A dog on a beach."),
    ('"A dog on a beach."', "A dog on a beach."), ("```\nA dog.\n```", "A dog."), ("**A dog** on a `beach`.",
                                                                                   "A dog on a beach."),
    ('{"description": "A dog.\\nA cat."}', "A dog. A cat."), ('```json\n{"caption": "A dog."}\n```', "A dog."),
    ("- a dog\n- a cat.\n- a hat", "a dog. a cat. a hat."), ("# Scene\nA dog.", "Scene. A dog."), ('["A dog."]',
                                                                                                   "A dog."),
    ("A dog <|im_end|> and so on", "A dog"), ("Assistant: A dog.\nUser: more", "A dog."), ("A dog [on a beach].",) * 2,
    ("I can't see any cars; a dog runs.",) * 2, ("一只狗在海滩上。",) * 2, ("a\x00dog\u202e", "a dog"), ("a \ud800",
                                                                                                 "a \ufffd"),
    ("<think>hm</think>\n\nA dog.", "A dog."), ("The caption: 'A dog.'", "A dog."), ("a dog says \"hi\"",) * 2,
])
def test_descriptions(answer, text):
    assert read_text(answer) == text


@pytest.mark.parametrize(("answer", "code"), [
    ("", Code.ANSWER_EMPTY), ("...", Code.ANSWER_EMPTY), ("I'm sorry, I cannot see the image.", Code.ANSWER_REFUSED),
    ('{"a": "x", "b": "y"}', Code.ANSWER_UNFIT), ('["a dog", "a cat"]', Code.ANSWER_UNFIT),
    ('{"description": "A dog o', Code.ANSWER_TRUNCATED), ("抱歉，我看不到图片。", Code.ANSWER_REFUSED),
])
def test_what_is_no_description(answer, code):
    with pytest.raises(AnswerError) as caught:
        read_text(answer)
    assert caught.value.code is code


class Plan(BaseModel):
    targets: list[str]
    limit: int = 5

    @field_validator("limit")
    @classmethod
    def _odd(cls, value):
        return value + 0 // (value - 7)


@pytest.mark.parametrize("answer", [
    '{"targets": ["dog"], "limit": 5}', "Sure: {'targets': ['dog',],} // that is all", '{"plan": {"targets": ["dog"]}}',
    '[{"targets": ["dog"]}]', '{"x": 1}\n{"targets": ["dog"]}', '```json\n{"targets": ["dog"], "limit": "5"}\n```',
])
def test_models(answer):
    assert read_model(answer, Plan) == Plan(targets=["dog"])


@pytest.mark.parametrize(("answer", "code", "part"), [
    ('{"targets": "dog", "limit": "many"}', Code.ANSWER_UNFIT, "targets: Input should be a valid list; limit: "),
    ('{"limit": 1}', Code.ANSWER_UNFIT, "targets: Field required"), ("dog", Code.ANSWER_UNREADABLE, "targets, limit"),
    ('{"targets": ["dog"]', Code.ANSWER_TRUNCATED, "ends in the middle"), ("[1]", Code.ANSWER_UNREADABLE, ""),
    ('{"targets": ["dog"], "limit": 7}', Code.ANSWER_UNFIT, "ZeroDivisionError"), ("", Code.ANSWER_EMPTY, "empty"),
])
def test_what_does_not_fit_a_model(answer, code, part):
    with pytest.raises(AnswerError) as caught:
        read_model(answer, Plan)
    assert caught.value.code is code and part in str(caught.value), str(caught.value)


READERS = [
    pytest.param(read_names, id="names"), pytest.param(lambda text: read_names(text, allowed=NAMES), id="choice"),
    pytest.param(read_clusters, id="clusters"), pytest.param(lambda text: read_clusters(text, names=NAMES),
                                                             id="partition"),
    pytest.param(read_text, id="text"), pytest.param(lambda text: read_model(text, Plan), id="model"),
]
PIECES = st.lists(st.sampled_from([
    "[", "]", "{", "}", '"', "'", ":", ",", "\n", "1. ", "- ", "dog", "cat", "\\", "\\u00", "//", "```", "**", "null",
    "<think>",
    "</think>", "<|im_end|>", "Cluster 1: ", "sorry", "User:", "\ud800", "\x00", "(", "…", "12"]),
    max_size=30).map("".join)


@pytest.mark.parametrize("read", READERS)
@given(st.text(max_size=100) | PIECES)
def test_any_text_gives_a_value_or_an_answer_error(read, text):
    try:
        value = read(text)
    except AnswerError as error:
        assert str(error.code).startswith("answer-") and error.given and error.next_step
        return
    assert value
    names = value.names if isinstance(value, NameList) else itertools.chain(*value.values(), value) if isinstance(
        value, dict) else ()
    assert not [name for name in names if name_problem(name)]
    if isinstance(value, str):
        value.encode()


@given(st.lists(st.sampled_from(["dog", "red panda", "t-shirt", "犬", "café"]), min_size=1, unique=True),
       st.sampled_from([json.dumps, ", ".join, "\n".join, lambda names: "\n".join(f"- {name}" for name in names),
                        lambda names: json.dumps({"names": names}, indent=1)]))
def test_names_survive_the_way_they_are_written(names, write):
    assert read_names(write(names)).names == tuple(names)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("piece", ["[", '["', "dog, ", "1. dog\n", "a", " ", "\n", "- x: y\n", "<think>", "User:", "*",
                                   "(", '"a" ',
                                   "dog and ", "such as ", "Cluster 1: a\n", '{"a": ', "\u200b", "12. ", "_", " - "])
def test_the_time_grows_with_the_length(read, piece):
    """A second or so; quadratic time would be an hour, so two minutes are no near miss."""
    text = piece * (2**18 // len(piece))
    started = time.process_time()
    try:
        read(text)
    except AnswerError as error:
        assert len(str(error)) < 1000
    assert time.process_time() - started < 120
