"""The backend: its contract, its files, and what it does with poor input."""

import json
import shutil

import numpy as np
import pytest
import torch

import vision
from parsers.errors import Code, DatasetError, ModelError, SettingError
from parsers.prepared import PreparedRow, write_prepared
from parsers.priors import ObjectPrior, ScenePriors
from parsers.vocabulary import Vocabulary
from vision import LlmformerSettings, Sample, load_segmenter, refine
from vision.llmformer.directory import read_model
from vision.models import list_models, load_card, verify_model

VOCABULARY = Vocabulary.from_names("dog, cat, grass, zebra")
DOG = ScenePriors(text="a dog", objects=(ObjectPrior(name="dog", lemma="dog", attributes=("red",)),
                                         ObjectPrior(name="grass", lemma="grass")))


def picture(height=32, width=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def segmenter(tiny_llmformer):
    return load_segmenter("llmformer", tiny_llmformer, device="cpu", settings=LlmformerSettings(batch_size=3))


def test_a_directory_becomes_a_backend_of_the_common_contract(segmenter):
    (found,) = segmenter.score([Sample(image_HW3=picture(), vocabulary=VOCABULARY, priors=DOG)])
    assert found.scores_CHW.shape == (4, 8, 8) and found.scores_CHW.dtype == np.float16
    assert found.class_ids == (1, 2, 3, 4) and found.names == ("dog", "cat", "grass", "zebra")
    np.testing.assert_allclose(np.exp(found.scores_CHW.astype(np.float32)).sum(0), 1, atol=5e-3)
    assert ((found.image_scores_C >= 0) & (found.image_scores_C <= 1)).all()
    assert refine(picture(), found).labels_HW.shape == (32, 32)


def test_a_sample_does_not_depend_on_the_others(segmenter):
    samples = [Sample(image_HW3=picture(40, 61, 1), vocabulary=VOCABULARY, priors=DOG),
               Sample(image_HW3=picture(seed=2), vocabulary=Vocabulary.from_names("sky, bird")),
               Sample(image_HW3=picture(33, 32, 3), vocabulary=VOCABULARY)]
    together = segmenter.score(samples)
    for sample, found in zip(samples, together, strict=True):
        (alone,) = segmenter.score([sample])
        assert np.array_equal(alone.scores_CHW, found.scores_CHW)
        assert np.array_equal(alone.image_scores_C, found.image_scores_C)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (200, 3), (65, 97)])
def test_pictures_of_any_size(segmenter, height, width):
    image = picture(height, width)
    (found,) = segmenter.score([Sample(image_HW3=image, vocabulary=VOCABULARY, priors=DOG)])
    assert np.isfinite(found.scores_CHW).all()
    assert refine(image, found).labels_HW.shape == (height, width)


def test_background_words_come_first(segmenter):
    vocabulary = Vocabulary(classes=VOCABULARY.classes, background=("sky", "grass"))
    (found,) = segmenter.score([Sample(image_HW3=picture(), vocabulary=vocabulary)])
    assert found.class_ids[0] == 0 and found.names[0] == "background" and found.image_scores_C[0] == 1


def test_priors_can_be_left_aside(tiny_llmformer, segmenter):
    plain = load_segmenter("llmformer", tiny_llmformer, device="cpu",
                           settings=LlmformerSettings(batch_size=3, priors="none"))
    with_priors = Sample(image_HW3=picture(), vocabulary=VOCABULARY, priors=DOG)
    without = Sample(image_HW3=picture(), vocabulary=VOCABULARY)
    assert np.array_equal(plain.score([with_priors])[0].scores_CHW, segmenter.score([without])[0].scores_CHW)


def test_descriptions_from_a_file_are_those_given_with_the_picture(tiny_llmformer, segmenter, tmp_path):
    path = tmp_path / "descriptions.jsonl"
    write_prepared(path, [PreparedRow(image_id="a.png", prompt_id="simple", model_id="nobody", priors=DOG)])
    told = load_segmenter("llmformer", tiny_llmformer, device="cpu",
                          settings=LlmformerSettings(batch_size=3, descriptions=str(path)))
    (by_file,) = told.score([Sample(image_HW3=picture(), vocabulary=VOCABULARY, key="a.png")])
    (given,) = segmenter.score([Sample(image_HW3=picture(), vocabulary=VOCABULARY, priors=DOG)])
    assert np.array_equal(by_file.scores_CHW, given.scores_CHW)
    with pytest.raises(DatasetError, match=r"'b\.png'"):
        told.score([Sample(image_HW3=picture(), vocabulary=VOCABULARY, key="b.png")])


def test_a_name_of_unknown_words_wins_nothing(make_llmformer, tiny_llmformer):
    from vision.llmformer.segmenter import LlmformerSegmenter

    class Words:
        width, known_words = 24, frozenset({"dog", "cat"})

        def names(self, texts):
            rows = [torch.nn.functional.normalize(torch.full((24,), 0.1) + torch.eye(24)[len(text)], dim=0)
                    * (text in self.known_words) for text in texts]
            return torch.stack(rows) if rows else torch.zeros(0, 24)

        phrases = names

    segmenter = LlmformerSegmenter(make_llmformer(cue=True), Words(), load_card(tiny_llmformer))
    (found,) = segmenter.score([Sample(image_HW3=picture(), vocabulary=Vocabulary.from_names("dog, quark"))])
    assert (found.scores_CHW[0] > found.scores_CHW[1]).all()
    (warning,) = segmenter.warnings(Vocabulary.from_names("dog, quark"))
    assert "lacks quark" in warning and segmenter.unknown_words(Vocabulary.from_names("dog")) == []


def test_the_same_again_gives_the_same_bytes(tiny_llmformer, segmenter):
    sample = Sample(image_HW3=picture(50, 40), vocabulary=VOCABULARY, priors=DOG)
    again = load_segmenter("llmformer", tiny_llmformer, device="cpu", settings=LlmformerSettings(batch_size=3))
    assert np.array_equal(again.score([sample])[0].scores_CHW, segmenter.score([sample])[0].scores_CHW)
    assert again.digest == segmenter.digest


def test_it_is_listed_and_verified(tiny_llmformer, monkeypatch):
    monkeypatch.setenv("LEXISEG_MODELS", str(tiny_llmformer.parent))
    assert {card.kind for card in list_models()} == {"clip", "llmformer"}
    assert verify_model(tiny_llmformer) == ["config.json", "model.safetensors"]
    weights = (tiny_llmformer / "model.safetensors").stat().st_size
    assert weights < 2 * sum(p.numel() for p in read_model(tiny_llmformer).parameters()) + 100_000


@pytest.fixture
def copy(tiny_llmformer, tiny_clip, tmp_path):
    shutil.copytree(tiny_clip, tmp_path / "tiny")
    return shutil.copytree(tiny_llmformer, tmp_path / "llmformer")


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refuses(directory, code, message, backend="llmformer"):
    (directory / "model.json").unlink(missing_ok=True)
    card = {"format_version": 1, "name": "copy", "kind": "llmformer", "window": 32, "patch": 4}
    from parsers.files import sha256_file

    files = {name: sha256_file(directory / name) for name in ("config.json", "model.safetensors")
             if (directory / name).is_file()}
    (directory / "model.json").write_text(json.dumps(card | {"files": files}))
    with pytest.raises(ModelError, match=message) as caught:
        load_segmenter(backend, directory, device="cpu")
    assert caught.value.code == code


def test_weights_of_another_configuration_are_refused(copy):
    change(copy / "config.json", queries=7)
    refuses(copy, Code.MODEL_CORRUPT, r"query is \(5, 32\), not \(7, 32\)")


def test_an_encoder_that_is_gone_or_another_one_is_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    change(copy / "config.json", tower=config["tower"] | {"digest": "0" * 64})
    refuses(copy, Code.MODEL_UNSUPPORTED, "was trained with 0000")
    change(copy / "config.json", tower=config["tower"] | {"path": "../gone"})
    refuses(copy, Code.MODEL_MISSING, "gone is not there")


def test_a_configuration_that_is_none_is_refused(copy):
    change(copy / "config.json", fusion="magic")
    refuses(copy, Code.MODEL_UNSUPPORTED, "fusion")


def test_the_wrong_kind_of_model_is_refused(tiny_clip):
    with pytest.raises(ModelError, match="of kind 'clip'"):
        load_segmenter("llmformer", tiny_clip, device="cpu")


@pytest.mark.parametrize("values", [
    {"priors": "some"}, {"subclass_count": -1}, {"tile": 3}, {"overlap": 1.0}, {"batch_size": 0}])
def test_settings_that_are_not_allowed(values):
    with pytest.raises(SettingError):
        LlmformerSettings(**values)


def test_settings_are_made_by_backend():
    assert vision.make_settings("llmformer", {"overlap": 0.25}) == LlmformerSettings(overlap=0.25)
    with pytest.raises(SettingError, match="has no option variant"):
        vision.make_settings("llmformer", {"variant": "loda"})
    with pytest.raises(SettingError, match="no backend 'magic'"):
        vision.make_settings("magic", {})
