"""The `llmformer` backend from the command line, with a model that knows nothing: the way is what counts here."""

import json

import pytest

from parsers.errors import SettingError
from parsers.files import sha256_file
from parsers.prepared import PreparedRow, write_prepared
from parsers.priors import ObjectPrior, ScenePriors
from tests.by_hand import do_job
from vision import load_segmenter, make_settings
from workers.ledger import open_ledger
from workers.ledger.jobs import list_jobs
from workers.queue.settings import read_settings


@pytest.fixture
def said(tmp_path):
    """Descriptions of the three pictures."""
    path = tmp_path / "said.jsonl"
    named = {"one.png": ("dog",), "three.png": (), "two.png": ("grass", "dog")}
    write_prepared(path, [PreparedRow(
        image_id=key, prompt_id="simple", model_id="nobody",
        priors=ScenePriors(text="a text", objects=tuple(ObjectPrior(name=name, lemma=name) for name in names)))
        for key, names in named.items()])
    return path


def classes_found(out):
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert all(row["state"] != "failed" for row in rows), rows
    return {row["name"]: {entry["name"] for entry in row["classes"]} for row in rows}


def test_names_are_looked_for_with_and_without_descriptions(lexiseg, models, saved_llmformer, pictures, said, tmp_path):
    base = ("segment", pictures, "--backend", "llmformer", "--model", saved_llmformer, "--classes", "dog, cat, grass")
    plain = lexiseg(*base, "--out", tmp_path / "plain")
    told = lexiseg(*base, "--descriptions", said, "--out", tmp_path / "told")
    assert (plain.exit_code, told.exit_code) == (0, 0), plain.stderr + told.stderr
    assert set(classes_found(tmp_path / "plain")) == {"one.png", "two.png", "three.png"}
    assert all(found <= {"dog", "cat", "grass"} for found in classes_found(tmp_path / "told").values())
    job = json.loads((tmp_path / "told" / "job.json").read_text())
    assert job["spec"]["settings"] == {"descriptions": str(said)}


def test_a_job_takes_the_digest_of_its_descriptions_along(lexiseg, models, saved_llmformer, pictures, said, tmp_path,
                                                         monkeypatch):
    """Its workers run elsewhere, and later."""
    monkeypatch.chdir(said.parent)
    result = lexiseg("jobs", "submit", pictures, "--backend", "llmformer", "--model", saved_llmformer, "--classes",
                     "dog, grass", "--descriptions", said.name, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    ledger = open_ledger(read_settings().ledger)
    [job] = list_jobs(ledger)
    settings = json.loads(job.spec)["settings"]
    assert settings == {"descriptions": str(said), "descriptions_sha256": sha256_file(said)}
    do_job(ledger, job)
    assert set(classes_found(tmp_path / "out")) == {"one.png", "two.png", "three.png"}
    ledger.close()
    said.write_text(said.read_text() + "\n")
    with pytest.raises(SettingError, match="were changed since the job was submitted"):
        load_segmenter("llmformer", saved_llmformer, settings=make_settings("llmformer", settings))
    missing = lexiseg("jobs", "submit", pictures, "--backend", "llmformer", "--model", saved_llmformer, "--classes",
                      "dog", "--descriptions", "none.jsonl", "--out", tmp_path / "other")
    assert missing.exit_code == 2 and "none.jsonl cannot be read" in " ".join(missing.stderr.split())


def test_without_names_each_picture_has_those_of_its_description(lexiseg, models, saved_llmformer, pictures, said,
                                                                 tmp_path):
    result = lexiseg("segment", pictures, "--backend", "llmformer", "--model", saved_llmformer,
                     "--candidate-free", "--descriptions", said, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    found = classes_found(tmp_path / "out")
    assert found["one.png"] == {"dog"} and found["two.png"] <= {"dog", "grass"} and found["three.png"] == set()
    assert json.loads((tmp_path / "out" / "classes.json").read_text())["1"] == "dog"
    assert json.loads((tmp_path / "out" / "job.json").read_text())["spec"]["free"]["descriptions"] == str(said)


def test_a_picture_without_a_description_fails_alone_and_is_named(lexiseg, models, saved_llmformer, pictures, said,
                                                                  tmp_path):
    rows = said.read_text().splitlines()
    said.write_text("\n".join(row for row in rows if "two.png" not in row) + "\n")
    result = lexiseg("segment", pictures, "--backend", "llmformer", "--model", saved_llmformer, "--classes", "dog",
                     "--descriptions", said, "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "no description of 'two.png'" in " ".join(result.stderr.split())


@pytest.mark.parametrize(("options", "message"), [
    (("--variant", "loda"), "has no option variant"), (("--candidate-free",), "--candidate-free and names"),
    (("--descriptions", "none.jsonl"), "none.jsonl cannot be read")])
def test_options_that_do_not_fit_are_refused(lexiseg, models, saved_llmformer, pictures, tmp_path, options, message):
    result = lexiseg("segment", pictures, "--backend", "llmformer", "--model", saved_llmformer, "--classes", "dog",
                     "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_clip_knows_no_descriptions(lexiseg, models, pictures, said, tmp_path):
    result = lexiseg("segment", pictures, "--classes", "dog", "--descriptions", said, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "has no option descriptions" in result.stderr


def test_the_benchmark_says_what_it_measures(lexiseg, models, saved_llmformer):
    result = lexiseg("benchmark", "--backend", "llmformer", "--model", saved_llmformer)
    assert result.exit_code == 2 and "measures the backend clip" in result.stderr


def test_it_is_evaluated_and_its_model_is_named(lexiseg, models, saved_llmformer):
    result = lexiseg("eval", "pictograms:count=2,split=seen", "--candidates", "present", "--backend", "llmformer",
                     "--model", saved_llmformer, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["model"]["backend"] == "llmformer" and report["model"]["name"] == "tiny-llmformer"
    assert report["runs"][0]["images"] == 2
