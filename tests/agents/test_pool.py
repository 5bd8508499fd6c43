"""Several servers of one model: turns, failures, returns."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from agents.calls import complete
from agents.model import open_model
from agents.pool import open_pool
from agents.settings import CallSettings
from parsers.errors import Code, LlmError, SettingError
from tests.llm_server import Reply, llm_server
from tests.servers import free_port

QUICK = CallSettings(timeout_s=20, retries=1)


@pytest.fixture
def three():
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(llm_server()) for _ in range(3)]


@pytest.fixture
def opened():
    models = []

    def open_(servers, **options):
        options = {"name": None, "style": None, "api_key": None, "settings": QUICK, "pause_s": 60.0} | options
        models.append(open_pool([server if isinstance(server, str) else server.url for server in servers], **options))
        return models[-1]

    yield open_
    for model in models:
        model.close()


def ask(model) -> str:
    return complete(model, [{"role": "user", "content": "Hello."}], task="presence", schema=None, max_tokens=8,
                    temperature=0.0).text


def calls(servers) -> list[int]:
    return [server.calls for server in servers]


def test_calls_go_round(three):
    model = open_model(",".join(server.url for server in three), settings=QUICK)
    for server in three:
        server.answer = lambda request: "Hi."
    assert [ask(model) for _ in range(6)] == ["Hi."] * 6
    assert calls(three) == [2, 2, 2]
    model.close()


def test_a_call_moves_on_and_the_server_that_failed_is_left_out(three, opened):
    model = opened(three)
    three[1].answer = lambda request: Reply(status=500)
    assert [ask(model) for _ in range(6)] == ["{}"] * 6
    assert three[1].calls == 1 and three[0].calls + three[2].calls == 6


def test_a_connection_that_breaks_in_flight_goes_to_another_server(three, opened):
    model = opened(three[:2])
    three[0].says(Reply("x" * 500, drop=True))
    assert ask(model) == "{}" and calls(three) == [1, 1, 0]


def test_a_slow_server_is_left_for_a_quick_one_and_not_asked_again(three, opened):
    model = opened(three[:2], settings=CallSettings(timeout_s=0.5, retries=3))
    three[0].answer = lambda request: Reply("late", wait_s=2)
    assert ask(model) == "{}" and calls(three[:2]) == [1, 1]


def test_after_its_pause_one_call_tries_it_and_then_it_is_back(three, opened):
    model = opened(three[:2], pause_s=0.0)
    three[0].says(Reply(status=503))
    for _ in range(5):
        assert ask(model) == "{}"
    assert three[0].calls >= 2
    assert [one.failed for one in model.chat.endpoints] == [0, 0]


def test_all_down_is_one_error_that_names_each(three, opened):
    model = opened(three[:2])
    for server in three[:2]:
        server.answer = lambda request: Reply(status=503)
    with pytest.raises(LlmError) as caught:
        ask(model)
    assert caught.value.code == Code.LLM_UNAVAILABLE and "lexiseg doctor" in caught.value.next_step
    assert three[0].url in caught.value.given and three[1].url in caught.value.given
    assert calls(three[:2]) == [2, 2]  # `retries` further rounds, although both are left out by then


def test_a_mistake_in_the_question_is_no_fault_of_a_server(three, opened):
    model = opened(three)
    three[0].says(Reply(status=400, body='{"error": {"message": "bad schema"}}'))
    with pytest.raises(LlmError) as caught:
        ask(model)
    assert caught.value.code == Code.LLM_REFUSED and calls(three) == [1, 0, 0]


def test_a_server_that_is_away_at_the_start_comes_in_later(three, opened):
    port = free_port()
    model = opened([three[0], f"http://127.0.0.1:{port}"], pause_s=0.0)
    assert ask(model) == "{}"
    assert model.chat.endpoints[1].is_known is False
    model.chat.endpoints[1].chat.http_client.base_url = three[1].url  # somebody starts it
    for _ in range(4):
        assert ask(model) == "{}"
    assert model.chat.endpoints[1].is_known and three[1].calls


def test_servers_of_different_models_are_refused_at_the_start_and_left_out_later(three, opened):
    three[1].models["data"][0]["root"] = "/another"
    with pytest.raises(LlmError) as caught:
        opened(three[:2])
    assert caught.value.code == Code.LLM_MODEL_MISSING and "same model" in caught.value.allowed
    model = opened([three[0], f"http://127.0.0.1:{free_port()}"], pause_s=0.0)
    model.chat.endpoints[1].chat.http_client.base_url = three[1].url
    for _ in range(4):
        assert ask(model) == "{}"
    assert model.chat.endpoints[1].is_other and three[1].calls == 0


def test_the_pool_of_one_model_has_its_digest(three, opened):
    single = open_model(three[0].url)
    assert opened(three).digest == single.digest
    single.close()


@pytest.mark.parametrize(("text", "kind"), [
    ("http://127.0.0.1:1/v1,http://127.0.0.1:1", SettingError), ("http://127.0.0.1:1,ftp://host", SettingError)])
def test_addresses_that_cannot_be_meant(text, kind):
    with pytest.raises(kind):
        open_model(text)


def test_none_there_at_the_start():
    with pytest.raises(LlmError) as caught:
        open_model(f"http://127.0.0.1:{free_port()},http://127.0.0.1:{free_port()}", settings=CallSettings(retries=0))
    assert caught.value.code == Code.LLM_UNAVAILABLE and caught.value.next_step


def test_many_at_once_while_one_dies(three, opened):
    model = opened(three, settings=CallSettings(retries=1, concurrency=8))
    three[2].answer = lambda request: Reply(status=500)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: ask(model), range(40))) == {"{}"}
    assert three[0].calls + three[1].calls == 40
