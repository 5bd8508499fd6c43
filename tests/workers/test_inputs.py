"""Which pictures a job works on, and what each is called."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from parsers.errors import Code, InputError
from workers.inputs import find_inputs


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def names(*inputs, out=None) -> list[str]:
    return [item.name for item in find_inputs([str(given) for given in inputs], out=out).items]


def code_of(*inputs, out=None) -> Code:
    with pytest.raises(InputError) as caught:
        find_inputs([str(given) for given in inputs], out=out)
    assert caught.value.next_step
    return caught.value.code


def test_a_folder_is_searched_to_any_depth_in_sorted_order(tmp_path):
    touch(tmp_path, "b.jpg", "a/z.PNG", "a/b/c.webp", "a.jpg", "a.png", "notes.txt", "B.tif", "noext")
    found = find_inputs([str(tmp_path)]).items
    assert [item.name for item in found] == ["B.tif", "a.jpg", "a.png", "a/b/c.webp", "a/z.PNG", "b.jpg"]
    assert all(item.path.is_file() for item in found)


def test_same_stem_stays_distinct(tmp_path):
    touch(tmp_path, "a.jpg", "a.png", "a.jpeg")
    assert names(tmp_path) == ["a.jpeg", "a.jpg", "a.png"]


def test_hidden_files_and_folders_are_left_out(tmp_path):
    touch(tmp_path, ".hidden.jpg", ".thumbs/a.jpg", "a.jpg", "._a.jpg")
    assert names(tmp_path) == ["a.jpg"]


def test_the_out_folder_is_left_out(tmp_path):
    touch(tmp_path, "a.jpg", "out/overlays/a.jpg.png", "outside/b.jpg")
    assert names(tmp_path, out=tmp_path / "out") == ["a.jpg", "outside/b.jpg"]
    assert names(tmp_path / "**/*.*", out=tmp_path / "out") == ["a.jpg", "outside/b.jpg"]


@pytest.mark.parametrize("given", ["out", "out/overlays", "out/overlays/a.jpg.png"])
def test_an_input_inside_out_is_refused(tmp_path, given):
    touch(tmp_path, "out/overlays/a.jpg.png")
    assert code_of(tmp_path / given, out=tmp_path / "out") == Code.OUTPUT_COLLISION


def test_a_file_reached_twice_counts_once(tmp_path):
    touch(tmp_path, "a.jpg", "sub/b.jpg")
    os.symlink(tmp_path, tmp_path.parent / f"{tmp_path.name}-link")
    assert names(tmp_path, tmp_path / "a.jpg", tmp_path, tmp_path / "sub", tmp_path / "*.jpg",
                 f"{tmp_path}-link", tmp_path / "sub" / ".." / "a.jpg") == ["a.jpg", "sub/b.jpg"]


def test_a_linked_file_is_a_file_of_its_own(tmp_path):
    touch(tmp_path, "a.jpg")
    os.symlink("a.jpg", tmp_path / "b.jpg")
    assert names(tmp_path) == ["a.jpg", "b.jpg"]


def test_two_roots_with_the_same_names_are_a_clear_error(tmp_path):
    touch(tmp_path, "one/a.jpg", "two/a.jpg")
    assert code_of(tmp_path / "one", tmp_path / "two") == Code.OUTPUT_COLLISION
    assert code_of(tmp_path / "one/a.jpg", tmp_path / "two/a.jpg") == Code.OUTPUT_COLLISION
    assert names(tmp_path) == names(tmp_path / "*/a.jpg") == ["one/a.jpg", "two/a.jpg"]


def test_two_roots_with_different_names(tmp_path):
    touch(tmp_path, "one/b.jpg", "two/a.jpg")
    assert names(tmp_path / "one", tmp_path / "two") == ["a.jpg", "b.jpg"]


def test_link_loops_end(tmp_path):
    touch(tmp_path, "a.jpg", "sub/b.jpg")
    os.symlink(tmp_path, tmp_path / "sub" / "up")
    os.symlink("loop", tmp_path / "loop")
    assert names(tmp_path) == ["a.jpg", "sub/b.jpg"]


def test_dangling_link_is_kept_so_that_it_is_reported(tmp_path):
    os.symlink("nowhere.jpg", tmp_path / "a.jpg")
    assert names(tmp_path) == ["a.jpg"]


def test_a_named_file_is_attempted_whatever_its_suffix(tmp_path):
    touch(tmp_path, "scan", "readme.txt")
    assert names(tmp_path / "scan", tmp_path / "readme.txt") == ["readme.txt", "scan"]


def test_a_missing_picture_becomes_an_item_that_fails_alone(tmp_path):
    touch(tmp_path, "a.jpg")
    assert names(tmp_path, tmp_path / "gone.jpg") == ["a.jpg", "gone.jpg"]


def test_a_mistyped_folder_is_an_error_at_once(tmp_path):
    assert code_of(tmp_path / "phtoos") == Code.FILE_MISSING
    assert code_of(tmp_path / "phtoos/*.jpg") == Code.FILE_MISSING


def test_nothing_found(tmp_path):
    touch(tmp_path, "notes.txt")
    assert code_of() == code_of(tmp_path) == code_of(tmp_path / "*.jpg") == Code.NO_INPUTS


def test_patterns(tmp_path):
    touch(tmp_path, "p/a.jpg", "p/b.png", "p/deep/c.jpg", "p/notes.txt", "p/x.jpg/inside.jpg")
    assert names(tmp_path / "p/*") == ["a.jpg", "b.png"]
    assert names(tmp_path / "p/**/*.jpg") == ["a.jpg", "deep/c.jpg", "x.jpg/inside.jpg"]
    assert names(tmp_path / "?/[ab].*") == ["p/a.jpg", "p/b.png"]


def test_a_name_with_brackets_that_exists_is_no_pattern(tmp_path):
    touch(tmp_path, "shots [1]/a.jpg", "b[2].jpg")
    assert names(tmp_path / "shots [1]") == ["a.jpg"]
    assert names(tmp_path / "b[2].jpg") == ["b[2].jpg"]


def test_relative_inputs(tmp_path, monkeypatch):
    touch(tmp_path, "a.jpg", "sub/b.jpg")
    monkeypatch.chdir(tmp_path)
    assert names(".") == names("**/*.jpg") == ["a.jpg", "sub/b.jpg"]
    assert names("a.jpg") == ["a.jpg"]


def test_names_that_are_not_utf8_stay_usable(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb") as file:
        file.write(b"x")
    (item,) = find_inputs([str(tmp_path)]).items
    assert item.name == "caf\\xe9.jpg"
    assert item.name.encode() and item.path.read_bytes() == b"x"


def test_an_unreadable_folder_is_reported_and_not_fatal(nobody):
    touch(nobody.path, "a.jpg", "secret/b.jpg")
    (nobody.path / "secret").chmod(0)
    with nobody.act():
        found = find_inputs([str(nobody.path)])
        assert code_of(nobody.path / "secret") == Code.FOLDER_UNREADABLE
    assert [item.name for item in found.items] == ["a.jpg"]
    (problem,) = found.unreadable
    assert problem.code == Code.FOLDER_UNREADABLE and "secret" in problem.message


def test_many_files_take_little_memory(tmp_path):
    for index in range(3000):
        os.mknod(tmp_path / f"{index:05}.jpg")
    tracemalloc.start()
    found = find_inputs([str(tmp_path)])
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.items) == 3000
    assert size / 3000 < 400
