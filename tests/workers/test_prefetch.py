"""Reading ahead keeps the order and its bounds."""

from __future__ import annotations

import threading
import time

import pytest

from parsers.errors import Code, InputError
from workers.inputs import InputItem
from workers.prefetch import prefetch


@pytest.fixture
def items(tmp_path, paint):
    for index in range(12):
        paint(tmp_path / f"{index:02}.png", "red", size=(20 + index, 10))
    return [InputItem(f"{index:02}.png", str(tmp_path), f"{index:02}.png") for index in range(12)]


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("max_pixels", [1, 500, 10**9])
@pytest.mark.parametrize("depth", [1, 3, 100])
def test_order_is_kept_whatever_the_bounds(items, threads, max_pixels, depth):
    loaded = list(prefetch(items, threads=threads, depth=depth, max_pixels=max_pixels))
    assert [entry.image_HW3.shape[1] for entry in loaded] == list(range(20, 32))
    assert [entry.item for entry in loaded] == items


def test_errors_travel_with_the_picture(items, tmp_path):
    (tmp_path / "03.png").write_bytes(b"")
    loaded = list(prefetch(items, threads=2, depth=4, max_pixels=10**9))
    assert [index for index, entry in enumerate(loaded) if entry.error] == [3]
    assert isinstance(loaded[3].error, InputError) and loaded[3].error.code == Code.FILE_EMPTY
    assert loaded[3].error.given.startswith("03.png is empty")


@pytest.mark.parametrize(("depth", "max_pixels", "most"), [(3, 10**9, 4), (100, 400, 4)])
def test_no_more_than_the_bounds_is_read_ahead(items, monkeypatch, depth, max_pixels, most):
    import workers.prefetch as module
    read = []
    original = module.load_item
    monkeypatch.setattr(module, "load_item", lambda item, draft_side: read.append(item) or original(item, draft_side))
    reading = prefetch(items, threads=1, depth=depth, max_pixels=max_pixels)
    next(reading)
    time.sleep(0.2)
    assert 1 < len(read) <= most
    reading.close()


def test_closing_ends_the_threads(items):
    reading = prefetch(items, threads=3, depth=2, max_pixels=10**9)
    next(reading)
    reading.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


def test_nothing_to_read():
    assert list(prefetch([], threads=2, depth=2, max_pixels=10)) == []
