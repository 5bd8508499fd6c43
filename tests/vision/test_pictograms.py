"""Pictogram scenes: the ground truth must be true of the picture, and a seed must always give the same scene."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from vision.datasets.pictograms import FIRST_CONCEPT_ID, PictogramDataset, make_scene
from vision.datasets.sprites import CELL, SpriteSheet, concepts, load_sheet, texture_names
from vision.datasets.textures import DRAW, background


@pytest.fixture(scope="module")
def sheet() -> SpriteSheet:
    return load_sheet()


def test_a_seed_gives_the_same_scene_and_another_seed_another(sheet):
    first, again, other = (make_scene(seed, sheet) for seed in (5, 5, 6))
    assert np.array_equal(first.image_HW3, again.image_HW3)
    assert first.caption == again.caption and first.relations == again.relations
    assert not np.array_equal(first.image_HW3, other.image_HW3)


def test_every_pixel_has_a_label_and_objects_lie_where_the_table_says(sheet):
    for seed in range(40):
        scene = make_scene(seed, sheet)
        known = {texture_names().index(scene.texture) + 1} | {thing.label for thing in scene.objects}
        assert set(np.unique(scene.labels_HW)) == known
        for number, thing in enumerate(scene.objects, start=1):
            mask = scene.instances_HW == number
            x, y, width, height = thing.box
            assert mask.sum() == thing.area > 0
            assert mask[y : y + height, x : x + width].sum() == thing.area
            assert (scene.labels_HW[mask] == thing.label).all()
            assert concepts()[thing.label - FIRST_CONCEPT_ID].name == thing.name


def test_the_mask_covers_the_drawing(sheet):
    """The pixels that differ from the background alone are those of the mask (edges apart)."""
    scene = make_scene(11, sheet, counts=(1, 1))
    rng = np.random.default_rng(11)
    bare_HW3 = background(texture_names()[rng.integers(8)], 128, rng)
    changed = np.abs(scene.image_HW3.astype(int) - bare_HW3.astype(int)).max(-1) > 40
    mask = scene.instances_HW > 0
    assert (changed & mask).sum() / mask.sum() > 0.8
    assert (changed & ~mask).sum() / mask.sum() < 0.15


def test_relations_are_true_by_the_boxes(sheet):
    checks = {
        "to the left of": lambda a, b: a[0] + a[2] / 2 < b[0] + b[2] / 2,
        "to the right of": lambda a, b: a[0] + a[2] / 2 > b[0] + b[2] / 2,
        "above": lambda a, b: a[1] + a[3] / 2 < b[1] + b[3] / 2,
        "below": lambda a, b: a[1] + a[3] / 2 > b[1] + b[3] / 2,
    }
    seen = Counter()
    for seed in range(150):
        scene = make_scene(seed, sheet)
        for relation in scene.relations:
            seen[relation.predicate] += 1
            a, b = scene.objects[relation.subject].box, scene.objects[relation.object].box
            if relation.predicate in checks:
                assert checks[relation.predicate](a, b)
            elif relation.predicate == "in front of":
                assert relation.subject > relation.object
            else:
                assert relation.predicate == "behind" and relation.subject < relation.object
    assert len(seen) == 6


def test_captions_mention_every_object_and_a_fifth_by_superclass(sheet):
    mentions = []
    for seed in range(300):
        scene = make_scene(seed, sheet)
        assert sorted(m.object for m in scene.caption.mentions) == list(range(len(scene.objects)))
        for mention in scene.caption.mentions:
            thing = scene.objects[mention.object]
            assert mention.phrase in scene.caption.text
            assert mention.noun == (thing.superclass if mention.by_superclass else thing.name)
            told = mention.phrase.removesuffix(mention.noun).split()
            assert set(told) <= set(thing.attributes)
            mentions.append(mention.by_superclass)
    assert np.mean(mentions) >= 0.2


def test_a_dyed_object_has_its_colour(sheet):
    reds = []
    for seed in range(400):
        scene = make_scene(seed, sheet)
        for number, thing in enumerate(scene.objects, start=1):
            if "red" in thing.attributes:
                reds.append(scene.image_HW3[scene.instances_HW == number].mean(0))
    assert len(reds) >= 5
    assert (np.array(reds)[:, 0] > 1.5 * np.array(reds)[:, 1:].max(1)).all()


@pytest.mark.parametrize("split", ["seen", "unseen"])
def test_a_split_draws_only_its_names(split):
    dataset = PictogramDataset(count=20, split=split)
    drawn = {thing.name for i in range(20) for thing in dataset.scene(i).objects}
    assert drawn <= dataset.groups[split]


def test_the_dataset_is_what_evaluation_expects():
    dataset = PictogramDataset(count=3)
    image_HW3, labels_HW = dataset.load(1)
    assert image_HW3.shape == (128, 128, 3) and image_HW3.dtype == np.uint8 and labels_HW.dtype == np.uint16
    assert len(dataset) == 3 and len({dataset.key(i) for i in range(3)}) == 3
    assert len(dataset.classes) == 794 and set(np.unique(labels_HW)) <= set(dataset.classes)
    assert len(dataset.superclasses.keys() & {c.name for c in concepts()}) == len(concepts())


def test_every_texture_is_drawn_and_differs():
    assert set(DRAW) == set(texture_names())
    tones = [background(name, 64, np.random.default_rng(0)).reshape(-1, 3).mean(0) for name in DRAW]
    assert len({tuple(np.round(tone)) for tone in tones}) == 8


def test_training_and_validation_use_other_backgrounds():
    a, b = (background("grass", 192, np.random.default_rng(0), bank) for bank in (1, 2))
    assert not np.array_equal(a, b)


def test_loose_scenes_are_valid_premultiplied_pictures(sheet):
    for seed in range(30):
        scene = make_scene(seed, sheet, side=48, counts=(1, 1), sizes=(26, 46), loose=True)
        assert scene.image_HW3.shape == (48, 48, 3)


def test_the_shipped_sheet_draws_every_concept(sheet):
    assert sheet.rgba_NSS4.shape == (786, CELL, CELL, 4)
    assert len(sheet.available) == 786
    assert (sheet.rgba_NSS4[..., :3] <= sheet.rgba_NSS4[..., 3:]).all()
