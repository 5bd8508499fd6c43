"""The pocket LLaVA-Phi2 in process: a chat model of LangChain, and the network under it.

    chat = load_chat(Path("models/pocket/llava-phi2"), CallSettings())
    chat.invoke([{"role": "user", "content": "Name 7 kinds of \\"bird\\"."}], response_format=..., max_tokens=64)
"""

from __future__ import annotations

from agents.pocket.chat import PocketChat, load_chat

__all__ = ["PocketChat", "load_chat"]
