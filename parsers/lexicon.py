"""What the learned head knows of a word before it reads the sentence: the word's row in the tables, and which parts of
predicates and which names it spells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from parsers.captions import affix_rows
from parsers.verbs import base_forms

OTHER_WORD = 0
"""Row of the word table for words that training met less than twice."""
UNLINKED = -1

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tables:
    """The words behind the numbers of the network. Row 0 of `words` is any other word; row 0 of a rename list is "",
    which stands for the name as the caption spells it."""

    words: tuple[str, ...]
    links: tuple[str, ...]
    """For each of `words` the first word of a predicate that goes with it ("sat": "sit"), or ""."""
    firsts: tuple[str, ...]
    """First words of predicates."""
    rests: tuple[str, ...]
    """What follows the first word of a predicate; "" for nothing."""
    object_renames: tuple[str, ...]
    attribute_renames: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """The tokens of one or more captions of one length as numbers, `[..., N]`; affixes `[..., N, 3]`.

    `firsts` holds the row of the predicate's first word that a token spells, else the number of firsts plus the
    token's place: its own base form. `keywords` holds the row of the word of `rest` phrases that the token is, and
    `joined` the row of the object rename that the token spells together with the one before; else UNLINKED."""

    words: Ints
    affixes: Ints
    firsts: Ints
    keywords: Ints
    joined: Ints


class Lexicon:
    """The tables by word."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.words = {word: row for row, word in enumerate(tables.words)}
        self.firsts = {word: row for row, word in enumerate(tables.firsts)}
        self.rests = {phrase: row for row, phrase in enumerate(tables.rests)}
        self.object_renames = {name: row for row, name in enumerate(tables.object_renames)}
        self.attribute_renames = {name: row for row, name in enumerate(tables.attribute_renames)}
        keywords = sorted({word for phrase in tables.rests for word in phrase.split()})
        self.keywords = {word: row for row, word in enumerate(keywords)}
        self.keywords_KR = np.array([[word in phrase.split() for phrase in tables.rests] for word in keywords],
                                    np.float32).reshape(len(keywords), len(tables.rests))
        """1 where a word is part of a rest phrase."""
        self.first_link = lru_cache(maxsize=20000)(self._first_link)

    def _first_link(self, token: str) -> int:
        if link := self.tables.links[self.words.get(token, OTHER_WORD)]:
            return self.firsts[link]
        return next((self.firsts[form] for form in base_forms(token) if form in self.firsts), UNLINKED)

    def read(self, tokens: tuple[str, ...]) -> Words:
        """The numbers of one caption's tokens."""
        links = [self.first_link(token) for token in tokens]
        return Words(
            np.array([self.words.get(token, OTHER_WORD) for token in tokens], np.int64),
            np.array([affix_rows(token) for token in tokens], np.int64).reshape(-1, 3),
            np.array([len(self.firsts) + k if link == UNLINKED else link for k, link in enumerate(links)], np.int64),
            np.array([self.keywords.get(token, UNLINKED) for token in tokens], np.int64),
            np.array([self.object_renames.get(before + token, UNLINKED) for before, token in
                      zip(("", *tokens), tokens, strict=False)], np.int64))

    def first_word(self, row: int, tokens: tuple[str, ...]) -> str:
        """The word behind a row of `Words.firsts`."""
        return self.tables.firsts[row] if row < len(self.firsts) else base_forms(tokens[row - len(self.firsts)])[0]


def stack(captions: list[Words]) -> Words:
    """Captions of one length as one batch."""
    return Words(*(np.stack([getattr(words, field) for words in captions])
                   for field in ("words", "affixes", "firsts", "keywords", "joined")))
