"""Requests from the sentence to the regions, with a job of boxes and a server that answers as it is told."""

import json

import numpy as np
import pytest

from agents.ask import MAX_REFINEMENTS, JobFunctions, ask
from agents.geometry import SeenRegion
from parsers.reader import SceneReader

REQUEST = "every dog, red car, animal and whatever is next to the bench or on the sand"
"""Has the words of all plans below; which of them is meant is up to the server."""


def region(number, name, box):
    return SeenRegion(id=number, name=name, box=box, area=box[2] * box[3], score=0.9)


class Job:
    """Pictures are numbers; what a segmentation finds is fixed by name."""

    def __init__(self, things):
        self.things, self.rounds, self.found = things, [], {}

    def functions(self):
        return JobFunctions(read_picture=lambda picture: np.full((8, 8, 3), int(picture), np.uint8),
                            segment=self.segment, regions=lambda picture: self.found[picture])

    def segment(self, names):
        self.rounds.append({name: tuple(kinds) for name, kinds in names.items()})
        self.found = {picture: [one for one in regions if one.name in names]
                      for picture, regions in self.things.items()}


def plan(targets=(), subclasses=False, candidate_free=False, filters=()):
    return json.dumps({"targets": list(targets), "subclasses": subclasses, "candidate_free": candidate_free,
                       "filters": [dict(zip(("target", "attribute", "relation", "object"), one, strict=True))
                                   for one in filters]})


def answering(plan_text, description, yes=lambda question: True, names=()):
    def answer(request):
        content = request["messages"][-1]["content"]
        text = content if isinstance(content, str) else content[-1]["text"]
        if text.startswith("Request"):
            return plan_text
        if text.startswith("Class"):
            return json.dumps({"names": list(names)})
        if text.startswith("Is there"):
            return json.dumps({"answer": "yes" if yes(text) else "no"})
        return description
    return answer


@pytest.fixture
def run(llm, make_source, tmp_path):
    def run(job, answer, pictures=("1",)):
        llm.answer = answer
        return ask(make_source(tmp_path / "store"), REQUEST, list(pictures), reader=SceneReader(),
                   job=job.functions())
    return run


def test_the_dog_next_to_the_bench(run):
    job = Job({"1": [region(1, "dog", (0, 0, 10, 10)), region(2, "dog", (60, 60, 10, 10)),
                     region(3, "bench", (12, 0, 20, 10))]})
    result = run(job, answering(plan(["dog"], filters=[("dog", "", "next to", "bench")]), "A dog next to a bench."))
    assert result.kept == {"1": (1,)} and result.names == {"dog": ()}
    assert job.rounds == [{"dog": (), "bench": ()}]
    assert any("bench" in line and "only because" in line for line in result.trace)
    assert "1: 1 of 2 regions of dog are next to bench" in result.trace
    assert result.trace[-1] == "result: 1 regions in 1 of 1 pictures"


def test_the_description_decides_where_boxes_say_no(run):
    job = Job({"1": [region(1, "dog", (0, 0, 10, 10)), region(2, "dog", (50, 0, 10, 10)),
                     region(3, "bench", (90, 0, 10, 10))]})
    wanted = plan(["dog"], filters=[("dog", "", "next to", "bench")])
    assert run(job, answering(wanted, "A dog next to a bench.")).kept == {"1": (2,)}


def test_a_relation_to_what_is_not_there_keeps_nothing(run):
    job = Job({"1": [region(1, "dog", (0, 0, 10, 10))]})
    assert run(job, answering(plan(["dog"], filters=[("dog", "", "on", "bench")]), "A dog.")).kept == {"1": ()}


def test_all_kinds_of_a_thing(run):
    job = Job({"1": [region(1, "animal", (0, 0, 10, 10))]})
    result = run(job, answering(plan(["animal"], subclasses=True), "A cat.", names=["cat", "dog", "bird", "horse"]))
    assert result.names == {"animal": ("cat", "dog", "bird", "horse")} and result.kept == {"1": (1,)}


def test_things_that_the_request_does_not_name(run):
    job = Job({"1": [region(1, "crab", (10, 10, 5, 5)), region(2, "sand", (0, 0, 40, 40)),
                     region(3, "kite", (90, 0, 5, 5))]})
    result = run(job, answering(plan(candidate_free=True, filters=[("", "", "on", "sand")]),
                                "A crab on the sand. A kite above a boat."))
    assert result.names == {"crab": ()} and job.rounds == [{"crab": (), "sand": ()}]
    assert result.kept == {"1": (1,)}


def test_a_name_that_only_masks_have_is_asked_about_and_left_out(run):
    job = Job({"1": [region(1, "dog", (0, 0, 5, 5)), region(2, "ball", (9, 9, 5, 5))],
               "2": [region(1, "dog", (0, 0, 5, 5))]})
    descriptions = iter(["A dog.", "A dog and a ball."])
    answers = {}

    def answer(request):
        content = request["messages"][-1]["content"]
        if isinstance(content, list) and content[-1]["text"].startswith("Describe"):
            return answers.setdefault(content[0]["image_url"]["url"], next(descriptions, "A dog."))
        return answering(plan(candidate_free=True), "", yes=lambda question: "ball" not in question)(request)

    job.things["2"] = [region(1, "dog", (0, 0, 5, 5))]
    result = run(job, answer, ["1", "2"])
    assert len(job.rounds) <= 1 + MAX_REFINEMENTS
    assert result.names.keys() == {"dog"} or "ball" in str(result.trace)


def test_a_name_of_the_request_is_never_left_out(run):
    job = Job({"1": [region(1, "dog", (0, 0, 5, 5))]})
    result = run(job, answering(plan(["dog"]), "A red house.", yes=lambda question: False))
    assert result.kept == {"1": (1,)} and len(job.rounds) == 1
    assert any("sees none" in line for line in result.trace)


def test_refinements_are_bounded(run):
    """Each description uses another word for a dog that is never found."""
    job = Job({str(n): [] for n in range(6)})
    result = run(job, answering(plan(["dog"]), "A dog."), [str(n) for n in range(6)])
    assert len(job.rounds) <= 1 + MAX_REFINEMENTS
    assert result.kept == {str(n): () for n in range(6)}


def test_attributes_are_described_or_asked_about(run):
    job = Job({"1": [region(1, "car", (0, 0, 5, 5))]})
    wanted = plan(["car"], filters=[("car", "red", "", "")])
    assert run(job, answering(wanted, "A red car.")).kept == {"1": (1,)}


def test_attributes_that_the_model_does_not_see(run):
    job = Job({"1": [region(1, "car", (0, 0, 5, 5))]})
    wanted = plan(["car"], filters=[("car", "red", "", "")])
    assert run(job, answering(wanted, "A car.", yes=lambda question: "red" not in question)).kept == {"1": ()}


def test_the_state_holds_no_pixels_and_no_regions(run, monkeypatch):
    from langgraph.graph import StateGraph

    states = []
    compiled = StateGraph.compile

    def watched(self, *arguments, **options):
        graph = compiled(self, *arguments, **options)
        invoke = graph.invoke

        def recorded(*given, **how):
            states.extend(graph.stream(*given, **how, stream_mode="values"))
            return states[-1]

        graph.invoke = recorded
        assert callable(invoke)
        return graph

    monkeypatch.setattr(StateGraph, "compile", watched)
    job = Job({str(n): [region(1, "dog", (0, 0, 5, 5))] for n in range(6)})
    run(job, answering(plan(["dog"]), "A dog."), [str(n) for n in range(6)])
    assert len(states) >= 4 and len(json.dumps(states[-1])) < 2000
