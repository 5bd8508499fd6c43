"""`lexiseg eval` with a small model on small folders."""

import json

import jsonschema
import numpy as np
import pytest

from service.evaluate import EvalReport, open_for_preset, with_constants
from tests.service.conftest import save_dataset
from tests.vision import layouts

CLASSES = {"0": "grass", "1": "dog", "2": "cat", "3": "sky", "ignore_id": 255}


@pytest.fixture
def dataset(tmp_path):
    """Four pictures of 32 x 32 with masks in quarters."""
    quarters = [np.kron(np.random.default_rng(i).integers(0, 4, (2, 2)), np.ones((16, 16))).astype(np.uint8)
                for i in range(4)]
    return save_dataset(tmp_path / "dataset", CLASSES, [
        (np.repeat(labels_HW[..., None] * 60, 3, 2), labels_HW) for labels_HW in quarters])


def test_a_table_with_its_control(lexiseg, models, dataset):
    result = lexiseg("eval", f"folder:{dataset}", "--candidates", "present+1")
    assert result.exit_code == 0, result.stderr
    assert "4 images, candidates present+1, model tiny" in result.stdout
    assert "control" in result.stdout
    assert all(name in result.stdout for name in ("grass", "dog", "cat", "sky"))
    assert "\x1b" not in result.stdout


def test_the_report_as_json(lexiseg, models, dataset):
    result = lexiseg("eval", f"folder:{dataset}", "--candidates", "all", "--limit", "3", "--always", "tree",
                     "--variant", "naclip", "--json")
    report = json.loads(result.stdout)
    jsonschema.validate(report, EvalReport.model_json_schema(mode="serialization"))
    assert (report["format_version"], report["candidates"], report["always"]) == (1, "all", ["tree"])
    assert report["model"]["name"] == "tiny"
    assert report["settings"] == {"variant": "naclip"}
    [run] = report["runs"]
    assert run["images"] == 3
    assert list(run["per_class"]) == ["grass", "dog", "cat", "sky"]
    assert 0 <= run["scores"]["miou"] <= 1
    assert run["control"]["miou"] is not None


def test_the_same_command_gives_the_same_figures(lexiseg, models, dataset):
    reports = [json.loads(lexiseg("eval", f"folder:{dataset}", "--candidates", "present+1", "--json").stdout)
               for _ in range(2)]
    for report in reports:
        del report["runs"][0]["seconds"], report["runs"][0]["stages"]
    assert reports[0] == reports[1]


def test_superclasses_with_subclasses_and_with_exchanged_ones(lexiseg, models, dataset, tmp_path):
    mapping, vocabulary = tmp_path / "super.json", tmp_path / "super.yaml"
    mapping.write_text('{"dog": "animal", "cat": "animal", "grass": "nature"}')
    vocabulary.write_text("classes:\n- {id: 1, name: animal, subclasses: [dog, cat]}\n"
                          "- {id: 2, name: nature, subclasses: [grass]}\n")
    result = lexiseg("eval", f"folder:{dataset}", "--candidates", "all", "--super-classes", mapping,
                     "--vocabulary", vocabulary, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert [run["name"] for run in report["runs"]] == ["names", "names with subclasses",
                                                       "names with exchanged subclasses"]
    assert list(report["runs"][0]["per_class"]) == ["nature", "animal", "sky"]
    assert list(report["runs"][0]["groups"]) == ["super-classes", "other names"]
    assert len({json.dumps(run["per_class"]) for run in report["runs"]}) == 3, "subclasses change the masks"
    assert any("animal" in text for text in report["warnings"])
    assert "animal" in result.stderr


def test_a_jobs_folder_scores_full_marks_against_itself(lexiseg, models, pictures, tmp_path):
    """The masks of a job are its own ground truth: the same model and names must find them again."""
    assert lexiseg("segment", pictures, "--classes", "dog, cat, sky", "--out", tmp_path / "out").exit_code == 0
    result = lexiseg("eval", f"folder:{tmp_path / 'out'}", "--candidates", "present", "--always", "dog, cat, sky",
                     "--json")
    assert result.exit_code == 0, result.stdout
    report = json.loads(result.stdout)
    assert report["runs"][0]["scores"]["miou"] == 1
    assert report["runs"][0]["images"] == 3


@pytest.mark.parametrize(("arguments", "said"), [
    pytest.param(["--candidates", "some"], "present+N", id="candidates"),
    pytest.param(["--candidates", "all", "--super"], "has a super-class", id="no super-classes"),
    pytest.param(["--candidates", "all", "--super-classes", "missing.json"], "missing.json", id="no such mapping"),
    pytest.param(["--candidates", "all", "--vocabulary", "missing.yaml"], "missing.yaml", id="no such vocabulary"),
    pytest.param(["--candidates", "all", "--refine", "sam"], "none, pydensecrf", id="refine"),
    pytest.param(["--candidates", "all", "--model", "missing"], "missing", id="model"),
])
def test_what_cannot_be_used_is_refused(lexiseg, models, dataset, arguments, said):
    result = lexiseg("eval", f"folder:{dataset}", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize("content", ["{", "[]", '{"dog": 3}'])
def test_a_bad_mapping_is_refused(lexiseg, models, dataset, tmp_path, content):
    path = tmp_path / "super.json"
    path.write_text(content)
    result = lexiseg("eval", f"folder:{dataset}", "--candidates", "all", "--super-classes", path)
    assert result.exit_code == 2
    assert str(path) in result.stderr


def test_a_published_protocol_in_one_command(lexiseg, models, tmp_path):
    result = lexiseg("eval", f"voc21:{layouts.voc(tmp_path)}", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    jsonschema.validate(report, EvalReport.model_json_schema(mode="serialization"))
    assert (report["dataset"], report["candidates"]) == ("voc21:val", "all")
    assert report["protocol"] == {"name": "voc21", "names": "plain", "constants": {}}
    assert report["settings"] == {}
    assert len(report["runs"][0]["per_class"]) == 21
    assert report["runs"][0]["scores"]["miou_all"] is not None
    assert any("published split 1,449" in text for text in report["warnings"])


def test_a_preset_brings_the_names_of_its_protocol(lexiseg, models, tmp_path):
    report = json.loads(lexiseg("eval", f"voc21:{layouts.voc(tmp_path)}", "--preset", "llm-supervision", "--refine",
                                "none", "--json").stdout)
    assert report["protocol"]["names"] == "simseg"
    assert "monitor" in report["runs"][0]["per_class"]
    report = json.loads(lexiseg("eval", f"voc21:{tmp_path},names=plain", "--preset", "llm-supervision", "--refine",
                                "none", "--json").stdout)
    assert report["protocol"]["names"] == "plain"


def test_constants_of_the_published_code_yield_to_what_a_person_gives(tmp_path, monkeypatch):
    monkeypatch.setattr("service.evaluate.protocol_constants", lambda method, name: {"overlap": 0.25, "tile": 64,
                                                                                     "other": 1})
    dataset = open_for_preset(f"voc21:{layouts.voc(tmp_path)}", "sclip")
    protocol, settings = with_constants(dataset, "sclip", {"tile": 32, "ensemble": "max"}, ["tile"])
    assert protocol.names == "sclip"
    assert settings == {"tile": 32, "ensemble": "max", "overlap": 0.25}
    assert protocol.constants["other"] == 1


@pytest.mark.parametrize(("preset", "variant", "threshold", "scale"), [
    ("sclip", None, 0.1, 65), ("sclip", "naclip", 0.1, 40), ("sclip", "sc-clip", 0.15, 50),
    ("sclip", "clearclip", 0.1, 65), ("sclip", "resclip", 0.1, 40),
    ("simseg", None, None, None), ("lexiseg", "naclip", None, None)])
def test_each_method_has_the_constants_of_its_own_code(tmp_path, preset, variant, threshold, scale):
    dataset = open_for_preset(f"voc21:{layouts.voc(tmp_path)}", preset)
    protocol, _ = with_constants(dataset, preset, {"variant": variant} if variant else {}, [])
    assert protocol.constants.get("background_threshold") == threshold
    assert protocol.constants.get("logit_scale") == scale


def test_a_file_that_builds_on_a_preset_keeps_its_protocol(lexiseg, models, tmp_path):
    """What it names itself yields to no constant."""
    path = tmp_path / "mine.json"
    data = f"voc21:{layouts.voc(tmp_path)}"
    path.write_text(json.dumps({"preset": "sclip", "short_side": 64, "stride": 0, "templates": "plain"}))
    of_file, of_preset = (json.loads(lexiseg("eval", data, "--preset", preset, "--json").stdout)
                          for preset in (str(path), "sclip"))
    assert of_file["model"]["device"] in ("cpu", "cuda") and of_file["model"]["precision"] == "float32"
    assert of_file["protocol"] == of_preset["protocol"] and of_file["protocol"]["names"] == "sclip"
    assert of_file["settings"]["logit_scale"] == of_preset["settings"]["logit_scale"] == 65
    assert (of_file["settings"]["short_side"], of_file["settings"]["stride"]) == (64, 0)
    assert of_preset["settings"]["short_side"] == 336


def test_bad_pictures_are_counted_where_that_is_asked_for(lexiseg, models, tmp_path):
    layouts.voc(tmp_path)
    (tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2007_000042.png").unlink()
    result = lexiseg("eval", f"voc21:{tmp_path}")
    assert result.exit_code == 2
    assert "label-missing 1 of 2" in result.stderr
    assert f"lexiseg eval voc21:{tmp_path} --skip-bad" in result.stderr
    result = lexiseg("eval", f"voc21:{tmp_path}", "--skip-bad")
    assert result.exit_code == 0
    assert "1 images" in result.stdout
    assert "left out: label-missing 1" in result.stderr
    assert "protocol voc21, names plain" in result.stdout
    assert "seconds: names: read" in result.stdout
