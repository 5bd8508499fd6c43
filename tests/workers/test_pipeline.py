"""One bad picture never stops the rest, and no picture depends on its neighbours."""

from __future__ import annotations

import errno
import os
import signal
import threading
from contextlib import closing

import numpy as np
import pytest
import torch

from parsers.errors import Code, MissingPackageError, OutputError, SettingError
from parsers.vocabulary import Vocabulary
from vision.types import ScoreMap
from workers.inputs import find_inputs
from workers.outputs import PictureWriter
from workers.pipeline import finish, process

VOCABULARY = Vocabulary.from_names("red, green, blue")


def run(segmenter, photos, out, *, method="none", batch=2, workers=2, **options):
    items = find_inputs([str(photos)]).items
    writer = PictureWriter.of(out, VOCABULARY, overlay=options.get("overlay", False), confidence=False)
    return list(process(items, segmenter, VOCABULARY, writer, method=method, batch=batch, workers=workers))


def states(outcomes) -> dict[str, str]:
    return {outcome.result.name: outcome.result.code or outcome.result.state for outcome in outcomes}


EXPECTED = {"a.jpg": "done", "a.png": "done", "deep/b.png": "done", "deep/c.bmp": "done",
            "deep/cut.png": Code.IMAGE_TRUNCATED, "empty.jpg": Code.FILE_EMPTY, "nothing.png": "done-empty",
            "text.jpg": Code.NOT_AN_IMAGE}


@pytest.mark.parametrize("method", ["none", "pydensecrf"])
def test_each_picture_has_its_state_in_sorted_order(segmenter, photos, tmp_path, method):
    outcomes = run(segmenter, photos, tmp_path / "out", method=method)
    assert states(outcomes) == EXPECTED
    assert [outcome.result.name for outcome in outcomes] == sorted(EXPECTED)
    assert all(outcome.finish_s > 0 for outcome in outcomes if outcome.result.state == "done")


def test_the_colours_are_where_they_were_painted(segmenter, photos, tmp_path):
    from PIL import Image
    run(segmenter, photos, tmp_path / "out")
    labels_HW = np.asarray(Image.open(tmp_path / "out/masks/a.jpg.png"))
    assert labels_HW.shape == (32, 48)
    assert (labels_HW[:, :20] == 1).all() and (labels_HW[:, 28:] == 2).all()


@pytest.mark.parametrize(("batch", "workers"), [(1, 1), (3, 4), (100, 2)])
def test_results_do_not_depend_on_batch_and_workers(segmenter, photos, tmp_path, batch, workers):
    first = run(segmenter, photos, tmp_path / "one", overlay=True)
    second = run(segmenter, photos, tmp_path / "two", batch=batch, workers=workers, overlay=True)
    assert [outcome.result for outcome in first] == [outcome.result for outcome in second]
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


class Grumpy:
    """Fails for every batch that holds a picture of the given width."""

    def __init__(self, inner, width, error):
        self.inner, self.width, self.error = inner, width, error

    def score(self, samples):
        if any(sample.image_HW3.shape[1] == self.width for sample in samples):
            raise self.error
        return self.inner.score(samples)


@pytest.mark.parametrize(("error", "code"), [(RuntimeError("boom"), Code.INTERNAL),
                                             (MemoryError(), Code.OUT_OF_MEMORY)], ids=["internal", "memory"])
def test_a_picture_that_breaks_the_model_is_lost_alone(segmenter, photos, tmp_path, error, code):
    outcomes = run(Grumpy(segmenter, 41, error), photos, tmp_path / "out", batch=8)
    assert states(outcomes) == EXPECTED | {"deep/b.png": code}


class Narrow:
    """A model whose windows fit the GPU up to so many pictures."""

    def __init__(self, inner, fits):
        self.inner, self.fits, self.groups = inner, fits, []

    def score(self, samples):
        self.groups.append(len(samples))
        if len(samples) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.inner.score(samples)


def test_a_gpu_that_is_full_for_a_while_loses_no_picture(segmenter, photos, tmp_path):
    narrow = Narrow(segmenter, 1)
    assert states(run(narrow, photos, tmp_path / "out", batch=8)) == EXPECTED
    assert max(narrow.groups) > 1


def test_a_gpu_too_small_for_one_picture_stops_the_job(segmenter, photos, tmp_path):
    """It computes as many windows for one picture as for many, so the setting is at fault and no picture."""
    with pytest.raises(SettingError, match="batch_size"):
        run(Narrow(segmenter, 0), photos, tmp_path / "out", batch=8)


def test_an_error_that_concerns_all_pictures_ends_the_job(segmenter, photos, tmp_path):
    error = MissingPackageError(Code.PACKAGE_MISSING, "No x.", "", "Install x.")
    with pytest.raises(MissingPackageError):
        run(Grumpy(segmenter, 41, error), photos, tmp_path / "out")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("reader", "writer"))]


def test_a_model_that_returns_too_few_maps_is_noticed(segmenter, photos, tmp_path):
    class Short:
        def score(self, samples):
            return segmenter.score(samples)[:-1]

    assert set(states(run(Short(), photos, tmp_path / "out", batch=1)).values()) >= {Code.INTERNAL}


def test_a_picture_that_fails_after_its_overlay_leaves_no_file(segmenter, photos, tmp_path):
    out = tmp_path / "out"
    (out / "masks/a.png.png").mkdir(parents=True)
    outcomes = run(segmenter, photos, out, overlay=True)
    assert states(outcomes) == EXPECTED | {"a.png": Code.OUTPUT_UNWRITABLE}
    assert not (out / "overlays/a.png.jpg").exists() and (out / "overlays/a.jpg.jpg").exists()


def test_a_name_too_long_for_its_mask_fails_alone(segmenter, photos, tmp_path):
    name = "x" * 250 + ".png"
    (photos / name).write_bytes((photos / "a.png").read_bytes())
    outcomes = run(segmenter, photos, tmp_path / "out")
    assert states(outcomes) == EXPECTED | {name: Code.OUTPUT_UNWRITABLE}


def test_a_full_disk_ends_the_job_with_nothing_half_written(segmenter, photos, tmp_path, monkeypatch):
    left = [3]
    real = os.fsync

    def fsync(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OutputError) as caught:
        run(segmenter, photos, tmp_path / "out")
    assert caught.value.code == Code.DISK_FULL
    assert not list((tmp_path / "out").rglob("*.part")) and not list((tmp_path / "out").rglob(".*"))
    assert len(list((tmp_path / "out/masks").rglob("*.png"))) <= 3


def test_closing_early_ends_the_threads(segmenter, photos, tmp_path):
    items = find_inputs([str(photos)]).items
    writer = PictureWriter.of(tmp_path / "out", VOCABULARY, overlay=False, confidence=False)
    with closing(process(items, segmenter, VOCABULARY, writer, method="none", batch=1, workers=2)) as outcomes:
        next(outcomes)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("reader", "writer"))]


class Lethal(PictureWriter):
    """Kills its process at one picture, as the kernel does when memory runs out."""

    def write(self, name, image_HW3, label_map, *, image_sha256):
        if name == "a.png":
            os.kill(os.getpid(), signal.SIGKILL)
        return PictureWriter.write(self, name, image_HW3, label_map, image_sha256=image_sha256)


def test_a_picture_that_kills_its_process_is_lost_alone(segmenter, photos, tmp_path):
    items = find_inputs([str(photos)]).items
    plain = PictureWriter.of(tmp_path / "out", VOCABULARY, overlay=False, confidence=False)
    writer = Lethal(plain.out, plain.names, plain.colours)
    outcomes = list(process(items, segmenter, VOCABULARY, writer, method="pydensecrf", batch=8, workers=2))
    assert states(outcomes) == EXPECTED | {"a.png": Code.OUT_OF_MEMORY}
    assert not (tmp_path / "out/masks/a.png.png").exists()


class Concurrent:
    """Says that it may run in several threads, and notes which ran it with how many cores."""

    def __init__(self, inner):
        self.inner, self.prepared, self.seen = inner, [], []

    def prepare(self, vocabulary):
        self.prepared.append((threading.current_thread(), vocabulary))

    def score(self, samples):
        import torch
        torch.ones(1 << 16).sum()  # the number of threads is set when a thread first computes
        self.seen.append((threading.current_thread().name, torch.get_num_threads()))
        return self.inner.score(samples)


@pytest.fixture
def four_cores():
    import torch
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_cores")
def test_a_segmenter_that_allows_it_scores_in_two_threads_with_half_of_the_cores_each(segmenter, photos, tmp_path):
    import torch
    concurrent = Concurrent(segmenter)
    outcomes = run(concurrent, photos, tmp_path / "out", batch=1)
    assert states(outcomes) == EXPECTED and [o.result.name for o in outcomes] == sorted(EXPECTED)
    assert {name.rpartition("_")[0] for name, _ in concurrent.seen} == {"scorer"}
    assert {cores for _, cores in concurrent.seen} == {2}
    assert concurrent.prepared == [(threading.main_thread(), VOCABULARY)]
    assert torch.get_num_threads() == 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("reader", "writer", "scorer"))]


@pytest.mark.usefixtures("four_cores")
def test_an_error_of_a_scoring_thread_ends_the_job_when_it_concerns_all(segmenter, photos, tmp_path):
    import torch
    error = MissingPackageError(Code.PACKAGE_MISSING, "No x.", "", "Install x.")
    with pytest.raises(MissingPackageError):
        run(Concurrent(Grumpy(segmenter, 41, error)), photos, tmp_path / "out", batch=1)
    assert torch.get_num_threads() == 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("reader", "writer", "scorer"))]


CORES = []


class Noting(PictureWriter):
    """Notes with how many cores torch computes where pictures are refined."""

    def write(self, name, image_HW3, label_map, *, image_sha256):
        import torch
        torch.ones(1 << 16).sum()
        CORES.append(torch.get_num_threads())
        return PictureWriter.write(self, name, image_HW3, label_map, image_sha256=image_sha256)


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize("method", ["torch-crf", "pamr"])
def test_refinement_in_torch_takes_one_core_per_picture(segmenter, photos, tmp_path, method):
    CORES.clear()
    items = find_inputs([str(photos)]).items
    plain = PictureWriter.of(tmp_path / "out", VOCABULARY, overlay=False, confidence=False)
    writer = Noting(plain.out, plain.names, plain.colours)
    outcomes = list(process(items, segmenter, VOCABULARY, writer, method=method, batch=3, workers=2))
    assert states(outcomes) == EXPECTED and set(CORES) == {1}


@pytest.mark.usefixtures("four_cores")
def test_threads_keep_their_number_of_cores_whatever_others_set_before_they_compute():
    import torch

    from workers.pipeline import _use_cores
    told, go_on, seen = threading.Event(), threading.Event(), []

    def compute():
        _use_cores(3)
        told.set()
        go_on.wait(10)
        torch.ones(1 << 16).sum()
        seen.append(torch.get_num_threads())

    first, second = threading.Thread(target=compute), threading.Thread(target=_use_cores, args=(1,))
    first.start()
    assert told.wait(10)
    second.start()
    second.join()
    go_on.set()
    first.join()
    assert seen == [3]


def test_huge_pictures_are_waited_for_one_by_one(segmenter, tmp_path, paint, monkeypatch):
    import workers.pipeline as module
    for index in range(6):
        paint(tmp_path / "in" / f"{index}.png", "red", size=(100, 100))
    sizes = []

    class Watching:
        def score(self, samples) -> list[ScoreMap]:
            sizes.append(len(samples))
            return segmenter.score(samples)

    monkeypatch.setattr(module, "STAGE_PIXELS", 15_000)
    assert len(run(Watching(), tmp_path / "in", tmp_path / "out", batch=6)) == 6
    assert sizes == [2, 2, 2]


def test_finish_takes_what_it_needs_and_returns_a_value(segmenter, tmp_path):
    from vision.types import Sample
    image_HW3 = np.zeros((8, 8, 3), np.uint8)
    image_HW3[:, :, 0] = 255
    (score_map,) = segmenter.score([Sample(image_HW3=image_HW3, vocabulary=VOCABULARY)])
    writer = PictureWriter.of(tmp_path, VOCABULARY, overlay=False, confidence=False)
    written, seconds = finish("a.png", image_HW3, "0" * 64, score_map, "none", "cpu", writer)
    assert written.result.state == "done" and written.result.classes[0].area == 64 and seconds > 0
