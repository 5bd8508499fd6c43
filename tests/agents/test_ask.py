"""Requests from the sentence to the regions, with a job of boxes and a server that answers as it is told."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from agents.ask import MAX_REFINEMENTS, JobFunctions, ask
from agents.conditions import MAX_CROPS
from agents.geometry import SeenRegion
from parsers.reader import SceneReader
from parsers.vocabulary import Vocabulary

REQUEST = ("every dog, red car, cat, bird, animal, man, and whatever is next to the bench, behind it, in the "
           "background, on the sand, or holds a cup")
"""Has the words of all plans below; which of them is meant is up to the server."""
SIDE = 128
"""Pixels of the pictures."""


def region(number, name, box):
    return SeenRegion(id=number, name=name, box=box, area=box[2] * box[3], score=0.9)


class Job:
    """Pictures are numbers, and grey: as bright as their number, with a region twice as bright as its id in place of
    each. What a segmentation finds is fixed by name; `found_in` says in which round a name is found at all."""

    def __init__(self, things, found_in=None):
        self.things, self.found_in, self.vocabularies, self.found = things, found_in, [], {}

    @property
    def rounds(self):
        return [{entry.name: entry.subclasses for entry in vocabulary.classes} for vocabulary in self.vocabularies]

    def functions(self):
        return JobFunctions(read_picture=self.read, segment=self.segment, regions=lambda picture: self.found[picture])

    def read(self, picture):
        image_HW3 = np.full((SIDE, SIDE, 3), int(picture), np.uint8)
        for one in self.things[picture]:
            x, y, w, h = one.box
            image_HW3[y:y + h, x:x + w] = 100 + one.id
        return image_HW3

    def segment(self, vocabulary):
        assert isinstance(vocabulary, Vocabulary)
        self.vocabularies.append(vocabulary)
        found = self.found_in(len(self.vocabularies)) if self.found_in else vocabulary.names.values()
        self.found = {picture: [one for one in regions if one.name in vocabulary.names.values() and one.name in found]
                      for picture, regions in self.things.items()}


def plan(targets=(), subclasses=False, candidate_free=False, filters=()):
    return json.dumps({"targets": list(targets), "subclasses": subclasses, "candidate_free": candidate_free,
                       "filters": [dict(zip(("target", "attribute", "relation", "object"), one, strict=True))
                                   for one in filters]})


def shown(request):
    """The picture in a request, decoded; None where there is none."""
    content = request["messages"][-1]["content"]
    if isinstance(content, str):
        return None
    data = base64.b64decode(content[0]["image_url"]["url"].partition(",")[2])
    return np.array(Image.open(io.BytesIO(data)))


def answering(plan_text, description, yes=lambda question, image_HW3: True, names=()):
    """description: of every picture, or by its number; yes: whether a picture shows what is asked about."""
    def answer(request):
        content = request["messages"][-1]["content"]
        text = content if isinstance(content, str) else content[-1]["text"]
        if text.startswith("Request"):
            return plan_text
        if text.startswith("Class"):
            return json.dumps({"names": list(names)})
        if text.startswith("Is there"):
            return json.dumps({"answer": "yes" if yes(text, shown(request)) else "no"})
        return description if isinstance(description, str) else description[str(shown(request)[-1, -1, 0])]
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
    assert run(job, answering(wanted, "A bench next to a dog.")).kept == {"1": (2,)}


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


def test_names_of_descriptions_are_no_kinds_and_no_other_classes(run):
    """Whatever the description names, the vocabulary of the job holds."""
    job = Job({"1": [region(1, "animal", (0, 0, 10, 10)), region(2, "sand", (0, 0, 40, 40))]})
    wanted = plan(["animal"], subclasses=True, candidate_free=True, filters=[("", "", "on", "sand")])
    result = run(job, answering(wanted, "A dog is on the sand. A crab is on the sand.",
                                names=["cat", "dog", "sand", "horse", "cow", "bird"]))
    assert job.rounds[0] == {"animal": ("cat", "dog", "horse", "cow", "bird"), "crab": (), "sand": ()}
    assert result.names.keys() == {"animal", "crab"}


def test_the_background_is_no_class_that_a_condition_needs(run):
    job = Job({"1": [region(1, "dog", (0, 0, 10, 10))]})
    result = run(job, answering(plan(["dog"], filters=[("dog", "", "in", "background")]), "A dog."))
    assert job.rounds == [{"dog": ()}] and result.kept == {"1": ()}


def test_another_word_is_not_that_of_another_class(run):
    job = Job({"1": [region(1, "red car", (0, 0, 9, 9))]})
    result = run(job, answering(plan(["car", "red car"]), "A red car."))
    assert result.names == {"car": (), "red car": ()}


def test_the_vocabulary_says_which_words_a_language_model_wrote(run):
    job = Job({"1": []})
    result = run(job, answering(plan(["animal", "man"], subclasses=True, candidate_free=True), "A crab on the sand.",
                                names=["cat", "dog", "bird", "horse"]))
    animal, _, crab, _ = job.vocabularies[0].classes
    assert animal.provenance.source == "llm" and animal.provenance.model == "stub"
    assert animal.provenance.prompt == f"subclasses {result.prompts['subclasses']}"
    assert len(animal.provenance.date) == 10
    assert crab.provenance.prompt == f"describe-simple {result.prompts['describe-simple']}"
    assert {entry.name for entry in job.vocabularies[0].classes if entry.provenance is None} <= {"man"}


def test_what_decided_is_part_of_the_result(run):
    job = Job({"1": [region(1, "car", (0, 0, 9, 9)), region(2, "car", (60, 0, 9, 9))]})
    result = run(job, answering(plan(["car"], filters=[("car", "red", "", "")]), "A dog."))
    said = result.pictures["1"]
    assert said.priors.text == "A dog." and (result.model, len(result.model_digest)) == ("stub", 64)
    assert [(one.name, one.box, one.present) for one in said.presence] == [
        ("car", None, True), ("red car", (0, 0, 9, 9), True), ("red car", (60, 0, 9, 9), True)]


def test_a_name_that_only_masks_have_is_asked_about_and_left_out(run):
    job = Job({"1": [region(1, "dog", (0, 0, 5, 5)), region(2, "ball", (9, 9, 5, 5))],
               "2": [region(1, "dog", (0, 0, 5, 5))]})
    result = run(job, answering(plan(candidate_free=True), {"1": "A dog.", "2": "A dog next to a ball."},
                                yes=lambda question, image_HW3: "ball" not in question), ["1", "2"])
    assert job.rounds[0] == {"ball": (), "dog": ()}
    assert result.names.keys() == {"dog"} and result.kept == {"1": (1,), "2": (1,)}
    assert "ball is left out: found in pictures, but the model sees none there" in result.trace


def test_a_name_of_the_request_is_never_left_out(run):
    job = Job({"1": [region(1, "dog", (0, 0, 5, 5))]})
    result = run(job, answering(plan(["dog"]), "A red house.", yes=lambda question, image_HW3: False))
    assert result.kept == {"1": (1,)} and len(job.rounds) == 1
    assert any("sees none" in line for line in result.trace)


def test_refinements_are_bounded(run):
    """In each round another name is not found, and has another word in a description."""
    names = ("dog", "cat", "bird")
    job = Job({str(n): [region(place, name, (9 * place, 0, 5, 5)) for place, name in enumerate(names)]
               for n in range(3)}, found_in=lambda number: {*names} - {names[number - 1]})
    result = run(job, answering(plan(names), {
        "0": "A puppy dog.", "1": "A tabby cat.", "2": "A song bird."}), ["0", "1", "2"])
    assert len(job.rounds) == 1 + MAX_REFINEMENTS == 3
    assert result.names == {"dog": ("puppy dog",), "cat": ("tabby cat",), "bird": ()}


def test_attributes_are_described_or_asked_about(run):
    job = Job({"1": [region(1, "car", (0, 0, 5, 5))]})
    wanted = plan(["car"], filters=[("car", "red", "", "")])
    assert run(job, answering(wanted, "A red car.")).kept == {"1": (1,)}


def test_attributes_that_the_model_does_not_see(run):
    job = Job({"1": [region(1, "car", (0, 0, 5, 5))]})
    wanted = plan(["car"], filters=[("car", "red", "", "")])
    result = run(job, answering(wanted, "A car.", yes=lambda question, image_HW3: "red" not in question))
    assert result.kept == {"1": ()}


def test_of_several_things_each_is_looked_at_for_an_attribute(run):
    """The model sees red where region 2 is."""
    job = Job({"1": [region(1, "car", (0, 0, 20, 20)), region(2, "car", (40, 0, 20, 20)),
                     region(3, "car", (80, 0, 20, 20))]})
    result = run(job, answering(plan(["car"], filters=[("car", "red", "", "")]), "A red car. A blue car.",
                                yes=lambda question, image_HW3: "red" not in question or 102 in image_HW3))
    assert result.kept == {"1": (2,)}
    assert "1: 3 of 3 regions of car are looked at for 'red car': 2" in result.trace


def test_only_so_many_are_looked_at(run, llm):
    job = Job({"1": [region(n, "car", (n, 0, 30 - n, 20)) for n in range(1, 20)]})
    result = run(job, answering(plan(["car"], filters=[("car", "red", "", "")]), "A car."))
    assert result.kept == {"1": tuple(range(1, MAX_CROPS + 1))}
    assert f"1: {MAX_CROPS} of 19 regions of car are looked at for 'red car': " in "".join(result.trace)


def test_a_described_attribute_that_no_region_shows_alone_keeps_all(run):
    job = Job({"1": [region(1, "car", (0, 0, 20, 20)), region(2, "car", (40, 0, 20, 20))]})
    result = run(job, answering(plan(["car"], filters=[("car", "red", "", "")]), "A red car.",
                                yes=lambda question, image_HW3: "red" not in question))
    assert result.kept == {"1": (1, 2)} and "cannot be told" in "".join(result.trace)


DOGS = [region(1, "dog", (0, 0, 10, 10)), region(2, "dog", (60, 60, 10, 10))]
BENCH, CUP = region(3, "bench", (12, 0, 20, 10)), region(4, "cup", (0, 0, 5, 5))


@pytest.mark.parametrize(("condition", "things", "description", "kept", "reason"), [
    (("dog", "", "behind", "bench"), [DOGS[0], BENCH], "A dog behind a bench.", (1,), "says so"),
    (("dog", "", "behind", "bench"), [DOGS[0], BENCH], "A bench in front of a dog.", (1,), "says so"),
    (("dog", "", "behind", "bench"), [DOGS[0], BENCH], "A dog in front of a bench.", (), "says the opposite"),
    (("dog", "", "behind", "bench"), [DOGS[0], BENCH], "A bench behind a dog.", (), "says the opposite"),
    (("dog", "", "behind", "bench"), [*DOGS, BENCH], "Two dogs behind a bench.", (1, 2), "says so"),
    (("dog", "", "behind", "bench"), [*DOGS, BENCH], "A dog behind a bench. A dog next to a tree.", (1, 2),
     "can tell which; all 2 stay"),
    (("dog", "", "behind", "bench"), [*DOGS, BENCH], "A dog.", (1, 2), "can tell which; all 2 stay"),
    (("man", "", "holds", "cup"), [region(1, "man", (0, 0, 9, 90)), CUP], "A man holding a cup.", (1,), "says so"),
    (("man", "", "holds", "cup"), [region(1, "man", (0, 0, 9, 90)), CUP], "A man wears a cup.", (1,),
     "can tell which; all 1 stay"),
])
def test_where_boxes_cannot_tell_the_description_does(run, condition, things, description, kept, reason):
    job = Job({"1": things})
    result = run(job, answering(plan([condition[0]], filters=[condition]), description))
    assert result.kept == {"1": kept}
    (line,) = [line for line in result.trace if line.startswith("1: ") and " of " not in line]
    assert reason in line, line


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
