"""Noun phrases become mentions: what is named, what it is like, how many, and whether the text denies it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from parsers.scene_forms import noun_lemma
from parsers.scene_phrases import number_of
from parsers.scene_tree import BE, HIDDEN, Tree
from parsers.scene_words import (
    ADJECTIVES,
    ANIMALS,
    COLOURS,
    COMPOUND_ADJECTIVES,
    DEFINITE,
    DENYING,
    ED_ADJECTIVES,
    FREE_OF,
    INDEFINITE,
    ING_NOUNS,
    KINDS,
    LACKING_VERBS,
    MATERIALS,
    NAME_NOUNS,
    NOBODY,
    OTHER_NOUNS,
    PAIRED,
    PEOPLE,
    PRONOUNS,
    QUANTITIES,
    RELATIVE,
    SAME_ATTRIBUTE,
    SHADES,
    SIDES,
)

ARGUMENTS = frozenset({
    "root", "nsubj", "nsubj:pass", "nsubj:outer", "obj", "iobj", "obl", "obl:agent", "obl:arg", "obl:npmod", "nmod",
    "nmod:poss", "conj", "appos", "xcomp", "ccomp", "advcl", "acl", "acl:relcl", "parataxis", "list", "dep", "orphan",
    "dislocated", "vocative", "reparandum",
})
"""Labels under which a noun can name an object."""

NAME_LABELS = ("compound", "flat", "nmod", "amod", "goeswith", "dep")


@dataclass(slots=True)
class Mention:
    """One place of a text that names an object."""

    token: int
    name: str
    lemma: str
    sentence: int
    attributes: list[str] = field(default_factory=list)
    count: int = 1
    pronoun: str = ""
    """"he", "she", "it", "they" where it is one, whose object is named elsewhere."""
    definite: bool = False
    """Whether it may name again what was named before: "the", "this", "his"."""
    other: bool = False
    """Whether it says that it is not the one named before: "another"."""
    denied: bool = False
    subject: bool = False
    owner: bool = False
    """Whether it only says whose another one is: "his"."""


def find_mentions(tree: Tree, counts: dict[int, int], dropped: set[int]) -> dict[int, Mention]:
    """The mentions of a tree by the index of their head word, in order. `counts` and `dropped` are what
    `scene_phrases` found."""
    found: dict[int, Mention] = {}
    for i in range(len(tree)):
        if i in dropped or not _names_object(tree, i):
            continue
        mention = _pronoun(tree, i, found) if tree.pos[i] == "PRON" else _noun(tree, i, found)
        if mention is None:
            continue
        mention.count = counts.get(i, mention.count)
        if mention.lemma in PAIRED and mention.count == 2 and i in counts:
            mention.count = 1
        mention.subject = tree.deps[i] in ("nsubj", "nsubj:pass") or (
            tree.deps[i] == "root" and not tree.has(i, "case", "cop"))
        mention.owner = tree.deps[i] == "nmod:poss"
        found[i] = mention
    return found


def _names_object(tree: Tree, i: int) -> bool:
    word, pos, label = tree.words[i], tree.pos[i], tree.deps[i]
    if label not in ARGUMENTS or not any(char.isalpha() for char in word):
        return False
    if pos == "PRON":
        return True
    if pos in ("NOUN", "PROPN"):
        side = word in SIDES and tree.words[i + 1:i + 2] != ["of"]
        return not (side or word in OTHER_NOUNS or word in RELATIVE or _is_quality(tree, i))
    return pos in ("ADJ", "X", "VERB", "NUM", "ADV") and label in (
        "nsubj", "nsubj:pass", "obj", "nmod", "obl", "root", "conj", "xcomp") and _is_misread_noun(tree, i)


def _is_quality(tree: Tree, i: int) -> bool:
    """Whether a noun says what its subject is like: "the car is orange", "a man in red"."""
    word = tree.words[i]
    if word not in COLOURS and word not in MATERIALS:
        return False
    if tree.has(i, "det", "amod", "compound", "nummod", "nmod:poss"):
        return False
    if word in COLOURS:
        return True
    return tree.has(i, "cop") and not tree.has(i, "case")


def _is_misread_noun(tree: Tree, i: int) -> bool:
    """Whether a word with another tag stands where only a noun can: after an article or a preposition."""
    if tree.words[i] in COLOURS or tree.words[i] in QUANTITIES or tree.words[i] in OTHER_NOUNS:
        return False
    before = [tree.words[k] for k in tree.kids[i] if k < i and tree.deps[k] == "det"]
    if tree.pos[i] == "NUM" or tree.has(i, "cop", "aux", "obj", "xcomp", "nsubj"):
        return False
    if before:
        return True
    if tree.pos[i] in ("ADJ", "X") and tree.has(i, "amod", "compound", "nmod:poss"):
        return True
    return tree.deps[i] in ("obl", "nmod") and tree.has(i, "case") and tree.pos[i] in ("X", "VERB", "ADJ")


def _pronoun(tree: Tree, i: int, found: dict[int, Mention]) -> Mention | None:
    word = tree.words[i]
    if word in INDEFINITE:
        name = INDEFINITE[word]
        return Mention(i, name, name, tree.sentences[i], denied=word in NOBODY or _is_denied(tree, i, found))
    if word == "one" and tree.words[i - 1:i] == ["no"]:
        return Mention(i, "person", "person", tree.sentences[i], denied=True)
    if word not in PRONOUNS or (tree.has(i, "case") and tree.deps[i] == "nsubj"):
        return None
    return Mention(i, "", "", tree.sentences[i], pronoun=PRONOUNS[word], definite=True)


def _noun(tree: Tree, i: int, found: dict[int, Mention]) -> Mention | None:
    before = list(_before(tree, i))
    names = [k for k in before if _is_part_of_name(tree, k, i)] + [i]
    after = [k for k in tree.having(i, "flat") if k > i and tree.pos[k] in ("PROPN", "NOUN")]
    lemma = noun_lemma(tree.words[i] if not after else tree.words[after[-1]])
    words = [tree.words[k] for k in names + after]
    mention = Mention(i, " ".join(words), " ".join([*words[:-1], lemma]), tree.sentences[i])
    mention.attributes = list(_attributes(tree, i, [k for k in before if k not in names]))
    for k in {*before, *tree.having(i, "nummod")}:
        number = number_of(tree.words[k]) if k < i and (tree.pos[k] == "NUM" or tree.deps[k] == "nummod") else None
        mention.count = number or mention.count
    determiners = {tree.words[k] for k in tree.kids[i] if tree.deps[k] in ("det", "nmod:poss", "det:predet")}
    mention.definite = bool(determiners & DEFINITE or tree.has(i, "nmod:poss"))
    mention.other = bool({"another", "other", "second", "third"} & ({tree.words[k] for k in before} | determiners))
    mention.denied = _is_denied(tree, i, found)
    if tree.words[i] in ("sign", "signs") and "no" in tree.words[max(i - 3, 0):i] and not mention.denied:
        mention.name, mention.lemma = f"no {mention.name}", f"no {mention.lemma}"
    if mention.denied:
        mention.name = " ".join([*mention.attributes, mention.name])
    return mention


def _before(tree: Tree, i: int) -> Iterator[int]:
    """The words before a noun that belong to its phrase, without articles and what stands before a preposition."""
    start = i
    while start > 0 and i in tree.above(start - 1) and tree.deps[start - 1] not in ("case", "mark", "cop", "acl"):
        start -= 1
    for k in range(start, i):
        over = [k, *tree.above(k)]
        inner = over[:over.index(i)]
        if any(tree.deps[m] in ("nmod:poss", "case", "det", "mark", "nsubj", "cop", HIDDEN) for m in inner):
            continue
        yield k


def _is_part_of_name(tree: Tree, k: int, noun: int) -> bool:
    word = tree.words[k]
    if f"{word}-{tree.words[noun]}" in COMPOUND_ADJECTIVES and k == noun - 1:
        return True
    if word in NAME_NOUNS and k == noun - 1 and tree.deps[k] in ("compound", "amod", "nmod", "flat"):
        return True
    if tree.pos[k] not in ("NOUN", "PROPN", "X") or tree.deps[k] not in NAME_LABELS:
        return False
    if word in SHADES and tree.words[k + 1] in COLOURS:
        return False
    if word.endswith("ing") and word not in ING_NOUNS and noun_lemma(tree.words[noun]) in PEOPLE | ANIMALS:
        return False
    return not (word in COLOURS or word in MATERIALS or word in KINDS or word in ADJECTIVES or word in QUANTITIES
                or ("-" in word and tree.deps[k] == "amod") or word in ED_ADJECTIVES)


def _attributes(tree: Tree, noun: int, before: list[int]) -> Iterator[str]:
    """What stands before a noun and describes it, and adjectives after it: "light blue", "parked", "wooden"."""
    after = [k for k in tree.having(noun, "amod") if k > noun]
    prefix: list[str] = []
    for k in [*before, *after]:
        word, pos = tree.words[k], tree.pos[k]
        if pos in ("PUNCT", "CCONJ", "NUM", "DET", "PART", "ADP", "SYM", "PRON", "AUX") and word not in COLOURS:
            prefix = []
        elif k + 1 in before and (tree.words[k + 1] in ED_ADJECTIVES or (
                word in SHADES and tree.words[k + 1] in COLOURS | SHADES)):
            prefix.append(word)
        elif word in QUANTITIES or (pos == "ADV" and word not in COLOURS and word not in ED_ADJECTIVES):
            prefix = []
        elif word.isalpha() or "-" in word:
            yield " ".join([*prefix, SAME_ATTRIBUTE.get(word, word)])
            prefix = []


def _is_denied(tree: Tree, i: int, found: dict[int, Mention]) -> bool:
    """"no cars", "without a hat", "not a single car", "free of clouds", "lacks a roof"; the second of "no cars or
    trucks" too."""
    head = tree.heads[i]
    if tree.words[i] in ("sign", "signs") and tree.words[i - 1:i] != ["no"]:
        return False  # "a no parking sign", see _noun
    marks = {tree.words[k] for k in tree.having(i, "case", "det", "advmod", "cc:preconj", "mark") if k < i}
    if tree.has(i, "cop") and tree.has(i, "case"):
        marks.discard("not")  # "is not on the couch" denies no couch
        marks.discard("n't")
    if marks & DENYING:
        return True
    if tree.words[i - 1:i] in (["no"], ["without"]) or tree.words[max(i - 3, 0):i - 1] == ["not", "a"]:
        return True
    if tree.deps[i] == "conj" and head in found and not tree.has(i, "case") and (
            not tree.has(i, "det", "nummod") or "nor" in {tree.words[k] for k in tree.having(i, "cc")}):
        return found[head].denied
    if tree.words[head] in FREE_OF and "of" in marks:
        return True
    if tree.deps[i] == "obj" and (tree.lemmas[head] in LACKING_VERBS or tree.words[head] in ("missing", "lacking")):
        return True
    if tree.words[head] in BE and tree.deps[i] == "nsubj" and is_negated(tree, head) and tree.has(head, "expl"):
        return True
    if tree.deps[i] == "nsubj" and tree.words[head] in ("absent", "missing"):
        return tree.has(head, "cop") and not is_negated(tree, head)
    return tree.deps[i] == "nmod" and tree.words[head] in ("absence", "lack") and "of" in marks


def is_negated(tree: Tree, i: int) -> bool:
    """Whether a verb or predicate is denied: "is not", "never", "isn't", "without doing"."""
    return any(tree.words[k] in ("not", "n't", "never", "cannot") or (
        tree.deps[k] == "mark" and tree.words[k] == "without") for k in tree.kids[i]
        if tree.deps[k] in ("advmod", "aux", "cop", "det", "mark"))
