"""One call of a chat model: messages in, text out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agents.model import LanguageModel
from agents.prompt import Message
from agents.schemas import Schema, response_format


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """What a model wrote."""

    text: str
    is_cut: bool = False
    """It ends at the limit of tokens, in the middle of something."""


def complete(model: LanguageModel, messages: list[Message], *, task: str, schema: Schema | None, max_tokens: int,
             temperature: float) -> RawAnswer:
    """Asks once. No more than `model.settings.concurrency` calls are in flight; more wait for their turn.

    Raises LlmError where the server fails.
    """
    options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "seed": model.settings.seed}
    if schema is not None:
        options["response_format"] = response_format(task.replace("-", "_"), schema)
    with model.slots:
        message = model.chat.invoke(messages, **options)
    content = message.content
    text = content if isinstance(content, str) else "".join(
        block if isinstance(block, str) else str(block.get("text", "")) for block in content)
    return RawAnswer(text, message.response_metadata.get("finish_reason") == "length")
