"""A server with the OpenAI interface, such as vLLM, as a chat model that fails with our errors."""

from __future__ import annotations

import agents.offline  # isort: skip  # noqa: F401  # before the libraries below

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from agents.card import CARD_FILE, LanguageModelCard, load_llm_card
from agents.model import LanguageModel
from agents.prompt import Style
from agents.settings import CallSettings
from parsers.errors import Code, LexisegError, LlmError, MissingPackageError, ModelError, SettingError
from parsers.files import canonical_json, sha256_bytes
from parsers.names import shorten

try:
    import httpx2
    from langchain_core.language_models import BaseChatModel
    from langchain_core.outputs import ChatResult
    from langchain_openai import ChatOpenAI

    from agents.transport import BoundedTransport
except ImportError as error:
    raise MissingPackageError(Code.PACKAGE_MISSING, f"Language models need a package that is not installed: {error}.",
                              "", "pip install 'lexiseg[agents]'") from error

T = TypeVar("T")
FIRST_WAIT_S = 0.25
"""Before the second attempt; doubled before each further one."""
LONGEST_WAIT_S = 30.0
"""Also where a server asks for more ("Retry-After")."""
START = "lexiseg doctor says what is here; docs/agents.md tells how to start a server."


class EndpointChat(ChatOpenAI):
    """ChatOpenAI that tries again only after a lost connection, 5xx and 429, and raises LlmError.

    A time-out, which is of a whole attempt, is not tried again: a server that is too slow gets slower by it. An answer
    that was cut at `max_tokens` is an answer, with the finish reason "length". Request and result are those of
    ChatOpenAI; what is between them goes through its HTTP client at once: OpenAI's own client takes twice as long, and
    its `parse` refuses answers that were cut.
    """

    attempts: int = 4

    def _generate(self, messages: list[Any], stop: list[str] | None = None, run_manager: Any = None,
                  **kwargs: Any) -> ChatResult:
        body = self._get_request_payload(messages, stop=stop, **kwargs)
        return with_retries(lambda: self._ask(body), self.attempts, str(self.openai_api_base), self.model_name)

    def close(self) -> None:
        """Gives up the connections."""
        self.http_client.close()

    def _ask(self, body: dict[str, Any]) -> ChatResult:
        answer = self.http_client.post("chat/completions", json=body).raise_for_status().json()
        if not isinstance(answer, dict) or not answer.get("choices"):
            raise ValueError("the answer is no chat completion")
        return self._create_chat_result(answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The model of a server."""

    name: str
    digest: str
    """Hexadecimal sha256 of what its answers depend on."""
    card: LanguageModelCard | None
    """Of the model's directory, if that is on this machine."""


def open_endpoint(url: str, *, name: str | None, style: Style | None, api_key: str | None,
                  settings: CallSettings) -> LanguageModel:
    """See `agents.model.open_model`. Asks the server once which models it serves."""
    base_url = checked_url(url)
    chat = make_chat(base_url, name or "", api_key, settings)
    try:
        served = served_model(chat, base_url, name)
    except LexisegError:
        chat.close()
        raise
    chat.model_name = served.name
    return language_model(chat, served, style, settings)


def served_model(chat: EndpointChat, base_url: str, name: str | None) -> Served:
    """The model of that name, or the only one, of a server. Raises LlmError.

    vLLM tells where the model's directory is. If that is on this machine and has a `model.json`, prompts and digest are
    as for the same model in process; else the digest is of the name and what the server says of the model.
    """
    served = served_models(chat, base_url)
    name = chosen_name(name, served, base_url)
    card = local_card(served[name].get("root"))
    return Served(name=name, card=card,
                  digest=card.digest if card else sha256_bytes(canonical_json({"id": name, **served[name]})))


def language_model(chat: BaseChatModel, served: Served, style: Style | None, settings: CallSettings) -> LanguageModel:
    """The model of one server, or of several."""
    card = served.card
    return LanguageModel(chat=chat, name=served.name, digest=served.digest,
                         style=style or (card.prompt_style if card else "few-shot"),
                         sees_images=card is None or card.sees_images, settings=settings,
                         terms=card.terms if card else (), views=card.views if card else 1,
                         slots=threading.BoundedSemaphore(settings.concurrency))


def chosen_name(name: str | None, served: Mapping[str, Any], base_url: str) -> str:
    """`name`, or the only model where none is given. Raises LlmError (`llm-model-missing`)."""
    if name is None and len(served) == 1:
        return next(iter(served))
    if name is None or name not in served:
        given = f"{base_url} serves no model {shorten(name)}." if name else f"{base_url} serves {len(served)} models."
        raise LlmError(Code.LLM_MODEL_MISSING, given, f"It serves: {', '.join(map(shorten, served)) or 'none'}.",
                       "Give one of these names with --llm-model or LEXISEG_LLM_MODEL.")
    return name


def make_chat(base_url: str, name: str, api_key: str | None, settings: CallSettings) -> EndpointChat:
    """No connection is made. Proxies and keys in the environment are not looked at: what is sent goes to `base_url`."""
    client = httpx2.Client(base_url=base_url, timeout=settings.timeout_s, trust_env=False,
                           headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
                           transport=BoundedTransport(httpx2.Limits(max_keepalive_connections=settings.concurrency)))
    return EndpointChat(model=name, base_url=base_url, api_key=api_key or "none", max_retries=0, openai_proxy="",
                        temperature=settings.temperature, seed=settings.seed, http_client=client,
                        http_socket_options=(), attempts=settings.retries + 1, use_responses_api=False,
                        stream_usage=False)


def checked_url(url: str) -> str:
    """The base URL as the client wants it. "/v1" is added where there is no path. Raises SettingError."""
    parts = urlsplit(url)
    try:
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_web = False
    if not is_web or parts.query or parts.fragment:
        raise SettingError(Code.SETTING_INVALID, f"The language model's address is {shorten(url)}.",
                           "http:// or https://, a host and a port.", "For example: --llm http://127.0.0.1:8000/v1")
    return url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")


def served_models(chat: EndpointChat, base_url: str) -> dict[str, dict[str, Any]]:
    """Model name to what the server says of it that is the same after it was started again. Raises LlmError."""
    def ask() -> dict[str, dict[str, Any]]:
        models = chat.http_client.get("models").raise_for_status().json()["data"]
        return {str(model["id"]): {key: model[key] for key in ("root", "max_model_len") if key in model}
                for model in models}

    return with_retries(ask, chat.attempts, base_url, None)


def local_card(root: Any) -> LanguageModelCard | None:
    """The card of the directory that a server names as its model's, if it is on this machine and has one."""
    if not isinstance(root, str) or not (Path(root) / CARD_FILE).is_file():
        return None
    try:
        return load_llm_card(Path(root))
    except ModelError:
        return None


def with_retries(ask: Callable[[], T], attempts: int, where: str, model: str | None) -> T:
    """What `ask` returns, tried `attempts` times where trying again may help. Raises LlmError."""
    for attempt in range(1, attempts + 1):
        try:
            return ask()
        except Exception as error:  # what a broken answer raises is not documented
            wait = wait_before_retry(error, attempt)
            if wait is None or attempt == attempts:
                raise explained(error, where, model, attempt) from error
            time.sleep(wait)
    raise AssertionError("attempts is at least 1")


def wait_before_retry(error: Exception, attempt: int) -> float | None:
    """Seconds to wait before another attempt; None for errors that another attempt does not mend."""
    wait = FIRST_WAIT_S * 2 ** (attempt - 1)
    if isinstance(error, httpx2.TimeoutException):
        return None
    if isinstance(error, httpx2.TransportError):
        return min(wait, LONGEST_WAIT_S)
    if isinstance(error, httpx2.HTTPStatusError) and _may_pass(error.response.status_code):
        asked = error.response.headers.get("retry-after", "")
        return min(float(asked) if _SECONDS.fullmatch(asked) else wait, LONGEST_WAIT_S)
    return None


def explained(error: Exception, where: str, model: str | None, attempts: int) -> LexisegError:
    """Our error for one of the client's."""
    if isinstance(error, LexisegError):
        return error
    tries = f" ({attempts} attempts)" if attempts > 1 else ""
    if isinstance(error, httpx2.TimeoutException):
        return LlmError(Code.LLM_UNAVAILABLE, f"The language model at {where} did not answer in time.",
                        "", "Give it more time with --llm-timeout, or ask for less at once with --llm-parallel.")
    if isinstance(error, httpx2.TransportError):
        return LlmError(Code.LLM_UNAVAILABLE, f"No language model answers at {where}{tries}: "
                        f"{shorten(str(error), 120)}.", "A server with the OpenAI interface, or --llm pocket.", START)
    if not isinstance(error, httpx2.HTTPStatusError):
        return LlmError(Code.LLM_PROTOCOL, f"What {where} answers is not what the OpenAI interface says: "
                        f"{type(error).__name__}: {shorten(str(error), 120)}.", "A server such as vLLM.", START)
    status, said = error.response.status_code, _message(error.response)
    if _may_pass(status):
        return LlmError(Code.LLM_UNAVAILABLE, f"The language model at {where} fails with {status}{tries}: "
                        f"{said}.", "", "Look at the server's log, or ask for less at once with --llm-parallel.")
    if status == 404 and model is not None:
        return LlmError(Code.LLM_MODEL_MISSING, f"{where} does not serve {shorten(model)}: {said}.",
                        "A model that it serves.", "Give its name with --llm-model or LEXISEG_LLM_MODEL.")
    if _CONTEXT.search(said):
        return LlmError(Code.LLM_CONTEXT, f"The question with its picture is too long for {shorten(model or '')}: "
                        f"{said}.", "", "Give fewer names at once, or serve the model with a larger context.")
    if _BLIND.search(said):
        return blind_error(model or where)
    return LlmError(Code.LLM_REFUSED, f"The language model at {where} refuses the request ({status}): "
                    f"{said}.", "", "Check --llm, --llm-model and LEXISEG_LLM_KEY.")


def blind_error(model: str) -> LlmError:
    """The error for a text-only model that is asked about a picture."""
    return LlmError(Code.LLM_BLIND, f"The language model {shorten(model)} takes no pictures.",
                    "A model that sees, such as LLaVA-Phi2.", "Give another --llm or --llm-model.")


def _may_pass(status: int) -> bool:
    return status == 429 or status >= 500


def _message(response: httpx2.Response) -> str:
    """What a server says is wrong."""
    try:
        body = response.json()
    except ValueError:
        body = None
    error = body.get("error", body) if isinstance(body, dict) else None
    said = error.get("message") if isinstance(error, dict) else error
    return shorten(" ".join(str(said or response.text or response.reason_phrase).split()), 200)


_SECONDS = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,3})?")
_CONTEXT = re.compile(r"context length|context window|maximum model length|max_model_len|too many tokens|"
                      r"longer than the maximum|exceed(?:s|ed)? the (?:available )?context", re.IGNORECASE)
_BLIND = re.compile(r"\bnot (?:a )?(?:multi-?modal|vision)\b|\bat most 0 image|\bimage_url is (?:not|only) supported|"
                    r"\bdo(?:es)?(?: not|n't) (?:support|accept|take) (?:image|vision|multi-?modal)|"
                    r"\b(?:image|vision|multi-?modal)s?(?: inputs?| data| content)? (?:is|are) not supported",
                    re.IGNORECASE)
"""What servers say of a picture for a text-only model; bare words would also be those of a class ("television")."""
