"""Samples to score maps, the whole way through the backend."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from parsers.errors import Code, SettingError
from parsers.vocabulary import Vocabulary, VocabularyClass
from vision import ClipSettings, Sample, load_segmenter
from vision.clip.segmenter import load
from vision.clip.settings import ENSEMBLES
from vision.clip.slide import sclip_rule
from vision.models import load_card
from vision.refine import refine

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


@pytest.mark.parametrize("ensemble", sorted(set(ENSEMBLES) - {"auto"}))
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


RULES = [{"rule": "simseg", "presence_evidence": "super", "presence_limit": 5, "presence_sigma": -1.0},
         {"rule": "simseg", "ensemble": "mask-vote", "vote": "union", "presence_sigma": -1.0},
         {"rule": "sclip", "background_threshold": 0.1, "area_threshold": 0.1},
         {"rule": "sclip", "stride": 0, "short_side": 40},
         {"variant": "resclip"}, {"variant": "resclip", "rule": "sclip"}, {"variant": "sc-clip"}]


@pytest.mark.parametrize("options", RULES, ids=str)
def test_labels_by_rules_do_not_depend_on_neighbours(tiny_clip, options):
    samples = [Sample(image_HW3=picture(), vocabulary=PETS), Sample(image_HW3=picture(90, 40), vocabulary=OUTSIDE),
               Sample(image_HW3=picture(1, 1), vocabulary=PETS), Sample(image_HW3=picture(3, 200), vocabulary=PETS)]
    segmenter = load(tiny_clip, settings=ClipSettings(batch_size=4, **options))
    for sample, together in zip(samples, segmenter.score(samples), strict=True):
        (alone,) = segmenter.score([sample])
        maps = [refine(sample.image_HW3, scores, confidence=True) for scores in (together, alone)]
        assert maps[0].labels_HW.shape == sample.image_HW3.shape[:2]
        assert (maps[0].labels_HW == maps[1].labels_HW).all()
        assert (maps[0].confidence_HW == maps[1].confidence_HW).all()
        assert set(np.unique(maps[0].labels_HW)) <= {0, *alone.class_ids}


def test_the_rule_simseg_always_looks_for_the_background(tiny_clip):
    segmenter = load(tiny_clip, settings=ClipSettings(rule="simseg"))
    first, second = segmenter.score([Sample(image_HW3=picture(), vocabulary=given) for given in (PETS, OUTSIDE)])
    assert first.class_ids == (0, 1, 9) and second.class_ids == (0, 4)
    assert segmenter._texts([PETS])[0][0].words[0] == "background"
    assert segmenter._texts([OUTSIDE])[0][0].words[0] == "sky"


def test_of_many_classes_the_rule_sclip_keeps_the_best(tiny_clip, monkeypatch):
    monkeypatch.setattr("vision.clip.slide.MOST_NAMES", 3)
    vocabulary = Vocabulary.from_names("dog, cat, bird, grass, sky, red")
    (scores,) = load(tiny_clip, settings=ClipSettings(rule="sclip")).score(
        [Sample(image_HW3=picture(40, 60), vocabulary=vocabulary)])
    assert scores.rule.maps_BNgq.shape[1] == 3 and len(scores.class_ids) == 6


def test_the_rule_sclip_is_made_as_soon_as_the_last_window_of_a_picture_is_in(tiny_clip, monkeypatch):
    """It keeps fewer names than the maps of all windows have."""
    segmenter, events = load(tiny_clip, settings=ClipSettings(rule="sclip", batch_size=2)), []
    encode = segmenter.encoder.encode_windows
    monkeypatch.setattr(segmenter.encoder, "encode_windows",
                        lambda windows, feedback: events.append(len(windows)) or encode(windows, feedback))
    monkeypatch.setattr("vision.clip.segmenter.sclip_rule",
                        lambda maps, *given: events.append(f"rule of {len(maps)}") or sclip_rule(maps, *given))
    segmenter.score([Sample(image_HW3=picture(48, size), vocabulary=PETS) for size in (48, 64, 48)])
    assert events == [2, 2, "rule of 4", 2, 2, 2, "rule of 6", 2, 2, "rule of 4"]


def test_hard_presence_leaves_absent_classes_out(tiny_clip):
    sample = Sample(image_HW3=picture(), vocabulary=Vocabulary.from_names("dog, cat, bird"))
    one = ClipSettings(presence="hard", presence_limit=1, presence_sigma=-9.0)
    (hard,) = load(tiny_clip, settings=one).score([sample])
    winner = hard.image_scores_C.argmax()
    assert (hard.scores_CHW.argmax(axis=0) == winner).all() and np.isfinite(hard.scores_CHW).all()
    (nothing,) = load(tiny_clip, settings=ClipSettings(presence="hard", presence_sigma=9.0)).score([sample])
    assert (nothing.scores_CHW.argmax(axis=0) == winner).all()
    outside = Sample(image_HW3=picture(), vocabulary=OUTSIDE)
    (background,) = load(tiny_clip, settings=ClipSettings(presence="hard", presence_sigma=9.0)).score([outside])
    assert (background.scores_CHW.argmax(axis=0) == 0).all()


def test_a_filter_drops_subclasses_before_they_are_used(tiny_clip):
    segmenter = load(tiny_clip, settings=ClipSettings(subclass_filter="own", filter_cutoff=-1.0))
    assert len(segmenter._texts([PETS])[0][0].words) < 4


def test_logits_stay_finite_in_half_precision(make_clip):
    directory = make_clip(card={"thresholds": {"logit_scale": 1e7}})
    (scores,) = load(directory).score([Sample(image_HW3=picture(), vocabulary=PETS)])
    assert np.isfinite(scores.scores_CHW).all() and scores.scores_CHW.min() < -1e4


@pytest.mark.parametrize("rule", ["softmax", "sclip", "simseg"])
def test_twenty_thousand_classes_and_one(tiny_clip, rule, monkeypatch):
    segmenter = load(tiny_clip, settings=ClipSettings(rule=rule, templates="plain", batch_size=2))
    table = torch.nn.functional.normalize(torch.randn(20_000, 24), dim=-1)
    monkeypatch.setattr(segmenter._text, "embed", lambda names: table[:len(names)])
    many = Vocabulary.from_names([f"thing {number}" for number in range(20_000 - (rule == "simseg"))])
    for vocabulary in (many, Vocabulary.from_names("dog")):
        image = picture(36, 36)
        (scores,) = segmenter.score([Sample(image_HW3=image, vocabulary=vocabulary)])
        labels = refine(image, scores).labels_HW
        assert labels.shape == (36, 36) and set(np.unique(labels).tolist()) <= {0, *scores.class_ids}


def test_openai_layouts_with_quick_gelu(make_clip):
    """Text weights without a prefix, and the activation that OpenAI's models were trained with."""
    directory = make_clip(card=None)
    path = directory / "open_clip_config.json"
    import json

    plain, _ = load(directory)._encoder.encode_windows([picture()] * 1)
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"model_cfg": config["model_cfg"] | {"quick_gelu": True}}))
    quick, _ = load(directory)._encoder.encode_windows([picture()] * 1)
    assert load_card(directory).window == 32 and not torch.allclose(plain, quick, atol=1e-3)


@pytest.mark.parametrize(("name", "window", "cells"), [
    ("ViT-B-16-quickgelu", 224, 14), ("ViT-L-14-quickgelu", 224, 16), ("ViT-L-14-336-quickgelu", 336, 24)])
def test_layouts_of_openai_s_sizes(make_clip, name, window, cells):
    """As the library configures them, but thin and of two layers."""
    import json

    import open_clip

    config = open_clip.get_model_config(name)
    sizes = {key: value for key, value in config["vision_cfg"].items() if key in ("image_size", "patch_size")}
    directory = make_clip(card=None, vision=sizes | {"layers": 2})
    path = directory / "open_clip_config.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps(written | {"model_cfg": written["model_cfg"] | {"quick_gelu": config["quick_gelu"]}}))
    segmenter = load(directory, device="cpu", settings=ClipSettings(batch_size=1, presence="off"))
    (scores,) = segmenter.score([Sample(image_HW3=picture(50, 75), vocabulary=PETS)])
    assert segmenter.card.window == window and scores.scores_CHW.shape[1:] == (cells, cells * 3 // 2)
    assert isinstance(segmenter.encoder.image_tower.transformer.resblocks[0].mlp.gelu, open_clip.transformer.QuickGELU)
