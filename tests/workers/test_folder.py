"""The embedded broker: messages appear whole, in order, and each goes to one reader."""

from __future__ import annotations

import threading
from queue import Empty

import pytest
from kombu import Connection

from workers.queue.folder import SCHEME, options


@pytest.fixture
def connect(tmp_path):
    """connect() -> a channel of its own on the same folder."""
    made = []

    def make():
        connection = Connection(f"{SCHEME}://localhost/", transport_options=options(tmp_path / "queue"))
        made.append(connection)
        return connection.channel()

    yield make
    for connection in made:
        connection.release()


def drain(channel, queue="gpu.batch") -> list:
    found = []
    while True:
        try:
            found.append(channel._get(queue))
        except Empty:
            return found


def test_messages_come_in_order_and_once(connect):
    writer, reader = connect(), connect()
    for number in range(20):
        writer._put("gpu.batch", {"n": number})
    writer._put("gpu.interactive", {"n": 99})
    assert reader._size("gpu.batch") == 20
    assert [message["n"] for message in drain(reader)] == list(range(20))
    assert drain(reader) == [] and drain(connect(), "gpu.interactive") == [{"n": 99}]


def test_a_message_that_is_being_written_is_not_seen(connect, tmp_path):
    connect()
    (tmp_path / "queue/messages/00000000000000000000_000000_ab.part").write_text("{")
    assert drain(connect()) == []


def test_several_readers_share_messages_while_they_are_written(connect):
    writer, readers, found = connect(), [connect() for _ in range(3)], []
    over = threading.Event()

    def read(channel):
        while not over.is_set() or channel._size("gpu.batch"):
            found.extend(message["n"] for message in drain(channel))

    threads = [threading.Thread(target=read, args=(channel,)) for channel in readers]
    for thread in threads:
        thread.start()
    for number in range(200):
        writer._put("gpu.batch", {"n": number})
    over.set()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(200))
