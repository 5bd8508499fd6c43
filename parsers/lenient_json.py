"""JSON as language models write it: read in one pass, with the slips that are harmless put right.

Why our own: strict parsers refuse what a person reads without thinking, and of the lenient ones that exist json5
forgives too little, and json_repair (0.64) takes a time that grows with the square of the text and does not tell what
was cut off. This reader sees each character a few times at most, keeps its own stack, and says whether the text ended
in the middle.

What is put right: single, typographic or missing quotes; raw control characters and unescaped quotes inside strings;
unknown escapes; comments (//, #, /* */); commas that are missing, doubled or trailing; "..." in place of more; True,
None and the like; a bracket of the wrong kind; a text that ends before its brackets are closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 32
"""Brackets within brackets; answers have two or three levels."""
MAX_STARTS = 64
"""Brackets of one text at which a value is looked for, so that a text full of brackets costs no more than others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A list or mapping inside a text."""

    value: list[Any] | dict[str, Any]
    """Lists, mappings, texts, numbers, booleans and None."""
    start: int
    end: int
    """The characters it takes: text[start:end]."""
    complete: bool
    """False if the text ends before the value does; what was cut off in the middle is left out."""
    is_quoted: bool
    """True if it holds a text in quotes. Brackets without any may be prose [like these]."""


def find_values(text: str) -> Iterator[Found]:
    """The lists and mappings in `text` that are not inside another, in order. Nothing for those nested deeper than
    MAX_DEPTH, and none after MAX_STARTS of them."""
    position = 0
    for _ in range(MAX_STARTS):
        opener = _OPENER.search(text, position)
        if opener is None:
            return
        reader = _Reader(text, opener.start())
        if (found := reader.read()) is not None:
            yield found
        position = reader.position


class _Reader:
    """Reads one list or mapping. Every method moves `position` forward and none of them backward."""

    def __init__(self, text: str, start: int) -> None:
        self.text, self.start, self.position = text, start, start
        self.is_quoted = False

    def read(self) -> Found | None:
        """The value at the start, or None if it is nested too deeply. `position` is behind it then."""
        root: list[Any] = []
        open_values: list[Any] = [root]
        keys: list[str | None] = [None]  # per open mapping the key whose value comes next
        while True:
            char = self._skip_blanks()
            inside, key = open_values[-1], keys[-1]
            if not char:
                break
            if char in "[{":
                if len(open_values) > MAX_DEPTH:
                    self.position = len(self.text)
                    return None
                known = inside.get(key) if isinstance(inside, dict) else None
                joined = char == "[" and isinstance(known, list)  # a key that is given twice
                value: Any = known if joined else [] if char == "[" else {}
                _put(inside, key, value)
                keys[-1] = None
                open_values.append(value)
                keys.append(None)
                self.position += 1
            elif char in "]}":
                self.position += 1
                if isinstance(inside, dict) and key is not None:
                    _put(inside, key, None)
                kind = list if char == "]" else dict
                fitting = next((depth for depth in range(len(open_values) - 1, 0, -1)
                                if isinstance(open_values[depth], kind)), len(open_values) - 1)
                del open_values[fitting:], keys[fitting:]
                if len(open_values) == 1:
                    break
            elif char in ",:;":
                self.position += 1
                if char != ":" and isinstance(inside, dict) and key is not None:
                    _put(inside, key, None)
                    keys[-1] = None
            else:
                item, whole = self._read_scalar(char, is_key=isinstance(inside, dict) and key is None)
                if not whole:
                    break
                if isinstance(inside, dict) and key is None:
                    keys[-1] = item if isinstance(item, str) else str(item)
                elif item is not ...:
                    _put(inside, key, item)
                    keys[-1] = None
        return Found(value=root[0], start=self.start, end=self.position, complete=len(open_values) == 1,
                     is_quoted=self.is_quoted)

    def _skip_blanks(self) -> str:
        """The next character that is neither white space nor part of a comment; "" at the end."""
        while blank := _BLANK.match(self.text, self.position):
            self.position = blank.end()
        return self.text[self.position:self.position + 1]

    def _read_scalar(self, char: str, is_key: bool) -> tuple[Any, bool]:
        """A text, number, boolean or None, and whether it is whole; `...` for an ellipsis."""
        if char in QUOTES:
            self.is_quoted = True
            return self._read_text(QUOTES[char])
        bare = (_BARE_KEY if is_key else _BARE).match(self.text, self.position)
        assert bare is not None  # the pattern takes at least one character, whatever it is
        self.position = bare.end()
        word = bare[0].strip()
        return _BARE_WORDS.get(word.lower(), _number(word)), self.position < len(self.text)

    def _read_text(self, closing: str) -> tuple[str, bool]:
        """The text up to the quote that closes it, which is one that the text can go on after."""
        parts = []
        position = self.position + 1
        while (end := _TEXT_END[closing].search(self.text, position)) is not None:
            parts.append(self.text[position:end.start()])
            position = end.end()
            if end[0][0] != "\\":
                if _AFTER_TEXT.match(self.text, position):
                    self.position = position
                    return _clean("".join(parts)), True
                parts.append(end[0])
            elif code := end["code"]:
                parts.append(chr(int(code, 16)))
            else:
                parts.append(_ESCAPES.get(end[0][1:], end[0][1:]))
        self.position = len(self.text)
        return "", False


def _put(container: Any, key: str | None, value: Any) -> None:
    """Adds a value; of a key that is given twice the last one counts, as in JSON."""
    if isinstance(container, list):
        container.append(value)
    else:
        container[key] = value


def _number(word: str) -> Any:
    if _WHOLE.fullmatch(word):
        return int(word)
    return float(word) if _FRACTION.fullmatch(word) else word


def _clean(text: str) -> str:
    """`text` with surrogate pairs joined and single surrogates replaced: \\ud83d\\ude00 is one character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "„": "“", "‘": "’", "«": "»", "「": "」", "『": "』"}
"""Opening quotes to the closing ones."""
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""}
_BARE_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "none": None, "...": ..., "…": ...}
_OPENER = re.compile(r"[\[{]")
_BLANK = re.compile(r"\s+|//[^\n]*|\#[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/|\Z)")
_BARE = re.compile(r".[^,;\]}\n]*")
_BARE_KEY = re.compile(r".[^,;:\]}\n]*")
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_FRACTION = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?(?:[eE][+-]?[0-9]{1,3})?")
_TEXT_END = {closing: re.compile(rf"\\u(?P<code>[0-9a-fA-F]{{4}})|\\.|{closing}|\"" if closing == "”" else
                                 rf"\\u(?P<code>[0-9a-fA-F]{{4}})|\\.|{closing}", re.DOTALL)
             for closing in QUOTES.values()}
_AFTER_TEXT = re.compile(r"\s*(?:[,;:\]}\"'“„‘«「『\[{/#]|\Z)|[ \t]*\n")
"""What follows a text: a comma, a bracket, another text, a comment, the end of the line or of everything."""
