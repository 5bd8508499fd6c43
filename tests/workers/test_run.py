"""A whole job, from folders to the report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

import workers.run
from parsers.errors import Code, InputError, OutputError, SettingError
from parsers.vocabulary import Vocabulary
from workers import read_job, read_results, run_job
from workers.schemas import SCHEMAS


def content(out: Path, *, without=("timings.jsonl",)) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*"))
            if path.is_file() and path.name not in without}


def test_a_job_from_folder_to_report(make_spec, segmenter):
    seen = []
    summary = run_job(make_spec(overlay=True, confidence=True), segmenter=segmenter, on_progress=seen.append)
    assert (summary.total, summary.done, summary.empty, summary.failed) == (8, 4, 1, 3)
    assert [result.name for result in summary.failures] == ["deep/cut.png", "empty.jpg", "text.jpg"]
    assert (seen[-1].done, seen[-1].failed, seen[-1].total, seen[-1].eta_s) == (5, 3, 8, 0)
    assert seen[-1].images_per_s > 0 and summary.images_per_s > 0
    assert summary.report.exists()
    good = ["a.jpg", "a.png", "deep/b.png", "deep/c.bmp", "nothing.png"]
    assert set(content(summary.out, without=())) == {
        "job.json", "vocabulary.yaml", "classes.json", "results.jsonl", "timings.jsonl", "report.html",
        *(f"masks/{name}.png" for name in good), *(f"overlays/{name}.jpg" for name in good),
        *(f"confidence/{name}.png" for name in good)}


def test_everything_written_fits_its_schema(make_spec, segmenter):
    out = run_job(make_spec(), segmenter=segmenter).out
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    for line in lines:
        jsonschema.validate(line, SCHEMAS["result"])
    jsonschema.validate(json.loads((out / "job.json").read_text()), SCHEMAS["job"])
    jsonschema.validate(json.loads((out / "classes.json").read_text()), SCHEMAS["classes"])
    assert [line["name"] for line in lines] == sorted(line["name"] for line in lines)
    timed = [json.loads(line) for line in (out / "timings.jsonl").read_text().splitlines()]
    assert [line["name"] for line in timed[:-1]] == [line["name"] for line in lines]
    assert timed[-1]["job"]["images"] == 8


def test_the_records_say_what_is_in_the_masks(make_spec, segmenter, photos):
    import hashlib
    out = run_job(make_spec(), segmenter=segmenter).out
    for result in read_results(out):
        if result.state == "failed":
            assert result.code and result.message and result.advice
            assert result.mask is None and not (out / "masks" / f"{result.name}.png").exists()
            continue
        labels_HW = np.asarray(Image.open(out / result.mask))
        assert labels_HW.shape == (result.height, result.width)
        areas = np.bincount(labels_HW.ravel())
        assert {found.id: found.area for found in result.classes} == {
            int(i): int(areas[i]) for i in np.flatnonzero(areas) if i}
        assert result.mask_sha256 == hashlib.sha256((out / result.mask).read_bytes()).hexdigest()
        assert result.image_sha256 == hashlib.sha256((photos / result.name).read_bytes()).hexdigest()
        assert sum(region.area for region in result.regions) == sum(found.area for found in result.classes)


def test_job_json_names_model_vocabulary_and_counts(make_spec, segmenter):
    spec = make_spec(preset="fast")
    job = read_job(run_job(spec, segmenter=segmenter).out)
    assert job.state == "done" and job.total == 8
    assert job.counts == {"done": 4, "done-empty": 1, "failed": 3}
    assert job.model.sha256 == segmenter.digest
    assert job.vocabulary.sha256 == spec.vocabulary.digest
    assert job.spec == spec.model_dump(mode="json", exclude={"vocabulary"})
    assert {"python", "numpy", "pillow"} <= set(job.versions)


def test_the_vocabulary_beside_the_masks_is_frozen(make_spec, segmenter):
    spec = make_spec()
    out = run_job(spec, segmenter=segmenter).out
    frozen = Vocabulary.load(out / "vocabulary.yaml")
    assert frozen.is_frozen and frozen.digest == spec.vocabulary.digest


def test_a_second_run_gives_the_same_bytes(make_spec, segmenter):
    spec = make_spec(overlay=True, confidence=True)
    out = run_job(spec, segmenter=segmenter).out
    first = content(out)
    run_job(spec, segmenter=segmenter)
    assert content(out) == first


def test_neighbours_batches_and_workers_change_no_byte(make_spec, segmenter, tmp_path, photos):
    first = content(run_job(make_spec(batch=1, workers=1), segmenter=segmenter).out)
    second = content(run_job(make_spec(batch=64, workers=3, out=str(tmp_path / "b")), segmenter=segmenter).out)
    assert {k: v for k, v in first.items() if k != "job.json"} == {k: v for k, v in second.items() if k != "job.json"}
    alone = run_job(make_spec(inputs=(str(photos / "a.jpg"),), out=str(tmp_path / "c")), segmenter=segmenter).out
    assert (alone / "masks/a.jpg.png").read_bytes() == first["masks/a.jpg.png"]
    assert (alone / "results.jsonl").read_bytes() == first["results.jsonl"].splitlines(keepends=True)[0]


def test_masks_of_an_earlier_job_do_not_stay(make_spec, segmenter, photos):
    out = run_job(make_spec(overlay=True), segmenter=segmenter).out
    (photos / "a.jpg").unlink()
    run_job(make_spec(), segmenter=segmenter)
    assert not (out / "masks/a.jpg.png").exists() and not (out / "overlays").exists()
    assert (out / "masks/a.png.png").exists()


def test_out_may_lie_in_the_input_folder(make_spec, segmenter, photos):
    spec = make_spec(out=str(photos / "out"), overlay=True)
    assert run_job(spec, segmenter=segmenter).total == run_job(spec, segmenter=segmenter).total == 8


def test_words_the_model_never_saw_are_said_in_job_and_report(make_spec, segmenter):
    summary = run_job(make_spec(vocabulary=Vocabulary.from_names("red, octarine")), segmenter=segmenter)
    assert "'octarine' is not a colour" in summary.warnings
    assert "'octarine' is not a colour" in read_job(summary.out).warnings
    assert "octarine&#39; is not a colour" in summary.report.read_text()


def test_an_unreadable_folder_is_in_the_records(make_spec, segmenter, nobody, photos, paint):
    paint(nobody.path / "in/a.png", "red")
    paint(nobody.path / "in/secret/b.png", "red")
    (nobody.path / "in/secret").chmod(0)
    with nobody.act():
        summary = run_job(make_spec(inputs=(str(nobody.path / "in"),), out=str(nobody.path / "out")),
                          segmenter=segmenter)
    assert (summary.total, summary.done) == (1, 1)
    assert [problem.code for problem in read_job(summary.out).unreadable_folders] == [Code.FOLDER_UNREADABLE]
    assert "secret" in summary.report.read_text()


def test_all_pictures_failed_is_still_a_job(make_spec, segmenter, photos):
    spec = make_spec(inputs=(str(photos / "empty.jpg"), str(photos / "missing.png")))
    summary = run_job(spec, segmenter=segmenter)
    assert (summary.total, summary.failed) == (2, 2)
    assert [result.code for result in summary.failures] == [Code.FILE_EMPTY, Code.FILE_MISSING]
    assert "There is no picture to show" in summary.report.read_text()


def test_nothing_is_written_when_there_is_nothing_to_do(make_spec, segmenter, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError):
        run_job(make_spec(inputs=(str(tmp_path / "none"),)), segmenter=segmenter)
    assert not (tmp_path / "out").exists()


def test_unknown_settings_are_refused_before_anything_is_written(make_spec, tmp_path):
    with pytest.raises(SettingError) as caught:
        run_job(make_spec(settings={"varient": "x"}))
    assert "varient" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_ctrl_c_leaves_whole_files_only(make_spec, segmenter, tmp_path, paint):
    for index in range(200):
        paint(tmp_path / "many" / f"{index:03}.png", "red", "blue", size=(128, 128))

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(make_spec(inputs=(str(tmp_path / "many"),)), segmenter=segmenter, on_progress=stop)
    check_stopped(tmp_path / "out", total=200)


def check_stopped(out: Path, *, total: int) -> None:
    assert not list(out.rglob("*.part")) and not (out / "results.jsonl").exists()
    assert read_job(out).state == "stopped" and read_job(out).error == "KeyboardInterrupt"
    masks = list((out / "masks").rglob("*.png"))
    assert 0 < len(masks) < total
    for mask in masks:
        Image.open(mask).load()


def test_a_full_disk_is_said_and_leaves_nothing_half_written(make_spec, segmenter, photos, tmp_path):
    """On a real file system of 128 KB where mounting is allowed; the pipeline's own test simulates one anywhere."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", small], capture_output=True)
    if mounted.returncode:
        return
    try:
        rng = np.random.default_rng(0)
        for index in range(12):
            Image.fromarray(rng.integers(0, 255, (300, 300, 3), dtype=np.uint8)).save(photos / f"noise{index}.png")
        with pytest.raises(OutputError) as caught:
            run_job(make_spec(out=str(small / "out"), overlay=True), segmenter=segmenter)
        assert caught.value.code == Code.DISK_FULL
        left = [path for path in (small / "out").rglob("*") if path.is_file()]
        assert not [path for path in left if path.suffix in (".part", ".jsonl") or path.name.startswith(".")]
        for path in left:
            if path.suffix in (".png", ".jpg"):
                Image.open(path).load()
        assert read_job(small / "out").state in ("stopped", "running")
    finally:
        subprocess.run(["umount", small], check=True)


SCRIPT = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("world", sys.argv[1])
world = importlib.util.module_from_spec(spec)
spec.loader.exec_module(world)
from workers import JobSpec, run_job
run_job(JobSpec.model_validate_json(sys.argv[2]), segmenter=world.ColourSegmenter(),
        on_progress=lambda progress: print(progress.done, flush=True))
"""


@pytest.mark.parametrize("method", ["none", "pydensecrf"])
def test_ctrl_c_at_a_terminal_reaches_every_process(make_spec, tmp_path, paint, method):
    for index in range(400):
        paint(tmp_path / "many" / f"{index:03}.png", "red", "blue", size=(256, 256))
    spec = make_spec(inputs=(str(tmp_path / "many"),), refine=method, overlay=True)
    world = Path(__file__).with_name("conftest.py")
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, world, spec.model_dump_json()], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert len(list((tmp_path / "out/masks").iterdir())) < 400, "what was under way is finished, the rest is dropped"
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    check_stopped(tmp_path / "out", total=400)


def test_names_that_differ_only_in_case_are_refused_where_the_masks_would_be_one_file(make_spec, segmenter, photos,
                                                                                       paint, monkeypatch, tmp_path):
    run_job(make_spec(), segmenter=segmenter)
    paint(photos / "A.png", "red")
    monkeypatch.setattr(workers.run, "ignores_case", lambda out: True)
    with pytest.raises(OutputError) as caught:
        run_job(make_spec(), segmenter=segmenter)
    assert caught.value.code == Code.OUTPUT_COLLISION
    assert (tmp_path / "out/results.jsonl").exists(), "the earlier job is left alone"
