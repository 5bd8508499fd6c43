"""The embedded broker: messages appear whole, in order, and each goes to one reader."""

from __future__ import annotations

import shutil
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


def message(number: int) -> dict:
    return {"n": number, "properties": {"delivery_tag": str(number), "delivery_info": {}}}


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
        writer._put("gpu.batch", message(number))
    writer._put("gpu.interactive", message(99))
    assert reader._size("gpu.batch") == 20
    assert [found["n"] for found in drain(reader)] == list(range(20))
    assert drain(reader) == [] and drain(connect(), "gpu.interactive") == [message(99)]


def test_a_message_that_is_being_written_is_not_seen(connect, tmp_path):
    connect()
    (tmp_path / "queue/messages/00000000000000000000_000000_ab.part").write_text("{")
    assert drain(connect()) == []


def test_several_readers_share_messages_while_they_are_written(connect):
    writer, readers, found = connect(), [connect() for _ in range(3)], []
    over = threading.Event()

    def read(channel):
        while not over.is_set() or channel._size("gpu.batch"):
            found.extend(one["n"] for one in drain(channel))

    threads = [threading.Thread(target=read, args=(channel,)) for channel in readers]
    for thread in threads:
        thread.start()
    for number in range(200):
        writer._put("gpu.batch", message(number))
    over.set()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(200))


def test_the_queue_that_is_named_first_goes_first(connect):
    channel, found = connect(), []
    for number in range(3):
        channel._put("gpu.batch", message(number))
        channel._put("gpu.interactive", message(number))
    for queue in ("gpu.interactive", "gpu.batch"):
        channel.basic_consume(queue, True, found.append, queue)
    for _ in range(6):
        channel._poll(None, lambda one, queue: found.append((queue, one["n"])))
    assert found == [(queue, number) for queue in ("gpu.interactive", "gpu.batch") for number in range(3)]
    with pytest.raises(Empty):
        channel._poll(None, found.append)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"[1]", b'{"body": 1}', b'{"properties": {}}',
                                     b'"' + b"a" * 100_000 + b'"'], ids=lambda content: repr(content[:12]))
def test_what_is_no_message_is_thrown_away_and_stops_nobody(connect, tmp_path, content):
    channel = connect()
    path = tmp_path / "queue/messages/00000000000000000000_000000_ab.gpu.batch.msg"
    path.write_bytes(content)
    channel._put("gpu.batch", message(1))
    assert [found["n"] for found in drain(channel)] == [1] and not path.exists()


def test_a_folder_that_was_removed_is_empty_and_made_again_by_the_next_message(connect, tmp_path):
    channel = connect()
    shutil.rmtree(tmp_path / "queue")
    assert drain(channel) == [] and channel._size("gpu.batch") == 0
    channel._put("gpu.batch", message(1))
    assert len(drain(channel)) == 1


def test_nothing_but_messages_is_kept(connect, tmp_path):
    """Queues that are declared leave no file that a killed process could leave half-written."""
    channel = connect()
    channel.exchange_declare("lexiseg", "direct")
    channel.queue_declare("gpu.batch")
    channel.queue_bind("gpu.batch", "lexiseg", "gpu.batch")
    assert [path for path in (tmp_path / "queue").rglob("*") if path.is_file()] == []
