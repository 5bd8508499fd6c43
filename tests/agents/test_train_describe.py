"""Descriptions of many scenes: the same words as one call after the other, and a file that goes on where it ended."""

from __future__ import annotations

import base64
import io

import pytest
from langchain_core.messages import HumanMessage
from PIL import Image

from agents.description import extract_priors
from agents.model import open_model
from agents.picture import Picture
from agents.pocket import load_chat
from agents.prompt import load_prompt
from agents.source import KnowledgeSource
from agents.train.describe import describe_scenes
from parsers.prepared import PreparedPriors
from parsers.reader import SceneReader
from vision import resolve_model
from vision.datasets.pictograms import PictogramDataset


@pytest.fixture(scope="module")
def model():
    return resolve_model(None, "clip").parent / "llava-phi2"


def test_many_pictures_at_once_get_the_words_of_one_after_the_other(model, tmp_path):
    scenes = PictogramDataset(count=5, seed=3, split="seen")
    file = tmp_path / "said.jsonl"
    assert describe_scenes(scenes, model, file, views=1) == 5
    said = PreparedPriors.read(file)
    chat = load_chat(model)
    text = load_prompt("describe-detailed", "short").render({})[-1]["content"]
    for i in (0, 3):
        image = io.BytesIO()
        Image.fromarray(scenes.scene(i).image_HW3).save(image, "png")
        uri = "data:image/png;base64," + base64.b64encode(image.getvalue()).decode()
        turn = HumanMessage([{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": text}])
        assert chat.invoke([turn]).content == said.of(scenes.key(i)).text != ""


def test_several_views_are_those_of_the_tools(model, tmp_path):
    scenes = PictogramDataset(count=2, seed=3, split="seen")
    describe_scenes(scenes, model, tmp_path / "said.jsonl", views=3)
    said = PreparedPriors.read(tmp_path / "said.jsonl")
    source, reader = KnowledgeSource(open_model(str(model))), SceneReader(use_head=False)
    for i in range(2):
        found = extract_priors(source, Picture(scenes.scene(i).image_HW3), reader, "detailed", views=3)
        assert said.of(scenes.key(i)) == found.priors
        assert said.row(scenes.key(i)).prompt_id == "detailed, 3 views"


def test_half_a_row_is_cut_off_and_the_rest_is_kept(model, tmp_path):
    scenes = PictogramDataset(count=2, seed=3, split="seen")
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    describe_scenes(scenes, model, whole)
    broken.write_bytes(whole.read_bytes()[:-40])
    assert describe_scenes(scenes, model, broken, minutes=0) == 1
    assert describe_scenes(scenes, model, broken) == 2
    assert broken.read_bytes() == whole.read_bytes()
