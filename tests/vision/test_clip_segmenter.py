"""Samples to score maps, the whole way through the backend."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from parsers.errors import Code, SettingError
from parsers.vocabulary import Vocabulary, VocabularyClass
from vision import ClipSettings, Sample, load_segmenter
from vision.clip.segmenter import load

RNG = np.random.default_rng(2)
PETS = Vocabulary(classes=(VocabularyClass(id=1, name="dog", subclasses=("puppy", "hound")),
                           VocabularyClass(id=9, name="cat", synonyms=("kitten",))))
OUTSIDE = Vocabulary(classes=(VocabularyClass(id=4, name="bird"),), background=("sky", "grass", "bird"))


def picture(height=32, width=32):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def same(one, other):
    return (one.scores_CHW.tobytes(), one.image_scores_C.tobytes(), one.class_ids, one.names) == (
        other.scores_CHW.tobytes(), other.image_scores_C.tobytes(), other.class_ids, other.names)


def test_score_map(tiny_clip):
    (scores,) = load(tiny_clip).score([Sample(image_HW3=picture(), vocabulary=OUTSIDE)])
    assert scores.scores_CHW.shape == (2, 4, 4) and scores.scores_CHW.dtype == np.float16
    assert scores.class_ids == (0, 4) and scores.names == ("background", "bird")
    assert np.allclose(np.exp(scores.scores_CHW.astype(np.float32)).sum(axis=0), 1, atol=5e-3)
    assert scores.image_scores_C.dtype == np.float32
    assert (scores.image_scores_C >= 0).all() and (scores.image_scores_C <= 1).all()


def test_logits_are_scaled_cosines(tiny_clip):
    """Without presence test and with one name per class: softmax over scale x cosine."""
    segmenter = load(tiny_clip, settings=ClipSettings(presence="off"))
    names = Vocabulary.from_names("dog, cat, bird")
    image = picture()
    (scores,) = segmenter.score([Sample(image_HW3=image, vocabulary=names)])
    patches, _ = segmenter._encoder.encode_windows([image])
    text = segmenter._text.embed(["dog", "cat", "bird"])
    expected = (40 * patches[0] @ text.T).log_softmax(dim=-1).T.reshape(3, 4, 4)
    assert torch.allclose(torch.from_numpy(scores.scores_CHW.astype(np.float32)), expected, atol=2e-2)


def test_presence_lowers_weak_classes_only(tiny_clip):
    sample = [Sample(image_HW3=picture(), vocabulary=Vocabulary.from_names("dog, cat, bird"))]
    (off,) = load(tiny_clip, settings=ClipSettings(presence="off")).score(sample)
    (soft,) = load(tiny_clip).score(sample)
    change = (soft.scores_CHW.astype(np.float32) - off.scores_CHW)[:, 0, 0]
    order = np.argsort(soft.image_scores_C)
    assert change[order[0]] < change[order[1]] < change[order[2]]
    assert (off.image_scores_C == soft.image_scores_C).all()


@pytest.mark.parametrize("ensemble", ["softmax", "code", "max", "map-mean"])
def test_results_do_not_depend_on_neighbours_or_order(tiny_clip, ensemble):
    samples = [Sample(image_HW3=picture(), vocabulary=PETS), Sample(image_HW3=picture(90, 40), vocabulary=OUTSIDE),
               Sample(image_HW3=picture(1, 1), vocabulary=PETS), Sample(image_HW3=picture(), vocabulary=OUTSIDE)]
    segmenter = load(tiny_clip, settings=ClipSettings(batch_size=4, ensemble=ensemble))
    together = segmenter.score(samples)
    assert all(same(segmenter.score([sample])[0], expected) for sample, expected in zip(samples, together, strict=True))
    backwards = load(tiny_clip, settings=ClipSettings(batch_size=4, ensemble=ensemble)).score(samples[::-1])
    assert all(same(one, other) for one, other in zip(backwards[::-1], together, strict=True))


def test_no_samples(tiny_clip):
    assert load(tiny_clip).score([]) == []


@pytest.mark.parametrize("size", [(1, 1), (20000, 50), (50, 700), (300, 200)], ids=str)
def test_images_of_any_size(tiny_clip, size):
    (scores,) = load(tiny_clip, settings=ClipSettings(batch_size=32)).score(
        [Sample(image_HW3=np.full((*size, 3), 9, np.uint8), vocabulary=PETS)])
    assert np.isfinite(scores.scores_CHW).all() and min(scores.scores_CHW.shape[1:]) == 4


def test_tiles_are_finer_than_the_whole(tiny_clip):
    sample = [Sample(image_HW3=picture(96, 96), vocabulary=PETS)]
    (whole,) = load(tiny_clip).score(sample)
    (tiled,) = load(tiny_clip, settings=ClipSettings(tile=32)).score(sample)
    assert whole.scores_CHW.shape == (2, 4, 4) and tiled.scores_CHW.shape == (2, 12, 12)


def test_a_class_in_one_window_is_in_the_picture(tiny_clip):
    segmenter = load(tiny_clip, settings=ClipSettings(tile=32, overlap=0.0))
    image = picture(32, 64)
    evidence = []
    for part in (image[:, :32], image[:, 32:]):
        _, pooled = segmenter._encoder.encode_windows([part])
        evidence.append(segmenter._text.embed(["dog", "cat", "bird"]) @ pooled[0])
    best = torch.maximum(*evidence)
    (scores,) = segmenter.score([Sample(image_HW3=image, vocabulary=Vocabulary.from_names("dog, cat, bird"))])
    assert scores.image_scores_C.argsort().tolist() == best.argsort().tolist()
    assert np.allclose(scores.image_scores_C, ((best - best.mean() - best.std()) / best.std()).sigmoid(), atol=1e-4)


def test_numbers_of_the_card_are_used(make_clip):
    sample = [Sample(image_HW3=picture(), vocabulary=Vocabulary.from_names("dog, cat"))]
    flat = load(make_clip(card={"thresholds": {"logit_scale": 1e-3, "presence_weight": 0.0}}))
    assert np.abs(flat.score(sample)[0].scores_CHW - np.log(0.5)).max() < 1e-2


def test_unknown_words(make_clip):
    segmenter = load(make_clip(card={"known_words": ["dog", "guide-dog", "sky"]}))
    vocabulary = Vocabulary(classes=(VocabularyClass(id=1, name="guide dog", subclasses=("Red-dog",)),
                                     VocabularyClass(id=2, name="собака")), background=("sky",))
    assert segmenter.unknown_words(vocabulary) == ["собака", "red"]
    (warning,) = segmenter.warnings(vocabulary)
    assert "собака" in warning and "Red-dog" in warning and "guide dog" not in warning and "tiny" in warning
    assert segmenter.warnings(Vocabulary.from_names("dog, guide")) == []
    assert (segmenter.score([Sample(image_HW3=picture(), vocabulary=vocabulary)])[0].class_ids) == (0, 1, 2)


def test_subclasses_that_are_not_used_are_not_warned_of(make_clip):
    segmenter = load(make_clip(card={"known_words": ["dog", "cat", "kitten"]}), settings=ClipSettings(subclass_count=0))
    assert segmenter.unknown_words(PETS) == []


def test_a_model_without_a_list_of_words_knows_them_all(bare_clip):
    segmenter = load(bare_clip)
    assert segmenter.unknown_words(PETS) == [] and segmenter.warnings(PETS) == []


def test_load_by_name_of_backend(tiny_clip):
    segmenter = load_segmenter("clip", tiny_clip, device="cpu")
    assert segmenter.card.name == "tiny" and len(segmenter.digest) == 64
    with pytest.raises(SettingError) as caught:
        load_segmenter("magic", tiny_clip)
    assert caught.value.code == Code.SETTING_INVALID and "clip" in caught.value.allowed


def test_two_threads_give_what_one_gives(tiny_clip):
    """Also with vocabularies that differ from call to call."""
    segmenter = load_segmenter("clip", tiny_clip, device="cpu")
    generator = np.random.default_rng(3)
    samples = [Sample(image_HW3=generator.integers(0, 256, (40, 40, 3), dtype=np.uint8),
                      vocabulary=Vocabulary.from_names(names)) for names in ("dog, cat", "grass, sky, bird") * 8]
    expected = [segmenter.score([sample])[0].scores_CHW for sample in samples]
    segmenter.prepare(samples[0].vocabulary)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda sample: segmenter.score([sample])[0].scores_CHW, samples))
    assert all((one == other).all() for one, other in zip(expected, found, strict=True))
