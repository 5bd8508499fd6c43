"""What the pocket LLaVA is trained to read and write: tokens, questions, answers, requests."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.prompt import TASKS, load_prompt
from agents.records import Plan
from agents.schemas import choice_schema, labels_schema, names_schema, plan_schema, yes_no_schema
from agents.train.knowledge import kinds_of, seen_names, superclass_of, superclasses
from agents.train.requests import draw_request
from agents.train.tasks import (
    assignment,
    between,
    clusters,
    describe,
    picture_examples,
    presence,
    subclasses,
    text_example,
    where,
)
from agents.train.tokenizer import COLUMNS, END, IMAGE, PADDING, PREDICATES, ROWS, make_tokenizer, pieces
from parsers.reader import SceneReader
from vision.datasets.pictograms import PictogramDataset
from vision.datasets.scene import Scene
from vision.datasets.sprites import concepts, texture_names

TOKENIZER = make_tokenizer()


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    dataset = PictogramDataset(count=40, seed=3, split="seen")
    return [dataset.scene(i) for i in range(40)]


@given(st.text(max_size=60))
def test_any_text_survives_the_tokenizer(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text


def test_special_tokens_come_first_and_names_are_one_token_in_every_place():
    assert [TOKENIZER.token_to_id(word) for word in (END, IMAGE, PADDING)] == [0, 1, 2]
    for name in (*seen_names(), *superclasses(), *texture_names()):
        token, = TOKENIZER.encode(name).ids
        assert token in TOKENIZER.encode(f'{{"names": ["{name}", "x"]}}').ids
        assert token in TOKENIZER.encode(f"A large {name} and a dog.").ids


def test_a_plural_holds_the_token_of_its_name_and_a_longer_word_does_not():
    dog, = TOKENIZER.encode("dog").ids
    assert dog in TOKENIZER.encode("all the dogs").ids
    assert dog not in TOKENIZER.encode("dogma").ids


def test_no_unseen_name_is_a_piece_or_in_a_training_text():
    unseen = {concept.name for concept in concepts() if not concept.seen} - {*texture_names(), *superclasses()}
    assert not unseen & set(pieces())
    rng = np.random.default_rng(0)
    answers = [text_example(rng).answer for _ in range(300)]
    named = {name for answer in answers if answer.startswith('{"names"') for name in json.loads(answer)["names"]}
    assert named and not named & unseen


def test_each_task_has_a_short_prompt_whose_words_are_known():
    for task in TASKS:
        prompt = load_prompt(task, "short")
        assert len(prompt.turns) == 1, "the pocket model reads one question"
        text = prompt.turns[0][1].replace("$", "")
        assert len(TOKENIZER.encode(text).ids) < 20


def test_descriptions_say_what_the_scene_parser_reads(scenes):
    terms = (*seen_names(), *texture_names())
    found = things = kept = relations = 0
    texts = [describe(scene, detailed=True) for scene in scenes]
    for scene, text, priors in zip(scenes, texts, SceneReader().read(texts, terms), strict=True):
        things += len(scene.objects)
        found += len({prior.name for prior in priors.objects} & set(scene.names))
        assert text.count(" The ") == len(scene.relations) / 2, "each relation once, in one of its two directions"
        told = {(priors.objects[one.subject].name, one.predicate, priors.objects[one.object].name)
                for one in priors.relations}
        true = {(scene.objects[one.subject].name, one.predicate, scene.objects[one.object].name)
                for one in scene.relations}
        relations += len(true) / 2
        kept += len(told & true)
    assert found > 0.97 * things and kept > 0.97 * relations


def test_each_thing_is_told_after_the_place_of_its_middle(scenes):
    for scene in scenes:
        text = describe(scene, detailed=False)
        assert text.startswith("There is ") and scene.texture in text.split(".")[0]
        told = [sentence.strip() for sentence in text.split(".")[1:-1]]
        assert len(told) == len(scene.objects)
        places = []
        for sentence in told:
            row, column = next((r, c) for r, high in enumerate(ROWS) for c, far in enumerate(COLUMNS)
                               if sentence.startswith((high + far).strip()))
            thing = next(thing for thing in scene.objects if sentence.endswith(f" {thing.name}"))
            x, y, width, height = thing.box
            assert (row, column) == (int((y + height / 2) / 25.6), int((x + width / 2) / 25.6)), sentence
            places.append((row, column))
        assert places == sorted(places)


def test_relations_are_told_of_things_named_before_to_the_thing_named_last(scenes):
    for scene in scenes:
        named: list[str] = []
        for sentence in describe(scene, detailed=True).rstrip(".").split("."):
            if sentence.startswith(" The "):
                assert sentence.endswith(f" the {named[-1]}")
                assert any(sentence.startswith(f" The {name} is ") for name in named[:-1])
            elif sentence.startswith(" At "):
                named.append(next(thing.name for thing in sorted(scene.objects, key=lambda one: -len(one.name))
                                  if sentence.endswith(f" {thing.name}")))


def test_how_two_things_lie_is_what_the_table_says(scenes):
    rng, said = np.random.default_rng(4), set()
    for scene in scenes:
        for _ in range(5):
            example = between(scene, rng)
            names = json.loads(f'[{example.question.removeprefix("Where is ").removesuffix("?")}]')
            if len(names) == 2:
                one, other = ([thing.name for thing in scene.objects].index(name) for name in names)
                true = [f" is {relation.predicate} the " for relation in scene.relations
                        if (relation.subject, relation.object) == (one, other)]
                assert example.answer == (true or ["no"])[0]
                assert [look.things for look in example.looks] == [(one,), (other,)]
                said.add(example.answer)
    assert said == {"no", *(f" is {predicate} the " for predicate in PREDICATES)}


def test_answers_about_pictures_are_true_and_fit_their_schemas(scenes):
    rng = np.random.default_rng(1)
    yes = 0
    for scene in scenes:
        answer = json.loads(presence(scene, rng).answer)
        jsonschema.validate(answer, dict(yes_no_schema()))
        yes += answer["answer"] == "yes"
        example = assignment(scene, rng)
        offered = json.loads(example.question[example.question.index("{"):])
        answer = json.loads(example.answer)
        jsonschema.validate(answer, dict(choice_schema(list(offered))))
        assert answer["clusters"] == [group for group, names in offered.items() if set(names) & set(scene.names)]
    assert 0.25 * len(scenes) < yes < 0.85 * len(scenes)


def test_presence_knows_names_superclasses_and_textures(scenes):
    for scene in scenes:
        rng = np.random.default_rng(2)
        there = {*scene.names, *(thing.superclass for thing in scene.objects)}
        for _ in range(10):
            example = presence(scene, rng)
            name = json.loads(example.question.removeprefix("Is there ").removesuffix(" in the picture?"))
            if name in superclass_of() or name in superclasses():
                assert (json.loads(example.answer)["answer"] == "yes") == (name in there), name


def test_where_a_thing_is_is_what_a_description_says(scenes):
    rng, absent = np.random.default_rng(3), 0
    for scene in scenes:
        told = describe(scene, detailed=False)
        for _ in range(5):
            example = where(scene, rng)
            name = json.loads(example.question.removeprefix("Where is ").removesuffix("?"))
            fits = [thing.name for thing in scene.objects if name in (thing.name, thing.superclass)]
            assert (example.answer == "no") == (not fits) == (not example.looks[0].things)
            assert not fits or any(f"{example.answer} {article} {fit}." in told for fit in fits
                                   for article in ("a", "an"))
            assert example.question[example.looks[0].at:].startswith(name)
            absent += not fits
    assert 0.15 * 5 * len(scenes) < absent < 0.45 * 5 * len(scenes)


def test_subclasses_are_true_hyponyms_each_once():
    for name, members in superclasses().items():
        kinds = kinds_of(name, 7)
        assert len(set(kinds)) == len(kinds) >= 4
        assert set(kinds) <= set(members) or (set(members) - {name} < set(kinds) and len(kinds) == 4)
    animals = {one for group in ("mammal", "bird", "amphibian", "reptile", "bug", "marine animal")
               for one in superclasses()[group]}
    assert set(kinds_of("animal", 10)) <= animals
    assert kinds_of("poodle", 4) == ("small poodle", "large poodle")
    rng = np.random.default_rng(3)
    for _ in range(50):
        example = subclasses(rng)
        count = int("".join(char for char in example.question if char.isdigit())[:2])
        jsonschema.validate(json.loads(example.answer), dict(names_schema(count)))


def test_clusters_name_the_superclass_of_every_name_in_order():
    rng = np.random.default_rng(4)
    for _ in range(60):
        example = clusters(rng)
        names = json.loads(example.question[example.question.rindex("names ") + 6:])
        answer = json.loads(example.answer)
        assert list(answer) == names
        jsonschema.validate(answer, dict(labels_schema(names)))
        assert all(group == superclass_of().get(name, "other object") for name, group in answer.items())


def test_requests_and_plans_belong_together():
    rng = np.random.default_rng(5)
    free = kinds = filtered = 0
    for _ in range(300):
        request, plan = draw_request(rng)
        jsonschema.validate(plan, dict(plan_schema()))
        record = Plan.model_validate(plan)
        for target in record.targets:
            assert target.lower() in request.lower()
        for one in record.filters:
            assert bool(one.attribute) != bool(one.relation)
            assert one.target in (*record.targets, "")
            assert one.object in request.lower()
        assert record.targets or record.candidate_free
        free, kinds, filtered = free + record.candidate_free, kinds + record.subclasses, filtered + bool(record.filters)
    assert min(free, kinds, filtered) > 30


def test_questions_about_a_scene_hold_both_descriptions(scenes):
    examples = picture_examples(scenes[0], np.random.default_rng(6))
    assert {"Describe the picture.", "Describe the picture in detail."} <= {one.question for one in examples}
