"""Files of prepared descriptions, and results.jsonl read as one."""

from __future__ import annotations

import json

import pytest

from parsers import DatasetError, ObjectPrior, ScenePriors
from parsers.prepared import PreparedPriors, PreparedRow, named_classes, recall, write_prepared


def thing(name):
    return ObjectPrior(name=name, lemma=name)


def priors(*objects):
    return ScenePriors(text="a text", objects=objects)


DOGS = priors(ObjectPrior(name="dogs", lemma="dog", attributes=("red",)), thing("grass"))


def row(key, said=DOGS):
    return PreparedRow(image_id=key, prompt_id="simple", model_id="nobody", priors=said, presence={"dog": True})


def test_prepared_descriptions_survive_the_file(tmp_path):
    path = tmp_path / "descriptions.jsonl"
    write_prepared(path, [row("a.png"), row("b.png", priors())])
    prepared = PreparedPriors.read(path)
    assert len(prepared) == 2
    assert prepared.of("a.png") == DOGS and prepared.of("b.png").objects == ()
    assert prepared.row("a.png") == row("a.png")


def test_what_describe_writes_is_read_and_keys_need_no_suffix(tmp_path):
    done = {"state": "done", "prompt": "simple", "model": "m", "description": "a",
            "priors": DOGS.model_dump(mode="json")}
    lines = [{"picture": "in/a.jpg", **done}, {"picture": "c.jpg", **done}, {"picture": "c.png", **done},
             {"picture": "in/b.jpg", "state": "failed", "code": "not-an-image", "message": "no"}]
    told = PreparedPriors.parse(map(json.dumps, lines), "said.jsonl")
    assert told.row("in/a.jpg") == told.row("in/a") and told.row("in/a").prompt_id == "simple"
    for name in ("in/b", "c"):
        with pytest.raises(DatasetError, match=f"no description of '{name}'"):
            told.row(name)


def test_the_results_of_a_job_without_candidates_are_such_a_file(tmp_path):
    path = tmp_path / "results.jsonl"
    lines = [{"name": "a.png", "state": "done", "told": row("a.png").model_dump(mode="json")},
             {"name": "b.png", "state": "failed", "told": None}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    prepared = PreparedPriors.read(path)
    assert prepared.rows == {"a.png": row("a.png")}


def test_a_picture_without_a_row_is_named(tmp_path):
    path = tmp_path / "descriptions.jsonl"
    write_prepared(path, [row("a.png")])
    with pytest.raises(DatasetError, match=r"no description of 'c\.png'"):
        PreparedPriors.read(path).of("c.png")


@pytest.mark.parametrize(("content", "message"), [
    ("{", "line 1 is not JSON"), ('{"format_version": 2}', "format_version"), ("[" * 100_000, "not JSON"),
    ("\n".join([row("a").model_dump_json()] * 2), "second time"), (None, "cannot be read"), (b"\xff\xfe", "UTF-8")])
def test_a_damaged_file_is_refused(tmp_path, content, message):
    path = tmp_path / "descriptions.jsonl"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DatasetError, match=message):
        PreparedPriors.read(path)


def test_recall_counts_the_classes_that_are_named():
    assert named_classes(DOGS, ["dog", "cat", "grass"]) == {"dog", "grass"}
    assert named_classes(priors(thing("mammal")), ["cat", "car"], {"cat": "mammal"}) == {"cat"}
    assert recall([(DOGS, ["dog", "cat"]), (priors(), ["car"])]) == pytest.approx(1 / 3)
    assert recall([]) == 0
