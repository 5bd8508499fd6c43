"""`lexiseg parse` from the options to the output; what a text says is decided by a stand-in for the parser."""

import json
import sys

import pytest
from typer.testing import CliRunner

from parsers.priors import ObjectPrior, RelationPrior, ScenePriors
from service.parse import BATCH, scene_tree

DOGS = ScenePriors(
    text="two red dogs chase a ball under a tree, a ball, no cars",
    objects=(ObjectPrior(name="dogs", lemma="dog", count=2, attributes=("red", "big")), ObjectPrior(name="ball",
             lemma="ball"), ObjectPrior(name="tree", lemma="tree"), ObjectPrior(name="ball", lemma="ball")),
    relations=(RelationPrior(subject=0, predicate="chase", object=1), RelationPrior(subject=0, predicate="under",
                                                                                    object=2)),
    absent=("cars",))


@pytest.fixture
def reader(monkeypatch):
    """Reads every text as one object of that name; `asked` has the options, `batches` the texts."""
    class Reader:
        asked, batches = [], []

        def __init__(self, *options):
            self.asked.append(options)

        def read(self, texts):
            self.batches.append(texts)
            return [DOGS if text == DOGS.text else ScenePriors(
                text=text, objects=(ObjectPrior(name=text, lemma=text),) if text.strip() else ()) for text in texts]

    Reader.asked.clear()
    Reader.batches.clear()
    monkeypatch.setattr("service.parse.SceneReader", Reader)
    return Reader


def test_a_text_becomes_a_tree(lexiseg, reader):
    result = lexiseg("parse", DOGS.text)
    assert result.exit_code == 0
    assert [line.strip(" │├└─|`+-") for line in result.stdout.splitlines()] == [
        DOGS.text, "dogs (dog) x2: red, big", "chase > ball #2", "under > tree", "ball #2", "tree", "ball #4",
        "not there: cars"]
    assert "\x1b" not in result.stdout and result.stderr == ""


def test_a_long_text_is_shown_to_its_end(lexiseg, reader):
    text = " ".join(f"word{i}" for i in range(60))
    assert " ".join(lexiseg("parse", text).stdout.split()).startswith(f"{text} ")


def test_a_text_becomes_json(lexiseg, reader):
    assert ScenePriors.model_validate_json(lexiseg("parse", DOGS.text, "--json").stdout) == DOGS
    line = lexiseg("parse", DOGS.text, "--jsonl").stdout
    assert line.count("\n") == 1 and ScenePriors.model_validate_json(line) == DOGS


def test_nothing_found_is_said(lexiseg, reader):
    assert "nothing found" in lexiseg("parse", "").stdout
    assert json.loads(lexiseg("parse", "", "--json").stdout)["objects"] == []


def test_lines_of_a_file_in_order_with_empty_ones(lexiseg, reader, tmp_path):
    path = tmp_path / "captions.txt"
    path.write_bytes("\ufeffa dog\r\n\nсобака \u2028 犬\n{\"a\": 1}\nlast".encode())
    result = lexiseg("parse", "--file", path, "--jsonl")
    assert result.exit_code == 0 and result.stderr == ""
    texts = [json.loads(line)["text"] for line in result.stdout.removesuffix("\n").split("\n")]
    assert texts == ["a dog", "", "собака \u2028 犬", '{"a": 1}', "last"]


def test_a_long_file_is_read_in_batches(lexiseg, reader, tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("".join(f"dog {number}\n" for number in range(2 * BATCH + 1)))
    result = lexiseg("parse", "--file", path, "--jsonl")
    assert [len(texts) for texts in reader.batches] == [BATCH, BATCH, 1]
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == path.read_text().splitlines()


def test_an_empty_file_gives_nothing(lexiseg, reader, tmp_path):
    (tmp_path / "empty.txt").touch()
    result = lexiseg("parse", "--file", tmp_path / "empty.txt", "--jsonl")
    assert (result.exit_code, result.stdout) == (0, "") and reader.batches == []


def test_standard_input(lexiseg, reader):
    from service.cli import app

    result = CliRunner().invoke(app, ["parse", "--file", "-", "--jsonl"], input="a dog\na cat\n")
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["a dog", "a cat"]


def test_bytes_that_are_not_utf_8_are_replaced_and_told(lexiseg, reader, tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"a dog\ncaf\xe9\n" + "\ufffd\n".encode())
    result = lexiseg("parse", "--file", path, "--jsonl")
    assert result.exit_code == 0
    assert json.loads(result.stdout.splitlines()[1])["text"] == "caf\ufffd"
    assert "1 of 3 lines are not UTF-8" in result.stderr


def test_an_argument_of_other_bytes_is_no_error(lexiseg, reader):
    result = lexiseg("parse", "caf\udce9 \x1b[31m", "--json")
    assert json.loads(result.stdout)["text"] == "caf\ufffd \x1b[31m"
    assert "\x1b" not in lexiseg("parse", "caf\udce9 \x1b[31m").stdout


def test_a_file_without_jsonl_is_shown_as_trees(lexiseg, reader, tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text(f"{DOGS.text}\na dog\n")
    result = lexiseg("parse", "--file", path)
    assert "dogs (dog) x2" in result.stdout and "a dog" in result.stdout


@pytest.mark.parametrize(("options", "asked"), [
    ([], (None, None)), (["--head"], (None, True)), (["--rules"], (None, False)), (["--pipeline", "DIR"], ("DIR",
                                                                                                           None)),
])
def test_options_reach_the_reader(lexiseg, reader, options, asked):
    assert lexiseg("parse", "a dog", *options).exit_code == 0
    pipeline, use_head = reader.asked[0]
    assert (pipeline and str(pipeline), use_head) == asked


@pytest.mark.parametrize(("arguments", "part"), [
    (["parse"], "Neither TEXT nor --file"), (["parse", "a dog", "--file", "x"], "TEXT and --file"),
    (["parse", "--file", "x", "--json"], "--json and --file"), (["parse", "a", "--json", "--jsonl"],
                                                                "--json and --jsonl"),
])
def test_options_that_do_not_fit(lexiseg, reader, arguments, part):
    result = lexiseg(*arguments)
    assert result.exit_code == 2 and part in result.output and reader.batches == []


def test_a_file_that_cannot_be_read(lexiseg, reader, tmp_path):
    for path, code in ((tmp_path / "absent.txt", "file-missing"), (tmp_path, "file-unreadable")):
        result = lexiseg("parse", "--file", path, "--jsonl")
        assert result.exit_code == 2 and f"error [{code}]" in result.stderr and str(path) in result.stderr


def test_progress_counts_the_lines_of_a_file(lexiseg, reader, tmp_path, monkeypatch):
    """Standard output is a file then, and standard error the terminal."""
    import io

    from service.parse import count_lines

    path = tmp_path / "captions.txt"
    for content, lines in ((b"", 0), (b"a", 1), (b"a\n", 1), (b"a\nb", 2), (b"\n\n", 2)):
        path.write_bytes(content)
        with path.open("rb") as file:
            assert count_lines(file) == lines and file.read() == content
    seen = []

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("service.parse.progress", lambda *args, **options: Recorder(seen))
    path.write_text("a\nb\n")
    with path.open("rb") as file:
        monkeypatch.setattr(sys, "stderr", Terminal())
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        from service.parse import parse_lines

        parse_lines(file, reader(), jsonl=True)
    assert seen == [(2, 2)]


class Recorder:
    def __init__(self, seen):
        self.seen = seen

    def __enter__(self):
        return lambda done, total: self.seen.append((done, total))

    def __exit__(self, *error):
        return None


def test_a_tree_says_why_there_is_nothing_or_not_all():
    def last(**fields):
        return str(scene_tree(ScenePriors(text="x", **fields)).children[-1].label)

    assert last() == "nothing found" and last(reason="not-english") == "nothing found (not-english)"
    assert last(objects=DOGS.objects, reason="too-long") == "not all was read (too-long)"


def test_a_tree_of_odd_priors():
    odd = ScenePriors(text="[bold]x[/]\x1b", objects=(ObjectPrior(name="[red]", lemma="[red]"),))
    assert str(scene_tree(odd).label) == "[bold]x[/]\\x1b" and str(scene_tree(odd).children[0].label) == "[red]"
