"""Descriptions: what is embedded of them, files of them, and vocabularies made of them."""

import pytest
import torch

from parsers.errors import Code, ModelError
from parsers.priors import ObjectPrior, RelationPrior, ScenePriors
from vision.llmformer.config import WordsConfig
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


def test_spellings_of_one_lemma_are_one_object_too():
    things = [ObjectPrior(name=name, lemma=name, attributes=(word,))
              for name, word in (("Dog", "red"), ("cat", "small"), ("dog", "wet"))]
    said = ScenePriors(text="a text", objects=tuple(things),
                       relations=(RelationPrior(subject=2, predicate="on", object=1),))
    found = prior_phrases(said, 6, 4)
    assert found.objects == ("Dog", "cat")
    assert found.attributes == (("red Dog", "wet Dog"), ("small cat",))
    assert found.relations == ((0, "Dog on cat", 1),)


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


def test_a_clip_without_templates_of_its_own_takes_those_of_imagenet(bare_clip):
    words = load_words(WordsConfig(kind="open_clip", path=bare_clip.name), bare_clip.parent)
    assert len(words.templates) == 80
