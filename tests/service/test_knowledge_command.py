"""`lexiseg describe`, `subclasses`, `clusters` and `vocabulary build`, as a person types them, with a real server."""

import json
import re

import pytest

from parsers.vocabulary import Vocabulary
from tests.llm_server import Reply, llm_server
from tests.servers import free_port

KINDS = {"dog": ["poodle", "husky", "beagle", "collie"], "bus": ["school bus", "minibus", "double-decker"]}


def answers(request):
    content = request["messages"][-1]["content"]
    if isinstance(content, list):
        return "A red dog next to a bench. There is no cat."
    if content.startswith("Class: "):
        return json.dumps({"names": KINDS[re.match(r'Class: "(\w+)"', content)[1]]})
    names = json.loads(content.split("Names: ")[1].splitlines()[0])
    return json.dumps({name: "vehicles" if name == "bus" else "animals" for name in names})


@pytest.fixture
def llm(monkeypatch):
    with llm_server() as server:
        server.answer = answers
        monkeypatch.setenv("LEXISEG_LLM", server.url)
        yield server


def test_a_vocabulary_for_a_person_to_look_through(lexiseg, llm, tmp_path):
    file = tmp_path / "vocab.yaml"
    result = lexiseg("vocabulary", "build", "dog, bus", "--subclasses", 3, "--clusters", "-o", file)
    assert result.exit_code == 0, result.stderr
    assert "2 classes, 6 subclasses" in result.stdout and f"lexiseg vocabulary freeze {file}" in result.stdout
    dog, bus = Vocabulary.load(file).classes
    assert dog.subclasses == ("poodle", "husky", "beagle") and bus.cluster == "vehicles"
    assert dog.provenance.model == "stub"
    first, calls = file.read_bytes(), llm.calls
    assert lexiseg("vocabulary", "build", "dog, bus", "--subclasses", 3, "--clusters", "-o", file).exit_code == 0
    assert llm.calls == calls and file.read_bytes() == first


def test_from_a_file_with_glosses(lexiseg, llm, tmp_path):
    (tmp_path / "draft.yaml").write_text("classes:\n- {id: 7, name: dog, gloss: the animal}\n")
    result = lexiseg("vocabulary", "build", tmp_path / "draft.yaml", "--subclasses", 2, "-o", tmp_path / "new.yaml",
                     "--store", "none")
    assert result.exit_code == 0, result.stderr
    assert "(the animal)" in llm.question() and llm.calls == 1
    assert Vocabulary.load(tmp_path / "new.yaml").classes[0].id == 7


def test_fallbacks_are_said(lexiseg, llm, tmp_path):
    llm.answer = lambda request: "no idea"
    result = lexiseg("vocabulary", "build", "dog", "--subclasses", 3, "-o", tmp_path / "vocab.yaml")
    assert result.exit_code == 0
    assert "warning: subclasses: 1 of 1 answers could not be used" in result.stderr
    assert "warning: No subclass of 'dog' could be used." in result.stderr


@pytest.mark.parametrize("arguments", [
    pytest.param(["dog", "-o", "vocab.yaml"], id="nothing to add"),
    pytest.param(["dog", "--subclasses", "3", "-o", "nowhere/vocab.yaml"], id="no folder"),
    pytest.param(["missing.yaml", "--subclasses", "3", "-o", "vocab.yaml"], id="no file"),
    pytest.param([" , ", "--subclasses", "3", "-o", "vocab.yaml"], id="no names"),
    pytest.param(["dog", "--subclasses", "11", "-o", "vocab.yaml"], id="too many"),
])
def test_what_cannot_be_built_asks_no_model(lexiseg, llm, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    result = lexiseg("vocabulary", "build", *arguments)
    assert (result.exit_code, llm.calls) == (2, 0)


def test_subclasses(lexiseg, llm):
    assert lexiseg("subclasses", "dog, bus", "-n", 3).stdout == (
        "dog: poodle, husky, beagle\nbus: school bus, minibus, double-decker\n")
    record = json.loads(lexiseg("subclasses", "dog", "--gloss", "the animal", "-n", 4, "--json").stdout)
    assert record["classes"] == [{"name": "dog", "subclasses": KINDS["dog"], "outcome": "first", "stored": False}]
    assert lexiseg("subclasses", "dog, bus", "--gloss", "x").exit_code == 2


def test_clusters(lexiseg, llm):
    assert lexiseg("clusters", "dog, bus, cat").stdout == "animals: dog, cat\nvehicles: bus\n"
    record = json.loads(lexiseg("clusters", "dog, bus, cat", "--json").stdout)
    assert record["settled"] and record["stored"] and record["clusters"]["animals"] == ["dog", "cat"]


def test_descriptions_of_pictures(lexiseg, llm, pictures):
    result = lexiseg("describe", pictures)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("next to > bench") == 3 and "not there: cat" in result.stdout
    lines = [json.loads(line) for line in lexiseg("describe", pictures, "--jsonl").stdout.splitlines()]
    assert [line["picture"] for line in lines] == ["one.png", "three.png", "two.png"]
    assert lines[0]["priors"]["absent"] == ["cat"] and llm.calls == 3
    lexiseg("describe", pictures, "--detailed")
    assert llm.calls == 6
    again = [json.loads(line) for line in lexiseg("describe", pictures, "--jsonl", "--views", "2").stdout.splitlines()]
    assert [line["priors"] for line in again] == [line["priors"] for line in lines] and llm.calls == 9
    assert {line["prompt"] for line in again} == {"simple, 2 views"} and lines[0]["prompt"] == "simple"


def test_a_picture_that_cannot_be_read_stops_no_other(lexiseg, llm, pictures):
    (pictures / "two.png").write_bytes(b"no picture")
    result = lexiseg("describe", pictures, "--jsonl")
    assert result.exit_code == 3
    states = {line["picture"]: line["state"] for line in map(json.loads, result.stdout.splitlines())}
    assert states == {"one.png": "done", "two.png": "failed", "three.png": "done"}


def test_no_server(lexiseg):
    result = lexiseg("subclasses", "dog", "--llm", f"http://127.0.0.1:{free_port()}/v1")
    assert result.exit_code == 2
    assert "error [llm-unavailable]" in result.stderr and "next:" in result.stderr


def test_a_wrong_model_name(lexiseg, llm):
    result = lexiseg("subclasses", "dog", "--llm-model", "gpt")
    assert result.exit_code == 2 and "error [llm-model-missing]" in result.stderr and "'stub'" in result.stderr


def test_a_slow_server(lexiseg, llm):
    llm.says(Reply("late", wait_s=1.5))
    result = lexiseg("subclasses", "dog", "--llm-timeout", 0.3)
    assert result.exit_code == 2 and "error [llm-unavailable]" in result.stderr and llm.calls == 1


def test_a_key_is_sent(lexiseg, llm, monkeypatch):
    monkeypatch.setenv("LEXISEG_LLM_KEY", "sesame")
    lexiseg("subclasses", "dog")
    assert {name.lower(): value for name, value in llm.headers[0].items()}["authorization"] == "Bearer sesame"


def test_a_broken_store_is_an_error_before_the_model_is_asked(lexiseg, llm, tmp_path):
    (tmp_path / "store").write_text("no database " * 100)
    result = lexiseg("subclasses", "dog", "--store", tmp_path / "store")
    assert result.exit_code == 2 and "error [store-unavailable]" in result.stderr and llm.calls == 0


def test_errors_are_json_where_json_is_asked_for(lexiseg, llm):
    llm.says(Reply(status=400, body='{"error": {"message": "no"}}'))
    record = json.loads(lexiseg("subclasses", "dog", "--json").stdout)
    assert record["error"]["code"] == "llm-refused"
