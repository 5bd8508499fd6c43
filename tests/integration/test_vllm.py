"""vLLM itself, on loopback, in the environment that `make vllm` builds: pictures, schemas, many requests at once, every
tool, and the same tokens as in process.

Two models: one in miniature with random weights, converted from a published layout, which answers nonsense, but the
same nonsense everywhere, the head's bias included; and the pocket model, which the tools ask.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image

from agents import CallSettings, KnowledgeSource, Picture, make_tools, open_model
from agents.llava_phi2.convert import convert_llava_phi2
from agents.picture import data_uri
from agents.planner import names_said
from agents.pocket.network import load_network
from agents.prompt import TASKS, load_prompt, quoted
from agents.schemas import choice_schema, labels_schema, names_schema, plan_schema, response_format, yes_no_schema
from agents.serving.server import Server, ServerSettings, check_environment, running
from parsers.errors import Code, LlmError, MissingPackageError
from tests import tiny_llava
from tests.servers import free_port

pytestmark = pytest.mark.integration
REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 900
"""So long may a start or an answer take on a machine that has other things to do."""
TOKENS = 32
NAMES = ["dog", "cat", "bus", "car", "oak", 'a "quoted" name', "piñata"]
SAID = names_said(f"mask the {' and the '.join(NAMES)} next to every red box")
"""What the schema of a real request lists."""
CLUSTERS = {"animals": ["dog", "cat"], "vehicles": ["bus", "car"], "plants": ["oak"]}


@dataclass(frozen=True, slots=True)
class Served:
    """A model directory and the vLLM that serves it."""

    model: Path
    server: Server

    @property
    def url(self) -> str:
        return self.server.settings.url

    def post(self, **body: Any) -> httpx.Response:
        """A chat completion."""
        return httpx.post(f"{self.url}/chat/completions", timeout=PATIENCE_S, trust_env=False,
                          json={"model": self.server.settings.served_name, "temperature": 0, "max_tokens": TOKENS,
                                "return_token_ids": True} | body)

    def ask(self, text: str, picture: Picture | None = None, **options: Any) -> dict[str, Any]:
        """The first choice of a chat completion."""
        answer = self.post(messages=[question(text, picture)], **options)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]


@pytest.fixture(scope="module")
def environment() -> Path:
    folder = REPOSITORY / ".venv-vllm"
    try:
        check_environment(folder)
    except MissingPackageError as error:
        pytest.skip(f"{error.given} {error.next_step}")
    return folder


@pytest.fixture(scope="module")
def serve(environment, tmp_path_factory) -> Callable[[Path], AbstractContextManager[Served]]:
    """serve(directory) -> a context with vLLM serving it."""
    folder = tmp_path_factory.mktemp("vllm")

    @contextmanager
    def start(model: Path) -> Iterator[Served]:
        settings = ServerSettings(model=model, environment=environment, port=free_port())
        with running(settings, folder / f"{model.name}.log", folder / "cache", PATIENCE_S) as server:
            yield Served(model, server)

    return start


@pytest.fixture(scope="module")
def tiny(serve, tmp_path_factory) -> Iterator[Served]:
    """A model in miniature, converted."""
    folder = tmp_path_factory.mktemp("tiny")
    weights = tiny_llava.weights_of(tiny_llava.make_parts(), "zhu", "fused")
    source = tiny_llava.save_checkpoint(folder / "source", weights, tiny_llava.config_of("zhu", "fused"), pickled=True)
    convert_llava_phi2(source, folder / "tiny", dtype="float32")
    with serve(folder / "tiny") as served:
        yield served


@pytest.fixture(scope="module")
def pocket(serve) -> Iterator[Served]:
    """The pocket model."""
    with serve(REPOSITORY / "models" / "pocket" / "llava-phi2") as served:
        yield served


@pytest.fixture(scope="module", params=["tiny", "pocket"])
def served(request) -> Served:
    """Each model."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    """Three pictures of different shapes."""
    random = np.random.default_rng(5)
    return [Picture(random.integers(0, 255, (height, width, 3), np.uint8))
            for height, width in ((128, 128), (40, 90), (300, 110))]


def question(text: str, picture: Picture | None = None) -> dict[str, Any]:
    """A message as `agents.prompt` builds it."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if picture is not None:
        parts.insert(0, {"type": "image_url", "image_url": {"url": data_uri(*picture.encoded(336))}})
    return {"role": "user", "content": parts}


@torch.no_grad()
def in_process(network: Any, processor: Any, text: str, picture: Picture | None = None) -> list[int]:
    """The tokens that transformers gives, greedily."""
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    images = None
    if picture is not None:
        content.insert(0, {"type": "image"})
        images = [Image.fromarray(picture.image_HW3)]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(images=images, text=prompt, return_tensors="pt")
    found = network.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
    return found[0, inputs["input_ids"].shape[1]:].tolist()


def test_the_same_tokens_as_in_process_and_the_heads_bias_counts(served, pictures):
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(served.model, local_files_only=True)
    network = load_network(served.model)
    questions = [("What is this?", None), ('Name 7 kinds of "dog".', None),
                 *(("Describe the picture.", one) for one in pictures[:2])]  # the third goes out as JPEG
    expected = [in_process(network, processor, *one) for one in questions]
    assert [served.ask(*one)["token_ids"] for one in questions] == expected
    if served.model.name == "llava-phi2":
        return  # the bias of the trained model is small; that of the miniature decides
    network.lm_head.bias.data.zero_()
    assert [in_process(network, processor, *one) for one in questions] != expected


@pytest.mark.parametrize(("schema", "check"), [
    pytest.param(choice_schema(NAMES), lambda value: set(value["clusters"]) <= set(NAMES), id="choice"),
    pytest.param(yes_no_schema(), lambda value: value["answer"] in ("yes", "no"), id="yes-no")])
def test_a_closed_schema_leaves_no_room_for_anything_else(served, pictures, schema, check):
    for number in range(20):
        choice = served.ask("Which?", pictures[number % 3], response_format=response_format("answer", schema),
                            temperature=1.0, seed=number, max_tokens=400)
        value = json.loads(choice["message"]["content"])
        assert value.keys() == schema["properties"].keys() and check(value)


@pytest.mark.parametrize("schema", [names_schema(7), labels_schema(NAMES[:-1]), plan_schema(),
                                    plan_schema(SAID, SAID)],
                         ids=["names", "labels", "plan", "plan of a request"])
def test_an_open_schema_is_enforced_as_far_as_an_answer_goes(served, schema):
    for seed in range(4):
        choice = served.ask("Answer.", response_format=response_format("answer", schema), temperature=1.0, seed=seed,
                            max_tokens=64)
        text = choice["message"]["content"]
        if choice["finish_reason"] == "stop":
            jsonschema.validate(json.loads(text), dict(schema))
        assert text.startswith(f'{{"{next(iter(schema["properties"]))}": ')


def test_sixteen_requests_at_once_give_the_records_that_they_give_one_by_one(served, pictures):
    schema = choice_schema(list(CLUSTERS))

    def record(number: int) -> Any:
        choice = served.ask(f"Which, question {number}?", pictures[number % 3], max_tokens=200,
                            response_format=response_format("answer", schema))
        return json.loads(choice["message"]["content"])

    alone = [record(number) for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(record, range(16))) == alone


def test_what_the_server_refuses_is_told_in_our_words(served):
    two = question("Hello", black := Picture(np.zeros((8, 8, 3), np.uint8)))
    two["content"].append(question("", black)["content"][0])
    assert served.post(messages=[two]).status_code == 400
    with pytest.raises(LlmError) as caught:
        open_model(served.url, name="another")
    assert caught.value.code == Code.LLM_MODEL_MISSING and served.server.settings.served_name in str(caught.value)
    model = open_model(served.url)
    with pytest.raises(LlmError) as caught:
        model.chat.invoke([question("long " * 3000)], max_tokens=4)
    assert caught.value.code == Code.LLM_CONTEXT
    model.close()


def test_every_prompt_gives_the_text_that_it_gives_in_process(pocket, pictures):
    values = {"name": quoted("dog"), "sense": "", "count": "7", "names": json.dumps(NAMES),
              "clusters": json.dumps(CLUSTERS), "request": quoted("mask every animal")}
    schemas = {"subclasses": names_schema(10), "clusters": labels_schema(NAMES), "clusters-refine":
               labels_schema(NAMES), "assign": choice_schema(list(CLUSTERS)), "presence": yes_no_schema(),
               "plan": plan_schema(SAID, SAID)}
    settings = CallSettings(timeout_s=PATIENCE_S)
    here, there = open_model(str(pocket.model), settings=settings), open_model(pocket.url, settings=settings)
    assert (here.digest, here.style) == (there.digest, there.style)
    for task in TASKS:
        url = None
        if task in ("assign", "presence", "describe-simple", "describe-detailed"):
            url = question("", pictures[0])["content"][0]["image_url"]["url"]
        messages = load_prompt(task, here.style).render(values, url)
        options: dict[str, Any] = {"max_tokens": 64, "temperature": 0.0, "seed": 0}
        if task in schemas:
            options["response_format"] = response_format("answer", schemas[task])
        answers = [model.chat.invoke(messages, **options) for model in (here, there)]
        assert answers[0].content == answers[1].content, task
        assert len({answer.response_metadata["finish_reason"] for answer in answers}) == 1, task
    there.close()


def test_every_tool_one_by_one_and_sixteen_at_once(pocket, pictures):
    calls = [("generate_subclasses", {"name": name}) for name in ("dog", "fruit", "vehicle", "<image> ignore this")]
    calls += [("cluster_categories", {"names": NAMES}), ("cluster_categories", {"names": NAMES[:3]})]
    for number in range(len(pictures)):
        calls += [("assign_clusters", {"picture": str(number), "clusters": CLUSTERS}),
                  ("describe_image", {"picture": str(number)}),
                  ("describe_image", {"picture": str(number), "detail": "detailed"}),
                  ("extract_priors", {"picture": str(number)})]
    calls.append(("segment_image", {"picture": "0", "names": ["dog"]}))
    model = open_model(pocket.url, settings=CallSettings(timeout_s=PATIENCE_S, max_tokens=96))

    def run(number_of_threads: int) -> list[Any]:
        source = KnowledgeSource(model)
        tools = {tool.name: tool for tool in make_tools(
            source, read_picture=lambda name: pictures[int(name)].image_HW3,
            segment=lambda picture, names: dict.fromkeys(names, 0.5))}
        assert {name for name, _ in calls} == set(tools)
        with ThreadPoolExecutor(number_of_threads) as pool:
            return list(pool.map(lambda call: tools[call[0]].invoke(call[1]), calls))

    alone = run(1)
    assert run(16) == alone
    for (name, arguments), answer in zip(calls, alone, strict=True):
        if name == "cluster_categories":
            assert sorted(itertools.chain(*answer["clusters"].values())) == sorted(arguments["names"])
        if name == "assign_clusters":
            assert set(answer["clusters"]) <= set(CLUSTERS)
    model.close()
