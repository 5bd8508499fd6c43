"""vLLM itself, on loopback, in the environment that `make vllm` builds: pictures, schemas, many requests at once, and
the same tokens as in process.

The first server has a model in miniature with random weights, converted from a published layout: it answers nonsense,
but the same nonsense everywhere, the head's bias included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image

from agents.llava_phi2.convert import convert_llava_phi2
from agents.picture import Picture, data_uri
from agents.schemas import choice_schema, labels_schema, names_schema, plan_schema, response_format, yes_no_schema
from agents.serving.server import Server, ServerSettings, check_environment, running
from parsers.errors import MissingPackageError
from tests import tiny_llava
from tests.servers import free_port

pytestmark = pytest.mark.integration
ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv-vllm"
PATIENCE_S = 900
"""So long may a start or an answer take on a machine that has other things to do."""
TOKENS = 32


@pytest.fixture(scope="module")
def environment() -> Path:
    try:
        check_environment(ENVIRONMENT)
    except MissingPackageError as error:
        pytest.skip(f"{error.given} {error.next_step}")
    return ENVIRONMENT


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model in miniature, converted."""
    folder = tmp_path_factory.mktemp("models")
    source = tiny_llava.save_checkpoint(
        folder / "source", tiny_llava.weights_of(tiny_llava.make_parts(), "zhu", "fused"),
        tiny_llava.config_of("zhu", "fused"), pickled=True)
    convert_llava_phi2(source, folder / "tiny", dtype="float32")
    return folder / "tiny"


@pytest.fixture(scope="module")
def server(environment, model, tmp_path_factory) -> Iterator[Server]:
    settings = ServerSettings(model=model, environment=environment, port=free_port())
    with running(settings, tmp_path_factory.mktemp("vllm"), PATIENCE_S) as started:
        yield started


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    """Three pictures of different shapes."""
    random = np.random.default_rng(5)
    return [Picture(random.integers(0, 255, (height, width, 3), np.uint8))
            for height, width in ((28, 28), (40, 90), (64, 30))]


def user_message(text: str, picture: Picture | None = None) -> dict[str, Any]:
    """A question as `agents.prompt` builds it."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if picture is not None:
        parts.insert(0, {"type": "image_url", "image_url": {"url": data_uri(*picture.encoded(336))}})
    return {"role": "user", "content": parts}


def ask(server: Server, text: str, picture: Picture | None = None, **options: Any) -> dict[str, Any]:
    """The first choice of a chat completion."""
    body = {"model": server.settings.served_name, "messages": [user_message(text, picture)], "temperature": 0,
            "max_tokens": TOKENS, "return_token_ids": True} | options
    answer = httpx.post(f"{server.settings.url}/chat/completions", json=body, timeout=PATIENCE_S, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


@torch.no_grad()
def in_process(model: Any, processor: Any, text: str, picture: Picture | None = None) -> list[int]:
    """The tokens that transformers gives, greedily, one at a time."""
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    images = None
    if picture is not None:
        content.insert(0, {"type": "image"})
        images = [Image.fromarray(picture.image_HW3)]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(images=images, text=prompt, return_tensors="pt")
    found = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
    return found[0, inputs["input_ids"].shape[1]:].tolist()


def test_the_same_tokens_as_in_process_and_the_heads_bias_counts(server, model, pictures):
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(model, local_files_only=True)
    loaded = tiny_llava.load_with_bias(model)
    questions = [("What is this?", None), ("Name kinds of a dog.", None), *(("What is here?", one) for one in pictures)]
    expected = [in_process(loaded, processor, *question) for question in questions]
    assert [ask(server, *question)["token_ids"] for question in questions] == expected
    assert len({tuple(tokens) for tokens in expected}) == len(expected)
    loaded.lm_head.bias.data.zero_()
    assert [in_process(loaded, processor, *question) for question in questions] != expected


@pytest.mark.parametrize("schema", [
    choice_schema(["animals", "vehicles", 'a "quoted" name', "café"]), yes_no_schema()], ids=["choice", "yes-no"])
def test_a_schema_leaves_a_random_model_no_room_for_anything_else(server, pictures, schema):
    for number in range(20):
        choice = ask(server, "Which?", pictures[number % 3], response_format=response_format("answer", schema),
                     temperature=1.0, seed=number, max_tokens=400)
        jsonschema.validate(json.loads(choice["message"]["content"]), dict(schema))


@pytest.mark.parametrize("schema", [names_schema(7), labels_schema(["dog", "bus"]), plan_schema()],
                         ids=["names", "labels", "plan"])
def test_every_other_schema_is_enforced_as_far_as_an_answer_goes(server, schema):
    first = next(iter(schema["properties"]))
    for seed in range(3):
        choice = ask(server, "Answer.", response_format=response_format("answer", schema), temperature=1.0, seed=seed,
                     max_tokens=64)
        assert choice["message"]["content"].replace(" ", "").startswith(f'{{"{first}":')


def test_sixteen_requests_at_once_give_the_records_that_they_give_one_by_one(server, pictures):
    schema = choice_schema(["animals", "vehicles", "plants", "tools"])

    def record(number: int) -> Any:
        choice = ask(server, f"Which, question {number}?", pictures[number % 3], max_tokens=200,
                     response_format=response_format("answer", schema))
        return json.loads(choice["message"]["content"])

    alone = [record(number) for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(record, range(16))) == alone


def test_what_the_server_refuses(server):
    def status(**changes: Any) -> tuple[int, str]:
        body = {"model": server.settings.served_name, "messages": [user_message("Hello")], "max_tokens": 4} | changes
        answer = httpx.post(f"{server.settings.url}/chat/completions", json=body, timeout=PATIENCE_S, trust_env=False)
        return answer.status_code, answer.text

    assert status(model="another")[0] == 404
    code, text = status(messages=[user_message("long " * 2000)])
    assert code == 400 and "context" in text
    two = {"role": "user", "content": [{"type": "image_url", "image_url": {
        "url": data_uri(*Picture(np.zeros((8, 8, 3), np.uint8)).encoded(336))}}] * 2}
    assert status(messages=[two])[0] == 400
    assert status()[0] == 200
