"""Stores that are there, locked, damaged, foreign, or of another version."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from agents.store import Entry, SqlStore, entry_key, open_store
from parsers import Code
from parsers.errors import LlmError

ENTRY = Entry(task="subclasses", model="m", model_digest="a", prompt_digest="b", schema_digest="c", input_digest="d",
              sampling={"temperature": 0.0}).filled(outcome="repaired", problems=("bad",),
                                                    record={"subclasses": ["été", "\ud800"]}, raw=["{", "ok"])


def refused(run, *arguments, **options) -> LlmError:
    with pytest.raises(LlmError) as caught:
        run(*arguments, **options)
    assert caught.value.code is Code.STORE_UNAVAILABLE
    assert "--store" in caught.value.next_step
    return caught.value


def test_what_is_put_in_comes_out(tmp_path):
    store = open_store(tmp_path / "deep" / "store.sqlite")
    assert store.get(entry_key(ENTRY)) is None
    assert store.put(ENTRY)
    store.close()
    store = open_store(f"sqlite:///{tmp_path}/deep/store.sqlite")
    assert store.get(entry_key(ENTRY)) == ENTRY
    assert list(store.entries()) == [ENTRY]
    store.close()


def test_the_first_answer_stays(tmp_path):
    store = open_store(tmp_path / "store")
    store.put(ENTRY)
    assert store.put(ENTRY.filled(outcome="first", problems=(), record={}, raw=[]))
    assert list(store.entries()) == [ENTRY]
    store.close()


def test_threads_and_processes_may_share_a_store(tmp_path):
    stores = [open_store(tmp_path / "store") for _ in range(2)]
    entries = [Entry(task=str(n), model="m", model_digest="", prompt_digest="", schema_digest="", input_digest="",
                     sampling={}) for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda n: stores[n % 2].put(entries[n // 2]), range(80)))
    assert len(list(stores[0].entries())) == 40
    for store in stores:
        store.close()


def test_a_file_that_is_no_store(tmp_path):
    path = tmp_path / "notes.sqlite"
    path.write_text("This is a text and no database. " * 100)
    refused(open_store, path)
    assert path.read_text().startswith("This is a text")


def test_a_damaged_store(tmp_path):
    path = tmp_path / "store"
    store = open_store(path)
    for n in range(200):
        store.put(Entry(task=str(n), model="m" * 500, model_digest="", prompt_digest="", schema_digest="",
                        input_digest="", sampling={}))
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)

    def use():
        store = open_store(path)
        try:
            list(store.entries())
        finally:
            store.close()

    refused(use)


def test_a_damaged_answer(tmp_path):
    store = open_store(tmp_path / "store")
    store.put(ENTRY)
    store._connection.execute("UPDATE knowledge_answers SET record = '{'")
    refused(store.get, entry_key(ENTRY))
    store.close()


def test_a_store_of_another_version(tmp_path):
    store = open_store(tmp_path / "store")
    store._connection.execute("UPDATE knowledge_info SET value = '2'")
    store.close()
    error = refused(open_store, tmp_path / "store")
    assert "format_version 2" in error.given and "format_version 1" in error.allowed


class Dropping:
    """A connection that the database gives up before its statement number `after`, and is closed from then on."""

    def __init__(self, connection, after):
        self.connection, self.left, self.closed = connection, after, False

    def execute(self, *arguments):
        self.left -= 1
        self.closed = self.closed or self.left < 0
        if self.closed:
            raise OSError("server closed the connection unexpectedly")
        return self.connection.execute(*arguments)

    def close(self):
        self.connection.close()


def test_a_connection_that_was_given_up_is_made_anew_once(tmp_path):
    opened = []

    def connect():
        opened.append(Dropping(sqlite3.connect(tmp_path / "store", isolation_level=None), [99, 99, 0][len(opened)]))
        return opened[-1]

    store = SqlStore(connect, "?", "here")
    assert store.put(ENTRY)
    opened[0].left = 0
    assert store.get(entry_key(ENTRY)) == ENTRY and len(opened) == 2
    opened[1].left = 0
    refused(store.get, entry_key(ENTRY))
    assert len(opened) == 3
    for one in opened:
        one.close()


def test_a_store_that_is_locked_while_it_is_opened(tmp_path):
    path = tmp_path / "store"
    store = open_store(path)
    store._connection.execute("PRAGMA journal_mode=DELETE")
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "locked" in refused(open_store, path, busy_s=0.05).given
    other.close()
    store.close()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    refused(open_store, tmp_path / "file" / "store")


def test_addresses_that_are_not_known():
    refused(open_store, "mysql://host/name")


def test_a_postgres_that_is_not_there():
    from tests.servers import free_port

    refused(open_store, f"postgresql://nobody:secret@127.0.0.1:{free_port()}/x")


def test_errors_keep_the_password_to_themselves():
    from tests.servers import free_port

    error = refused(open_store, f"postgresql://nobody:secret@127.0.0.1:{free_port()}/x")
    assert "secret" not in str(error)


def test_the_key_is_of_what_an_answer_depends_on():
    from dataclasses import replace

    assert entry_key(replace(ENTRY, model="x", record={}, raw=(), made_at="", outcome="first")) == entry_key(ENTRY)
    for name in ("task", "model_digest", "prompt_digest", "schema_digest", "input_digest"):
        assert entry_key(replace(ENTRY, **{name: "x"})) != entry_key(ENTRY)
    assert entry_key(replace(ENTRY, sampling={"temperature": 0.5})) != entry_key(ENTRY)
