"""Vocabularies that a language model adds to."""

import json

import pytest

from agents.clusters import MAX_NAMES
from agents.vocabulary import build_vocabulary
from parsers import VocabularyError
from parsers.vocabulary import Vocabulary, VocabularyClass

KINDS = {"dog": ["poodle", "husky", "wolf", "beagle", "collie"], "wolf": ["grey wolf", "husky", "arctic wolf"],
         "bus": ["school bus", "minibus", "double-decker"]}


def answers(request):
    content = request["messages"][-1]["content"]
    if content.startswith("Class: "):
        name = json.loads(content.removeprefix("Class: ").split(" (")[0].split(". Number")[0])
        return json.dumps({"names": KINDS[name]})
    names = json.loads(content.split("Names: ")[1].splitlines()[0])
    return json.dumps({name: "vehicles" if name == "bus" else "animals" for name in names})


def test_subclasses_and_clusters_with_their_provenance(llm, source):
    llm.answer = answers
    built = build_vocabulary(source, Vocabulary.from_names("dog, wolf, bus"), subclasses=3, clusters=True)
    dog, wolf, bus = built.vocabulary.classes
    assert dog.subclasses == ("poodle", "husky", "beagle")
    assert wolf.subclasses == ("grey wolf", "arctic wolf") and bus.subclasses == tuple(KINDS["bus"])
    assert (dog.cluster, wolf.cluster, bus.cluster) == ("animals", "animals", "vehicles")
    assert built.notes == ("'husky' was given for 'wolf', too; it stays with 'dog'.",)
    assert dog.provenance.source == "llm" and dog.provenance.model == "stub"
    assert dog.provenance.prompt.startswith("subclasses ") and ", clusters " in dog.provenance.prompt
    assert len(dog.provenance.date) == 10


def test_too_many_classes_for_clusters_are_refused_before_a_call(llm, source):
    with pytest.raises(VocabularyError, match=f"{MAX_NAMES + 1} names are to be put into clusters"):
        build_vocabulary(source, Vocabulary.from_names([f"n{n}" for n in range(MAX_NAMES + 1)]), subclasses=3,
                         clusters=True)
    assert llm.calls == 0


def test_what_a_person_wrote_stays(llm, source):
    llm.answer = answers
    mine = Vocabulary(classes=(
        VocabularyClass(id=3, name="dog", subclasses=("mongrel",), cluster="pets", gloss="the animal"),
        VocabularyClass(id=9, name="bus", color="#112233")), background=("sky",))
    built = build_vocabulary(source, mine, subclasses=2, clusters=True)
    dog, bus = built.vocabulary.classes
    assert dog == mine.classes[0]
    assert (bus.id, bus.color, bus.subclasses, bus.cluster) == (9, "#112233", ("school bus", "minibus"), "vehicles")
    assert built.vocabulary.background == ("sky",)


def test_the_gloss_is_part_of_the_question(llm, source):
    llm.answer = answers
    build_vocabulary(source, Vocabulary(classes=(VocabularyClass(id=1, name="dog", gloss="the animal"),)), subclasses=3)
    assert llm.question(0) == 'Class: "dog" (the animal). Number of kinds: 6'


def test_the_same_file_again_without_a_call(llm, make_source, tmp_path):
    llm.answer = answers
    names = Vocabulary.from_names("dog, wolf, bus")
    first = build_vocabulary(make_source(tmp_path / "store"), names, subclasses=3, clusters=True)
    calls = llm.calls
    assert build_vocabulary(make_source(tmp_path / "store"), names, subclasses=3, clusters=True) == first
    assert llm.calls == calls


def test_a_class_of_which_nothing_is_known_stays_as_it_is(llm, source):
    llm.answer = lambda request: "no idea"
    mine = Vocabulary.from_names("dog, bus")
    built = build_vocabulary(source, mine, subclasses=3)
    assert built.vocabulary == mine
    assert built.notes == ("No subclass of 'dog' could be used.", "No subclass of 'bus' could be used.")


def test_a_frozen_vocabulary_is_not_frozen_afterwards(llm, source):
    llm.answer = answers
    assert not build_vocabulary(source, Vocabulary.from_names("dog").frozen(), subclasses=3).vocabulary.is_frozen
