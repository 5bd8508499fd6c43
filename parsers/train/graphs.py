"""FACTUAL's captions and graphs, and what the head has to answer for each of them.

Source of the format: Li et al., "FACTUAL: A Benchmark for Faithful and Consistent Textual Scene Graph Parsing",
Findings of ACL 2023. The alignment of a graph with the tokens of its caption is ours.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from parsers.captions import Caption, read_caption
from parsers.errors import Code, DatasetError

Fact = tuple[str, ...]
"""(object), (object, "is", attribute) or (subject, predicate, object)."""

OBJECT, ATTRIBUTE = "object", "attribute"
LONGEST_SPAN = 4
"""Tokens in a name that is copied from the caption."""


@dataclass(frozen=True, slots=True)
class Example:
    """One caption with its graph."""

    caption: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Anchor:
    """A name as the caption says it: the last token of the name, its number of tokens, and the word that takes its
    place where the graph writes the name in another way ("" where it is copied)."""

    token: int
    length: int
    rename: str


@dataclass(frozen=True, slots=True)
class Target:
    """What the head should answer for one caption. `attributes` holds (object token, attribute token);
    `relations` holds (subject token, predicate, object token). `lost` counts the facts that found no anchors."""

    caption: Caption
    object_anchors: tuple[Anchor, ...]
    attribute_anchors: tuple[Anchor, ...]
    attributes: tuple[tuple[int, int], ...]
    relations: tuple[tuple[int, str, int], ...]
    lost: int


def read_factual(path: Path) -> list[Example]:
    """Captions and graphs of a FACTUAL split (CSV with the columns `caption` and `scene_graph`), lower-case.

    Raises DatasetError if the file cannot be read or lacks a column."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            if not {"caption", "scene_graph"} <= set(rows.fieldnames or ()):
                raise DatasetError(Code.DATASET_INVALID, f"{path} has the columns {rows.fieldnames}.",
                                   "A FACTUAL split has the columns caption and scene_graph.")
            return [Example(row["caption"].lower(), parse_graph(row["scene_graph"])) for row in rows]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(Code.DATASET_INVALID, f"{path} cannot be read: {error}.",
                           "A FACTUAL split (CSV).") from error


def parse_graph(graph: str) -> tuple[Fact, ...]:
    """The facts of a graph string, lower-case, in the order written, each once; facts of other than one or three
    parts are left out."""
    spaced = " ".join(re.sub(r"([(),])", r" \1 ", graph.lower()).split())
    facts = [tuple(" ".join(part.split()) for part in fact.strip("() ").split(",")) for fact in spaced.split(") , (")]
    return tuple(dict.fromkeys(fact for fact in facts if len(fact) in (1, 3) and all(fact)))


def predicate_parts(predicate: str) -> tuple[str, str]:
    """A predicate's first word and the rest: ("sit", "on top of"). The two vary freely, so both lists are short."""
    first, _, rest = predicate.partition(" ")
    return first, rest


def items_of(facts: tuple[Fact, ...]) -> list[tuple[str, str]]:
    """The (kind, name) pairs of a graph, each once, in order."""
    found: dict[tuple[str, str], None] = {}
    for fact in facts:
        found[OBJECT, fact[0]] = None
        if len(fact) == 3:
            found[ATTRIBUTE if fact[1] == "is" else OBJECT, fact[2]] = None
    return list(found)


class Aligner:
    """Finds the token of a caption that a name of its graph stands for.

    A name that the caption spells is its last token there. Another one ("2" for "two", "people" for "they") belongs
    to the token that goes with this name most often over all captions, or to one spelt much like it.
    """

    def __init__(self, examples: list[Example]) -> None:
        self.alone: Counter[tuple[str, str]] = Counter()
        self.together: Counter[tuple[str, str, str]] = Counter()
        self.tokens: Counter[str] = Counter()
        for example in examples:
            caption = read_caption(example.caption)
            words = set(caption.tokens)
            self.tokens.update(words)
            for item in items_of(example.facts):
                if not _spans(caption, item[1]):
                    self.alone[item] += 1
                    self.together.update((*item, word) for word in words)

    def rename_anchor(self, caption: Caption, kind: str, name: str) -> Anchor | None:
        """The anchor of a name that the caption does not spell; None where no token speaks for it."""
        ties = [(self._association(kind, name, word), -i) for i, word in enumerate(caption.tokens)]
        if ties and max(ties)[0] >= 0.03:
            return Anchor(-max(ties)[1], 1, name)
        likeness = [(SequenceMatcher(None, _joined(caption, i, length), name.replace(" ", "")).ratio(), -length, i)
                    for i in range(len(caption.tokens)) for length in (1, 2) if i + 1 >= length]
        if likeness and max(likeness)[0] >= 0.75:
            return Anchor(max(likeness)[2], 1, name)
        return None

    def _association(self, kind: str, name: str, word: str) -> float:
        """Squared cosine between the captions with this uncopied name and those with this word, 0 to 1; 0 for a
        pair that was met only once."""
        together = self.together[kind, name, word]
        return 0.0 if together < 2 else together * together / (self.alone[kind, name] * self.tokens[word])

    def target(self, example: Example) -> Target:
        """The anchors and edges of one example."""
        caption = read_caption(example.caption)
        candidates: dict[tuple[str, str], list[Anchor]] = {}
        for kind, name in items_of(example.facts):
            spans = _spans(caption, name)
            if not spans and (anchor := self.rename_anchor(caption, kind, name)):
                spans = [anchor]
            candidates[kind, name] = spans
        covered = {(token, anchor.length) for anchors in candidates.values() for anchor in anchors
                   if len(anchors) == 1 for token in range(anchor.token - anchor.length + 1, anchor.token + 1)}
        for item, anchors in candidates.items():
            free = [a for a in anchors if not any((a.token, longer) in covered
                                                  for longer in range(a.length + 1, LONGEST_SPAN + 1))]
            candidates[item] = free or anchors
        chosen: dict[str, dict[int, Anchor]] = {OBJECT: {}, ATTRIBUTE: {}}
        attributes, relations, lost = set(), set(), 0

        def claim(kind: str, anchor: Anchor) -> bool:
            return chosen[kind].setdefault(anchor.token, anchor) == anchor

        for fact in example.facts:
            subjects = candidates[OBJECT, fact[0]]
            if len(fact) == 1:
                lost += not (subjects and claim(OBJECT, subjects[0]))
                continue
            kind = ATTRIBUTE if fact[1] == "is" else OBJECT
            others = candidates[kind, fact[2]]
            if kind == ATTRIBUTE and not others:    # "a cat has pointy ears": (ears, is, 2); the object speaks for it
                others = [Anchor(subject.token, 1, fact[2]) for subject in subjects]
            pairs = sorted((abs(s.token - o.token) + 100 * (s.token == o.token), s.token, o.token)
                           for s in subjects for o in others)
            if not pairs:
                lost += 1
                continue
            subject = next(a for a in subjects if a.token == pairs[0][1])
            other = next(a for a in others if a.token == pairs[0][2])
            if not (claim(OBJECT, subject) and claim(kind, other)):
                lost += 1
            elif kind == ATTRIBUTE:
                attributes.add((subject.token, other.token))
            else:
                relations.add((subject.token, fact[1], other.token))
        return Target(caption, _sorted(chosen[OBJECT]), _sorted(chosen[ATTRIBUTE]), tuple(sorted(attributes)),
                      tuple(sorted(relations)), lost)


def _sorted(anchors: dict[int, Anchor]) -> tuple[Anchor, ...]:
    return tuple(anchors[token] for token in sorted(anchors))


def _spans(caption: Caption, name: str) -> list[Anchor]:
    """Where the caption spells a name of at most `LONGEST_SPAN` tokens."""
    words = read_caption(name).tokens
    length = len(words)
    if not 0 < length <= LONGEST_SPAN:
        return []
    return [Anchor(start + length - 1, length, "") for start in range(len(caption.tokens) - length + 1)
            if caption.tokens[start:start + length] == words and caption.span(start, start + length - 1) == name]


def _joined(caption: Caption, last: int, length: int) -> str:
    return "".join(caption.tokens[last - length + 1:last + 1])
