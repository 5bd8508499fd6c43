"""`lexiseg vocabulary` on files as people write them."""

import pytest

from parsers.vocabulary import Vocabulary

TEXT = """\
classes:
- {id: 3, name: dog, synonyms: [hound], subclasses: [poodle, beagle], color: "#ff0000"}
- {id: 1, name: cat, parent: dog, maps_to: feline}
background: [wall]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "animals.yaml"
    path.write_text(TEXT)
    return path


def test_check(lexiseg, file):
    result = lexiseg("vocabulary", "check", file)
    assert result.exit_code == 0
    assert "2 classes, 2 subclasses, 1 background words" in result.stdout
    assert Vocabulary.load(file).digest in result.stdout


def test_check_warns_of_what_looks_unintended(lexiseg, file):
    file.write_text("classes:\n- {id: 1, name: t-shirt}\n- {id: 2, name: t shirt}\n")
    result = lexiseg("vocabulary", "check", file)
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ")


@pytest.mark.parametrize("text", ["classes: []", "[]", "", "classes:\n- {id: 1, name: dog, colour: red}", "{",
                                  "classes:\n- {id: 1, name: dog}\n- {id: 1, name: cat}"])
@pytest.mark.parametrize("command", ["check", "show", "freeze"])
def test_what_cannot_be_used_is_refused(lexiseg, file, command, text):
    file.write_text(text)
    result = lexiseg("vocabulary", command, file)
    assert file.read_text() == text
    assert result.exit_code == 2
    assert "error [vocabulary-invalid]" in result.stderr or "error [class-name-invalid]" in result.stderr
    assert str(file) in result.stderr


def test_show(lexiseg, file):
    result = lexiseg("vocabulary", "show", file)
    assert result.exit_code == 0
    assert all(word in result.stdout for word in ("dog", "hound", "poodle, beagle", "feline", "background: wall"))
    assert "\x1b" not in result.stdout


def test_freeze_and_change(lexiseg, file):
    assert lexiseg("vocabulary", "freeze", file).exit_code == 0
    assert "(frozen)" in lexiseg("vocabulary", "check", file).stdout
    file.write_text(file.read_text().replace("poodle", "terrier"))
    result = lexiseg("vocabulary", "check", file)
    assert result.exit_code == 2
    assert "frozen" in result.stderr


def test_freezing_a_changed_frozen_file_accepts_the_change(lexiseg, file):
    """The error of a changed file says so."""
    lexiseg("vocabulary", "freeze", file)
    file.write_text(file.read_text().replace("poodle", "terrier"))
    result = lexiseg("vocabulary", "freeze", file)
    assert result.exit_code == 0, result.stderr
    assert "(frozen)" in lexiseg("vocabulary", "check", file).stdout


def test_freeze_into_a_copy(lexiseg, file, tmp_path):
    copy = tmp_path / "frozen.json"
    assert lexiseg("vocabulary", "freeze", file, "--out", copy).exit_code == 0
    assert file.read_text() == TEXT
    assert Vocabulary.load(copy).is_frozen
    assert Vocabulary.load(copy).digest == Vocabulary.load(file).digest
