"""Descriptions of many scenes: the same words as one call after the other, and a file that goes on where it ended."""

from __future__ import annotations

import base64
import io

import pytest
from langchain_core.messages import HumanMessage
from PIL import Image

from agents.pocket import load_chat
from agents.prompt import load_prompt
from agents.train.describe import describe_scenes
from parsers.prepared import PreparedPriors
from vision import resolve_model
from vision.datasets.pictograms import PictogramDataset


@pytest.fixture(scope="module")
def model():
    return resolve_model(None, "clip").parent / "llava-phi2"


def test_many_pictures_at_once_get_the_words_of_one_after_the_other(model, tmp_path):
    scenes = PictogramDataset(count=5, seed=3, split="seen")
    file = tmp_path / "said.jsonl"
    assert describe_scenes(scenes, model, file) == 5
    said = PreparedPriors.read(file)
    chat = load_chat(model)
    text = load_prompt("describe-detailed", "short").render({})[-1]["content"]
    for i in (0, 3):
        image = io.BytesIO()
        Image.fromarray(scenes.scene(i).image_HW3).save(image, "png")
        uri = "data:image/png;base64," + base64.b64encode(image.getvalue()).decode()
        turn = HumanMessage([{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": text}])
        assert chat.invoke([turn]).content == said.of(scenes.key(i)).text != ""


def test_half_a_row_is_cut_off_and_the_rest_is_kept(model, tmp_path):
    scenes = PictogramDataset(count=2, seed=3, split="seen")
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    describe_scenes(scenes, model, whole)
    broken.write_bytes(whole.read_bytes()[:-40])
    assert describe_scenes(scenes, model, broken, minutes=0) == 1
    assert describe_scenes(scenes, model, broken) == 2
    assert broken.read_bytes() == whole.read_bytes()
