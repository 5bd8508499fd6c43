import json
import os

import pytest

from parsers.documents import MAX_BYTES, document_bytes, read_document
from parsers.errors import Code, VocabularyError


def write(folder, text, name="words.yaml"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_yaml_is_read_as_json_is(tmp_path):
    path = write(tmp_path, "a: no\nb: 12\nc: 012\nd: 2026-11-21\ne: '7'\nf: true\ng: ~\nh: 1.5\ni: [1, {j: yes}]\nk:\n")
    assert read_document(path).value == {
        "a": "no", "b": 12, "c": "012", "d": "2026-11-21", "e": "7", "f": True, "g": None, "h": "1.5",
        "i": [1, {"j": "yes"}], "k": None}


def test_lines(tmp_path):
    text = "# top\nclasses:\n  - id: 1\n    words:\n      - a\n      - b\n  - id: 2\n"
    document = read_document(write(tmp_path, text))
    assert document.line(("classes",)) == 2
    assert document.line(("classes", 0, "id")) == 3
    assert document.line(("classes", 0, "words", 1)) == 6
    assert document.line(("classes", 1)) == 7
    assert document.line(("classes", 1, "name")) == 7, "what is missing stands where it should have been"
    assert document.line(("other",)) is None


def test_byte_order_mark_and_windows_line_ends(tmp_path):
    assert read_document(write(tmp_path, b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")).value == {"a": 1, "b": 2}
    assert read_document(write(tmp_path, b'\xef\xbb\xbf{"a": 1}\r\n', "words.json")).value == {"a": 1}


@pytest.mark.parametrize(("text", "parts"), [
    pytest.param("a: [1, 2", ["line 2", "column"], id="open bracket"),
    pytest.param("a: 1\n\tb: 2", ["line 2"], id="tab"),
    pytest.param("a: 1\nb: 2\na: 3", ["line 3", "'a' is given twice"], id="duplicated key"),
    pytest.param("x:\n  - {a: 1, a: 2}", ["line 2", "'a' is given twice"], id="duplicated key inside"),
    pytest.param("a: &x 1\nb: *x", ["line 1", "anchors"], id="anchor"),
    pytest.param("a: &x [*x]", ["anchors"], id="endless anchor"),
    pytest.param("a: *x", ["line 1"], id="alias of nothing"),
    pytest.param("a: !!python/object/apply:os.system [ls]", ["tag"], id="tag"),
    pytest.param("a: !!str 1", ["tag"], id="harmless tag"),
    pytest.param("a: 1\n---\nb: 2", ["line 2", "second document"], id="two documents"),
    pytest.param("? [a]\n: 1", ["key must be a word"], id="list as key"),
    pytest.param("[" * 100_000, ["levels of nesting"], id="deep"),
    pytest.param("a: \x00", ["words.yaml"], id="null character"),
    pytest.param(b"a: 1\nb: caf\xe9\n", ["line 2", "0xe9", "UTF-8", "iconv"], id="Latin-1"),
    pytest.param("a: 1\n".encode("utf-16"), ["UTF-8"], id="UTF-16"),
])
def test_refused_yaml_names_file_place_and_next_command(tmp_path, text, parts):
    path = write(tmp_path, text)
    with pytest.raises(VocabularyError) as caught:
        read_document(path)
    message = str(caught.value)
    assert caught.value.code is Code.VOCABULARY_INVALID
    assert str(path) in message and (f"lexiseg vocabulary check {path}" in message or "iconv" in message)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(("text", "part"), [
    ('{"a": 1', "line 1, column"), ('{"a": 1, "a": 2}', "'a' is given twice"), ('{"a": NaN}', "NaN"),
    ("[" * 100_000, "nested too deeply"), ("", "line 1"),
])
def test_refused_json(tmp_path, text, part):
    path = write(tmp_path, text, "words.json")
    with pytest.raises(VocabularyError) as caught:
        read_document(path)
    assert part in str(caught.value) and str(path) in str(caught.value)


def test_json_may_be_indented_with_tabs(tmp_path):
    assert read_document(write(tmp_path, '{\n\t"a": [1]\n}', "words.json")).value == {"a": [1]}


def test_empty_yaml_is_nothing(tmp_path):
    assert read_document(write(tmp_path, "# only a comment\n")).value is None


def test_other_suffix_missing_file_folder_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    cases = {write(tmp_path, "a", "words.txt"): ".yaml, .yml, .json", tmp_path / "absent.yaml": "cannot be read",
             tmp_path / "folder.yaml": "not a file", tmp_path / "pipe.yaml": "not a file",
             tmp_path / ("x" * 300 + ".yaml"): "cannot be read"}
    for path, part in cases.items():
        with pytest.raises(VocabularyError) as caught:
            read_document(path)
        assert part in str(caught.value)


def test_huge_file_is_refused_before_it_is_read_whole(tmp_path):
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(VocabularyError, match="larger than 16 MiB"):
        read_document(path)


def test_document_bytes_are_for_people(tmp_path):
    value = {"format_version": 1, "classes": [{"id": 1, "name": "犬", "subclasses": ["no", "7", "a, b"]}]}
    text = document_bytes(tmp_path / "a.yaml", value, "one\ntwo").decode()
    assert text == ("# one\n# two\nformat_version: 1\nclasses:\n  - id: 1\n    name: 犬\n"
                    "    subclasses: ['no', '7', 'a, b']\n")
    assert read_document(write(tmp_path, text)).value == value
    assert json.loads(document_bytes(tmp_path / "a.json", value, "one")) == value
    with pytest.raises(VocabularyError, match=r"\.yaml"):
        document_bytes(tmp_path / "a.toml", value, "")
