"""An export as a whole: whole or absent, the same every time, and clear about what it cannot do."""

import errno
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from parsers.errors import Code, DatasetError, LexisegError, OutputError, SettingError
from parsers.files import sha256_bytes
from parsers.vocabulary import Vocabulary
from tests.workers.exports import examples
from tests.workers.exports.readers import read_coco, read_label_studio
from workers.drawing import encode_mask
from workers.exports import FORMATS, export_job, label_studio
from workers.exports.target import building
from workers.schemas import SCHEMAS


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def edit_results(out, change):
    """change(list of lines as objects) in place."""
    lines = [json.loads(line) for line in (out / "results.jsonl").read_bytes().splitlines()]
    change(lines)
    (out / "results.jsonl").write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))


@pytest.fixture
def out(make_out):
    return make_out({"a.png": np.array([[1, 0], [2, 2]]), "b/c.png": np.array([[3]])}, failed=("d.png",))


@pytest.mark.parametrize("format", FORMATS)
def test_two_exports_are_equal_to_the_byte_and_hold_only_what_is_announced(format, shapes_out, tmp_path):
    for name in ("one", "two"):
        export_job(shapes_out[0], format, tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    top = {path.name for path in (tmp_path / "one").iterdir()}
    assert top == {"export.json", *FORMATS[format].names}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_the_record_of_an_export(make_out, tmp_path):
    out = make_out({"a.png": np.array([[1, 0]]), "b.png": np.array([[0]])}, examples.TAXONOMY, failed=("c.png",))
    record = export_job(out, "coco", tmp_path / "to", unmatched="drop", per_class=True)
    written = json.loads((tmp_path / "to/export.json").read_text())
    assert written == record.model_dump(mode="json")
    jsonschema.Draft202012Validator(SCHEMAS["export"]).validate(written)
    assert (record.format, record.per_class, record.unmatched) == ("coco", True, "drop")
    assert record.categories == {1: "animal", 7: "thing's"} and record.dropped_classes == ("tree", "animal")
    assert (record.images, record.empty, record.left_out) == (2, 1, 1)


def test_coco_ids_areas_boxes_and_scores(make_out, tmp_path):
    out = make_out({"sub/a.jpg": examples.DONUT, "sub/b.jpg": np.array([[1, 0, 1]])})
    export_job(out, "coco", tmp_path / "to")
    coco = json.loads((tmp_path / "to/annotations.json").read_text())
    assert [image["id"] for image in coco["images"]] == [1, 2]
    assert [category["id"] for category in coco["categories"]] == [1, 2, 3]
    assert [found["id"] for found in coco["annotations"]] == [1, 2, 3, 4]
    assert [found["image_id"] for found in coco["annotations"]] == [1, 1, 2, 2]
    donut = coco["annotations"][0]
    assert donut["area"] == (examples.DONUT == 1).sum() != np.prod(donut["bbox"][2:])
    assert donut["bbox"] == [1, 1, 9, 7] and donut["iscrowd"] == 0
    results = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [found["score"] for found in coco["annotations"]] == [
        region["score"] for result in results for region in result["regions"]]


def test_the_score_of_a_category_is_the_mean_over_its_pixels(make_out, tmp_path):
    out = make_out({"a.png": np.array([[1, 2, 2, 2, 3]])}, examples.TAXONOMY)
    scores = {found["id"]: found["score"] for found in json.loads((out / "results.jsonl").read_text())["classes"]}
    export_job(out, "coco", tmp_path / "to", per_class=True)
    animal, tree = json.loads((tmp_path / "to/annotations.json").read_text())["annotations"]
    assert animal["score"] == pytest.approx((scores[1] + 3 * scores[2]) / 4, abs=1e-6) and tree["score"] == scores[3]


def test_parts_that_the_job_did_not_list_have_the_score_of_their_class(out, tmp_path):
    edit_results(out, lambda lines: [line.update(regions=[]) for line in lines])
    export_job(out, "coco", tmp_path / "to")
    found = json.loads((tmp_path / "to/annotations.json").read_text())["annotations"]
    results = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [entry["score"] for entry in found] == [entry["score"] for result in results for entry in result["classes"]]


def test_panoptic_parts_are_things_and_whole_classes_are_stuff(out, tmp_path):
    for per_class in (False, True):
        to = tmp_path / str(per_class)
        export_job(out, "panoptic", to, per_class=per_class)
        categories = json.loads((to / "panoptic.json").read_text())["categories"]
        assert {category["isthing"] for category in categories} == {int(not per_class)}


def test_label_studio_tasks_are_cut_into_files_and_point_to_the_pictures(make_out, tmp_path, monkeypatch):
    monkeypatch.setattr(label_studio, "TASKS_PER_FILE", 2)
    out = make_out({f"{number} x.png": np.array([[1]]) for number in range(5)})
    export_job(out, "label-studio", tmp_path / "to", image_prefix="/data/local-files/?d=photos/")
    files = sorted((tmp_path / "to/tasks").iterdir())
    assert [(path.name, len(json.loads(path.read_text()))) for path in files] == [
        ("00001.json", 2), ("00002.json", 2), ("00003.json", 1)]
    first = json.loads(files[0].read_text())[0]
    assert first["data"] == {"image": "/data/local-files/?d=photos/0%20x.png", "name": "0 x.png"}
    assert first["predictions"][0]["model_version"] == "tiny " + "ab" * 6
    assert 0 <= first["predictions"][0]["score"] <= 1


def test_label_studio_reads_its_own_default_address(out, tmp_path):
    export_job(out, "label-studio", tmp_path / "to")
    assert sorted(read_label_studio(tmp_path / "to")) == ["a.png", "b/c.png"]


def test_yolo_names_the_pictures_that_share_a_label_file(make_out, tmp_path):
    pixel = np.array([[1]])
    out = make_out({name: pixel for name in ("a.jpg", "a.png", "a.png.webp", "b/a.jpg", "c.jpg")})
    export_job(out, "yolo", tmp_path / "to")
    assert json.loads((tmp_path / "to/renames.json").read_text()) == [
        {"picture": "a.png", "rename_to": "a.png.png"}, {"picture": "a.png.webp", "rename_to": "a.png.webp.webp"}]
    assert sorted(contents(tmp_path / "to/labels")) == ["a.png.txt", "a.png.webp.txt", "a.txt", "b/a.txt", "c.txt"]


def test_an_earlier_export_is_replaced_as_a_whole(make_out, tmp_path):
    to = tmp_path / "to"
    export_job(make_out({"a.png": np.array([[1]]), "b.png": np.array([[1]])}), "png", to)
    export_job(make_out({"b.png": np.array([[2]])}), "png", to)
    assert sorted(contents(to)) == ["classes.json", "export.json", "masks/b.png.png"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_empty_folder_and_missing_parents_are_fine(out, tmp_path):
    (tmp_path / "empty").mkdir()
    for to in (tmp_path / "empty", tmp_path / "new" / "deep"):
        export_job(out, "coco", to)
        assert (to / "annotations.json").exists() and to.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("prepare", [
    pytest.param(lambda to, out: (to.mkdir(), (to / "notes.txt").touch()), id="other files"),
    pytest.param(lambda to, out: to.touch(), id="a file"),
    pytest.param(lambda to, out: to.symlink_to(out), id="a link"),
    pytest.param(lambda to, out: shutil.copytree(out, to), id="a job"),
    pytest.param(lambda to, out: export_job(out, "coco", to), id="an export of another format"),
    pytest.param(lambda to, out: (export_job(out, "yolo", to), (to / "images").mkdir()), id="pictures beside labels"),
    pytest.param(lambda to, out: (to.mkdir(), (to / "data.yaml").touch()), id="no export"),
])
def test_a_place_that_holds_something_else_is_refused_and_left_alone(prepare, out, tmp_path):
    to = tmp_path / "to"
    prepare(to, out)
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="--to") as caught:
        export_job(out, "yolo", to)
    assert caught.value.code == Code.OUTPUT_COLLISION and contents(tmp_path) == before


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_left_of_an_export_that_fails_in_the_middle(format, make_out, tmp_path):
    out = make_out({"a.png": np.array([[1]]), "b.png": np.array([[2]])})
    to = tmp_path / "place" / "to"
    export_job(out, format, to)
    before = contents(tmp_path / "place")
    (out / "masks/b.png.png").unlink()
    with pytest.raises(DatasetError, match=r"b\.png\.png cannot be read"):
        export_job(out, format, to)
    assert contents(tmp_path / "place") == before and os.listdir(tmp_path / "place") == ["to"]


def test_a_full_disk_leaves_the_earlier_export(out, tmp_path, monkeypatch):
    to = tmp_path / "place" / "to"
    export_job(out, "coco", to)
    before = contents(tmp_path / "place")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError) as caught:
        export_job(out, "coco", to)
    assert caught.value.code == Code.DISK_FULL
    assert contents(tmp_path / "place") == before and os.listdir(tmp_path / "place") == ["to"]


def test_ctrl_c_leaves_nothing(out, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_job(out, "coco", tmp_path / "place" / "to", on_progress=stop)
    assert os.listdir(tmp_path / "place") == []


def test_what_a_dead_export_left_is_removed_and_what_a_living_one_writes_is_not(out, tmp_path):
    to = tmp_path / "place" / "to"
    with building(to, FORMATS["coco"].names) as living:
        dead = living.with_name(living.name.replace(".part", "dead.part"))
        dead.mkdir()
        (dead / "annotations.json").write_text("{")
        export_job(out, "coco", to)
        assert living.exists() and not dead.exists()
        (living / "export.json").write_text("{}")
    assert contents(tmp_path / "place") == {"to/export.json": b"{}"}


@pytest.mark.integration
def test_a_killed_export_leaves_no_trace_after_the_next(out, tmp_path):
    to = tmp_path / "place" / "to"
    code = ("import os, pathlib, signal, sys\nfrom workers.exports import export_job\n"
            "export_job(pathlib.Path(sys.argv[1]), 'coco', pathlib.Path(sys.argv[2]),"
            " on_progress=lambda done, total: os.kill(os.getpid(), signal.SIGKILL))")
    done = subprocess.run([sys.executable, "-c", code, out, to], check=False, timeout=300,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    assert done.returncode == -signal.SIGKILL
    assert [name.endswith(".part") for name in os.listdir(tmp_path / "place")] == [True]
    export_job(out, "coco", to)
    assert os.listdir(tmp_path / "place") == ["to"] and len(read_coco(to)) == 2


def test_progress_counts_pictures(out, tmp_path):
    seen = []
    export_job(out, "png", tmp_path / "to", on_progress=lambda *now: seen.append(now))
    assert seen == [(1, 2), (2, 2)]


@pytest.fixture(scope="module")
def few_and_many(tmp_path_factory):
    """Jobs of 10 and of 250 equal pictures."""
    mask = np.pad([[1, 2], [0, 3]], 2)
    root = tmp_path_factory.mktemp("jobs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        return [examples.write_out(root / str(count), {f"{number:03d}.png": mask for number in range(count)})
                for count in (10, 250)]


@pytest.mark.parametrize("format", FORMATS)
def test_memory_does_not_grow_with_the_number_of_pictures(format, few_and_many, tmp_path, monkeypatch):
    """240 pictures more, each some 500 bytes as text; measured from the first picture on."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    few, many = few_and_many
    peaks: list[int] = []

    def look(done: int, total: int) -> None:
        gc.collect(1)  # what is held counts, not what waits to be collected
        if done == 1:
            tracemalloc.reset_peak()

    for out in (many, few, many):  # the first warms up what is cached, and what Python keeps for re-use
        tracemalloc.start()
        export_job(out, format, tmp_path / f"to{len(peaks)}", on_progress=look)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # the buffers of files are not yet full in the small job; all annotations, be it as text, take 120,000 bytes
    assert peaks[2] < peaks[1] + 60_000, peaks


@pytest.mark.parametrize(("options", "message"), [
    ({"format": "voc"}, "One of: coco, panoptic, png, yolo, label-studio, cvat"),
    ({"format": "png", "per_class": True}, "It goes with coco, panoptic, label-studio, cvat"),
    ({"format": "yolo", "per_class": True}, "Leave --per-class out"),
    ({"format": "coco", "image_prefix": "/x/"}, "It goes with label-studio"),
    ({"format": "coco", "unmatched": "guess"}, "One of: keep, drop, error"),
    ({"format": "coco", "unmatched": "error"}, "3 of 3 classes have no maps_to: 'dog', 'cat', 'tree'"),
    ({"format": "coco", "unmatched": "drop"}, "which is everything"),
])
def test_options_that_do_not_fit_are_refused(options, message, out, tmp_path):
    with pytest.raises(SettingError, match=message):
        export_job(out, to=tmp_path / "to", **options)
    assert not (tmp_path / "to").exists()


def test_error_lets_a_complete_mapping_pass(make_out, tmp_path):
    classes = [{"id": 3, "name": "b", "maps_to": "y"}, {"id": 1, "name": "a", "maps_to": "x"}]
    out = make_out({"a.png": np.array([[1, 3]])}, Vocabulary.model_validate({"classes": classes}))
    assert export_job(out, "coco", tmp_path / "to", unmatched="error").categories == {1: "x", 3: "y"}


def set_job(**changes):
    def change(out):
        job = json.loads((out / "job.json").read_text()) | changes
        (out / "job.json").write_text(json.dumps(job))
    return change


def set_mask(data, **changes):
    """Another file as the mask of a.png, with a digest that fits."""
    def change(out):
        (out / "masks/a.png.png").write_bytes(data)
        edit_results(out, lambda lines: lines[0].update(mask_sha256=sha256_bytes(data), **changes))
    return change


def results(change):
    return lambda out: edit_results(out, change)


@pytest.mark.parametrize(("harm", "message"), [
    pytest.param(shutil.rmtree, "is not the folder of a job", id="no folder"),
    pytest.param(lambda out: (out / "job.json").unlink(), "is not the folder of a job", id="no job.json"),
    pytest.param(lambda out: (out / "job.json").write_text("{}"), "not the description of a job", id="other job.json"),
    pytest.param(set_job(state="running"), "is not finished: job.json says 'running'", id="running"),
    pytest.param(set_job(state="stopped", error="No space left."), r"'stopped' \(No space left.\)", id="stopped"),
    pytest.param(set_job(total=4), "has 3 lines, job.json tells of 4 pictures", id="fewer lines"),
    pytest.param(lambda out: (out / "vocabulary.yaml").unlink(), "vocabulary.yaml", id="no vocabulary"),
    pytest.param(lambda out: Vocabulary.from_names("x, y").save(out / "vocabulary.yaml"), "is not the vocabulary",
                 id="another vocabulary"),
    pytest.param(lambda out: (out / "results.jsonl").unlink(), "results.jsonl cannot be read", id="no results"),
    pytest.param(lambda out: (out / "results.jsonl").write_bytes((out / "results.jsonl").read_bytes()[:-9]),
                 "line 3, is not a result", id="cut results"),
    pytest.param(results(lambda lines: lines.reverse()), "names are sorted", id="unsorted"),
    pytest.param(results(lambda lines: lines.insert(0, lines[0])), "names are sorted", id="twice"),
    pytest.param(results(lambda lines: lines[0].update(name="../a.png", mask="masks/../a.png.png")),
                 "not a path below", id="upward"),
    pytest.param(results(lambda lines: lines[0].update(name="/a.png", mask="masks//a.png.png")), "not a path below",
                 id="absolute"),
    pytest.param(results(lambda lines: lines[0].update(mask="masks/other.png")), "no mask or no size", id="no mask"),
    pytest.param(results(lambda lines: lines[0].update(width=None)), "no mask or no size", id="no size"),
    pytest.param(lambda out: (out / "masks/a.png.png").unlink(), "cannot be read", id="mask missing"),
    pytest.param(lambda out: (out / "masks/a.png.png").write_bytes(b""), "was changed after the job", id="changed"),
    pytest.param(set_mask(b"no PNG"), "is not a readable PNG", id="no PNG"),
    pytest.param(set_mask(encode_mask(np.ones((2, 2)), {1: (0, 0, 0)}), width=3), "is not 3x2", id="another size"),
    pytest.param(set_mask(encode_mask(np.full((2, 2), 9), {1: (0, 0, 0)})), r"the ids \[9\], which no class has",
                 id="unknown id"),
])
@pytest.mark.parametrize("format", ["coco"])
def test_a_folder_that_is_not_a_whole_finished_job_is_refused(format, harm, message, out, tmp_path):
    harm(out)
    with pytest.raises(LexisegError, match=message) as caught:
        export_job(out, format, tmp_path / "place" / "to")
    assert caught.value.next_step
    assert not (tmp_path / "place").exists() or os.listdir(tmp_path / "place") == []


def test_a_place_without_the_right_to_write(out, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Choose another --to") as caught:
        export_job(out, "coco", Path(tmp_path, "file", "to"))
    assert caught.value.code == Code.OUTPUT_UNWRITABLE
