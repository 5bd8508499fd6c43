"""Manifests: what they may say, and every way in which they may not."""

from __future__ import annotations

import pytest

from parsers.errors import Code, InputError
from workers.manifests import read_manifest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data/a").mkdir(parents=True)
    for name in ("a/1.jpg", "a/ü 2.jpg", "b.png"):
        (tmp_path / "data" / name).write_bytes(b"x")
    return tmp_path / "data"


def names(path) -> list[str]:
    return [item.name for item in read_manifest(path)]


@pytest.mark.parametrize(("name", "text"), [
    ("m.jsonl", '{"path": "a/1.jpg", "note": 3}\n\n"a/ü 2.jpg"\n{"path": "b.png"}'),
    ("m.csv", 'id,path\n1,a/1.jpg\n2,"a/ü 2.jpg"\n\n3,b.png\n'),
    ("m.csv", "\ufeffpath\r\na/1.jpg\r\na/ü 2.jpg\r\nb.png\r\n"),
], ids=["jsonl", "csv", "csv of a spreadsheet"])
def test_paths_are_read_in_order(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8", newline="")
    assert names(folder / name) == ["a/1.jpg", "a/ü 2.jpg", "b.png"]
    assert [item.path.exists() for item in read_manifest(folder / name)] == [True] * 3


def test_a_missing_file_and_a_second_mention_are_no_error_here(folder):
    (folder / "m.jsonl").write_text('"gone.png"\n"b.png"\n"./b.png"\n')
    assert names(folder / "m.jsonl") == ["gone.png", "b.png", "b.png"]


@pytest.mark.parametrize(("line", "word"), [
    ('"/etc/passwd"', "absolute"), ('"../b.png"', "leaves"), ('"a/../../b.png"', "leaves"), ('"."', "leaves"),
    ('""', "empty"), (r'"a\u0000.png"', "NUL"), (r'"a\\1.jpg"', "Windows"), ('"C:/a.jpg"', "Windows"),
    (r'"\ud800.png"', "cannot be the name"), ("{}", "path"), ('{"path": 3}', "path"), ("[1]", "path"),
    ("{", "JSON"), ("[" * 50_000, "JSON"), ('"' + "a" * 10_000_000 + '"', "longer"),
    (b'"\xff.png"', "UTF-8"), ('"out.png"', "link"),
], ids=lambda value: str(value)[:20])
def test_what_cannot_be_meant_names_its_line(folder, line, word):
    (folder / "out.png").symlink_to("/etc/passwd")
    (folder / "m.jsonl").write_bytes(b'"b.png"\n' + (line if isinstance(line, bytes) else line.encode()) + b"\n")
    with pytest.raises(InputError) as caught:
        names(folder / "m.jsonl")
    assert caught.value.code == Code.MANIFEST_INVALID
    assert word in caught.value.given and "Line 2 of" in caught.value.given and caught.value.next_step
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("text", ["name\nb.png\n", "id,path\n1\n", 'path\n"b.png', "path\n" + "a" * 10_000_000,
                                  'path\n"' + "a\n" * 200_000, "path\nb.png\nC:\\b.png\n"],
                         ids=["no column", "too few columns", "an open quote", "a line of 10 MB",
                              "an open quote over 200,000 lines", "a path of Windows"])
def test_bad_csv(folder, text):
    (folder / "m.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        names(folder / "m.csv")
    assert caught.value.code == Code.MANIFEST_INVALID


def test_a_manifest_that_is_not_there(folder):
    with pytest.raises(InputError) as caught:
        names(folder / "none.jsonl")
    assert caught.value.code == Code.FILE_MISSING


def test_lines_are_read_one_by_one(folder):
    (folder / "m.jsonl").write_text('"b.png"\n"../x"\n')
    assert next(read_manifest(folder / "m.jsonl")).name == "b.png"
