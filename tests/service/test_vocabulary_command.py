"""`lexiseg vocabulary` on files as people write them."""

import json

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


def test_match_says_the_class_of_each_name(lexiseg, file):
    result = lexiseg("vocabulary", "match", file, "two poodles", "wall")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["'two poodles': class 3 'dog' (number, subclass 'poodle')",
                                          "'wall': the background (exact, background 'wall')"]
    unsure = lexiseg("vocabulary", "match", file, "dog", "dogs and cats", "no dog", "zebra")
    assert unsure.exit_code == 1
    assert "one of class 3 'dog'" in unsure.stdout and "'zebra': nothing." in unsure.stdout
    assert "It mentions class 3 'dog'." in unsure.stdout


def test_match_as_json(lexiseg, file):
    answer = json.loads(lexiseg("vocabulary", "match", file, "hounds", "zebra", "--json").stdout)
    assert answer["format_version"] == 1
    assert answer["matches"][0] == {
        "text": "hounds", "how": "number", "part": "hounds", "mentioned": [], "reason": "",
        "candidates": [{"class": {"id": 3, "name": "dog"}, "role": "synonym", "word": "hound"}]}
    assert answer["matches"][1]["how"] is None and answer["matches"][1]["reason"]


@pytest.fixture
def others(tmp_path):
    """A file that adds a class and a word, one that adds another class, and one that contradicts."""
    texts = {"more": "classes:\n- {id: 3, name: dog, subclasses: [pug]}\n- {id: 8, name: cow}\nbackground: [floor]\n",
             "third": "classes:\n- {id: 9, name: hen}\n", "clash": "classes:\n- {id: 1, name: pig}\n"}
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return {name: tmp_path / f"{name}.yaml" for name in texts}


def test_merge_writes_all_into_one_file(lexiseg, file, others, tmp_path):
    out = tmp_path / "all.yaml"
    result = lexiseg("vocabulary", "merge", file, others["more"], others["third"], "--out", out)
    assert result.exit_code == 0, result.output
    merged = Vocabulary.load(out)
    assert merged.names == {3: "dog", 1: "cat", 8: "cow", 9: "hen"}
    assert merged.classes[0].subclasses == ("poodle", "beagle", "pug") and merged.background == ("wall", "floor")
    assert merged.digest in result.stdout and file.read_text() == TEXT


def test_merge_refuses_what_contradicts_and_writes_nothing(lexiseg, file, others, tmp_path):
    result = lexiseg("vocabulary", "merge", file, others["clash"], "--out", tmp_path / "all.yaml")
    assert result.exit_code == 2 and not (tmp_path / "all.yaml").exists()
    assert "error [vocabulary-conflict]" in result.stderr
    assert "class 1 'cat'" in result.stderr and "class 1 'pig'" in result.stderr


def test_diff_shows_what_is_different(lexiseg, file, others):
    same = lexiseg("vocabulary", "diff", file, file)
    assert (same.exit_code, same.stdout) == (0, "The same.\n")
    result = lexiseg("vocabulary", "diff", file, others["more"])
    assert result.exit_code == 1
    assert "- class 1 'cat'" in result.stdout and "+ class 8 'cow'" in result.stdout
    assert "~ class 3 'dog': subclasses without 'poodle', 'beagle', with 'pug'" in result.stdout


def test_diff_as_json(lexiseg, file, others):
    answer = json.loads(lexiseg("vocabulary", "diff", file, others["more"], "--json").stdout)
    assert answer["format_version"] == 1 and answer["same"] is False
    assert answer["added"] == [{"id": 8, "name": "cow"}] and answer["removed"] == [{"id": 1, "name": "cat"}]
    assert {"class": {"id": 3, "name": "dog"}, "field": "subclasses", "before": ["poodle", "beagle"],
            "after": ["pug"]} in answer["changed"]
