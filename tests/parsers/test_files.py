import errno
import hashlib
import os

import pytest

from parsers import Code, OutputError
from parsers.files import canonical_json, pretty_json, sha256_bytes, sha256_file, write_atomic


def test_write_makes_folders_replaces_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_full_disk_keeps_the_old_file_and_no_part(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    write_atomic(path, b"old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError) as caught:
        write_atomic(path, b"new")
    assert caught.value.code is Code.DISK_FULL
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file.txt"]


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(OutputError) as caught:
        write_atomic(tmp_path / "out" / "file.txt", b"x")
    assert caught.value.code is Code.OUTPUT_UNWRITABLE and "--out" in str(caught.value)


def test_canonical_json_does_not_depend_on_order():
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode() == canonical_json({"a": "é", "b": 1})
    with pytest.raises(ValueError):
        canonical_json(float("nan"))


def test_pretty_json_keeps_the_order():
    assert pretty_json({"b": 1, "a": 2}) == b'{\n  "b": 1,\n  "a": 2\n}\n'


def test_digests(tmp_path):
    data = b"x" * 300_000
    (tmp_path / "f").write_bytes(data)
    assert sha256_file(tmp_path / "f") == sha256_bytes(data) == hashlib.sha256(data).hexdigest()
