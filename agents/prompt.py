"""Prompts: readable files with the turns of a conversation, of which the last is the question.

agents/prompts/STYLE/TASK.txt looks like this; lines before the first turn are comments:

    Kinds of a class. $name: the class, in quotes. $sense: its meaning in brackets, or nothing. $count: how many.
    [user]
    Class: "fruit" (the part of a plant that is eaten). Kinds: 3
    [assistant]
    {"names": ["apple", "banana", "pear"]}
    [user]
    Class: $name$sense. Kinds: $count

There are two styles: `few-shot` explains and gives solved examples, for any chat model; `short` is the one question
that the pocket model was trained on. Turns are user and assistant only: many chat templates know no system turn.

What people type is put in as a quoted text in which "<" and ">" are escapes, so that it can be neither a turn, nor a
special token of a tokenizer, nor a placeholder of a picture.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, Literal

from parsers.answer_text import clean_text
from parsers.files import canonical_json, sha256_bytes

Style = Literal["few-shot", "short"]
Role = Literal["user", "assistant"]
Message = dict[str, Any]
"""{"role": "user", "content": a text, or a list of content blocks}, as chat models of LangChain take them."""

FOLDER = Path(__file__).resolve().parent / "prompts"
TASKS = ("subclasses", "clusters", "clusters-refine", "assign", "describe-simple", "describe-detailed", "presence",
         "plan")
"""Names of the prompt files. Their placeholders: subclasses $name $sense $count; clusters $names; clusters-refine
$names $clusters; assign $clusters; presence $name; plan $request; the descriptions none. assign, the descriptions and
presence come with a picture."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The turns of a prompt file, with placeholders."""

    task: str
    style: Style
    turns: tuple[tuple[Role, str], ...]

    @property
    def digest(self) -> str:
        """Hexadecimal sha256 of the turns. Comments do not count."""
        return sha256_bytes(canonical_json(self.turns))

    def render(self, values: Mapping[str, str], picture_url: str | None = None) -> list[Message]:
        """The messages of a call. values: placeholder to text (`quoted` for what a person typed). picture_url: a data
        URI; the picture stands before the text of the last turn. Raises KeyError for a placeholder without value."""
        messages: list[Message] = [{"role": role, "content": Template(text).substitute(values)}
                                   for role, text in self.turns]
        if picture_url is not None:
            question = messages[-1]["content"]
            messages[-1]["content"] = [{"type": "image_url", "image_url": {"url": picture_url}},
                                       {"type": "text", "text": question}]
        return messages


@cache
def load_prompt(task: str, style: Style) -> Prompt:
    """The prompt of a task (one of TASKS). Raises FileNotFoundError or ValueError: a defect of the installation."""
    text = (FOLDER / style / f"{task}.txt").read_text(encoding="utf-8")
    _, *parts = _TURN.split(text)
    turns = tuple((_role(role), body.strip()) for role, body in zip(parts[::2], parts[1::2], strict=True))
    if not turns or turns[-1][0] != "user":
        raise ValueError(f"The last turn of the prompt {style}/{task} is no [user].")
    return Prompt(task, style, turns)


def quoted(value: str | Sequence[str] | Mapping[str, Sequence[str]]) -> str:
    """What a person typed, or a list or groups of it, as JSON for a prompt. Quotes, line ends and the angle brackets of
    special tokens are escapes in it."""
    if isinstance(value, str):
        value = clean_text(value)
    text = json.dumps(value if isinstance(value, str | Mapping) else list(value), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def sense(gloss: str | None) -> str:
    """The value of $sense: a gloss in brackets after a blank, or nothing."""
    return f" ({quoted(' '.join(gloss.split())[:MAX_GLOSS])[1:-1]})" if gloss and gloss.strip() else ""


def _role(word: str) -> Role:
    return "assistant" if word == "assistant" else "user"


MAX_GLOSS = 300
"""Characters of a gloss that a prompt holds."""
_TURN = re.compile(r"^\[(user|assistant)\]\n", re.MULTILINE)
