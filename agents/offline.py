"""Switches that keep libraries from calling home. They are read when a library is imported, so importing this module
sets them, and it is imported before any of them. A program latches them at its start: whoever changes one afterwards, a
library or we ourselves, is refused."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SWITCHES = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "LANGSMITH_TRACING": "false",
    "LANGSMITH_TRACING_V2": "false",
    "LANGCHAIN_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGGRAPH_STRICT_MSGPACK": "true",
    "OTEL_SDK_DISABLED": "true",
    "FASTAPI_OTEL_AUTO_CONFIGURE": "false",
}
LIBRARIES = {("huggingface_hub.constants", "HF_HUB_OFFLINE"): True,
             ("huggingface_hub.constants", "HF_HUB_DISABLE_TELEMETRY"): True,
             ("datasets.config", "HF_HUB_OFFLINE"): True}
"""What libraries that are loaded made of the switches: module and name to the value that it must have."""
_DOWNLOADS = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_ENCODED = {os.fsencode(name): os.fsencode(value) for name, value in SWITCHES.items()}
_state = {"hooked": False, "held": False}


def go_offline() -> None:
    """Sets the switches for this process and the ones that it starts. Tokenizers get no threads, which a fork would
    break; that one is not held, since transformers sets it itself now and then."""
    os.environ.update(SWITCHES)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def switches_off() -> list[str]:
    """The switches that are not set as they should be, in the environment and in libraries that are loaded."""
    wrong = [name for name, value in SWITCHES.items() if os.environ.get(name) != value]
    for (module, name), value in LIBRARIES.items():
        if module in sys.modules and getattr(sys.modules[module], name, value) is not value:
            wrong.append(f"{module}.{name}")
    return wrong


def latch() -> None:
    """Sets the switches and holds them until the process ends: changing or removing one in the environment raises
    SettingError (`offline-changed`). Children that Python starts by fork are held, too; others inherit the values."""
    go_offline()
    _state["held"] = True
    if not _state["hooked"]:
        _state["hooked"] = True
        sys.addaudithook(_refuse_change)


def is_latched() -> bool:
    return _state["held"]


def require_offline() -> None:
    """Raises SettingError (`offline-changed`) where a switch is not as it was set. Called before a model is loaded."""
    if wrong := switches_off():
        raise _changed(f"{', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} not set to stay offline.")


@contextmanager
def connected() -> Iterator[None]:
    """Lets this process download for the length of the block. For `lexiseg models pull` alone.

    Raises SettingError where the library that downloads was loaded before, since it reads the switches only then.
    """
    if "huggingface_hub.constants" in sys.modules:
        raise _changed("huggingface_hub was loaded before the switches could be released.")
    was_held, before = _state["held"], {name: os.environ.get(name) for name in _DOWNLOADS}
    _state["held"] = False
    try:
        os.environ.update(dict.fromkeys(_DOWNLOADS, "0"))
        yield
    finally:
        os.environ.update({name: SWITCHES[name] if value is None else value for name, value in before.items()})
        _state["held"] = was_held


def _refuse_change(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: Python calls it before it changes the environment."""
    if event == "os.putenv" and _state["held"]:
        name, value = arguments
        if name in _ENCODED and value != _ENCODED[name]:
            raise _changed(f"Something sets {os.fsdecode(name)} to {os.fsdecode(value)[:40]!r}.")
    elif event == "os.unsetenv" and _state["held"] and arguments[0] in _ENCODED:
        raise _changed(f"Something removes {os.fsdecode(arguments[0])} from the environment.")


def _changed(given: str) -> Exception:
    from parsers.errors import Code, SettingError

    return SettingError(Code.OFFLINE_CHANGED, given, "The offline switches stay as they are set at the start.",
                        "Take out whatever changes it; only lexiseg models pull downloads (docs/air-gap.md).")


go_offline()
