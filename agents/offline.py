"""Switches that keep libraries from calling home. They are read when a library is imported, so importing this module
sets them, and it is imported before any of them."""

from __future__ import annotations

import os

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
}


def go_offline() -> None:
    """Sets the switches for this process and the ones that it starts."""
    os.environ.update(SWITCHES)


def switches_off() -> list[str]:
    """The switches that are not set as they should be."""
    return [name for name, value in SWITCHES.items() if os.environ.get(name) != value]


go_offline()
