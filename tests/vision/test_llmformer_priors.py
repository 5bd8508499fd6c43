"""Descriptions: what is embedded of them, files of them, and vocabularies made of them."""

import pytest
import torch

from parsers.errors import Code, DatasetError, ModelError, VocabularyError
from parsers.priors import ObjectPrior, RelationPrior, ScenePriors
from parsers.vocabulary import Vocabulary, VocabularyClass
from vision.llmformer.config import WordsConfig
from vision.llmformer.free import free_classes, free_vocabulary, merged_vocabulary
from parsers.prepared import PreparedPriors, PreparedRow, named_classes, recall, write_prepared
from vision.llmformer.priors import embed_priors, prior_phrases
from vision.llmformer.words import load_words, write_table


def thing(name, *attributes, lemma=None):
    return ObjectPrior(name=name, lemma=lemma or name, attributes=attributes)


def priors(*objects, relations=()):
    return ScenePriors(text="a text", objects=objects,
                       relations=tuple(RelationPrior(subject=s, predicate=p, object=o) for s, p, o in relations))


DOGS = priors(thing("dogs", "red", lemma="dog"), thing("grass", "green"), thing("dog", "small", "red"),
              relations=[(0, "on", 1), (2, "on", 1), (0, "beside", 2)])


def test_things_of_one_lemma_are_one_object_with_all_attributes():
    phrases = prior_phrases(DOGS, 32, 32)
    assert phrases.objects == ("dog", "grass")
    assert phrases.attributes == (("red dog", "small dog"), ("green grass",))
    assert phrases.relations == ((0, "dog on grass", 1),)  # once, and none of a thing to itself


def test_no_description_and_an_empty_one_say_nothing():
    for nothing in (None, priors(), ScenePriors(text="", reason="empty-text")):
        phrases = prior_phrases(nothing, 4, 4)
        assert (phrases.objects, phrases.attributes, phrases.relations) == ((), (), ())


def test_two_hundred_objects_are_cut_and_relations_to_what_is_cut_go():
    many = priors(*(thing(f"thing {i}") for i in range(200)), relations=[(0, "on", 1), (0, "on", 150), (199, "by", 3)])
    phrases = prior_phrases(many, 32, 8)
    assert phrases.objects == tuple(f"thing {i}" for i in range(32))
    assert phrases.relations == ((0, "thing 0 on thing 1", 1),)


def test_relations_to_objects_that_are_not_there_are_left_out():
    assert prior_phrases(priors(thing("dog"), relations=[(0, "on", 7), (9, "by", 0)]), 4, 4).relations == ()


def test_many_relations_are_cut():
    names = [thing(f"thing {i}") for i in range(6)]
    said = priors(*names, relations=[(i, "on", j) for i in range(6) for j in range(6) if i != j])
    assert len(prior_phrases(said, 6, 4).relations) == 4


def known(texts):
    return torch.stack([torch.zeros(3) if "unknown" in text else torch.tensor([1.0, len(text), 0.0])
                        for text in texts]) if texts else torch.zeros(0, 3)


def test_what_the_text_encoder_does_not_know_is_left_out():
    said = priors(thing("dog", "red"), thing("unknown"), relations=[(0, "by", 1)])
    batch = embed_priors([prior_phrases(said, 4, 2), prior_phrases(None, 4, 2)], known, known, objects=4, relations=2,
                         width=3)
    assert batch.valid_BN.tolist() == [[True, False, False, False], [False] * 4]
    assert batch.described_BN.tolist() == [[True, False, False, False], [False] * 4]
    assert batch.related_BR.tolist() == [[False, False], [False, False]]


def test_attributes_are_averaged_over_those_that_are_known():
    said = priors(thing("dog", "red", "unknown", "large"))
    batch = embed_priors([prior_phrases(said, 2, 2)], known, known, objects=2, relations=2, width=3)
    assert batch.attributes_BNc[0, 0].tolist() == [1.0, (len("red dog") + len("large dog")) / 2, 0.0]


def row(key, said=DOGS):
    return PreparedRow(image_id=key, prompt_id="simple", model_id="nobody", priors=said)


def test_prepared_descriptions_survive_the_file(tmp_path):
    path = tmp_path / "descriptions.jsonl"
    write_prepared(path, [row("a.png"), row("b.png", priors())])
    prepared = PreparedPriors.read(path)
    assert len(prepared) == 2
    assert prepared.of("a.png") == DOGS and prepared.of("b.png").objects == ()


def test_a_picture_without_a_row_is_named(tmp_path):
    path = tmp_path / "descriptions.jsonl"
    write_prepared(path, [row("a.png")])
    with pytest.raises(DatasetError, match=r"no description of 'c\.png'"):
        PreparedPriors.read(path).of("c.png")


@pytest.mark.parametrize(("content", "message"), [
    ("{", "line 1"), ('{"format_version": 2}', "format_version"),
    ("\n".join([row("a").model_dump_json()] * 2), "second time"), (None, "cannot be read"), (b"\xff\xfe", "UTF-8")])
def test_a_damaged_file_is_refused(tmp_path, content, message):
    path = tmp_path / "descriptions.jsonl"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DatasetError, match=message):
        PreparedPriors.read(path)


def test_recall_counts_the_classes_that_are_named():
    assert named_classes(DOGS, ["dog", "cat", "grass"]) == {"dog", "grass"}
    assert named_classes(priors(thing("mammal")), ["cat", "car"], {"cat": "mammal"}) == {"cat"}
    assert recall([(DOGS, ["dog", "cat"]), (priors(), ["car"])]) == pytest.approx(1 / 3)
    assert recall([]) == 0


def test_a_description_is_a_vocabulary():
    vocabulary = free_vocabulary(DOGS)
    assert [(entry.id, entry.name) for entry in vocabulary.classes] == [(1, "dog"), (2, "grass")]
    assert free_vocabulary(None) is None and free_vocabulary(priors()) is None


def test_only_what_is_said_stays_of_a_vocabulary():
    vocabulary = Vocabulary(classes=(VocabularyClass(id=3, name="animal", subclasses=("dog", "cat")),
                                     VocabularyClass(id=4, name="car"), VocabularyClass(id=9, name="grass")))
    assert [entry.id for entry in free_classes(vocabulary, DOGS).classes] == [3, 9]
    nothing = free_classes(vocabulary, None)
    assert nothing.classes == () and nothing.background


def test_descriptions_together_are_one_sorted_vocabulary():
    merged = merged_vocabulary([DOGS, priors(thing("Ape"), thing("dog")), priors()])
    assert [entry.name for entry in merged.classes] == ["ape", "dog", "grass"] or \
        [entry.name for entry in merged.classes] == ["Ape", "dog", "grass"]
    with pytest.raises(VocabularyError) as caught:
        merged_vocabulary([priors()])
    assert caught.value.code == Code.VOCABULARY_INVALID


def test_vectors_from_a_file(tmp_path):
    write_table(tmp_path / "words.safetensors", {"dog": torch.tensor([3.0, 4.0]), "Traffic light": torch.ones(2)})
    words = load_words(WordsConfig(kind="table", path="words.safetensors"), tmp_path)
    assert words.width == 2
    found = words.names(["traffic light", "dog", "cat"])
    torch.testing.assert_close(found, torch.tensor([[0.7071, 0.7071], [0.6, 0.8], [0.0, 0.0]]), rtol=0, atol=1e-3)
    assert words.names([]).shape == (0, 2)
    with pytest.raises(ModelError) as caught:
        load_words(WordsConfig(kind="table", path="words.safetensors", digest="0" * 64), tmp_path)
    assert caught.value.code == Code.MODEL_UNSUPPORTED
    (tmp_path / "words.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError) as caught:
        load_words(WordsConfig(kind="table", path="words.safetensors"), tmp_path)
    assert caught.value.code == Code.MODEL_CORRUPT


def test_vectors_of_a_clip_are_the_same_every_time_and_of_length_one(tiny_clip):
    words = load_words(WordsConfig(kind="open_clip", path="tiny"), tiny_clip.parent)
    one = words.names(["dog", "red cat"])
    torch.testing.assert_close(one.norm(dim=-1), torch.ones(2))
    assert torch.equal(words.names(["red cat", "dog"]), one.flip(0))
    assert words.known_words is None
    assert not torch.allclose(words.phrases(["dog"]), words.names(["dog"]))
