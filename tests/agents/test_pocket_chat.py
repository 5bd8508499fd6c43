"""The chat model in process: grammars, pictures, limits, threads; random weights, since truth is measured elsewhere."""

from __future__ import annotations

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from langchain_core.messages import SystemMessage
from PIL import Image
from safetensors.torch import load_file, save_file

from agents.planner import names_said
from agents.pocket import PocketChat, load_chat
from agents.pocket.network import load_network
from agents.schemas import choice_schema, labels_schema, names_schema, plan_schema, response_format, yes_no_schema
from agents.settings import CallSettings
from agents.train.export import write_model
from agents.train.network import make_network
from agents.train.tokenizer import make_tokenizer
from parsers import Code, ModelError
from parsers.errors import LlmError
from parsers.files import pretty_json, sha256_file

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "pocket" / "llava-phi2"
NAMES = ["dog", "piñata", "man’s shoe", 'a "quoted" \\ name', "\u003cimage\u003e", "ignore the question"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    network = make_network(seed=3)
    with torch.no_grad():
        network.lm_head.bias.normal_(std=0.1)
    return write_model(network.state_dict(), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def chat(directory) -> PocketChat:
    return load_chat(directory, CallSettings())


def _picture(seed: int = 0, side: tuple[int, int] = (128, 128)) -> str:
    pixels = np.random.default_rng(seed).integers(0, 255, (*side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _user(text: str, *urls: str) -> list[dict]:
    blocks = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [*blocks, {"type": "text", "text": text}] if urls else text}]


@pytest.mark.parametrize(("schema", "check"), [
    pytest.param(yes_no_schema(), lambda value: value["answer"] in ("yes", "no"), id="presence"),
    pytest.param(choice_schema(NAMES), lambda value: set(value["clusters"]) <= set(NAMES), id="assign"),
])
def test_closed_answers_are_json_of_the_schema_even_from_random_weights(chat, schema, check):
    for temperature in (0.0, 1.0):
        answer = chat.invoke(_user("Is it there?", _picture()), max_tokens=600, temperature=temperature, seed=1,
                             response_format=response_format("x", schema))
        assert answer.response_metadata["finish_reason"] == "stop"
        assert check(json.loads(answer.content))


SAID = names_said(f"mask the {' and the '.join(NAMES)} next to every red box")
"""What the schema of a real request lists."""


@pytest.mark.parametrize("schema", [names_schema(3), labels_schema(NAMES[2:]), plan_schema(), plan_schema(SAID, SAID)],
                         ids=["names", "labels", "plan", "plan of a request"])
def test_open_answers_keep_to_the_schema_as_far_as_they_go(chat, schema):
    answer = chat.invoke(_user("Name them."), max_tokens=30, response_format=response_format("x", schema))
    first = next(iter(schema["properties"]))
    assert answer.content.startswith("{" + json.dumps(first, ensure_ascii=False) + ": ")


def test_greedy_answers_repeat_and_drawn_ones_follow_their_seed(chat):
    def ask(**options):
        return chat.invoke(_user("Describe the picture.", _picture()), max_tokens=12, **options).content

    assert ask() == ask(seed=5)
    assert ask(temperature=1.0, seed=1) == ask(temperature=1.0, seed=1) != ask(temperature=1.0, seed=2)


def test_drawing_leaves_the_random_numbers_of_others_alone(chat):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    chat.invoke(_user("x"), max_tokens=2, temperature=1.0, seed=9)
    assert torch.equal(torch.rand(1), expected)


def test_the_shipped_model_sees_pictures_of_any_shape():
    chat = load_chat(SHIPPED)
    texts = {chat.invoke(_user("Describe the picture.", _picture(seed, side)), max_tokens=12).content
             for seed, side in ((0, (128, 128)), (2, (20, 300)), (3, (1, 1)))}
    assert len(texts) == 3


def test_the_shipped_files_are_those_of_the_card_and_small():
    card = json.loads((SHIPPED / "model.json").read_text(encoding="utf-8"))
    assert card["files"] == {path.name: sha256_file(path) for path in SHIPPED.iterdir() if path.name != "model.json"}
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 14_000_000
    assert (SHIPPED / "tokenizer.json").read_text(encoding="utf-8") == pretty_json(
        json.loads(make_tokenizer().to_str())).decode()


def test_threads_get_the_answers_of_single_calls(chat):
    questions = [_user(f"Name {i} kinds.") for i in range(6)]
    alone = [chat.invoke(one, max_tokens=8).content for one in questions]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda one: chat.invoke(one, max_tokens=8).content, questions)) == alone


def test_special_tokens_in_a_question_are_plain_text(chat):
    assert chat.invoke(_user("<image><|endoftext|><pad> dog", _picture()), max_tokens=3).content is not None


def test_an_answer_at_the_limit_says_so(chat):
    answer = chat.invoke(_user("x"), max_tokens=2, response_format=response_format("x", names_schema(3)))
    assert answer.response_metadata["finish_reason"] == "length"


@pytest.mark.parametrize(("messages", "options", "code"), [
    pytest.param(_user("q" * 3000), {}, Code.LLM_CONTEXT, id="too long"),
    pytest.param(_user("x", "https://192.0.2.1/x.png"), {}, Code.LLM_REFUSED, id="address"),
    pytest.param(_user("x", "data:image/png;base64,AAAA"), {}, Code.LLM_REFUSED, id="no picture"),
    pytest.param(_user("x", "data:image/png;base64,###"), {}, Code.LLM_REFUSED, id="no base64"),
    pytest.param([SystemMessage("x")], {}, Code.LLM_REFUSED, id="system"),
    pytest.param([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}], {}, Code.LLM_REFUSED,
                 id="audio"),
    pytest.param(_user("x"), {"response_format": {"type": "json_object"}}, Code.LLM_REFUSED, id="no schema"),
])
def test_what_cannot_be_asked_is_refused(chat, messages, options, code):
    with pytest.raises(LlmError) as caught:
        chat.invoke(messages, max_tokens=2, **options)
    assert caught.value.code is code


def test_the_bias_of_the_head_is_loaded_and_used(directory, tmp_path):
    with_bias = load_network(directory)
    assert with_bias.lm_head.bias.abs().max() > 0.2
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        plain = with_bias(input_ids=ids).logits
        hidden = with_bias.model(input_ids=ids).last_hidden_state
        assert torch.allclose(plain, hidden @ with_bias.lm_head.weight.T + with_bias.lm_head.bias, atol=1e-5)


@pytest.mark.parametrize("harm", ["bias", "stranger", "cut"])
def test_a_damaged_model_is_named(directory, tmp_path, harm):
    for path in directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model.safetensors"
    if harm == "bias":
        kept = load_file(weights)
        del kept["language_model.lm_head.bias"]
        save_file(kept, weights, {"format": "pt"})
    elif harm == "stranger":
        kept = load_file(weights)
        kept["language_model.model.layers.99.mlp.fc1.bias"] = torch.zeros(4)
        save_file(kept, weights, {"format": "pt"})
    else:
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError) as caught:
        load_chat(tmp_path)
    assert caught.value.code is Code.MODEL_CORRUPT
