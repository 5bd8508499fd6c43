"""Servers as they are: absent, slow, overloaded, broken, wrong; each ends in a typed error with a next step."""

import socket
import time

import pytest

from agents.calls import complete
from agents.model import open_model
from agents.settings import CallSettings
from parsers import Code, LexisegError
from parsers.errors import LlmError, SettingError
from tests.llm_server import Reply
from tests.servers import free_port

HELLO = [{"role": "user", "content": "Hello."}]


def ask(model, **options):
    return complete(model, HELLO, **{"task": "presence", "schema": None, "max_tokens": 8, "temperature": 0.0} | options)


def failure(code, run, *arguments, **options):
    with pytest.raises(LlmError) as caught:
        run(*arguments, **options)
    assert caught.value.code == code, caught.value
    assert caught.value.given and caught.value.next_step
    return caught.value


def test_a_request_says_what_was_asked_for(llm, model):
    llm.says("Hi.")
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    assert ask(model, schema=schema, temperature=0.5).text == "Hi."
    request = llm.requests[0]
    assert request["messages"] == HELLO and request["model"] == "stub"
    assert (request["temperature"], request["seed"], request["max_completion_tokens"]) == (0.5, 0, 8)
    assert request["response_format"] == {"type": "json_schema", "json_schema": {
        "name": "presence", "strict": True, "schema": schema}}
    assert "tools" not in request and not request.get("stream")


def test_greedy_and_prose_by_default(llm, model):
    ask(model)
    assert llm.requests[0]["temperature"] == 0 and "response_format" not in llm.requests[0]


def test_a_cut_answer_is_an_answer(llm, model):
    llm.says(Reply('{"names": ["po', finish="length"))
    answer = ask(model, schema={"type": "object", "properties": {}})
    assert answer.text == '{"names": ["po' and answer.is_cut


@pytest.mark.parametrize("broken", [
    pytest.param(Reply(status=500), id="500"), pytest.param(Reply(status=503), id="503"),
    pytest.param(Reply(status=429, headers={"Retry-After": "0.01"}), id="429"),
    pytest.param(Reply("x" * 500, drop=True), id="dropped in the middle"),
])
def test_what_may_pass_is_tried_again(llm, model, broken):
    llm.says(broken, "Hi.")
    assert ask(model).text == "Hi." and llm.calls == 2


@pytest.mark.parametrize("broken", [
    pytest.param(Reply(status=500, body='{"error": {"message": "no memory"}}'), id="500"),
    pytest.param(Reply(status=429, headers={"Retry-After": "0.01"}), id="429"),
    pytest.param(Reply("x" * 500, drop=True), id="dropped in the middle"),
])
def test_attempts_are_bounded(llm, model, broken):
    llm.says(*[broken] * 5)
    assert "2 attempts" in failure(Code.LLM_UNAVAILABLE, ask, model).given
    assert llm.calls == 2


@pytest.mark.parametrize(("reply", "code"), [
    pytest.param(Reply(status=400, body='{"error": {"message": "bad schema"}}'), Code.LLM_REFUSED, id="400"),
    pytest.param(Reply(status=401), Code.LLM_REFUSED, id="401"),
    pytest.param(Reply(status=404, body='{"error": {"message": "no such model"}}'), Code.LLM_MODEL_MISSING, id="404"),
    pytest.param(Reply(status=400, body='{"error": {"message": "This model\'s maximum context length is 2048 tokens. '
                       'However, you requested 4000 tokens"}}'), Code.LLM_CONTEXT, id="too long"),
    pytest.param(Reply(status=400, body='{"error": {"message": "stub is not a multimodal model"}}'), Code.LLM_BLIND,
                 id="no pictures"),
    pytest.param(Reply(status=400, body='{"error": {"message": "At most 0 image(s) may be provided in one prompt."}}'),
                 Code.LLM_BLIND, id="no pictures, as vLLM says it"),
    pytest.param(Reply(status=400, body='{"error": {"message": "image input is not supported - hint: no mmproj"}}'),
                 Code.LLM_BLIND, id="no pictures, as llama.cpp says it"),
    pytest.param(Reply(status=400, body='{"error": {"message": "bad name: television supervision"}}'), Code.LLM_REFUSED,
                 id="a word with vision in it"),
    pytest.param(Reply(status=400, body='{"error": {"message": "cannot decode image_url 3 of a multimodal prompt"}}'),
                 Code.LLM_REFUSED, id="one picture"),
    pytest.param(Reply(body=" " * 5_000_000), Code.LLM_PROTOCOL, id="an answer without end"),
    pytest.param(Reply(body="<html>It works!</html>", headers={"Content-Type": "text/html"}), Code.LLM_PROTOCOL,
                 id="a web page"),
    pytest.param(Reply(body='{"choices": '), Code.LLM_PROTOCOL, id="half of JSON"),
    pytest.param(Reply(body='{"choices": []}'), Code.LLM_PROTOCOL, id="no choice"),
    pytest.param(Reply(body='{"choices": [{}]}'), Code.LLM_PROTOCOL, id="no message"),
    pytest.param(Reply(body="[1]"), Code.LLM_PROTOCOL, id="a list"),
])
def test_what_another_attempt_does_not_mend_is_not_tried_again(llm, model, reply, code):
    llm.says(reply)
    failure(code, ask, model)
    assert llm.calls == 1


def test_a_slow_server_is_given_up_and_not_asked_again(llm):
    model = open_model(llm.url, settings=CallSettings(timeout_s=0.5, retries=3))
    llm.says(Reply("late", wait_s=2))
    assert "--llm-timeout" in failure(Code.LLM_UNAVAILABLE, ask, model).next_step
    assert llm.calls == 1
    model.close()


@pytest.mark.parametrize("part", ["body", "headers"])
def test_a_server_that_drips_is_given_up_in_time(llm, part):
    """Each byte comes in time; the time is that of the whole attempt."""
    model = open_model(llm.url, settings=CallSettings(timeout_s=1, retries=3))
    llm.says(Reply(drip=part))
    started = time.monotonic()
    failure(Code.LLM_UNAVAILABLE, ask, model)
    assert time.monotonic() - started < 6 and llm.calls == 1
    llm.says("Hi.")
    assert ask(model).text == "Hi.", "the next attempt has its own time"
    model.close()


def test_a_server_that_is_not_there():
    settings = CallSettings(retries=0)
    error = failure(Code.LLM_UNAVAILABLE, open_model, f"http://127.0.0.1:{free_port()}/v1", settings=settings)
    assert "pocket" in error.allowed


def test_something_else_at_the_address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        failure(Code.LLM_UNAVAILABLE, open_model, address, settings=CallSettings(retries=0, timeout_s=0.3))


def test_the_only_model_needs_no_name_and_several_do(llm):
    open_model(llm.url).close()
    llm.models["data"].append({"id": "other", "object": "model"})
    assert "'stub', 'other'" in failure(Code.LLM_MODEL_MISSING, open_model, llm.url).allowed
    named = open_model(llm.url, name="other")
    assert named.name == "other"
    named.close()
    assert "'third'" in failure(Code.LLM_MODEL_MISSING, open_model, llm.url, name="third").given


def test_the_digest_is_of_what_the_server_serves_and_not_of_its_address(llm):
    digests = []
    for root, address in (("/a", llm.url), ("/a", llm.url.replace("127.0.0.1", "localhost")), ("/b", llm.url)):
        llm.models["data"] = [{"id": "stub", "object": "model", "root": root, "created": time.time_ns()}]
        model = open_model(address)
        digests.append(model.digest)
        model.close()
    assert digests[0] == digests[1] != digests[2]


def test_a_model_directory_on_this_machine_tells_its_prompts(llm, tmp_path):
    llm.models["data"][0]["root"] = str(tmp_path)
    (tmp_path / "model.json").write_text('{"format_version": 1, "name": "small", "prompt_style": "short", '
                                         '"sees_images": false, "files": {"a": "b"}}')
    model = open_model(llm.url)
    assert (model.style, model.sees_images) == ("short", False)
    model.close()
    (tmp_path / "model.json").write_text('{"format_version": 7}')
    model = open_model(llm.url)
    assert (model.style, model.sees_images) == ("few-shot", True)
    model.close()


def test_no_more_calls_in_flight_than_allowed(llm):
    from agents.parallel import in_order

    model = open_model(llm.url, settings=CallSettings(concurrency=3))
    llm.answer = lambda request: Reply("Hi.", wait_s=0.05)
    assert [answer.text for answer in in_order(lambda _: ask(model), range(12), 12)] == ["Hi."] * 12
    assert llm.most_in_flight == 3
    model.close()


@pytest.mark.parametrize("address", ["ftp://host", "http://", "http://host:99999/v1", "http://host/v1?key=1"])
def test_addresses_that_are_none(address):
    with pytest.raises(SettingError):
        open_model(address)


def test_the_environment_leads_nothing_astray(llm, monkeypatch):
    """Neither a proxy nor another service's address, key or organisation reaches a request."""
    for name in ("HTTP_PROXY", "ALL_PROXY", "OPENAI_API_BASE", "OPENAI_BASE_URL", "OPENAI_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_ORGANIZATION", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "secret")
    model = open_model(llm.url, api_key="ours", settings=CallSettings(retries=0))
    llm.says("Hi.")
    assert ask(model).text == "Hi."
    headers = {name.lower(): value for name, value in llm.headers[0].items()}
    assert headers["authorization"] == "Bearer ours"
    assert "secret" not in str(headers)
    model.close()


def test_errors_are_of_one_tree():
    assert issubclass(LlmError, LexisegError)
