"""The model that ships: whole, small, standard, and better than chance by far on scenes it never saw."""

from __future__ import annotations

import open_clip
import pytest

from vision import ClipSettings, load_segmenter, resolve_model
from vision.datasets.pictograms import PictogramDataset
from vision.evaluate import evaluate
from vision.models import load_card, verify_model


def test_plain_open_clip_loads_it_and_it_is_small():
    folder = resolve_model(None, "clip")
    model = open_clip.create_model(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["a red dog"])
    assert model.encode_text(tokens).shape == (1, 192)
    assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) <= 8_000_000
    assert "open_clip_model.safetensors" in verify_model(folder)


def test_its_card_lists_what_it_knows():
    card = load_card(resolve_model(None, "clip"))
    unseen = PictogramDataset(count=1).groups["unseen"]
    assert not unseen & set(card.known_names)
    assert {"dog", "mammal", "grass"} <= set(card.known_names)


@pytest.mark.integration
def test_it_finds_names_in_scenes_that_it_never_saw():
    dataset = PictogramDataset(count=48, seed=31, split="seen")
    run = evaluate(dataset, load_segmenter("clip", resolve_model(None, "clip"), settings=ClipSettings()), absent=20)
    assert run.groups["seen"].miou > 3 * run.control_groups["seen"].miou
    assert run.groups["texture"].miou > 0.5
