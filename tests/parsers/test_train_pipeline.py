"""The treebank becomes documents, and a training of two steps becomes a directory that loads."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from parsers.errors import DatasetError, ModelError
from parsers.pipeline import import_spacy, load_pipeline

import_spacy()

from spacy.vocab import Vocab  # noqa: E402

from parsers.train.conllu import as_caption, grouped, noun_phrase, read_split, sentences, to_doc  # noqa: E402
from parsers.train.pipeline import export_pipeline, train_pipeline, training_texts  # noqa: E402

TREEBANK = """\
# newdoc id = one
# text = I don't see two red dogs, do I?
1\tI\tI\tPRON\tPRP\tCase=Nom|Number=Sing\t4\tnsubj\t4:nsubj\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\tMood=Ind\t4\taux\t4:aux\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t4:advmod\t_
4\tsee\tsee\tVERB\tVB\tVerbForm=Inf\t0\troot\t0:root\t_
5\ttwo\ttwo\tNUM\tCD\tNumType=Card\t7\tnummod\t7:nummod\t_
6\tred\tred\tADJ\tJJ\tDegree=Pos\t7\tamod\t7:amod\t_
7\tdogs\tdog\tNOUN\tNNS\tNumber=Plur\t4\tobj\t4:obj\tSpaceAfter=No
8\t,\t,\tPUNCT\t,\t_\t9\tpunct\t9:punct\t_
8.1\tsee\tsee\tVERB\tVB\t_\t_\t_\t4:conj\t_
9\tdo\tdo\tVERB\tVBP\tMood=Ind\t4\tparataxis\t4:parataxis\t_
10\tI\tI\tPRON\tPRP\tCase=Nom\t9\tnsubj\t9:nsubj\tSpaceAfter=No
11\t?\t?\tPUNCT\t.\t_\t4\tpunct\t4:punct\t_

# text = A man on the London bus sleeps.
1\tA\ta\tDET\tDT\tDefinite=Ind\t2\tdet\t2:det\t_
2\tman\tman\tNOUN\tNN\tNumber=Sing\t7\tnsubj\t7:nsubj\t_
3\ton\ton\tADP\tIN\t_\t6\tcase\t6:case\t_
4\tthe\tthe\tDET\tDT\tDefinite=Def\t6\tdet\t6:det\t_
5\tLondon\tLondon\tPROPN\tNNP\tNumber=Sing\t6\tcompound\t6:compound\t_
6\tbus\tbus\tNOUN\tNN\tNumber=Sing\t2\tnmod\t2:nmod\t_
7\tsleeps\tsleep\tVERB\tVBZ\tMood=Ind\t0\troot\t0:root\tSpaceAfter=No
8\t.\t.\tPUNCT\t.\t_\t7\tpunct\t7:punct\tSpaceAfter=No

# newdoc id = two
1\tGo\tgo\tVERB\tVB\tMood=Imp\t0\troot\t0:root\tSpaceAfter=No
2\t!!!\t!!!\tPUNCT\t.\t_\t1\tpunct\t1:punct\t_

"""
SMALL = {
    "training.max_steps": 2, "training.eval_frequency": 1, "components.parser.min_action_freq": 1,
    "components.lemmatizer.min_tree_freq": 1, "components.tok2vec.model.embed.rows": [50, 50, 50, 50],
    "components.tok2vec.model.encode.width": 8, "components.tok2vec.model.encode.depth": 1,
}


@pytest.fixture
def ewt(tmp_path: Path) -> Path:
    folder = tmp_path / "treebank"
    folder.mkdir()
    (folder / "train.conllu.gz").write_bytes(gzip.compress((TREEBANK * 5).encode()))
    (folder / "en_ewt-ud-dev.conllu").write_text(TREEBANK)
    return folder


@pytest.fixture
def treebank(ewt: Path):
    return read_split(ewt, "dev")


def test_a_sentence_becomes_a_document_with_its_text_and_tree(treebank):
    doc = to_doc(Vocab(), [treebank[0]])
    assert doc.text == "I don't see two red dogs, do I? "
    assert [token.text for token in doc][:4] == ["I", "do", "n't", "see"]
    assert [(token.pos_, token.tag_, token.lemma_, token.dep_, token.head.text) for token in doc[2:7]] == [
        ("PART", "RB", "not", "advmod", "see"), ("VERB", "VB", "see", "ROOT", "see"),
        ("NUM", "CD", "two", "nummod", "dogs"), ("ADJ", "JJ", "red", "amod", "dogs"),
        ("NOUN", "NNS", "dog", "obj", "see")]
    assert doc[0].morph.get("Case") == ["Nom"] and not doc[2].morph
    assert len(list(doc.sents)) == 1


def test_sentences_of_one_document_keep_their_trees_and_starts(treebank):
    doc = to_doc(Vocab(), treebank[:2])
    assert [sentence.root.text for sentence in doc.sents] == ["see", "sleeps"]
    assert doc[12].text == "man" and doc[12].head.text == "sleeps"


def test_a_caption_is_lower_case_and_has_no_last_mark(treebank):
    words = as_caption(treebank[1]).words
    assert [word.form for word in words] == ["a", "man", "on", "the", "london", "bus", "sleeps"]
    assert words[4].lemma == "london" and words[4].upos == "PROPN"
    assert [word.head for word in words] == [word.head for word in treebank[1].words[:-1]]


def test_a_caption_of_one_mark_stays():
    (only,) = sentences(["1\t!\t!\tPUNCT\t.\t_\t0\troot\t_\t_", ""], "here")
    assert [word.form for word in as_caption(only).words] == ["!"]


def test_a_noun_phrase_stands_alone_without_what_tied_it(treebank):
    phrases = {" ".join(word.form for word in phrase.words): phrase
               for seed in range(20) if (phrase := noun_phrase(treebank[1], random.Random(seed)))}
    assert phrases.keys() == {"A man on the London bus", "the London bus"}
    bus = phrases["the London bus"].words
    assert [(word.head, word.deprel) for word in bus] == [(2, "det"), (2, "compound"), (2, "ROOT")]
    assert noun_phrase(treebank[2], random.Random(0)) is None


def test_groups_stay_within_a_text_and_lose_no_sentence(treebank):
    many = treebank * 40
    groups = list(grouped(many, 4, seed=0))
    assert [sentence for group in groups for sentence in group] == many
    assert {len(group) for group in groups} == {1, 2}
    assert all(not sentence.starts_text for group in groups for sentence in group[1:])


def test_training_texts_are_the_same_for_a_seed(treebank):
    assert list(training_texts(treebank * 20, 3)) == list(training_texts(treebank * 20, 3))
    assert len(list(training_texts(treebank * 20, 3))) > len(list(grouped(treebank * 20, 4, 3)))


@pytest.mark.parametrize("text", [
    pytest.param("1\tone\tone\tNOUN\n\n", id="too few columns"),
    pytest.param("1\ta\ta\tDET\tDT\t_\t7\tdet\t_\t_\n\n", id="a head outside the sentence"),
    pytest.param("1-x\ta\ta\tDET\tDT\t_\t0\troot\t_\t_\n\n", id="an id that is no number"),
])
def test_lines_that_are_no_conllu_are_named(ewt, text):
    (ewt / "en_ewt-ud-dev.conllu").write_text(TREEBANK + text)
    with pytest.raises(DatasetError, match=r"lines 31 to 32") as caught:
        read_split(ewt, "dev")
    assert caught.value.code == "dataset-invalid"


def test_a_treebank_that_is_missing_or_damaged_is_told(ewt, tmp_path):
    with pytest.raises(DatasetError, match=r"no dev split.*--ewt"):
        read_split(tmp_path, "dev")
    (ewt / "train.conllu.gz").write_bytes(b"no gzip")
    with pytest.raises(DatasetError, match=r"cannot be read"):
        read_split(ewt, "train")


def test_two_steps_of_training_give_a_directory_that_loads(ewt, tmp_path):
    out = tmp_path / "models" / "en_scene"
    (out / "older").mkdir(parents=True)
    scores = train_pipeline(ewt, out, tmp_path / "work", minutes=10, seed=0, overrides=SMALL)
    assert scores.keys() == {"pos_acc", "tag_acc", "morph_acc", "lemma_acc", "dep_uas", "dep_las"}
    assert not (out / "older").exists() and [path.name for path in out.parent.iterdir()] == ["en_scene"]
    card = json.loads((out / "model.json").read_text())
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files - card["files"].keys() == {"model.json"}
    assert card["dev_scores"] == scores and card["trained_on"]["licence"] == "CC BY-SA 4.0"
    assert str(tmp_path) not in (out / "config.cfg").read_text() + (out / "meta.json").read_text()
    doc = load_pipeline(out)("Go!!! A man sleeps.")
    assert [token.text for token in doc] == ["Go", "!!!", "A", "man", "sleeps", "."]
    assert all(token.pos_ and token.dep_ and token.lemma_ for token in doc)


def test_a_training_without_time_leaves_no_model(ewt, tmp_path):
    with pytest.raises(ModelError, match=r"no trained model"):
        train_pipeline(ewt, tmp_path / "out", tmp_path / "work", minutes=0, seed=0, overrides=SMALL)
    assert not (tmp_path / "out").exists()


def test_there_is_nothing_to_export_from_an_empty_folder(ewt, tmp_path):
    with pytest.raises(ModelError) as caught:
        export_pipeline(tmp_path / "work", tmp_path / "out", ewt)
    assert caught.value.code == "model-incomplete"
