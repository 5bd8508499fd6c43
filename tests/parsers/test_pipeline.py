"""The pocket pipeline as it ships, pipelines that a person brings, and directories that are none."""

from __future__ import annotations

import hashlib
import json
import pickletools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from parsers.errors import MissingPackageError, ModelError
from parsers.pipeline import import_spacy, load_pipeline, pocket_pipeline

import_spacy()

import spacy  # noqa: E402
from spacy.lookups import Lookups  # noqa: E402
from spacy.training import Example  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]
POCKET = REPOSITORY / "models" / "pocket" / "en_scene"
SHARED = [parent / "shared" / "data" / "ud_english_ewt" for parent in REPOSITORY.parents]
EWT = next((folder for folder in SHARED if folder.is_dir()), None)
LARGEST = 9_000_000


def lemma_tables() -> Lookups:
    tables = Lookups()
    tables.add_table("lemma_lookup", {"buses": "bus"})
    return tables


@pytest.fixture(scope="module")
def pocket():
    return load_pipeline()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return shutil.copytree(POCKET, tmp_path / "en_scene")


@pytest.fixture
def clear_pipeline(tmp_path: Path) -> Path:
    """A directory made as `en_core_web_*` are: CLEAR labels, rules for tags and lemmas, named entities."""
    nlp = spacy.blank("en")
    nlp.add_pipe("tagger")
    nlp.add_pipe("parser", config={"min_action_freq": 1})
    nlp.add_pipe("attribute_ruler").add([[{"TAG": "NN"}]], {"POS": "NOUN"})
    nlp.add_pipe("lemmatizer", config={"mode": "lookup"})
    nlp.add_pipe("ner")
    example = Example.from_dict(nlp.make_doc("bus in town"), {
        "tags": ["NN", "IN", "NN"], "heads": [0, 0, 1], "deps": ["ROOT", "prep", "pobj"],
        "entities": ["O", "O", "U-GPE"]})
    nlp.get_pipe("lemmatizer").initialize(lookups=lemma_tables())
    with nlp.select_pipes(disable=["lemmatizer"]):
        nlp.initialize(lambda: [example])
    folder = tmp_path / "clear" / "clear-1.0.0"
    folder.parent.mkdir()
    nlp.to_disk(folder)
    return folder


def test_the_pocket_pipeline_is_the_one_of_the_project(monkeypatch, tmp_path):
    assert pocket_pipeline() == POCKET
    monkeypatch.setenv("LEXISEG_MODELS", str(tmp_path))
    assert pocket_pipeline() == tmp_path / "pocket" / "en_scene"


def test_the_pocket_pipeline_reads_a_caption(pocket):
    doc = pocket("two brown dogs are playing with a ball on the grass")
    read = {token.text: (token.pos_, token.lemma_, token.dep_, token.head.text) for token in doc}
    assert read["dogs"] == ("NOUN", "dog", "nsubj", "playing")
    assert read["two"] == ("NUM", "two", "nummod", "dogs")
    assert read["brown"] == ("ADJ", "brown", "amod", "dogs")
    assert read["ball"] == ("NOUN", "ball", "obl", "playing")
    assert read["playing"] == ("VERB", "play", "ROOT", "playing")


@pytest.mark.parametrize(("text", "sentences"), [
    ("A man rides a horse. He wears a hat.", 2), ("a red bus parked near two dogs", 1), ("", 0), ("   ", 1)])
def test_the_pocket_pipeline_finds_the_sentences(pocket, text, sentences):
    assert len(list(pocket(text).sents)) == sentences


def test_the_pocket_pipeline_is_small_and_its_card_is_true():
    files = {path.relative_to(POCKET).as_posix(): path for path in POCKET.rglob("*") if path.is_file()}
    assert sum(path.stat().st_size for path in files.values()) <= LARGEST
    card = json.loads(files.pop("model.json").read_text())
    assert card["files"] == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert (card["format_version"], card["kind"], card["name"]) == (1, "spacy", "pocket-en-scene")
    assert "CC BY-SA 4.0" in card["licence"] and "English EWT" in card["trained_on"]["name"]
    assert card["dev_scores"]["pos_acc"] >= 0.93
    assert card["dev_scores"]["dep_uas"] >= 0.83 and card["dev_scores"]["dep_las"] >= 0.79


def test_no_file_of_the_pocket_pipeline_is_a_pickle():
    for path in POCKET.rglob("*"):
        if path.is_file():
            with pytest.raises(Exception, match=r"."):
                list(pickletools.genops(path.read_bytes()))


def test_the_pocket_pipeline_holds_no_path_of_the_machine_that_made_it():
    assert set(spacy.util.load_config(POCKET / "config.cfg")["paths"].values()) == {None}


def test_torch_stays_out_and_can_come_later():
    code = ("import sys; from parsers.pipeline import load_pipeline; load_pipeline()('a dog');"
            "assert 'torch' not in sys.modules; import importlib.util; importlib.util.find_spec('torch')")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_a_pipeline_with_clear_labels_serves_and_leaves_names_of_places_aside(clear_pipeline):
    nlp = load_pipeline(clear_pipeline)
    assert nlp.pipe_names == ["tagger", "parser", "attribute_ruler", "lemmatizer"]
    assert set(nlp.get_pipe("parser").labels) >= {"prep", "pobj"}


def test_the_folder_around_a_pipeline_points_into_it(clear_pipeline):
    with pytest.raises(ModelError, match=r"Name .*clear-1\.0\.0 instead") as caught:
        load_pipeline(clear_pipeline.parent)
    assert caught.value.code == "model-incomplete"


@pytest.mark.parametrize("name", ["en_core_web_sm", "no/such/folder"])
def test_names_of_packages_are_not_looked_up(name):
    with pytest.raises(ModelError, match=r"not a directory.*python -m parsers\.train pipeline") as caught:
        load_pipeline(Path(name))
    assert caught.value.code == "model-missing"


def test_a_pipeline_without_a_parser_is_refused(tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("attribute_ruler")
    nlp.add_pipe("lemmatizer", config={"mode": "lookup"}).initialize(lookups=lemma_tables())
    nlp.to_disk(tmp_path / "half")
    with pytest.raises(ModelError, match=r"does not give a dependency parse; it has attribute_ruler") as caught:
        load_pipeline(tmp_path / "half")
    assert caught.value.code == "model-unsupported"


def test_an_empty_directory_is_incomplete(tmp_path):
    with pytest.raises(ModelError, match=r"no meta\.json and no config\.cfg") as caught:
        load_pipeline(tmp_path)
    assert caught.value.code == "model-incomplete"


def test_a_lost_file_and_a_changed_file_are_named(copied):
    weights = copied / "parser" / "model"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelError, match=r"parser/model is not the file") as caught:
        load_pipeline(copied)
    assert caught.value.code == "model-corrupt"
    weights.unlink()
    with pytest.raises(ModelError, match=r"lacks parser/model") as caught:
        load_pipeline(copied)
    assert caught.value.code == "model-incomplete"


def test_a_damaged_pipeline_without_a_card_is_corrupt(copied):
    (copied / "model.json").unlink()
    weights = copied / "parser" / "model"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"does not load as a spaCy pipeline") as caught:
        load_pipeline(copied)
    assert caught.value.code == "model-corrupt"


@pytest.mark.parametrize(("content", "code"), [
    pytest.param("{", "model-corrupt", id="no JSON"),
    pytest.param("[]", "model-corrupt", id="no object"),
    pytest.param('{"format_version": 1, "files": []}', "model-corrupt", id="files are a list"),
    pytest.param('{"format_version": 1, "files": {"meta.json": 1}}', "model-corrupt", id="a digest is a number"),
    pytest.param('{"format_version": 2, "files": {}}', "model-unsupported", id="a later format"),
])
def test_a_card_that_cannot_be_read_is_told(copied, content, code):
    (copied / "model.json").write_text(content)
    with pytest.raises(ModelError, match=r"model\.json") as caught:
        load_pipeline(copied)
    assert caught.value.code == code


def test_a_machine_without_spacy_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'lexiseg\[parsers\]'"):
        load_pipeline()


@pytest.mark.integration
@pytest.mark.skipif(EWT is None, reason="../shared is absent")
def test_the_pocket_pipeline_reaches_its_figures_on_the_dev_split(pocket):
    from parsers.train.conllu import read_split, to_doc

    gold = [to_doc(pocket.vocab, [sentence]) for sentence in read_split(EWT, "dev")]
    scores = pocket.evaluate([Example(pocket.make_doc(doc.text), doc) for doc in gold])
    assert scores["pos_acc"] >= 0.93 and scores["dep_uas"] >= 0.83 and scores["dep_las"] >= 0.79
