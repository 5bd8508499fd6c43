"""Files of a job: whole or absent."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest

from parsers.errors import Code, InputError, OutputError
from parsers.vocabulary import Vocabulary
from vision.types import LabelMap, Region
from workers.outputs import (
    LineFile,
    PictureWriter,
    failure,
    ignores_case,
    prepare_out,
    refuse_equal_names,
    require_room,
    write_classes,
)

VOCABULARY = Vocabulary.from_names("dog, cat")


def label_map(labels) -> LabelMap:
    labels_HW = np.array(labels, np.uint16)
    return LabelMap(labels_HW=labels_HW, scores={int(i): 0.123456789 for i in np.unique(labels_HW) if i},
                    confidence_HW=np.ones(labels_HW.shape, np.float16),
                    regions=(Region(id=1, class_id=2, box=(0, 0, 2, 1), area=2, score=0.5),))


def write(out, labels, **options):
    writer = PictureWriter.of(out, VOCABULARY, overlay=options.get("overlay", False),
                              confidence=options.get("confidence", False))
    image_HW3 = np.zeros((*np.shape(labels), 3), np.uint8)
    return writer, writer.write("a/b.jpg", image_HW3, label_map(labels), image_sha256="0" * 64).result


def files(out) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def test_the_line_of_a_picture(tmp_path):
    _, result = write(tmp_path, [[0, 2, 2], [1, 2, 2]])
    assert result.state == "done" and (result.width, result.height) == (3, 2)
    assert [(found.id, found.name, found.area, found.score) for found in result.classes] == [
        (1, "dog", 1, 0.123457), (2, "cat", 4, 0.123457)]
    assert result.regions[0].box == (0, 0, 2, 1)
    assert result.mask == "masks/a/b.jpg.png" and (tmp_path / result.mask).exists()


def test_nothing_found_is_a_state_of_its_own(tmp_path):
    _, result = write(tmp_path, [[0, 0]])
    assert result.state == "done-empty" and result.classes == ()
    assert (tmp_path / "masks/a/b.jpg.png").exists()


def test_overlay_and_confidence_only_on_request(tmp_path):
    write(tmp_path, [[1]])
    assert files(tmp_path) == ["masks/a/b.jpg.png"]
    writer, _ = write(tmp_path, [[1]], overlay=True, confidence=True)
    assert files(tmp_path) == ["confidence/a/b.jpg.png", "masks/a/b.jpg.png", "overlays/a/b.jpg.jpg"]
    writer.remove("a/b.jpg")
    assert files(tmp_path) == []


def test_failures_explain_themselves():
    known = failure("a", InputError(Code.FILE_EMPTY, "It is empty.", "Bytes.", "Copy it again."))
    assert (known.code, known.message, known.advice) == (Code.FILE_EMPTY, "It is empty. Bytes.", "Copy it again.")
    assert failure("a", MemoryError()).code == Code.OUT_OF_MEMORY
    unknown = failure("a", ZeroDivisionError("x"))
    assert unknown.code == Code.INTERNAL and "ZeroDivisionError" in unknown.message


def test_an_earlier_job_is_replaced_and_only_that(tmp_path):
    (tmp_path / "job.json").write_text("{}")
    (tmp_path / "masks/old").mkdir(parents=True)
    (tmp_path / "masks/old/a.png").touch()
    (tmp_path / "results.jsonl").touch()
    (tmp_path / "ask.json").touch()
    (tmp_path / ".results123.part").touch()
    (tmp_path / "my notes.txt").touch()
    prepare_out(tmp_path)
    assert files(tmp_path) == ["job.json", "my notes.txt"]


def test_a_folder_that_is_no_job_is_not_touched(tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/mine.png").touch()
    with pytest.raises(OutputError) as caught:
        prepare_out(tmp_path)
    assert caught.value.code == Code.OUTPUT_COLLISION
    assert files(tmp_path) == ["masks/mine.png"]


def test_out_that_is_a_file(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(OutputError) as caught:
        prepare_out(tmp_path / "out")
    assert caught.value.code == Code.OUTPUT_UNWRITABLE


def test_classes_json(tmp_path):
    write_classes(tmp_path, VOCABULARY)
    assert json.loads((tmp_path / "classes.json").read_text()) == {
        "0": "background", "1": "dog", "2": "cat", "ignore_id": 255}


def test_line_file_appears_whole(tmp_path):
    with LineFile(tmp_path / "x.jsonl") as lines:
        lines.write({"b": 1, "a": "é"})
        assert not (tmp_path / "x.jsonl").exists()
    assert (tmp_path / "x.jsonl").read_text() == '{"a":"é","b":1}\n'
    assert files(tmp_path) == ["x.jsonl"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_line_file_leaves_nothing_when_stopped(tmp_path, error):
    with pytest.raises(error), LineFile(tmp_path / "x.jsonl") as lines:
        lines.write({})
        raise error
    assert files(tmp_path) == []


def test_line_file_on_a_full_disk(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError) as caught, LineFile(tmp_path / "x.jsonl") as lines:
        lines.write({})
    assert caught.value.code == Code.DISK_FULL
    assert files(tmp_path) == []


def test_ignored_pixels_are_no_class_of_the_picture(tmp_path):
    _, result = write(tmp_path, [[255, 255, 1], [0, 255, 1]])
    assert [(found.name, found.area) for found in result.classes] == [("dog", 2)]
    assert write(tmp_path, [[255, 0]])[1].state == "done-empty"


@pytest.mark.parametrize("names", [("a/B.png", "a/b.png"), ("\u00e9.png", "e\u0301.png"),
                                   ("\u00c9.png", "e\u0301.png")], ids=["case", "accents", "both"])
def test_names_that_some_disks_do_not_tell_apart(tmp_path, names):
    refuse_equal_names(["a.png", "ab.png", "a/b.png", "a.jpg", "stra\u00dfe.png", "strasse.png"], tmp_path)
    with pytest.raises(OutputError) as caught:
        refuse_equal_names(iter(["x.png", *names]), tmp_path)
    assert caught.value.code == Code.OUTPUT_COLLISION and "--out" in caught.value.next_step
    assert all(repr(name) in caught.value.given for name in names)


def test_whether_a_disk_tells_case_apart_is_tried_out(tmp_path, monkeypatch, nobody):
    assert not ignores_case(tmp_path) and not ignores_case(tmp_path / "not" / "there")
    assert list(tmp_path.iterdir()) == []
    (nobody.path / "closed").mkdir(mode=0o555)
    with nobody.act():
        assert not ignores_case(nobody.path / "closed")
    monkeypatch.setattr(os.path, "lexists", lambda path: True)
    assert ignores_case(tmp_path)


def test_room_is_asked_for_where_the_folder_will_be(tmp_path):
    require_room(tmp_path / "not" / "there", 0)
    with pytest.raises(OutputError) as caught:
        require_room(tmp_path / "not" / "there", 1e12)
    assert caught.value.code == Code.DISK_FULL and "LEXISEG_MIN_FREE_MB" in str(caught.value)
