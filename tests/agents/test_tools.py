"""The wrappers for LangChain: what they are called with, and what they cannot do."""

import json

import numpy as np
import pytest

from agents.tools import make_tools
from parsers import InputError
from parsers.errors import Code

PIXELS = np.zeros((8, 8, 3), np.uint8)


def read_picture(name):
    if name != "one.png":
        raise InputError(Code.FILE_MISSING, f"{name} is not of this job.", "", "")
    return PIXELS


@pytest.fixture
def tools(source):
    return {tool.name: tool for tool in make_tools(source, read_picture=read_picture, segment=lambda picture, names: {
        name: 0.25 for name in names})}


def test_the_tools_are_these(source, tools):
    assert sorted(tools) == ["assign_clusters", "cluster_categories", "describe_image", "extract_priors",
                             "generate_subclasses", "segment_image"]
    assert sorted(tool.name for tool in make_tools(source)) == ["cluster_categories", "generate_subclasses"]


def test_every_tool_says_what_it_does_and_what_it_takes(tools):
    for tool in tools.values():
        assert tool.description and all("description" in field for field in tool.args.values())


def test_calls(llm, tools):
    llm.says('{"names": ["poodle", "husky", "beagle", "collie"]}')
    assert tools["generate_subclasses"].invoke({"name": "dog"}) == {
        "subclasses": ["poodle", "husky", "beagle", "collie"]}
    llm.answer = lambda request: '{"dog": "animals", "cat": "animals"}'
    assert tools["cluster_categories"].invoke({"names": ["dog", "cat"]}) == {
        "clusters": {"animals": ["dog", "cat"]}, "settled": True}
    llm.answer = lambda request: '{"clusters": ["animals"]}'
    assert tools["assign_clusters"].invoke({"picture": "one.png", "clusters": {"animals": ["dog"]}}) == {
        "clusters": ["animals"]}
    llm.answer = lambda request: "A red dog."
    assert tools["describe_image"].invoke({"picture": "one.png"}) == {"text": "A red dog."}
    found = tools["extract_priors"].invoke({"picture": "one.png", "detail": "simple"})
    assert found["priors"]["objects"][0]["name"] == "dog" and json.dumps(found)
    assert tools["segment_image"].invoke({"picture": "one.png", "names": ["dog"]}) == {"areas": {"dog": 0.25}}


def test_only_pictures_of_the_job_are_read(tools):
    with pytest.raises(InputError):
        tools["describe_image"].invoke({"picture": "/etc/passwd"})


def test_arguments_are_checked(tools):
    from pydantic import ValidationError

    with pytest.raises(ValidationError):
        tools["describe_image"].invoke({"picture": "one.png", "detail": "rude"})
