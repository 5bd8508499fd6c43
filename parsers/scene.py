"""Descriptions of images become scene priors, by rules on a dependency parse.

    parse_scene("two dogs next to a red car, no people")
    for priors in parse_scenes(captions): ...

The rules read trees with Universal Dependencies or spaCy's CLEAR labels. Only what a text names matters: what it asks
for is never followed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING

from parsers.priors import Reason, ScenePriors
from parsers.scene_facts import priors_from_facts
from parsers.scene_objects import Mention, find_mentions
from parsers.scene_phrases import drop_picture, join_prepositions, open_groups
from parsers.scene_reference import resolve
from parsers.scene_relations import Clauses
from parsers.scene_repairs import repair
from parsers.scene_text import read_text, scalar_text
from parsers.scene_tree import Tree, read_tree
from parsers.scene_words import ORDERS

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

BATCH = 256
"""Pieces of text that spaCy parses at once, at most."""
BATCH_CHARACTERS = 16_000
"""Characters of these pieces together, about: bounds the memory that a parser takes while it works."""

Piece = tuple[str, tuple[int, str, Reason | None]]
"""A piece of a text with the number of the text, the text itself, and why there is nothing more of it."""


def parse_scene(text: str, nlp: Language | None = None) -> ScenePriors:
    """What `text` says of a scene. `nlp` is a pipeline with tags and a dependency parse; the pocket one if left out.

    Never raises for a text: what cannot be read gives empty priors with a `reason`. Raises ModelError and
    MissingPackageError as `load_pipeline` does.
    """
    return next(parse_scenes([text], nlp))


def parse_scenes(texts: Iterable[str], nlp: Language | None = None) -> Iterator[ScenePriors]:
    """`parse_scene` of each text, in order, parsed in batches. Texts are drawn as they are needed."""
    pipeline = _default_pipeline() if nlp is None else nlp
    parsed = (pair for batch in _batches(_numbered_pieces(texts))
              for pair in pipeline.pipe(batch, as_tuples=True, batch_size=BATCH))
    for _, group in groupby(parsed, key=lambda pair: pair[1][0]):
        pieces = list(group)
        _, text, reason = pieces[0][1]
        yield priors_of_docs([doc for doc, _ in pieces], text, reason)


def priors_of_docs(docs: Sequence[Doc], text: str, reason: Reason | None = None) -> ScenePriors:
    """The priors of parsed pieces of one text, `text` being the whole."""
    mentions: list[Mention] = []
    relations: list[tuple[int, str, int]] = []
    possessions: list[tuple[int, int]] = []
    same: dict[int, int] = {}
    sentences = 0
    for doc in docs:
        if len(doc) == 0:
            continue
        tree = read_tree(doc)
        found, clauses = read_clauses(tree)
        number = {token: len(mentions) + place for place, token in enumerate(found)}
        for mention in found.values():
            mention.sentence += sentences
            mentions.append(mention)
        relations += [(number[s], predicate, number[o]) for s, predicate, o in clauses.relations]
        possessions += [(number[owner], number[owned]) for owner, owned in clauses.possessions]
        same |= {number[noun]: number[subject] for noun, subject in clauses.same.items()}
        sentences += tree.sentences[-1] + 1
    return _join(text, mentions, relations, possessions, same, reason)


def read_clauses(tree: Tree) -> tuple[dict[int, Mention], Clauses]:
    """The mentions of a tree, by the index of their head word, and what its clauses say of them."""
    repair(tree)
    counts, units = open_groups(tree)
    join_prepositions(tree)
    dropped = drop_picture(tree) | _orders(tree)
    found = find_mentions(tree, counts, dropped)
    clauses = Clauses(tree, found)
    clauses.read()
    for token, unit in units.items():
        if token in found:
            found[token].attributes.append(unit)
    for token in clauses.dropped:
        found.pop(token, None)
    for token in clauses.denied:
        found[token].denied = True
    for token, attribute in clauses.attributes:
        found[token].attributes.append(attribute)
    clauses.relations = [r for r in clauses.relations if r[0] in found and r[2] in found]
    return found, clauses


def _join(text: str, mentions: list[Mention], relations: list[tuple[int, str, int]], possessions: list[tuple[int, int]],
          same: dict[int, int], reason: Reason | None) -> ScenePriors:
    """Mentions of one object are put together, and the facts made priors."""
    first = resolve(mentions)
    for noun, subject in same.items():
        first[noun] = first[subject]
    order = sorted({k for i, k in enumerate(first) if k is not None and not mentions[k].denied and first[k] == k})
    place = {k: i for i, k in enumerate(order)}
    objects = [place.get(k) if k is not None else None for k in first]  # by mention
    attributes = [(objects[i], attribute) for i, mention in enumerate(mentions) for attribute in mention.attributes]
    counts: dict[int | None, int] = {}
    for i, mention in enumerate(mentions):
        if objects[i] is not None and mention.count > 1:
            counts.setdefault(objects[i], mention.count)
    facts = [(objects[s], predicate, objects[o]) for s, predicate, o in relations
             if s == o or objects[s] != objects[o]]
    told = {(objects[o], objects[s]) for s, _, o in relations if mentions[o].pronoun}
    facts = [fact for fact in facts if fact[1] not in ("with", "have") or (fact[0], fact[2]) not in told]
    linked = {frozenset((s, o)) for s, _, o in facts}
    facts += [(objects[s], "have", objects[o]) for s, o in possessions
              if objects[s] != objects[o] and frozenset((objects[s], objects[o])) not in linked]
    return priors_from_facts(
        scalar_text(text), [mentions[k].name for k in order],
        attributes=[(i, attribute) for i, attribute in attributes if i is not None],
        counts=[(i, count) for i, count in counts.items() if i is not None],
        relations=[(s, predicate, o) for s, predicate, o in facts if s is not None and o is not None],
        absent=[mention.name for mention in mentions if mention.denied], reason=reason)


def _orders(tree: Tree) -> set[int]:
    """The words of sentences that ask their reader for something: "Ignore the picture and list ..."."""
    found = set()
    for i in range(len(tree)):
        starts = i == 0 or tree.sentences[i] != tree.sentences[i - 1]
        if starts and tree.words[i] in ORDERS and tree.pos[i] in ("VERB", "INTJ") and tree.deps[i] in (
                "root", "discourse", "intj") and tree.first(i, "nsubj") is None:
            found |= {k for k in range(i, len(tree)) if tree.sentences[k] == tree.sentences[i]}
    return found


def _batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece[0])
        if len(batch) == BATCH or size > BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _numbered_pieces(texts: Iterable[str]) -> Iterator[Piece]:
    for number, text in enumerate(texts):
        pieces, reason = read_text(text)
        for piece in pieces or [""]:
            yield piece, (number, text, reason)


@cache
def _default_pipeline() -> Language:
    from parsers.pipeline import load_pipeline  # here, since most of what imports this room parses nothing

    return load_pipeline()
