"""`lexiseg demo` with a model that knows nothing: the way is what counts here."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service import demo
from vision.datasets import open_dataset
from vision.datasets.base import superclasses_of

REPOSITORY = Path(__file__).resolve().parents[2]
POCKET = REPOSITORY / "models" / "pocket"
WAYS = ("names", "superclasses", "superclasses-with-subclasses")


@pytest.fixture
def own_models(saved_models, tmp_path, monkeypatch):
    """Models and a list of subclasses: two of the dataset's own names for each super-class."""
    root = tmp_path / "models"
    (root / "pocket").mkdir(parents=True)
    (root / "pocket" / "clip").symlink_to(saved_models / "pocket" / "clip")
    members = {}
    for name, superclass in superclasses_of(open_dataset("pictograms:count=1")).items():
        members.setdefault(superclass, []).append(name)
    listed = [{"id": i, "name": superclass, "subclasses": [f"{name} kind" for name in names[:2]]}
              for i, (superclass, names) in enumerate(members.items(), start=1)]
    (root / "pocket" / "vocabularies").mkdir()
    (root / demo.SUBCLASSES).write_text(json.dumps({"classes": listed}))
    monkeypatch.setenv("LEXISEG_MODELS", str(root))
    return root


@pytest.mark.integration
def test_three_jobs_over_the_same_scenes_go_through_the_queue(lexiseg, own_models, tmp_path):
    out = tmp_path / "demo"
    result = lexiseg("demo", "--out", out)
    assert result.exit_code == 0, result.stderr
    for name in WAYS:
        assert len(list((out / name / "masks").iterdir())) == demo.SCENES >= 12
        assert len(list((out / name / "overlays").iterdir())) == demo.SCENES
        assert str(out / name / "report.html") in result.stdout
        assert (out / name / "report.html").exists()
        assert f"{name}: job " in result.stdout and f"done, {demo.SCENES} of {demo.SCENES} pictures" in result.stdout
    assert result.stdout.count("control") == 2
    plain, listed = [json.loads((out / name / "results.jsonl").read_text().splitlines()[0])["mask_sha256"]
                     for name in ("superclasses", "superclasses-with-subclasses")]
    assert plain != listed, "subclasses change the masks"
    assert len(json.loads((out / "coco/annotations.json").read_text())["images"]) == demo.SCENES
    dataset = open_dataset(f"folder:{out / 'scenes'}")
    assert len(dataset) == demo.SCENES and dataset.load(0)[0].shape[2] == 3
    assert len(json.loads((out / "scenes" / "captions.json").read_text())) == demo.SCENES


@pytest.mark.integration
def test_llmformer_stands_beside_clip_where_it_is_there(lexiseg, own_models, saved_llmformer, tmp_path):
    (own_models / "pocket" / "llmformer").symlink_to(saved_llmformer)
    for name in ("en_scene", "llava-phi2"):
        (own_models / "pocket" / name).symlink_to(POCKET / name)
    result = lexiseg("demo", "--out", tmp_path / "demo")
    assert result.exit_code == 0, result.stderr
    assert len(list((tmp_path / "demo" / "llmformer" / "masks").iterdir())) == demo.SCENES
    told = [json.loads(line) for line in (tmp_path / "demo" / "scenes" / "descriptions.jsonl").read_text().splitlines()]
    assert len(told) == demo.SCENES and {row["model_id"] for row in told} == {"pocket-llava-phi2"}
    assert all(row["priors"]["objects"] for row in told)
    assert json.loads((tmp_path / "demo" / "llmformer" / "job.json").read_text())["spec"]["backend"] == "llmformer"


@pytest.mark.integration
def test_ctrl_c_stops_every_process_and_the_next_demo_begins_anew(lexiseg, own_models, tmp_path):
    out = tmp_path / "demo"
    (tmp_path / "elsewhere").mkdir(mode=0o555)
    demo_process = subprocess.Popen(
        [sys.executable, "-c", "from service.cli import main; main()", "demo", "--out", str(out)], text=True,
        cwd=tmp_path / "elsewhere", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    try:
        deadline = time.monotonic() + 300
        while len(found := below(demo_process.pid)) < 3:
            assert demo_process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        demo_process.send_signal(signal.SIGINT)
        _, errors = demo_process.communicate(timeout=300)
    finally:
        demo_process.kill()
    assert demo_process.returncode == 130, errors
    assert [process for process in found if Path(f"/proc/{process}").exists()] == []
    assert lexiseg("demo", "--out", out).exit_code == 0


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(lexiseg, own_models, tmp_path):
    (tmp_path / "demo/names/masks").mkdir(parents=True)
    (tmp_path / "demo/names/masks/mine.png").write_text("mine")
    result = lexiseg("demo", "--out", tmp_path / "demo")
    assert result.exit_code == 2 and "[output-collision]" in result.stderr
    assert (tmp_path / "demo/names/masks/mine.png").read_text() == "mine"


def test_the_masks_of_the_demo_score_as_the_evaluation_scores_them(own_models, tmp_path):
    """The ground truth given back as a job's masks is all right."""
    dataset = open_dataset(f"pictograms:count=2,seed={demo.HELD_OUT_SEED}")
    demo.save_scenes(dataset, tmp_path / "scenes")
    (tmp_path / "job" / "masks").mkdir(parents=True)
    for i in range(2):
        made = tmp_path / "job" / "masks" / f"{demo.file_key(i)}.png.png"
        made.write_bytes((tmp_path / "scenes" / "labels" / f"{demo.file_key(i)}.png").read_bytes())
    (tmp_path / "job" / "classes.json").write_bytes((tmp_path / "scenes" / "classes.json").read_bytes())
    run = demo.score_job("truth", dataset, tmp_path / "job")
    assert run.scores.miou == 1
    assert run.control.miou < 0.5


def below(process: int) -> list[int]:
    """All processes that a process has started, and those have."""
    try:
        children = [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:  # it has ended
        return []
    return children + [deeper for child in children for deeper in below(child)]
