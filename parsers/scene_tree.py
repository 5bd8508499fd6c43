"""One sentence tree for both label schemes: a spaCy `Doc` read as words, tags, heads and UD labels.

Universal Dependencies (the pocket pipeline) make the noun the head of its preposition (`case`) and the predicate the
head of its copula (`cop`); spaCy's CLEAR labels (`en_core_web_*`) make it the other way round (`prep` + `pobj`,
`attr`). Rules read the UD view only: CLEAR trees are turned into it here.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from parsers.scene_forms import is_participle, verb_lemma
from parsers.scene_words import COLOURS

if TYPE_CHECKING:
    from spacy.tokens import Doc

HIDDEN = "hidden"
"""Label of words that are read by now and of no further interest."""
NOMINALS = frozenset({"NOUN", "PROPN", "PRON", "NUM"})
BEFORE_NOUN = frozenset({"det", "det:predet", "amod", "compound", "nummod", "nmod:poss", "flat", "punct", "cc:preconj"})
"""Labels of what stands before a noun and belongs to it."""
RENAMED = {
    "ROOT": "root", "nsubjpass": "nsubj:pass", "csubjpass": "csubj:pass", "auxpass": "aux:pass", "dobj": "obj",
    "relcl": "acl:relcl", "poss": "nmod:poss", "prt": "compound:prt", "neg": "advmod", "npadvmod": "obl:npmod",
    "quantmod": "advmod", "predet": "det:predet", "preconj": "cc:preconj", "oprd": "xcomp", "acomp": "xcomp",
    "attr": "xcomp", "obl:unmarked": "obl:npmod", "obl:tmod": "obl:npmod", "nmod:desc": "compound",
}
"""CLEAR labels and late UD labels, and the UD label that the rules read."""
PREPOSITIONS = frozenset({"prep", "agent", "dative"})
_CLAUSAL = ("obj", "xcomp", "ccomp", "advcl", "dep", "parataxis", "acl", "obl", "advmod", "nmod", "compound", "amod")
"""Labels of what hangs on a verb."""
BE = frozenset({"is", "are", "was", "were", "be", "been", "being", "am", "'s", "'re", "s"})


class Tree:
    """Words of one text with their dependency tree, changed in place while it is made ready for the rules.

    words: in small letters; a word with a hyphen is one word. pos: universal tags. tags: the pipeline's own finer ones,
    empty where it has none. heads: index of the head, its own for a root. kids: indexes of the children, in order.
    sentences: number of the sentence. marks: relation of place that several words before a noun express together.
    """

    __slots__ = ("deps", "heads", "kids", "lemmas", "marks", "pos", "sentences", "tags", "words")

    def __init__(self, words: list[str], pos: list[str], tags: list[str], heads: list[int], deps: list[str],
                 lemmas: list[str], sentences: list[int]) -> None:
        self.words, self.pos, self.tags, self.heads, self.deps = words, pos, tags, heads, deps
        self.lemmas, self.sentences = lemmas, sentences
        self.marks: dict[int, str] = {}
        self.kids: list[list[int]] = [[] for _ in words]
        for i, head in enumerate(heads):
            if head != i:
                self.kids[head].append(i)

    def __len__(self) -> int:
        return len(self.words)

    def having(self, i: int, *labels: str) -> Iterator[int]:
        """Children of `i` with one of these labels."""
        return (k for k in self.kids[i] if self.deps[k] in labels)

    def first(self, i: int, *labels: str) -> int | None:
        """The first child of `i` with one of these labels."""
        return next(self.having(i, *labels), None)

    def has(self, i: int, *labels: str) -> bool:
        """Whether `i` has a child with one of these labels."""
        return any(self.deps[k] in labels for k in self.kids[i])

    def is_noun(self, i: int) -> bool:
        """Whether the word `i` is tagged as a common or proper noun."""
        return self.pos[i] in ("NOUN", "PROPN")

    def above(self, i: int) -> Iterator[int]:
        """The heads over `i`, nearest first."""
        while self.heads[i] != i:
            i = self.heads[i]
            yield i

    def attach(self, i: int, head: int, label: str) -> None:
        """Gives `i` another head (itself: a root) and label. The head must not be below `i`."""
        if self.heads[i] != i:
            self.kids[self.heads[i]].remove(i)
        self.heads[i], self.deps[i] = head, label
        if head != i:
            insort(self.kids[head], i)

    def replace(self, old: int, new: int) -> None:
        """`new`, which stands below `old`, takes its head, label and other children; `old` becomes its child."""
        head, label = self.heads[old], self.deps[old]
        self.attach(new, new if head == old else head, label)
        for kid in [kid for kid in self.kids[old] if kid != new]:
            self.attach(kid, new, self.deps[kid])
        self.attach(old, new, "dep")

    def absorb(self, span: Iterable[int], noun: int, label: str) -> None:
        """The words of `span` become children of `noun` with `label`; what hung on them hangs on `noun`, and where
        `noun` hung on one of them it takes that one's place."""
        inside = set(span)
        over = [i for i in self.above(noun) if i in inside]
        if over:
            self.replace(over[-1], noun)
        for i in sorted(inside):
            for kid in [kid for kid in self.kids[i] if kid not in inside]:
                self.attach(kid, noun, self.deps[kid])
        for i in sorted(inside):
            self.attach(i, noun, label)

    def base(self, i: int) -> str:
        """The base form of the word `i` read as a verb."""
        return verb_lemma(self.words[i])

    def to_noun(self, i: int) -> None:
        """Makes `i` a noun; what hung on it as on a verb hangs on it as on a noun."""
        self.pos[i], self.tags[i] = "NOUN", "NN"
        for kid in self.kids[i]:
            label = self.deps[kid]
            if kid > i and self.pos[kid] == "VERB" and label in _CLAUSAL:
                self.deps[kid] = "acl"
            elif label == "obl":
                self.deps[kid] = "nmod"
            elif kid < i and label in ("advmod", "nsubj", "obl:npmod", "dep") and (
                    self.is_noun(kid) or self.pos[kid] == "ADJ"):
                self.deps[kid] = "compound" if self.is_noun(kid) and self.words[kid] not in COLOURS else "amod"

    def to_verb(self, i: int) -> None:
        """Makes `i` a verb with the tag that its ending suggests."""
        word = self.words[i]
        past = word.endswith("ed") or is_participle(word)
        self.pos[i], self.tags[i] = "VERB", "VBG" if word.endswith("ing") else "VBN" if past else "VBZ"
        self.lemmas[i] = self.base(i)

    def phrase_head(self, start: int) -> int | None:
        """The noun that heads the phrase beginning at `start`, by the labels of what stands before it."""
        i = start
        while i < len(self) and self.deps[i] == HIDDEN:
            i += 1
        start = i
        while i < len(self) and self.heads[i] > i and self.deps[i] in BEFORE_NOUN:
            i = self.heads[i]
        if i >= len(self):
            return None
        while self.deps[i] == "compound" and self.heads[i] == i + 1:
            i += 1
        return i if self.pos[i] in NOMINALS or (i > start and self.pos[i] != "PUNCT") else None


def read_tree(doc: Doc) -> Tree:
    """The UD view of a parsed `Doc`, whichever of the two label schemes it carries."""
    groups = _hyphenated(doc)
    number = {i: g for g, group in enumerate(groups) for i in group}
    words, pos, tags, heads, deps, lemmas, sentences = [], [], [], [], [], [], []
    sentence = -1
    for g, group in enumerate(groups):
        tokens = [doc[i] for i in group]
        sentence += any(token.is_sent_start for token in tokens) or g == 0
        outer = [token for token in tokens if token.head.i not in group or token.head is token]
        top = outer[-1] if outer else tokens[-1]
        words.append("".join(token.lower_ for token in tokens).replace("’", "'"))
        pos.append(top.pos_)
        tags.append(top.tag_ if top.tag_ != top.pos_ else "")
        head = number[top.head.i]
        heads.append(head)
        deps.append("root" if head == g else RENAMED.get(top.dep_, top.dep_ or "dep"))
        lemmas.append(_lemma(words[-1], top.pos_, tags[-1], top.lemma_))
        sentences.append(sentence)
    _break_cycles(heads, deps)
    tree = Tree(words, pos, tags, heads, deps, lemmas, sentences)
    if any(label in PREPOSITIONS for label in deps) or any(token.dep_ in ("attr", "acomp") for token in doc):
        _turn_prepositions(tree)
        _turn_copulas(tree)
    return tree


def _hyphenated(doc: Doc) -> list[list[int]]:
    """Token numbers by word: "t", "-", "shirt" without spaces between them are one."""
    groups: list[list[int]] = []
    joined = False
    for token in doc:
        hyphen = token.text in ("-", "‐", "‑") and groups and not doc[token.i - 1].whitespace_
        hyphen = hyphen and token.i + 1 < len(doc) and not token.whitespace_ and doc[token.i - 1].is_alpha
        if (joined or hyphen) and len(groups[-1]) < 9:
            groups[-1].append(token.i)
        else:
            groups.append([token.i])
        joined = bool(hyphen)
    return groups


def _lemma(word: str, pos: str, tag: str, given: str) -> str:
    """The base of a verb form. Rules of spelling first: lemmatizers trained on newspaper sentences miss verbs of
    captions ("hitt"); irregular forms that the rules do not know are asked of the pipeline."""
    if pos not in ("VERB", "AUX") and not (pos == "ADJ" and word.endswith("ed")):
        return word
    base = verb_lemma(word)
    if base == word and tag in ("VBD", "VBN") and given:
        return given.lower()
    return base


def _break_cycles(heads: list[int], deps: list[str]) -> None:
    """Words joined by a hyphen may leave a ring of heads: one of its members becomes a root."""
    state = [0] * len(heads)  # 0 not seen, 1 on the way, 2 done
    for start in range(len(heads)):
        path, i = [], start
        while state[i] == 0:
            state[i] = 1
            path.append(i)
            i = heads[i]
        if state[i] == 1 and heads[i] != i:
            heads[i], deps[i] = i, "root"
        for member in path:
            state[member] = 2


# ---------------------------------------------------------------- CLEAR to UD

def _turn_prepositions(tree: Tree) -> None:
    """`prep` over `pobj` becomes a noun with a `case`; `prep` over `pcomp` a clause with a `mark`."""
    for i in range(len(tree)):
        if tree.deps[i] not in PREPOSITIONS:
            continue
        chain, inner = [i], i
        while (deeper := tree.first(inner, "prep")) is not None and not tree.has(inner, "pobj", "pcomp"):
            chain.append(deeper)
            inner = deeper
        noun, label = tree.first(inner, "pobj", "pcomp"), tree.deps[i]
        if noun is None:
            if label == "dative":
                tree.deps[i] = "iobj"
            continue
        clause = tree.deps[noun] == "pcomp"
        head = tree.heads[i]
        below_noun = tree.pos[head] in NOMINALS and not tree.has(head, "cop")
        tree.absorb(chain, noun, "mark" if clause else "case")
        tree.deps[noun] = ("advcl" if clause else "obl:agent" if label == "agent" else "nmod" if below_noun else "obl")


def _turn_copulas(tree: Tree) -> None:
    """A form of "be" over its complement becomes a `cop` below it."""
    for i in range(len(tree)):
        if tree.words[i] not in BE or tree.deps[i] in ("aux", "aux:pass", "cop", "case"):
            continue
        complement = tree.first(i, "xcomp")
        if tree.has(i, "expl"):
            if complement is not None:
                tree.deps[complement] = "nsubj"
            continue
        if complement is None and tree.has(i, "nsubj"):
            complement = tree.first(i, "obl")
        if complement is not None and complement > i:
            tree.replace(i, complement)
            tree.deps[i] = "cop"
