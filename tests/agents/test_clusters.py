"""Partitions that cover exactly, and a refinement that ends."""

import json

import pytest

from agents.clusters import MAX_NAMES, as_sets, cluster_categories, read_partition
from agents.records import Partition
from agents.source import KnowledgeSource
from parsers import AnswerError, VocabularyError

NAMES = ("dog", "cat", "bus", "car")


def labels(*clusters):
    return json.dumps(dict(zip(NAMES, clusters, strict=True)))


def test_refined_until_it_stays(llm, source):
    llm.says(labels("animals", "pets", "vehicles", "vehicles"), labels("animals", "animals", "vehicles", "vehicles"),
             labels("beasts", "beasts", "cars", "cars"))
    found = cluster_categories(source, NAMES)
    assert found.partition.clusters == {"beasts": ("dog", "cat"), "cars": ("bus", "car")}
    assert (found.rounds, found.settled, found.outcome, llm.calls) == (3, True, "first", 3)
    assert 'Present clusters: {"animals": ["dog", "cat"]' in llm.question()
    schema = llm.requests[0]["response_format"]["json_schema"]["schema"]
    assert schema["required"] == list(NAMES) and schema["additionalProperties"] is False


def test_a_second_run_asks_no_model(llm, make_source, tmp_path):
    llm.answer = lambda request: labels("animals", "animals", "vehicles", "vehicles")
    first = cluster_categories(make_source(tmp_path / "store"), NAMES)
    calls = llm.calls
    second = cluster_categories(make_source(tmp_path / "store"), NAMES)
    assert llm.calls == calls and second.stored and not first.stored
    assert second.partition == first.partition


def test_above_temperature_zero_it_takes_two_rounds_without_a_change(llm, model):
    from dataclasses import replace

    warm = replace(model, settings=replace(model.settings, temperature=0.3))
    llm.answer = lambda request: labels("animals", "animals", "vehicles", "vehicles")
    assert cluster_categories(KnowledgeSource(warm), NAMES).rounds == 3


def test_a_model_that_never_settles_is_stopped(llm, source):
    numbers = iter(range(100))

    def another(request):
        number = next(numbers)
        return labels(*["ab"[number >> bit & 1] for bit in range(4)])

    llm.answer = another
    found = cluster_categories(source, NAMES)
    assert (found.rounds, found.settled, llm.calls) == (6, False, 6)
    assert any("did not settle" in warning for warning in source.tally.warnings())


def test_a_model_that_goes_in_circles_is_stopped_at_once(llm, source):
    llm.says(labels("a", "a", "b", "b"), labels("a", "b", "a", "b"), labels("a", "a", "b", "b"))
    found = cluster_categories(source, NAMES)
    assert (found.rounds, found.settled, llm.calls) == (3, False, 3)


@pytest.mark.parametrize("answer", [
    pytest.param('{"dog": "animals", "cat": "animals", "bus": "vehicles"}', id="missing"),
    pytest.param('{"dog": "animals", "cat": "animals", "bus": "vehicles", "car": "vehicles", "cow": "animals"}',
                 id="new"),
    pytest.param('{"animals": ["dog", "cat", "bus"], "vehicles": ["bus", "car"]}', id="repeated"),
    pytest.param('{"animals": ["hound", "cat"], "vehicles": ["bus", "car"]}', id="respelled"),
    pytest.param('{"dog": 1, "cat": "animals", "bus": "vehicles", "car": "vehicles"}', id="a number"),
    pytest.param('{"dog": "these are the animals that people keep at home", "cat": "animals", "bus": "vehicles", '
                 '"car": "vehicles"}', id="prose"),
    pytest.param('{"dog": "animals", "cat": "anim', id="cut"),
    pytest.param("Dogs and cats are animals.", id="no JSON"),
    pytest.param("", id="empty"),
])
def test_answers_that_are_no_partition(answer):
    with pytest.raises(AnswerError):
        read_partition(answer, NAMES)


@pytest.mark.parametrize("answer", [
    labels("animals", "animals", "vehicles", "vehicles"), labels("Animals", "animals", "vehicles", "Vehicles"),
    '{"animals": ["dog", "cat"], "vehicles": ["bus", "car"]}', "Animals: dogs, cat\nVehicles: bus, car",
    'Sure! ```json\n{"vehicles": ["car", "bus"], "animals": ["cat", "dog"]}\n```',
])
def test_every_writing_of_a_partition_is_read_alike(answer):
    found = read_partition(answer, NAMES)
    assert as_sets(found) == {frozenset({"dog", "cat"}), frozenset({"bus", "car"})}
    assert list(found.clusters.values()) == [("dog", "cat"), ("bus", "car")]


@pytest.mark.parametrize("nothing", ["", "  "])
def test_a_name_without_a_cluster_stands_by_itself(nothing):
    found = read_partition(labels(nothing, "animals", "vehicles", nothing), NAMES)
    assert found.clusters == {"dog": ("dog",), "animals": ("cat",), "vehicles": ("bus",), "car": ("car",)}


def test_stability_knows_neither_order_nor_labels():
    assert as_sets(Partition(clusters={"a": ("x", "y"), "b": ("z",)})) == as_sets(
        Partition(clusters={"c": ("z",), "d": ("y", "x")}))


def test_without_a_valid_answer_each_name_is_by_itself(llm, source):
    llm.answer = lambda request: "no idea"
    found = cluster_categories(source, NAMES)
    assert found.partition.clusters == {name: (name,) for name in NAMES}
    assert (found.outcome, found.settled) == ("fallback", True)


@pytest.mark.parametrize(("default", "used"), [
    ({"pets": ["dog", "cat"], "traffic": ["bus", "car"]}, True),
    ({"pets": ["dog", "cat"], "traffic": ["bus"]}, False),
    ({"pets": ["dog", "cat"], "traffic": ["bus", "car", "cat"]}, False),
])
def test_or_what_was_given_as_default(llm, source, default, used):
    llm.answer = lambda request: "no idea"
    assert ("pets" in cluster_categories(source, NAMES, default=default).partition.clusters) is used


def test_a_refinement_that_fails_keeps_what_was_there(llm, source):
    llm.says(labels("animals", "animals", "vehicles", "vehicles"), "no idea", "still not")
    found = cluster_categories(source, NAMES)
    assert found.partition.clusters == {"animals": ("dog", "cat"), "vehicles": ("bus", "car")}
    assert (found.outcome, found.settled) == ("fallback", True)


def test_long_names_have_room_in_the_answer(llm, source):
    names = ["a traffic light that is " + "very " * 30 + "old", "car"]
    llm.answer = lambda request: json.dumps(dict.fromkeys(names, "things of the road"))
    assert cluster_categories(source, names).outcome == "first"
    assert llm.requests[0]["max_completion_tokens"] > len(names[0])


def test_one_name_needs_no_model(llm, source):
    assert cluster_categories(source, ["dog"]).partition.clusters == {"dog": ("dog",)} and llm.calls == 0


@pytest.mark.parametrize("names", [[], ["dog", " "], ["dog", "Dog"], ["dog", "d\x00g"],
                                   [f"n{n}" for n in range(MAX_NAMES + 1)]])
def test_names_that_cannot_be_clustered(source, names):
    with pytest.raises(VocabularyError):
        cluster_categories(source, names)
