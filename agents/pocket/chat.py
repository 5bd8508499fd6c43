"""A chat model of LangChain that answers in process, bound to JSON Schemas by xgrammar as the server's answers are.

One call runs at a time (a lock), in float32 on the CPU. Greedy answers equal those of vLLM in float32.
"""

from __future__ import annotations

import agents.offline  # noqa: F401  isort: skip  (switches are read when the libraries below are imported)

import base64
import binascii
import io
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from PIL import Image
from pydantic import ConfigDict, PrivateAttr

from agents.settings import CallSettings
from parsers.errors import Code, LlmError, MissingPackageError

GRAMMAR_CACHE = 32 << 20
"""Bytes of grammars that are kept for the next call with the same schema."""
PREFIX = "data:image/"


class PocketChat(BaseChatModel):
    """The chat model of a LLaVA directory. `invoke(messages, response_format=..., max_tokens=..., temperature=...,
    seed=...)` as OpenAI's interface has them; other options are refused.

    Raises ModelError, MissingPackageError (xgrammar, transformers) when made; LlmError from a call whose prompt is too
    long (`llm-context`) or holds what the model cannot read (`llm-refused`).
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    directory: Path
    settings: CallSettings
    _network: Any = PrivateAttr()
    _processor: Any = PrivateAttr()
    _compiler: Any = PrivateAttr()
    _context: int = PrivateAttr()
    _never: list[int] = PrivateAttr()
    """Special tokens but the end: a grammar takes them for the text that they are written as, and no answer shows
    them."""
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        xgrammar = _import_xgrammar()
        from transformers import AutoProcessor

        from agents.pocket.network import load_network

        self._network = load_network(self.directory)
        self._processor = AutoProcessor.from_pretrained(self.directory, local_files_only=True)
        text = self._network.config.text_config
        info = xgrammar.TokenizerInfo.from_huggingface(
            self._processor.tokenizer, vocab_size=text.vocab_size, stop_token_ids=[text.eos_token_id])
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_limit_bytes=GRAMMAR_CACHE)
        self._context = text.max_position_embeddings
        self._never = sorted({*self._processor.tokenizer.all_special_ids, self._network.config.image_token_id}
                             - {text.eos_token_id})

    @property
    def _llm_type(self) -> str:
        return "pocket-llava"

    def _generate(self, messages: list[BaseMessage], stop: list[str] | None = None,
                  run_manager: CallbackManagerForLLMRun | None = None, **options: Any) -> ChatResult:
        text, finish = self.answer(messages, **options)
        message = AIMessage(content=text, response_metadata={"finish_reason": finish})
        return ChatResult(generations=[ChatGeneration(message=message)])

    def answer(self, messages: Sequence[BaseMessage], *, response_format: Mapping[str, Any] | None = None,
               max_tokens: int | None = None, temperature: float | None = None,
               seed: int | None = None) -> tuple[str, str]:
        """The answer and why it ended: "stop", or "length" at the limit of tokens."""
        turns, pictures = _turns(messages)
        tokenizer = self._processor.tokenizer
        prompt = self._processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        inputs = self._processor(text=prompt, images=pictures or None, return_tensors="pt")
        length = inputs["input_ids"].shape[1]
        if length >= self._context:
            raise LlmError(Code.LLM_CONTEXT, f"The question has {length} tokens.",
                           f"{self.name or 'The pocket model'} holds {self._context} tokens, the answer included.",
                           "Ask about fewer names at once.")
        tokens = min(max_tokens or self.settings.max_tokens, self._context - length)
        heat = self.settings.temperature if temperature is None else temperature
        sampling: dict[str, Any] = {"do_sample": heat > 0, "suppress_tokens": self._never}
        if heat > 0:
            sampling |= {"temperature": heat, "top_k": 0, "top_p": 1.0}
        with self._lock, torch.inference_mode(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed if seed is None else seed)
            grammar = self._grammar(response_format)
            output = self._network.generate(**inputs, max_new_tokens=tokens, logits_processor=grammar, **sampling)
        ids = output[0, length:].tolist()
        end = self._network.config.text_config.eos_token_id
        if not ids or ids[-1] != end:
            return tokenizer.decode(ids), "length"
        return tokenizer.decode(ids[:-1]), "stop"  # a name may read like a special token: nothing else is left out

    def _grammar(self, response_format: Mapping[str, Any] | None) -> list[Any]:
        """What keeps an answer to its JSON Schema; nothing for prose."""
        if response_format is None or response_format.get("type") == "text":
            return []
        if response_format.get("type") != "json_schema":
            raise LlmError(Code.LLM_REFUSED, f"response_format is {response_format.get('type')!r}.",
                           "json_schema, or none for prose.", "Give a JSON Schema.")
        from xgrammar.contrib.hf import LogitsProcessor

        schema = response_format["json_schema"]["schema"]
        compiled = self._compiler.compile_json_schema(json.dumps(schema), any_whitespace=False, strict_mode=True)
        return [LogitsProcessor(compiled)]


def load_chat(directory: Path, settings: CallSettings | None = None) -> PocketChat:
    """The chat model of a LLaVA directory; raises as PocketChat does."""
    return PocketChat(directory=directory, settings=settings or CallSettings())


def _import_xgrammar() -> Any:
    try:
        import transformers  # noqa: F401
        import xgrammar
    except ImportError as error:
        raise MissingPackageError(Code.PACKAGE_MISSING, f"The package {error.name} is not installed.",
                                  "The pocket language model needs the extra `pocket`.",
                                  'pip install "lexiseg[pocket,vision]"') from error
    return xgrammar


def _turns(messages: Sequence[BaseMessage]) -> tuple[list[dict[str, Any]], list[Image.Image]]:
    """Messages as the chat template takes them (it knows two roles, user and assistant), and their pictures."""
    turns, pictures = [], []
    for message in messages:
        if not isinstance(message, HumanMessage | AIMessage):
            raise LlmError(Code.LLM_REFUSED, f"A message has the role {message.type}.",
                           "The pocket model knows the roles user and assistant.", "Put it into the user's message.")
        if isinstance(message.content, str):
            content: Any = _plain(message.content)
        else:
            content = []
            for block in message.content:
                if isinstance(block, str) or block.get("type") == "text":
                    content.append({"type": "text", "text": _plain(block if isinstance(block, str) else block["text"])})
                elif block.get("type") == "image_url":
                    given = block["image_url"]
                    pictures.append(_picture(given["url"] if isinstance(given, dict) else given))
                    content.append({"type": "image"})
                else:
                    raise LlmError(Code.LLM_REFUSED, f"A message has a part of the type {block.get('type')}.",
                                   "Texts, and pictures as image_url.", "Leave the part out.")
        turns.append({"role": "user" if isinstance(message, HumanMessage) else "assistant", "content": content})
    return turns, pictures


def _plain(text: str) -> str:
    """A text without the special tokens of the tokenizer, which would stand for pictures and ends of turns."""
    for word in ("<image>", "<|endoftext|>", "<pad>"):
        text = text.replace(word, word.strip("<|>"))
    return text


def _picture(url: str) -> Image.Image:
    """The picture of a data URI; nothing is ever fetched. Raises LlmError."""
    try:
        if not url.startswith(PREFIX):
            raise ValueError("it is no data URI of a picture")
        with Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2], validate=True))) as picture:
            return picture.convert("RGB")
    except (ValueError, OSError, binascii.Error, Image.DecompressionBombError) as error:
        raise LlmError(Code.LLM_REFUSED, f"A picture of a message cannot be read: {error}.",
                       "A data URI such as data:image/png;base64,...", "Use agents.picture to make it.") from error
