"""Any text, however odd, becomes pieces of plain prose that a parser reads in bounded time."""

from __future__ import annotations

import html
import json
import re
import unicodedata

from parsers.priors import Reason
from parsers.scene_words import word_set

MAX_CHARACTERS = 60_000
"""Of a longer text the first part is read. A description by a language model has some 2,000."""
MAX_WORDS = 8_000
MAX_PIECE_WORDS = 200
"""Words that the parser sees at once; longer lines are cut, at the end of a sentence where there is one."""
MAX_PIECES = 400
MAX_WORD_LENGTH = 45
"""Characters. What is longer is no word of a description and is left out."""

_BLOCK_TAG = re.compile(r"</?(?:p|br|div|li|ul|ol|h[1-6]|tr|td|th|table|section|article)\b[^<>]{0,300}>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z!][^<>]{0,300}>")
_BULLET = re.compile(r"^\s{0,20}(?:[-*+•#>]{1,6}|\d{1,3}[.)])\s+")
_MARKUP = re.compile(r"[*_`|~^\\{}\[\]<>=\"“”]+")
_QUOTES = str.maketrans({"’": "'", "‘": "'", "–": "-", "—": ",", "…": ".", "\u00ad": "", "\u200b": ""})
_JSON_LIKE = re.compile(r"\s{0,50}[\[{]")
_JSON_KEY = re.compile(r"[\"']\s{0,5}:")

FOREIGN_WORDS = {
    "German": "der das und ist ein eine einen einem einer mit auf von im dem den zwei sind nicht unter neben",
    "French": "le la les un une des et est sur avec dans du deux qui sont aux au est près",
    "Spanish": "el la los las un una y es está en con del dos son sobre junto por al",
    "Italian": "il lo la gli un una e è di con del della due sono sul sulla nel",
    "Portuguese": "o os as um uma e é está em com do da dois são no na ao",
    "Dutch": "de het een en is op met van twee zijn naast onder voor niet",
}
"""Frequent small words of other languages in Latin letters."""
ENGLISH_WORDS = word_set("the a an and is are on in of with to at by from his her its their there has have near "
                         "under next some two no not this that it he she they wearing holding sitting standing")
_FOREIGN = {language: frozenset(words.split()) - ENGLISH_WORDS for language, words in FOREIGN_WORDS.items()}


def read_text(text: str) -> tuple[list[str], Reason | None]:
    """The prose of `text` in pieces of one line or less, and why there is none or not all of it."""
    text = text.strip()
    if not text:
        return [], "empty-text"
    reason: Reason | None = "too-long" if len(text) > MAX_CHARACTERS else None
    start = text[:MAX_CHARACTERS]
    if _is_json(start):
        return [], "not-prose"
    lines = [_plain(line) for line in _without_tags(start).splitlines()]
    lines = [line for line in lines if any(char.isalpha() for char in line)]
    if not lines:
        return [], "no-words"
    letters = [char for line in lines for char in line if char.isalpha()]
    if sum(_is_latin(char) for char in letters) * 2 <= len(letters):
        return [], "not-latin"
    words = [[word for word in line.split() if _is_readable(word)] for line in lines]
    if _is_foreign({word.lower() for line in words for word in line}, words):
        return [], "not-english"
    pieces: list[str] = []
    total = 0
    for line in (clause for whole in words for clause in _clauses(whole)):
        for piece in _cut(line):
            total += len(piece)
            if total > MAX_WORDS or len(pieces) >= MAX_PIECES:
                return pieces, "too-long"
            pieces.append(" ".join(piece))
    return pieces, reason


def scalar_text(text: str) -> str:
    """`text` with halves of surrogate pairs replaced, which no UTF-8 file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _is_json(text: str) -> bool:
    if not _JSON_LIKE.match(text):
        return False
    if _JSON_KEY.search(text[:2000]):
        return True
    try:
        return isinstance(json.loads(text), list | dict)
    except RecursionError:
        return True
    except ValueError:
        return False


def _without_tags(text: str) -> str:
    if "<" in text:
        text = _TAG.sub("", _BLOCK_TAG.sub("\n", text))
    return html.unescape(text) if "&" in text else text


def _plain(line: str) -> str:
    """One line without bullets, markup, control characters and pictographs; small variants of letters made plain."""
    line = unicodedata.normalize("NFKC", line).translate(_QUOTES)
    line = _BULLET.sub("", line, count=1)
    line = "".join(" " if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "So", "Sk", "Zs", "Zl", "Zp")
                   else char for char in line)
    return _MARKUP.sub(" ", line)


def _is_latin(char: str) -> bool:
    return ord(char) < 0x250 or 0x1E00 <= ord(char) < 0x1F00


def _is_readable(word: str) -> bool:
    return len(word) <= MAX_WORD_LENGTH and all(_is_latin(char) for char in word if char.isalpha())


def _is_foreign(distinct: set[str], lines: list[list[str]]) -> bool:
    """Whether small words of one other language are more frequent than English ones."""
    if not any(len(distinct & words) >= 2 for words in _FOREIGN.values()):
        return False
    flat = [word.lower().strip(".,;:!?") for line in lines for word in line]
    english = sum(word in ENGLISH_WORDS for word in flat)
    return any(len(distinct & words) >= 2 and sum(word in words for word in flat) > english
               for words in _FOREIGN.values())


def _clauses(words: list[str]) -> list[list[str]]:
    """A line cut after each semicolon, which parsers take for a comma."""
    ends = [i + 1 for i, word in enumerate(words) if word.endswith(";") and i + 1 < len(words)]
    return [words[start:end] for start, end in zip([0, *ends], [*ends, len(words)], strict=True)]


def _cut(words: list[str]) -> list[list[str]]:
    """Pieces that a parser sees at once: cut after a sentence, else before "and" or after a comma, else anywhere."""
    pieces = []
    while len(words) > MAX_PIECE_WORDS:
        half = range(MAX_PIECE_WORDS // 2, MAX_PIECE_WORDS)
        ends = [i + 1 for i in half if words[i].endswith((".", "!", "?"))]
        ends = ends or [i if words[i] == "and" else i + 1 for i in half if words[i] == "and" or words[i].endswith(",")]
        end = ends[-1] if ends else MAX_PIECE_WORDS
        pieces.append(words[:end])
        words = words[end:]
    return [*pieces, words] if words else pieces
