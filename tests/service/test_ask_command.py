"""`lexiseg ask` from the sentence to the masks, with a tiny CLIP and a server that answers as it is told."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from parsers.vocabulary import Vocabulary
from service.ask import ask_pictures
from service.knowledge import LlmOptions
from tests.llm_server import llm_server

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "ask.json"
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
    assert (record["model"], record["unread"], len(record["prompts"]["presence"])) == ("stub", [], 64)
    assert record["pictures"]["one.png"]["priors"]["text"] == "A dog next to a cat."
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(record)
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


def test_kinds_that_a_language_model_wrote_say_so(lexiseg, llm, scene_models, pictures, tmp_path):
    llm.plan, usual = PLAN | {"targets": ["animal"], "subclasses": True}, llm.answer
    llm.answer = lambda request: ('{"names": ["dog", "cat", "tree", "cow"]}'
                                  if str(request["messages"][-1]["content"]).startswith("Class") else usual(request))
    result = lexiseg("ask", "mask every animal", pictures, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    (entry,) = Vocabulary.load(tmp_path / "out" / "vocabulary.yaml").classes
    assert entry.subclasses == ("dog", "cat", "tree", "cow") and entry.provenance.model == "stub"


def test_where_nothing_is_looked_for_nothing_of_an_earlier_job_stays(lexiseg, llm, scene_models, pictures, tmp_path):
    out, usual = tmp_path / "out", llm.answer
    assert lexiseg("ask", "mask the dog", pictures, "--out", out).exit_code == 0
    llm.plan = PLAN | {"targets": [], "candidate_free": True}
    llm.answer = lambda request: usual(request) if "response_format" in request else ""
    result = lexiseg("ask", "mask everything", pictures, "--out", out, "--store", "none")
    assert result.exit_code == 0, result.stderr
    assert {path.name for path in out.iterdir()} == {"ask.json"}
    assert "there is nothing to look for" in result.stdout and "masks:" not in result.stdout
    assert result.stdout.splitlines()[-1].startswith("trace:")
    llm.plan, llm.answer = PLAN, usual
    assert "masks:" in lexiseg("ask", "mask the dog", pictures, "--out", out).stdout


def test_from_python(llm, scene_models, pictures, tmp_path):
    result = ask_pictures("mask the dog", [str(pictures)], tmp_path / "out", LlmOptions(store="none"))
    assert result.names == {"dog": ()} and set(result.kept) == {"one.png", "two.png", "three.png"}
    assert json.loads((tmp_path / "out" / "ask.json").read_text()) == result.model_dump(mode="json")


def test_a_second_run_asks_no_model(lexiseg, llm, scene_models, pictures, tmp_path):
    first = lexiseg("ask", "mask the dog", pictures, "--out", tmp_path / "out")
    calls = llm.calls
    second = lexiseg("ask", "mask the dog", pictures, "--out", tmp_path / "out")
    assert llm.calls == calls and second.stdout == first.stdout


def test_a_picture_that_cannot_be_read_stops_no_other(lexiseg, llm, scene_models, pictures, tmp_path):
    (pictures / "two.png").write_bytes(b"no picture")
    result = lexiseg("ask", "mask the dog", pictures, "--out", tmp_path / "out")
    assert result.exit_code == 3 and "1 of 3 pictures could not be read" in result.stderr
    assert json.loads((tmp_path / "out" / "ask.json").read_text())["unread"] == ["two.png"]


@pytest.mark.parametrize("request_", ["", "?", "x" * 501])
def test_a_request_without_words(lexiseg, llm, scene_models, pictures, tmp_path, request_):
    result = lexiseg("ask", request_, pictures, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "error [setting-invalid]" in result.stderr and llm.calls == 0
