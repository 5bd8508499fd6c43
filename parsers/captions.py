"""A caption as the learned head sees it: lower-case tokens, and where they stand in the text."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

TOKEN = re.compile(r"\d+(?:[.,:/]\d+)*|\w+(?:-\w+)*|'\w+|[^\w\s]")
"""Numbers, words with inner hyphens, clitics ("'s"), and every other character by itself."""

AFFIX_ROWS = 1024
"""Rows of the tables of prefixes and of suffixes; affixes share rows by their CRC-32."""


@dataclass(frozen=True, slots=True)
class Caption:
    """A tokenised text. `starts` and `ends` are character positions in `text`, which is lower-case."""

    text: str
    tokens: tuple[str, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def span(self, first: int, last: int) -> str:
        """The text from token `first` to token `last`, both included, with single spaces."""
        return " ".join(self.text[self.starts[first]:self.ends[last]].split())


def read_caption(text: str) -> Caption:
    """Tokenises any text. Empty or blank text has no tokens."""
    lower = text.lower()
    found = [(match.group(), match.start(), match.end()) for match in TOKEN.finditer(lower)]
    return Caption(lower, tuple(word for word, _, _ in found), tuple(start for _, start, _ in found),
                   tuple(end for _, _, end in found))


def affix_rows(token: str) -> tuple[int, int, int]:
    """Rows of a token's prefix of three characters, and of its suffixes of three and of two."""
    return (_row("p" + token[:3]), _row("s" + token[-3:]), _row("t" + token[-2:]))


def _row(affix: str) -> int:
    return zlib.crc32(affix.encode("utf-8", "surrogatepass")) % AFFIX_ROWS
