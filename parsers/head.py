"""The learned head: one caption becomes a scene graph, by networks trained on FACTUAL captions.

It answers for captions, a sentence of some words about one picture, in English. Paragraphs, denials and other
languages are for the rules; `Head.covers` tells which is which. Words are copied from the caption, so names that
training never met come through too.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parsers import head_network as network
from parsers.captions import Caption, read_caption
from parsers.head_edges import Kinds, choose_edges
from parsers.head_model import HeadModel, load_model
from parsers.head_network import Array
from parsers.lexicon import Lexicon, Words, stack
from parsers.priors import ObjectPrior, RelationPrior, ScenePriors

LONGEST_CAPTION = 40
"""Tokens. FACTUAL's captions have 6 on average and hardly any more than 30; what follows is not read."""
BATCH = 256
"""Captions that are scored together."""
LONGEST_TEXT = 100 * LONGEST_CAPTION
"""Characters. What follows is not even cut into tokens."""
DENIALS = frozenset({"no", "not", "without", "never", "none", "neither", "nor", "nobody", "nothing", "cannot"})
PLURALS = (("people", "person"), ("men", "man"), ("children", "child"), ("teeth", "tooth"), ("feet", "foot"),
           ("geese", "goose"), ("mice", "mouse"), ("glasses", "glasses"), ("shorts", "shorts"), ("ss", "ss"),
           ("us", "us"), ("ies", "y"), ("ves", "f"), ("ves", "fe"), ("s", ""), ("es", ""))
"""Endings of plurals and of their singulars; the first that gives a known word holds."""


@dataclass(frozen=True, slots=True)
class Graph:
    """What a caption states. `objects` are all names, in the order of their tokens; the facts hold names."""

    objects: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]
    relations: tuple[tuple[str, str, str], ...]


def pocket_head() -> Path:
    """The directory of the head that comes with the project: `pocket/scene_head` below LEXISEG_MODELS, else below
    `models/` of the project."""
    root = os.environ.get("LEXISEG_MODELS") or Path(__file__).resolve().parent.parent / "models"
    return Path(root) / "pocket" / "scene_head"


def load_head(path: Path | None = None) -> Head:
    """The head in the directory `path`, without it the pocket one.

    Raises ModelError (`model-missing`, `model-incomplete`, `model-unsupported`, `model-corrupt`).
    """
    return Head(load_model(pocket_head() if path is None else Path(path)))


class Head:
    """One or more networks that answer together, by the mean of their probabilities."""

    def __init__(self, model: HeadModel) -> None:
        self.tables, self.members = model.tables, model.members
        self._lexicon = Lexicon(model.tables)

    def covers(self, text: str) -> bool:
        """Whether `text` is what the head was trained for: one sentence of at most `LONGEST_CAPTION` tokens that
        denies nothing, most of its words known."""
        tokens = read_caption(text[:LONGEST_TEXT]).tokens
        words = [token for token in tokens if token[0].isalpha()]
        if not words or len(tokens) > LONGEST_CAPTION or len(text) > LONGEST_TEXT:
            return False
        if DENIALS & set(words) or "'t" in tokens or any(token in ".!?" for token in tokens[:-1]):
            return False
        return sum(word in self._lexicon.words for word in words) * 2 > len(words)

    def parse(self, texts: Iterable[str]) -> list[ScenePriors]:
        """What each text says, in the order given. Any string is allowed; a text that the head does not cover gets
        an answer all the same, of its first `LONGEST_CAPTION` tokens."""
        given = [text.encode("utf-8", "replace").decode() for text in texts]     # lone surrogates are no text
        return [self._priors(text, graph) for text, graph in zip(given, self.graphs(given), strict=True)]

    def graphs(self, texts: Sequence[str]) -> list[Graph]:
        """The graph of each text."""
        captions = [read_caption(text[:LONGEST_TEXT]) for text in texts]
        by_length: dict[int, list[int]] = defaultdict(list)
        for place, caption in enumerate(captions):
            by_length[min(len(caption.tokens), LONGEST_CAPTION)].append(place)
        graphs = [Graph((), (), ())] * len(captions)
        for length, places in by_length.items():
            step = max(1, min(BATCH, 20000 // max(1, length * length)))
            for start in range(0, len(places) if length else 0, step):
                batch = places[start:start + step]
                for place, graph in zip(batch, self._batch([captions[p] for p in batch], length), strict=True):
                    graphs[place] = graph
        return graphs

    def _batch(self, captions: list[Caption], length: int) -> list[Graph]:
        words = stack([self._lexicon.read(caption.tokens[:length]) for caption in captions])
        x = [network.encode(arrays, words.words, words.affixes) for arrays in self.members]
        p = [network.pairs(arrays, x_BND) for arrays, x_BND in zip(self.members, x, strict=True)]
        edges_BNN3 = _mean(network.softmax(network.edge_scores(arrays, p_BNNP))
                           for arrays, p_BNNP in zip(self.members, p, strict=True))
        scores = [network.name_scores(arrays, x_BND, words.joined)
                  for arrays, x_BND in zip(self.members, x, strict=True)]
        names = {key: _mean(network.softmax(member[key]) for member in scores) for key in scores[0]}
        chosen = [choose_edges(edges_NN3, object_NL, attribute_NL) for edges_NN3, object_NL, attribute_NL in
                  zip(edges_BNN3, names["object_length"], names["attribute_length"], strict=True)]
        relations_E3 = np.argwhere(np.stack([kind_NN for kind_NN, _ in chosen]) == network.RELATION)
        predicates = self._predicates(captions, words, x, p, relations_E3)
        relations: list[list[tuple[int, str, int]]] = [[] for _ in captions]
        for (b, i, j), predicate in zip(relations_E3.tolist(), predicates, strict=True):
            relations[b].append((i, predicate, j))
        return [self._graph(caption, {key: value[b] for key, value in names.items()}, *chosen[b], relations[b])
                for b, caption in enumerate(captions)]

    def _predicates(self, captions: list[Caption], words: Words, x: list[Array], p: list[Array],
                    edges_E3: network.Ints) -> list[str]:
        if not len(edges_E3):
            return []
        owner_E = edges_E3[:, 0]
        z = [network.relation_vectors(arrays, x_BND, p_BNNP, edges_E3)
             for arrays, x_BND, p_BNNP in zip(self.members, x, p, strict=True)]
        first_E = _mean(network.softmax(network.first_scores(arrays, z_EP, x_END, words.firsts[owner_E]))
                        for arrays, (z_EP, x_END) in zip(self.members, z, strict=True)).argmax(axis=1)
        rest_E = _mean(network.softmax(network.rest_scores(arrays, z_EP, first_E, x_END, words.keywords[owner_E],
                                                           self._lexicon.keywords_KR))
                       for arrays, (z_EP, x_END) in zip(self.members, z, strict=True)).argmax(axis=1)
        return [f"{self._lexicon.first_word(first, captions[owner].tokens)} {self.tables.rests[rest]}".strip()
                for owner, first, rest in zip(owner_E.tolist(), first_E.tolist(), rest_E.tolist(), strict=True)]

    def _graph(self, caption: Caption, scores: dict[str, Array], kind_NN: Kinds, lengths_N: Kinds,
               relations: list[tuple[int, str, int]]) -> Graph:
        attributes_E2 = np.argwhere(kind_NN == network.ATTRIBUTE).tolist()
        ends = {i for i, _ in attributes_E2} | {end for i, _, j in relations for end in (i, j)}
        ends |= set(np.flatnonzero(scores["object_length"].argmax(axis=1)).tolist())
        rename_N, value_N = scores["object_rename"].argmax(axis=1), scores["attribute_rename"].argmax(axis=1)
        value_lengths_N = 1 + scores["attribute_length"][:, 1:].argmax(axis=1)
        objects = {i: _name(caption, i, lengths_N[i], self.tables.object_renames[rename_N[i]]) for i in sorted(ends)}
        values = {j: _name(caption, j, value_lengths_N[j], self.tables.attribute_renames[value_N[j]])
                  for _, j in attributes_E2}
        return Graph(tuple(dict.fromkeys(objects.values())),
                     tuple(dict.fromkeys((objects[i], values[j]) for i, j in attributes_E2)),
                     tuple(dict.fromkeys((objects[i], predicate, objects[j]) for i, predicate, j in relations)))

    def _priors(self, text: str, graph: Graph) -> ScenePriors:
        """Objects with one name are one object; a number among the attributes is the count."""
        place = {name: i for i, name in enumerate(graph.objects)}
        attributes: list[list[str]] = [[] for _ in graph.objects]
        counts = [1] * len(graph.objects)
        for name, attribute in graph.attributes:
            if attribute.isascii() and attribute.isdecimal() and len(attribute) < 7 and int(attribute) > 1:
                counts[place[name]] = max(counts[place[name]], int(attribute))
            else:
                attributes[place[name]].append(attribute)
        return ScenePriors(
            text=text,
            objects=tuple(ObjectPrior(name=name, lemma=self._lemma(name), attributes=tuple(found), count=count)
                          for name, found, count in zip(graph.objects, attributes, counts, strict=True)),
            relations=tuple(RelationPrior(subject=place[subject], predicate=predicate, object=place[other])
                            for subject, predicate, other in graph.relations))

    def _lemma(self, name: str) -> str:
        """The name with its last word in the singular, where the known words hold that singular."""
        rest, _, last = name.rpartition(" ")
        for plural, singular in PLURALS:
            lemma = last.removesuffix(plural) + singular
            if last.endswith(plural) and lemma in self._lexicon.words:
                return f"{rest} {lemma}".strip()
        return name


def _name(caption: Caption, end: int, length: int, rename: str) -> str:
    """The name that ends at token `end`: the word that takes its place, or the caption's own tokens."""
    return rename or caption.span(max(0, end - int(length) + 1), end)


def _mean(probabilities: Iterable[Array]) -> Array:
    found = list(probabilities)
    return np.mean(found, axis=0) if len(found) > 1 else found[0]
