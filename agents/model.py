"""The chat models that come with the product: a server with the OpenAI interface, and the pocket LLaVA in process."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agents.card import find_llm, load_llm_card
from agents.offline import require_offline
from agents.prompt import Style
from agents.settings import CallSettings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModel:
    """A chat model of LangChain, and what the tools have to know of it.

    The tools call `chat.invoke(messages, response_format=..., max_tokens=..., temperature=..., seed=...)`, where
    `response_format` ({"type": "json_schema", "json_schema": {"name", "strict", "schema"}}) is left out for prose, and
    read `content` and `response_metadata["finish_reason"]` ("stop", or "length" for an answer that was cut).
    """

    chat: BaseChatModel
    name: str
    """What provenance and messages call it."""
    digest: str
    """Hexadecimal sha256 of what the answers depend on; a part of their keys in the store."""
    style: Style
    """The prompts that it understands."""
    sees_images: bool
    settings: CallSettings
    terms: tuple[str, ...]
    """Names that it uses as one word."""
    views: int
    """How often it describes a picture where nobody says how often."""
    slots: threading.BoundedSemaphore = field(repr=False)
    """One for each call in flight."""

    def close(self) -> None:
        """Gives up connections to a server, if there are any."""
        if callable(close := getattr(self.chat, "close", None)):
            close()


def open_model(llm: str, *, name: str | None = None, style: Style | None = None, api_key: str | None = None,
               settings: CallSettings | None = None) -> LanguageModel:
    """The language model `llm`: `pocket`, a model directory, or the URL of a server with the OpenAI interface; several
    URLs with commas between them are servers of one model, which are asked in turn.

    name: which model of the server; may be left out where it serves one. style: which prompts; by default what the
    `model.json` of the model says, else `few-shot`. api_key: only for servers that want one.

    Raises ModelError for a directory, LlmError for a server (absent, without that model), MissingPackageError.
    """
    require_offline()
    settings = settings or CallSettings()
    if "," in llm and "://" in llm:
        from agents.pool import open_pool

        return open_pool([url.strip() for url in llm.split(",") if url.strip()], name=name, style=style,
                         api_key=api_key, settings=settings)
    if "://" in llm:
        from agents.endpoint import open_endpoint

        return open_endpoint(llm, name=name, style=style, api_key=api_key, settings=settings)
    directory = find_llm(llm)
    card = load_llm_card(directory)
    from agents.pocket import load_chat

    return LanguageModel(chat=load_chat(directory, settings), name=card.name, digest=card.digest,
                         style=style or card.prompt_style, sees_images=card.sees_images, settings=settings,
                         terms=card.terms, views=card.views,
                         slots=threading.BoundedSemaphore(settings.concurrency))
