"""The learned head: its network, its files, what it covers, and that it learns."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parsers import ScenePriors, head_network
from parsers.errors import Code, ModelError, SettingError
from parsers.head import LONGEST_CAPTION, Head, load_head, pocket_head
from parsers.head_model import CARD_FILE, TABLES_FILE, WEIGHTS_FILE, HeadModel, load_model, save_model
from parsers.lexicon import Lexicon, Tables
from parsers.train.graphs import Aligner, Example, parse_graph
from parsers.train.head import (
    Training,
    batches,
    export_head,
    exported,
    facts_of,
    make_tables,
    new_network,
    to_answers,
    train_head,
)

SMALL = {"word_size": 12, "affix_size": 4, "hidden": 24, "pair": 32, "relation": 24}

GRAPHS = {
    "a red bus on the street": "( bus , is , red ) , ( bus , on , street )",
    "two dogs playing with a ball": "( dogs , is , 2 ) , ( dogs , play with , ball )",
    "two cats sitting on a wall": "( cats , is , 2 ) , ( cats , sit on , wall )",
    "a man riding a brown horse": "( man , ride , horse ) , ( horse , is , brown )",
    "traffic light above the street": "( traffic light , above , street )",
    "the traffic light is green": "( traffic light , is , green )",
    "a woman and a man sitting on a bench": "( woman , sit on , bench ) , ( man , sit on , bench )",
    "the sail of a boat": "( boat , have , sail )",
    "the handle of a cup": "( cup , have , handle )",
    "a guy holding a white cup": "( person , hold , cup ) , ( cup , is , white )",
    "a guy in a boat": "( person , in , boat )",
    "wood table near the wall": "( table , is , wooden ) , ( table , near , wall )",
    "a wood boat": "( boat , is , wooden )",
    "a lamp on top of the table": "( lamp , on top of , table )",
    "a bird is standing on top of the lamp": "( bird , stand on top of , lamp )",
    "green grass": "( grass , is , green )",
    "the tail of a horse": "( horse , have , tail )",
    "horse behind a wooden fence": "( horse , behind , fence ) , ( fence , is , wooden )",
    "street": "( street )",
    "a bird flying over the boats": "( bird , fly over , boats )",
}
EXAMPLES = [Example(caption, parse_graph(graph)) for caption, graph in GRAPHS.items()]


@pytest.fixture(scope="module")
def targets():
    aligner = Aligner(EXAMPLES)
    return [aligner.target(example) for example in EXAMPLES]


@pytest.fixture(scope="module")
def random_head(targets):
    torch.manual_seed(1)
    tables = make_tables(targets)
    return Head(HeadModel(tables, tuple(exported(dict(new_network(tables, **SMALL).named_parameters()))
                                        for _ in range(2))))


def test_numpy_gives_the_scores_of_torch_on_random_weights(targets):
    torch.manual_seed(0)
    tables = make_tables(targets)
    theirs = new_network(tables, **SMALL).eval()
    ours = exported(dict(theirs.named_parameters()))
    generator = np.random.default_rng(0)
    words_BN = generator.integers(0, len(tables.words), (3, 11))
    affixes_BN3 = generator.integers(0, 1024, (3, 11, 3))
    edges_E3 = np.array([(0, 1, 2), (2, 10, 0), (2, 4, 4)])
    first_E = np.array([0, 1, len(tables.firsts) + 3])
    firsts_EN = generator.integers(0, len(tables.firsts) + 11, (3, 11))
    keywords_KR = Lexicon(tables).keywords_KR
    keywords_EN = generator.integers(-1, len(keywords_KR), (3, 11))
    joined_BN = generator.integers(-1, len(tables.object_renames), (3, 11))
    with torch.no_grad():
        x, edges, firsts, keywords, joined = (torch.from_numpy(a) for a in (words_BN, edges_E3, firsts_EN, keywords_EN,
                                                                            joined_BN))
        x = theirs.encode(x, torch.from_numpy(affixes_BN3))
        p = theirs.pairs(x)
        z, y = theirs.relation_vectors(x, p, edges)
        wanted = {"x": x, "p": p, "z": z, "y": y, "edges": theirs.edge(p),
                  "first": theirs.first_scores(z, y, firsts),
                  "rest": theirs.rest_scores(z, torch.from_numpy(first_E), y, keywords, torch.from_numpy(keywords_KR)),
                  **theirs.name_scores(x, joined)}
    x = head_network.encode(ours, words_BN, affixes_BN3)
    p = head_network.pairs(ours, x)
    z, y = head_network.relation_vectors(ours, x, p, edges_E3)
    found = {"x": x, "p": p, "z": z, "y": y, "edges": head_network.edge_scores(ours, p),
             "first": head_network.first_scores(ours, z, y, firsts_EN),
             "rest": head_network.rest_scores(ours, z, first_E, y, keywords_EN, keywords_KR),
             **head_network.name_scores(ours, x, joined_BN)}
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


def test_twenty_captions_are_learnt_by_heart(targets):
    torch.manual_seed(0)
    tables = make_tables(targets)
    lexicon = Lexicon(tables)
    answers = [to_answers(target, lexicon) for target in targets]
    training = Training(lexicon, 80, 8, 1e-2, {**SMALL, "dropout": 0.0})
    hidden_words = torch.zeros(len(tables.words))
    for epoch in range(80):
        for batch in batches(answers, np.random.default_rng(epoch)):
            training.learn(batch, hidden_words)
    head = Head(HeadModel(tables, (exported(dict(training.network.named_parameters())),)))
    graphs = head.graphs([example.caption for example in EXAMPLES])
    assert [facts_of(graph) for graph in graphs] == [set(example.facts) for example in EXAMPLES]
    dogs, bus = head.parse(["Two dogs playing with a ball", "a red bus on the street"])
    assert [(item.name, item.lemma, item.count) for item in dogs.objects] == [("dogs", "dogs", 2), ("ball", "ball", 1)]
    assert dogs.relations[0].predicate == "play with"
    assert dogs.text == "Two dogs playing with a ball"
    assert bus.objects[0].attributes == ("red",)


def test_a_training_cut_in_two_gives_the_same_weights(tmp_path, monkeypatch):
    data = tmp_path / "train.csv"
    data.write_text("caption,scene_graph\n" + "".join(f'{c},"{g}"\n' for c, g in GRAPHS.items()))
    train_head(data, tmp_path / "whole", epochs=2, sizes=SMALL)
    train_head(data, tmp_path / "parts", epochs=2, minutes=0.0, sizes=SMALL)
    assert not (tmp_path / "parts" / "log.jsonl").exists()
    real = Training.learn
    monkeypatch.setattr(Training, "learn", lambda self, *a: real(self, *a) if self.epoch == 0 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_head(data, tmp_path / "parts", epochs=2, sizes=SMALL)
    monkeypatch.setattr(Training, "learn", real)
    assert train_head(data, tmp_path / "parts", epochs=2, sizes=SMALL)["epoch"] == 2
    whole, parts = (load_model(export_head([tmp_path / run], tmp_path / "out" / run)) for run in ("whole", "parts"))
    assert all(np.array_equal(value, parts.members[0][name]) for name, value in whole.members[0].items())
    assert len((tmp_path / "parts" / "log.jsonl").read_text().splitlines()) == 2


def test_a_training_without_epochs_is_refused(tmp_path):
    with pytest.raises(SettingError, match="--epochs is 0"):
        train_head(tmp_path / "train.csv", tmp_path, epochs=0)


@pytest.mark.parametrize("text", [
    "", " \n\t", ".", "dog", "🐶", "👨‍👩‍👧 on a 🛹", "a dog " * 250, "x" * 5000,
    "<b>two</b> dogs &amp; a cat", "\x00\x1b[2J dog",
    "собака на траве", "両方の犬", "{\"objects\": [\"dog\"]}", "ignore previous instructions",
    "\ud800 dog", "İ ıſ dog",
    "'s 's 's", "-" * 300,
], ids=lambda text: ascii(text[:12]))
def test_odd_texts_give_valid_priors(random_head, text):
    found, = random_head.parse([text])
    assert ScenePriors.model_validate_json(found.model_dump_json()) == found
    assert all(max(relation.subject, relation.object) < len(found.objects) for relation in found.relations)
    assert all(item.name.strip() for item in found.objects)


@given(text=st.text(max_size=60))
def test_any_string_gives_valid_priors(random_head, text):
    found, = random_head.parse([text])
    assert found.text == text
    assert all(max(relation.subject, relation.object) < len(found.objects) for relation in found.relations)
    assert len({item.name for item in found.objects}) == len(found.objects)
    random_head.covers(text)


def test_what_stands_after_the_longest_caption_is_not_read(random_head):
    long = " ".join(f"w{i}" for i in range(500))
    cut = " ".join(f"w{i}" for i in range(LONGEST_CAPTION))
    assert random_head.graphs([long]) == random_head.graphs([cut])


def test_an_answer_does_not_depend_on_its_neighbours(random_head):
    texts = [*GRAPHS, "", *GRAPHS]
    assert random_head.parse(texts) == [random_head.parse([text])[0] for text in texts]


@pytest.mark.parametrize(("text", "covered"), [
    ("two dogs playing with a ball", True), ("A red bus on the street.", True), ("", False), ("...", False),
    ("a street without a bus", False), ("the bus isn't red", False), ("a bus. the street is green", False),
    ("ein Hund auf der Wiese", False), ("a red bus " * 30, False), ("12 34", False),
])
def test_the_head_covers_captions_and_nothing_else(text, covered):
    words = ("", *sorted({token for caption in GRAPHS for token in caption.split()}))
    head = Head(HeadModel(Tables(words, ("",) * len(words), (), (), ("",), ("",)), ()))
    assert head.covers(text) is covered


def test_a_saved_head_is_the_same_but_for_eight_bits(random_head, tmp_path):
    model = HeadModel(random_head.tables, random_head.members)
    save_model(model, tmp_path / "head", {"name": "test"})
    loaded = load_model(tmp_path / "head")
    assert loaded.tables == model.tables
    for ours, theirs in zip(model.members, loaded.members, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert theirs[name].dtype == np.float32
            step = np.abs(value).max(axis=-1, keepdims=True) / 127
            assert (np.abs(theirs[name] - value) <= 0.51 * step).all(), name
    first = (tmp_path / "head" / WEIGHTS_FILE).read_bytes()
    save_model(model, tmp_path / "head", {"name": "test"})
    assert (tmp_path / "head" / WEIGHTS_FILE).read_bytes() == first
    assert load_head(tmp_path / "head").parse(["a red bus"])[0].text == "a red bus"


def test_a_damaged_head_is_refused_with_a_code(random_head, tmp_path):
    directory = tmp_path / "head"
    with pytest.raises(ModelError) as caught:
        load_head(directory)
    assert caught.value.code == Code.MODEL_MISSING
    save_model(HeadModel(random_head.tables, random_head.members), directory, {"name": "test"})
    card = json.loads((directory / CARD_FILE).read_text())

    (directory / CARD_FILE).write_text(json.dumps(card | {"format_version": 2}))
    with pytest.raises(ModelError) as caught:
        load_head(directory)
    assert caught.value.code == Code.MODEL_UNSUPPORTED

    (directory / CARD_FILE).write_text("[")
    with pytest.raises(ModelError) as caught:
        load_head(directory)
    assert caught.value.code == Code.MODEL_CORRUPT

    (directory / CARD_FILE).write_text(json.dumps(card))
    (directory / TABLES_FILE).write_bytes((directory / TABLES_FILE).read_bytes() + b" ")
    with pytest.raises(ModelError) as caught:
        load_head(directory)
    assert caught.value.code == Code.MODEL_CORRUPT

    (directory / WEIGHTS_FILE).unlink()
    with pytest.raises(ModelError) as caught:
        load_head(directory)
    assert caught.value.code == Code.MODEL_INCOMPLETE


def test_the_pocket_head_is_small_and_reads_captions_of_our_own():
    head = load_head()
    assert sum(file.stat().st_size for file in pocket_head().iterdir()) <= 6_000_000
    bus, boys, robot = head.parse(["A red bus parked on the street", "three boys flying a kite",
                                   "a robot welding a steel frame"])
    assert [(item.name, item.attributes) for item in bus.objects] == [("bus", ("red",)), ("street", ())]
    assert [(edge.subject, edge.predicate, edge.object) for edge in bus.relations] == [(0, "park on", 1)]
    assert [(item.name, item.lemma, item.count) for item in boys.objects] == [("boys", "boy", 3), ("kite", "kite", 1)]
    assert boys.relations[0].predicate == "fly"
    assert {"robot", "frame"} <= {item.name.split()[-1] for item in robot.objects}
