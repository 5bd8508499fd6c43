"""`lexiseg segment` from the words of a person to masks, exit code and messages."""

import json

import numpy as np
import pytest
from PIL import Image

from service.segment import photo_warnings
from vision.models import load_card


def test_pictures_become_masks_and_a_report(lexiseg, models, pictures, tmp_path):
    out = tmp_path / "out"
    result = lexiseg("segment", pictures, "--classes", "dog, cat", "--out", out, "--overlay", "--confidence")
    assert result.exit_code == 0
    assert result.stdout.startswith("3 of 3 images segmented")
    assert str(out / "report.html") in result.stdout
    assert result.stderr == ""
    assert sorted(path.name for path in (out / "masks").iterdir()) == ["one.png.png", "three.png.png", "two.png.png"]
    assert np.asarray(Image.open(out / "masks" / "one.png.png")).shape == (32, 40)
    assert len(list((out / "overlays").iterdir())) == len(list((out / "confidence").iterdir())) == 3


def test_every_option_reaches_the_job(lexiseg, models, pictures, tmp_path):
    vocabulary = tmp_path / "animals.yaml"
    vocabulary.write_text("classes:\n- {id: 4, name: dog, subclasses: [cat]}\n- {id: 9, name: tree}\n")
    result = lexiseg("segment", pictures / "one.png", "--vocabulary", vocabulary, "--out", tmp_path / "out",
                     "--model", models / "pocket" / "clip", "--variant", "naclip", "--ensemble", "max",
                     "--subclasses", "1", "--tile", "32", "--overlap", "0.25", "--refine", "pydensecrf",
                     "--preset", "names-only", "--device", "cpu", "--batch", "4")
    assert result.exit_code == 0, result.stderr
    job = json.loads((tmp_path / "out" / "job.json").read_text())
    assert (job["device"], job["precision"]) == ("cpu", "float32")
    spec = job["spec"]
    assert spec["settings"] == {"variant": "naclip", "ensemble": "max", "subclass_count": 1, "tile": 32,
                                "overlap": 0.25, "presence": "off"}
    assert (spec["refine"], spec["preset"], spec["device"], spec["batch"]) == ("pydensecrf", "names-only", "cpu", 4)
    classes = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert (classes["4"], classes["9"]) == ("dog", "tree")


def test_a_bad_picture_is_told_of_and_gives_exit_code_3(lexiseg, models, pictures, tmp_path):
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    result = lexiseg("segment", pictures, "--classes", "dog, cat", "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "3 of 4 images" in result.stdout
    assert "1 failed" in result.stderr
    assert "broken.png" in result.stderr
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 3


def test_words_that_the_model_never_saw_are_a_warning_there_and_in_the_report(lexiseg, models, pictures, tmp_path):
    result = lexiseg("segment", pictures, "--classes", "dog, zeppelin", "--out", tmp_path / "out")
    assert result.exit_code == 0
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "zeppelin" in warnings[0]
    assert any("zeppelin" in text for text in json.loads((tmp_path / "out" / "job.json").read_text())["warnings"])
    assert "zeppelin" in (tmp_path / "out" / "report.html").read_text()


def test_photographs_before_a_pocket_model_are_a_warning(lexiseg, models, pictures, tmp_path):
    Image.new("RGB", (64, 48)).save(pictures / "holiday.jpg")
    result = lexiseg("segment", pictures, "--classes", "dog", "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "1 of the first 4 pictures look like photographs (holiday.jpg, JPEG of 64x48)" in result.stderr
    assert "--model DIR" in result.stderr
    assert "look like photographs" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(("size", "suffix", "warned"), [
    ((128, 128), "png", False), ((129, 1000), "png", True), ((64, 1000), "png", False), ((40, 40), "jpg", True)])
def test_what_looks_like_a_photograph(models, tmp_path, size, suffix, warned):
    path = tmp_path / f"picture.{suffix}"
    Image.new("RGB", size).save(path)
    assert bool(photo_warnings(load_card(models / "pocket" / "clip"), [path, tmp_path / "missing.png"])) is warned


@pytest.mark.parametrize(("arguments", "code", "said"), [
    pytest.param(["--classes", "dog", "--vocabulary", "x.yaml"], "setting-invalid", "One of the two", id="both"),
    pytest.param(["--classes", "dog,,cat"], "class-name-invalid", "empty", id="an empty name"),
    pytest.param(["--vocabulary", "missing.yaml"], "vocabulary-invalid", "missing.yaml", id="no such file"),
    pytest.param(["--classes", "dog", "--preset", "best"], "setting-invalid", "llm-supervision", id="preset"),
    pytest.param(["--classes", "dog", "--refine", "sam"], "setting-invalid", "none, pydensecrf", id="refine"),
    pytest.param(["--classes", "dog", "--variant", "x"], "setting-invalid", "naclip", id="variant"),
    pytest.param(["--classes", "dog", "--overlap", "1.5"], "setting-invalid", "0.9", id="overlap"),
    pytest.param(["--classes", "dog", "--backend", "x"], None, "clip", id="backend"),
    pytest.param(["--classes", "dog", "--model", "missing"], "model-missing", "pocket/clip", id="model"),
    pytest.param(["--classes", "dog", "--device", "tpu"], "setting-invalid", "cuda", id="device"),
])
def test_what_cannot_be_used_is_refused_before_anything_is_written(lexiseg, models, pictures, tmp_path, arguments, code,
                                                                   said):
    result = lexiseg("segment", pictures, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error [{code}]: " if code else "error [")
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_no_pictures_is_an_error(lexiseg, models, tmp_path):
    (tmp_path / "empty").mkdir()
    result = lexiseg("segment", tmp_path / "empty", "--classes", "dog", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "error [no-inputs]" in result.stderr


def test_the_outcome_as_json(lexiseg, models, pictures, tmp_path):
    (pictures / "broken.png").write_bytes(b"no picture")
    result = lexiseg("segment", pictures, "--classes", "dog, cat", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 3
    answer = json.loads(result.stdout)
    assert (answer["format_version"], answer["total"], answer["failed"]) == (1, 4, 1)
    assert answer["done"] + answer["empty"] == 3
    assert list(answer["stages"]) == ["decode", "score", "finish"]
    assert all(seconds >= 0 for seconds in answer["stages"].values())
    assert sum(answer["stages"].values()) > 0
    assert [failure["code"] for failure in answer["failures"]] == ["not-an-image"]
    assert answer["report"] == str(tmp_path / "out" / "report.html")


def mask_bytes(out):
    return {path.name: path.read_bytes() for path in sorted((out / "masks").iterdir())}


def test_drafts_change_neither_the_size_of_a_mask_nor_what_small_pictures_become(lexiseg, models, pictures, tmp_path):
    """Windows of 32 pixels need 96; the photo's shorter side is 480."""
    soft = Image.fromarray(np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8))
    soft.resize((640, 480), Image.Resampling.BICUBIC).save(pictures / "photo.jpg", quality=95)
    for out, options in (("whole", []), ("draft", ["--draft"]), ("again", ["--draft"])):
        result = lexiseg("segment", pictures, "--classes", "dog, cat, sky", "--out", tmp_path / out, "--overlay",
                         *options)
        assert result.exit_code == 0, result.stderr
    whole, draft, again = (mask_bytes(tmp_path / out) for out in ("whole", "draft", "again"))
    assert draft == again, "the same settings give the same bytes"
    assert {name: data for name, data in draft.items() if name != "photo.jpg.png"} == {
        name: data for name, data in whole.items() if name != "photo.jpg.png"}
    labels = [np.asarray(Image.open(tmp_path / out / "masks" / "photo.jpg.png")) for out in ("whole", "draft")]
    assert labels[0].shape == labels[1].shape == (480, 640)
    assert (labels[0] == labels[1]).mean() > 0.95
    with (Image.open(tmp_path / "draft" / "overlays" / "photo.jpg.jpg") as overlay,
          Image.open(tmp_path / "whole" / "overlays" / "photo.jpg.jpg") as other):
        assert overlay.size == other.size
    assert json.loads((tmp_path / "draft" / "job.json").read_text())["spec"]["settings"] == {"draft": True}


def test_tiles_count_pixels_of_the_picture_itself(models):
    from vision import ClipSettings, load_segmenter

    directory = models / "pocket" / "clip"
    sides = [load_segmenter("clip", directory, device="cpu", settings=settings).draft_side
             for settings in (ClipSettings(), ClipSettings(draft=True), ClipSettings(draft=True, tile=64),
                              ClipSettings(draft=True, rule="sclip", short_side=336))]
    assert sides == [None, 96, None, 336]
