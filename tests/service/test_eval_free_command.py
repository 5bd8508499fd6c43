"""`lexiseg eval --candidate-free` with a small model on a small folder."""

import json

import jsonschema
import numpy as np
import pytest

from parsers.prepared import PreparedRow, write_prepared
from parsers.priors import ObjectPrior, ScenePriors
from service.evaluate_free import FreeReport
from tests.service.conftest import save_dataset

CLASSES = {"0": "grass", "1": "dog", "2": "cat", "ignore_id": 255}
MATRIX = {"names": ["dog", "cat", "grass", "tree"], "classes": ["grass", "dog", "cat"],
          "similarity": [[0.1, 1, 0.5], [0.1, 0.5, 1], [1, 0, 0], [0.6, 0, 0]]}


@pytest.fixture
def dataset(tmp_path):
    """Three pictures of 32 x 32, each of one class of its own."""
    shades_HW3 = np.tile(np.arange(32, dtype=np.uint8)[:, None], (32, 1, 3))
    return save_dataset(tmp_path / "dataset", CLASSES, [
        (shades_HW3 + np.uint8(60 * i), np.full((32, 32), i, np.uint8)) for i in range(3)])


@pytest.fixture
def said(tmp_path):
    """`said("dog", "", "tree")` -> a file with what is said of each picture."""
    def write(*names: str):
        write_prepared(tmp_path / "said.jsonl", [PreparedRow(
            image_id=str(i), prompt_id="simple", model_id="nobody", priors=ScenePriors(text="t", objects=(
                ObjectPrior(name=name, lemma=name),) if name else ())) for i, name in enumerate(names)])
        return tmp_path / "said.jsonl"

    return write


@pytest.fixture
def report(lexiseg, models, dataset):
    def run(*options):
        result = lexiseg("eval", f"folder:{dataset}", "--candidates", "present", "--candidate-free", "--json", *options)
        assert result.exit_code == 0, result.stderr
        found = json.loads(result.stdout)
        jsonschema.validate(found, FreeReport.model_json_schema(mode="serialization"))
        return found

    return run


def test_names_that_are_true_are_as_good_as_names_that_are_given(report, said):
    found = report("--descriptions", said("grass", "dog", "cat"))
    assert found["given"] == found["free"] == {"open_miou": 1.0, "mapped_miou": 1.0, "names": 3}
    assert (found["recall"], found["images"], found["similarity"]) == (1.0, 3, "text")


def test_what_is_not_named_is_missed(report, said):
    found = report("--descriptions", said("grass", "", "cat"))
    assert found["given"]["open_miou"] == 1.0
    assert found["free"]["open_miou"] == found["free"]["mapped_miou"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 3)


def test_background_is_a_class_where_the_dataset_has_it(report, said, dataset):
    """A picture of which nothing is said is background all over, as in a job."""
    (dataset / "classes.json").write_text(json.dumps(CLASSES | {"0": "background"}))
    assert report("--descriptions", said("", "", ""))["free"]["mapped_miou"] == pytest.approx((1 / 3 + 0 + 0) / 3)
    assert report("--descriptions", said("", "dog", ""))["recall"] == 1 / 2  # background is not to be named


def test_similarities_from_a_file(report, said, tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(MATRIX))
    found = report("--descriptions", said("tree", "dog", "cat"), "--similarity", tmp_path / "s.json")
    assert found["free"]["open_miou"] == pytest.approx((0.6 + 1 + 1) / 3)
    assert found["free"]["mapped_miou"] == 1.0 and len(found["similarity_sha256"]) == 64
    found = report("--descriptions", said("sky", "dog", "cat"), "--similarity", tmp_path / "s.json")
    assert found["warnings"][-1:] == [
        f"{tmp_path / 's.json'} lacks 1 of the predicted names (sky); cosines of text vectors stand in for them."]


def test_similarities_are_kept_for_the_next_time(report, said, tmp_path):
    first = report("--descriptions", said("tree", "cat", "cat"), "--keep-similarity", tmp_path / "s.json")
    again = report("--descriptions", said("tree", "cat", "cat"), "--similarity", tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text())["names"] == ["grass", "dog", "cat", "tree"]
    assert again["free"]["open_miou"] == pytest.approx(first["free"]["open_miou"], abs=1e-4)
    strict = report("--descriptions", said("tree", "cat", "cat"), "--similarity-floor", "0.99999")
    assert strict["free"]["open_miou"] < first["free"]["open_miou"]


def test_the_language_model_describes_the_pictures(lexiseg, scene_models, dataset, llm, tmp_path):
    options = ("eval", f"folder:{dataset}", "--candidate-free", "--llm", llm.url, "--store", tmp_path / "store")
    result = lexiseg(*options, "--views", "2")
    assert result.exit_code == 0, result.stderr
    assert "candidate-free" in result.stdout and "described by stub" in result.stdout
    assert "66.7 % of the classes in the pictures are named" in result.stdout
    asked = [request["messages"][-1]["content"][-1]["text"].startswith("Is there") for request in llm.requests]
    assert asked.count(False) == 3 * 2


def test_a_picture_of_which_nothing_is_said_counts(lexiseg, scene_models, dataset, llm, tmp_path):
    llm.answer = lambda request: ""
    result = lexiseg("eval", f"folder:{dataset}", "--candidate-free", "--llm", llm.url, "--json", "--store", "none")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["free"]["open_miou"], found["recall"]) == (0.0, 0.0)
    assert "describe-detailed: 3 of 3 answers could not be used" in " ".join(result.stderr.split())


@pytest.mark.parametrize(("options", "message"), [
    (["--similarity-floor", "0.5"], "--similarity-floor without --candidate-free"),
    (["--views", "3"], "--llm and its like without --candidate-free"),
    (["--candidate-free", "--skip-bad"], "--skip-bad with --candidate-free"),
    (["--candidate-free", "--similarity-floor", "1"], "--similarity-floor 1.0."),
    (["--candidate-free", "--similarity", "nowhere.json"], "nowhere.json holds no similarities"),
    (["--candidate-free", "--descriptions", "nowhere.jsonl"], "nowhere.jsonl cannot be read"),
    (["--candidate-free", "--views", "11"], "should be less than or equal to 10")])
def test_what_does_not_fit_is_said(lexiseg, models, dataset, options, message):
    result = lexiseg("eval", f"folder:{dataset}", *options)
    assert result.exit_code == 2 and message in " ".join(result.stderr.split())
