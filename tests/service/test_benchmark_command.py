"""`lexiseg benchmark` with a small model; what it measures, not how fast."""

import json

import jsonschema
import numpy as np
import pytest
from PIL import Image

from parsers.errors import SettingError
from service.benchmark import Benchmark, invented_vocabulary, read_size, save_photos, watched

SMALL = ("--size", "48x32", "--images", "3", "--classes", "4", "--subclasses", "2", "--rounds", "1")


def test_every_stage_end_to_end_and_the_bare_encoder_are_measured(lexiseg, models, tmp_path):
    result = lexiseg("benchmark", *SMALL, "--variant", "naclip", "--price", "2", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    jsonschema.validate(report, Benchmark.model_json_schema(mode="serialization"))
    assert list(report["stages"]) == ["decode", "score", "encode", "refine", "write"]
    for stage in (*report["stages"].values(), report["end_to_end"], report["bare_encoder"]):
        assert stage["seconds_per_image"] > 0
        assert stage["images_per_s"] == pytest.approx(1 / stage["seconds_per_image"])
    assert report["stages"]["encode"]["seconds_per_image"] <= report["stages"]["score"]["seconds_per_image"]
    assert (report["variant"], report["classes"], report["subclasses"]) == ("naclip", 4, 2)
    assert report["precision"] == "float32"
    assert (report["width"], report["height"], report["images"], report["device"]) == (48, 32, 3, "cpu")
    assert report["windows_per_image"] == 2, "32-pixel windows slide half a window along 48 pixels"
    assert report["ratio"] == pytest.approx(
        report["end_to_end"]["images_per_s"] / report["bare_encoder"]["images_per_s"])
    assert 0 < report["device_busy"] <= 1
    assert report["memory_mb"] > 10
    assert report["device_memory_mb"] is None
    hours = report["end_to_end"]["seconds_per_image"] * 100_000 / 3600
    assert (report["hours_per_100k"], report["price_per_100k"]) == (pytest.approx(hours), pytest.approx(2 * hours))


def test_the_table_says_what_a_hundred_thousand_images_take(lexiseg, models):
    result = lexiseg("benchmark", *SMALL)
    assert result.exit_code == 0, result.stderr
    for text in ("decode", "encode (of score)", "refine", "write", "end to end", "bare encoder", "device busy",
                 "memory:", "100,000 images:"):
        assert text in result.stdout
    assert "\x1b" not in result.stdout


def test_nothing_stays_behind(lexiseg, models, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert lexiseg("benchmark", *SMALL).exit_code == 0
    assert [path.name for path in tmp_path.rglob("*") if "lexiseg-benchmark" in path.name] == []
    assert not (tmp_path / "cache" / "text").exists(), "invented names do not get into a person's cache"


@pytest.mark.parametrize(("arguments", "said"), [
    (["--size", "500"], "500x375"), (["--size", "4x4"], "8x8"), (["--size", "20000x20000"], "million"),
    (["--classes", "1"], "2 to"), (["--classes", "5000"], "2 to"), (["--subclasses", "99"], "0 to"),
    (["--model", "missing"], "missing"), (["--refine", "sam"], "pydensecrf"), (["--preset", "mine"], "lexiseg"),
])
def test_what_cannot_be_measured_is_refused(lexiseg, models, arguments, said):
    result = lexiseg("benchmark", *SMALL, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_the_vocabulary_has_the_names_that_are_asked_for():
    vocabulary = invented_vocabulary(300, 7)
    assert len(vocabulary.classes) == 299
    assert vocabulary.background_words == ("background",)
    assert all(len(set(entry.subclasses)) == 7 for entry in vocabulary.classes)
    assert invented_vocabulary(2, 0).classes[0].subclasses == ()


def test_sizes_are_width_and_height():
    assert read_size("500x375") == (500, 375)
    with pytest.raises(SettingError):
        read_size("0500 x 375")


def test_the_photos_are_the_same_each_time(tmp_path):
    first, second = ([path.read_bytes() for path in save_photos(tmp_path / name, 2, 40, 30)] for name in "ab")
    assert first == second
    assert first[0] != first[1]
    with Image.open(tmp_path / "a" / "00000.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (40, 30))


def test_windows_are_counted_and_the_encoder_is_put_back():
    class Encoder:
        device = type("Device", (), {"type": "cpu"})()

        def encode_windows(self, windows, feedback=None):
            return len(windows)

    encoder = Encoder()
    with watched(encoder) as seen:
        assert encoder.encode_windows([np.zeros(1)] * 3, None) == 3
        encoder.encode_windows([np.zeros(1)] * 2)
    assert seen["windows"] == 5
    assert seen["seconds"] > 0
    assert "encode_windows" not in vars(encoder)
