"""What a job would take."""

from __future__ import annotations

from workers.estimate import estimate, problem_of


def test_pictures_and_unreadable_files_are_counted_and_nothing_is_left(make_spec, segmenter, tmp_path, photos):
    found = estimate(make_spec(), measured=3, segmenter=segmenter)
    assert found.images == 8 and found.bytes == sum(path.stat().st_size for path in photos.rglob("*.*")
                                                    if path.name != "notes.txt")
    assert dict(found.examples)["empty.jpg"] == "file-empty" and dict(found.examples)["text.jpg"] == "not-an-image"
    assert 2 <= found.unreadable <= 3 and 2 <= found.measured <= 3
    assert found.images_per_s > 0 and found.seconds > 0 and found.disk_bytes > 0 and found.free_bytes > 0
    assert not (tmp_path / "out").exists()


def test_nothing_readable_gives_no_rate(make_spec, segmenter, photos):
    found = estimate(make_spec(inputs=(str(photos / "empty.jpg"), str(photos / "gone.png"))), segmenter=segmenter)
    assert (found.images, found.unreadable, found.images_per_s, found.disk_bytes) == (2, 2, 0, 0)


def test_the_beginning_of_a_file_says_what_is_wrong(photos):
    assert problem_of(photos / "a.jpg") is None
    assert problem_of(photos / "text.jpg") == "not-an-image"
