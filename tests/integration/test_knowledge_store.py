"""The store of answers in a real PostgreSQL, for several machines."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from agents.store import Entry, entry_key, open_store
from parsers.errors import LlmError
from tests.servers import postgres_server

pytestmark = pytest.mark.integration


def entry(number):
    return Entry(task=str(number), model="m", model_digest="", prompt_digest="", schema_digest="", input_digest="",
                 sampling={"temperature": 0.0}).filled(outcome="first", problems=(), raw=["a\x00b ö \ud800"],
                                                       record={"names": ["é"]})


def test_several_machines_share_a_store():
    with postgres_server() as url:
        with ThreadPoolExecutor(4) as pool:
            stores = list(pool.map(lambda _: open_store(url), range(4)))
            assert all(pool.map(lambda n: stores[n % 4].put(entry(n // 4)), range(40)))
        assert sorted(one.task for one in stores[0].entries()) == sorted(map(str, range(10)))
        assert stores[1].get(entry_key(entry(3))).record == {"names": ["é"]}
        stores[2]._connection.execute("UPDATE knowledge_info SET value = '9'")
        with pytest.raises(LlmError, match="format_version 9"):
            open_store(url)
        for store in stores:
            store.close()


def test_a_database_that_was_started_again_is_connected_to_again():
    with postgres_server() as url:
        store, other = open_store(url), open_store(url)
        assert store.put(entry(1))
        other._connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                                  "WHERE pid <> pg_backend_pid() AND datname = current_database()")
        assert store.get(entry_key(entry(1))) == entry(1)
        assert store.put(entry(2)) and len(list(store.entries())) == 2
        store.close()
        other.close()
