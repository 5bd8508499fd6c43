"""`lexiseg ask` from the sentence to the masks, with a tiny CLIP and a server that answers as it is told."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.llm_server import llm_server

PLAN = {"targets": ["dog"], "subclasses": False, "candidate_free": False, "filters": []}


@pytest.fixture
def llm(monkeypatch):
    with llm_server() as server:
        monkeypatch.setenv("LEXISEG_LLM", server.url)
        server.plan = PLAN

        def answer(request):
            content = request["messages"][-1]["content"]
            text = content if isinstance(content, str) else content[-1]["text"]
            if text.startswith("Request"):
                return json.dumps(server.plan)
            return '{"answer": "yes"}' if text.startswith("Is there") else "A dog next to a cat."

        server.answer = answer
        yield server


def test_masks_and_the_reasons_for_them(lexiseg, llm, scene_models, pictures, tmp_path):
    out = tmp_path / "out"
    result = lexiseg("ask", "mask the dog", pictures, "--out", out)
    assert result.exit_code == 0, result.stderr
    record = json.loads((out / "ask.json").read_text())
    assert record["plan"] == PLAN and record["names"].keys() == {"dog"} and record["request"] == "mask the dog"
    assert result.stdout.splitlines()[:len(record["trace"])] == record["trace"]
    assert record["trace"][0] == "plan (first): look for: dog"
    lines = {line["name"]: line for line in map(json.loads, (out / "results.jsonl").read_text().splitlines())}
    assert set(lines) == set(record["kept"]) == {"one.png", "two.png", "three.png"}
    for name, line in lines.items():
        with Image.open(out / line["mask"]) as mask:
            assert np.count_nonzero(np.array(mask)) == sum(region["area"] for region in line["regions"])
        assert [region["id"] for region in line["regions"]] == record["kept"][name]


def test_what_only_a_condition_names_is_not_in_the_masks(lexiseg, llm, scene_models, pictures, tmp_path):
    llm.plan = PLAN | {"filters": [{"target": "dog", "attribute": "", "relation": "next to", "object": "cat"}]}
    result = lexiseg("ask", "the dog next to the cat", pictures, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["plan"]["filters"][0]["object"] == "cat"
    for line in map(json.loads, (tmp_path / "out" / "results.jsonl").read_text().splitlines()):
        assert "cat" not in [found["name"] for found in line["classes"]]


def test_a_second_run_asks_no_model(lexiseg, llm, scene_models, pictures, tmp_path):
    first = lexiseg("ask", "mask the dog", pictures, "--out", tmp_path / "out")
    calls = llm.calls
    second = lexiseg("ask", "mask the dog", pictures, "--out", tmp_path / "out")
    assert llm.calls == calls and second.stdout == first.stdout


def test_a_picture_that_cannot_be_read_stops_no_other(lexiseg, llm, scene_models, pictures, tmp_path):
    (pictures / "two.png").write_bytes(b"no picture")
    result = lexiseg("ask", "mask the dog", pictures, "--out", tmp_path / "out")
    assert result.exit_code == 3 and "1 of 3 pictures could not be read" in result.stderr


@pytest.mark.parametrize("request_", ["", "?", "x" * 501])
def test_a_request_without_words(lexiseg, llm, scene_models, pictures, tmp_path, request_):
    result = lexiseg("ask", request_, pictures, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "error [setting-invalid]" in result.stderr and llm.calls == 0
