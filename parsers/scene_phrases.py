"""Words that stand for a neighbour: prepositions of several words, groups, and nouns that name the picture itself.

Each function changes a `Tree` so that the rules after it see the plain phrase: "on top of a pile of books" becomes
"books" with the relation "on top of". They go by the sequence of words and use the tree for what hangs where, since
parsers disagree about the inside of such phrases.
"""

from __future__ import annotations

from parsers.scene_tree import HIDDEN, Tree
from parsers.scene_words import (
    BACKDROPS,
    COLOURS,
    FIXED_PREPOSITIONS,
    FRAMES,
    GROUPS,
    NUMBERS,
    PICTURES,
    SAME_PREPOSITION,
    SHOWING,
    SIDE_PREPOSITIONS,
    SIDE_QUALITIES,
    SIDES,
    UNIT_ATTRIBUTES,
    UNIT_COUNTS,
    UNITS,
    word_set,
)

ARTICLES = frozenset({"the", "a", "an", "its", "his", "her", "their", "this", "that"})
PRONOUN_QUANTITIES = word_set("some all most many both several few each one none neither any half two three four")
_FIXED: dict[str, list[tuple[str, ...]]] = {}
for _phrase in sorted(FIXED_PREPOSITIONS, key=len, reverse=True):
    _FIXED.setdefault(_phrase.split()[0], []).append(tuple(_phrase.split()))


def join_prepositions(tree: Tree) -> None:
    """Several words that are one relation of place become `case` children of their noun, their relation its mark."""
    i = 0
    while i < len(tree):
        found = _fixed_preposition(tree, i) or _side_preposition(tree, i)
        if found is None:
            i += 1
            continue
        end, relation = found
        noun = end + 1 if tree.words[end:end + 2] == ["each", "other"] else tree.phrase_head(end)
        if noun is not None:
            head = tree.heads[noun]
            tree.absorb(range(i, end), noun, "case")
            tree.marks[noun] = SAME_PREPOSITION.get(relation, relation)
            if head == noun or tree.deps[noun] not in ("obl", "nmod", "conj", "root", "acl:relcl", "advcl", "ccomp"):
                _label_place(tree, noun)
            if tree.heads[noun] == noun:  # "a bottle close to a glass": what stands before is what is there
                for kid in tree.kids[noun]:
                    if kid < i and tree.is_noun(kid) and tree.deps[kid] in ("obl:npmod", "dep", "obl"):
                        tree.deps[kid] = "nsubj"
        i = end


def _fixed_preposition(tree: Tree, i: int) -> tuple[int, str] | None:
    for phrase in _FIXED.get(tree.words[i], ()):
        if tuple(tree.words[i:i + len(phrase)]) == phrase:
            return i + len(phrase), " ".join(phrase)
    return None


def _side_preposition(tree: Tree, i: int) -> tuple[int, str] | None:
    """"on the left side of": preposition, article, quality, noun of place, "of". Articles are left out of the
    relation except before left and right."""
    if tree.words[i] not in SIDE_PREPOSITIONS or tree.pos[i] in ("VERB", "NOUN"):
        return None
    k, parts = i + 1, [tree.words[i]]
    if k < len(tree) and tree.words[k] in ARTICLES:
        k += 1
    while k < len(tree) and tree.words[k] in SIDE_QUALITIES and tree.words[k + 1:k + 2] != ["of"]:
        parts.append(tree.words[k])
        k += 1
    if k + 1 >= len(tree) or tree.words[k] not in SIDES or tree.words[k + 1] != "of":
        return None
    parts += [tree.words[k], "of"]
    if {"left", "right"} & set(parts) and k - i > 1 and tree.words[i + 1] in ARTICLES:
        parts.insert(1, "the")
    return k + 2, " ".join(part for part in parts if part != "very")


def _label_place(tree: Tree, noun: int) -> None:
    """Gives a noun of place whose label says nothing of it the label that its head asks for."""
    head = tree.heads[noun]
    if head != noun and tree.deps[noun] not in ("obj", "nsubj", "nsubj:pass"):
        tree.deps[noun] = "nmod" if tree.pos[head] in ("NOUN", "PROPN", "PRON") else "obl"


def open_groups(tree: Tree) -> tuple[dict[int, int], dict[int, str]]:
    """"a group of people" becomes "people", "two slices of pizza" "pizza". Returns the counts and the
    attributes that the dropped words stated, by the noun that stays."""
    counts: dict[int, int] = {}
    attributes: dict[int, str] = {}
    for i in range(len(tree) - 2, -1, -1):
        if i + 2 >= len(tree) or tree.words[i + 1] != "of" or tree.pos[i] in ("VERB", "ADP"):
            continue
        word = tree.words[i]
        group, unit = word in GROUPS, word in UNITS
        quantity = word in PRONOUN_QUANTITIES and tree.first(i, "case") != i + 1
        if not group and not unit and not quantity:
            continue
        noun = tree.phrase_head(i + 2)
        if noun is None or noun == i or (word == "head" and _counted(tree, i) is None):
            continue
        count = UNIT_COUNTS.get(word.removesuffix("s")) if unit else NUMBERS.get(word) if quantity else None
        number = _counted(tree, i)
        if unit and number is not None:
            count = number * (count or 1)
        if count and count > 1:
            counts[noun] = count
        if word in UNIT_ATTRIBUTES:
            attributes[noun] = UNIT_ATTRIBUTES[word]
        _stand_for(tree, i, noun)
        if word in ("none", "neither"):
            tree.deps[noun] = "dislocated"  # what is said is said of none of them
    for i in range(len(tree) - 1):  # "a couple people", "a lot people"
        if tree.words[i] == "couple" and tree.deps[i] in ("compound", "amod", "nummod") and tree.heads[i] > i:
            counts[tree.heads[i]] = 2
            tree.deps[i] = HIDDEN
    return counts, attributes


def _counted(tree: Tree, i: int) -> int | None:
    number = tree.first(i, "nummod")
    return None if number is None else number_of(tree.words[number])


def number_of(word: str) -> int | None:
    """The number that a word or digits express: 1 to 20, tens, a dozen, a hundred; None for anything else."""
    if word.isascii() and word.isdigit() and len(word) < 6:
        return int(word)
    return NUMBERS.get(word)


def _stand_for(tree: Tree, i: int, noun: int) -> None:
    """`noun` takes the place of word `i` and of the "of" after it; what described the dropped word is hidden."""
    below = i in tree.above(noun)
    mark = tree.marks.pop(i, None)
    describing = [kid for kid in tree.kids[i] if kid < i and tree.deps[kid] in (
        "amod", "compound", "nummod", "advmod") and kid != noun]
    articles = [kid for kid in tree.kids[i] if kid < i and tree.deps[kid] == "det"]
    for kid in describing:
        tree.deps[kid] = HIDDEN
    own_article = tree.has(noun, "det")
    for kid in articles:
        if own_article or tree.words[kid] != "no":
            tree.deps[kid] = HIDDEN
    if not below and i in (tree.heads[noun], noun):
        return
    if below:
        tree.replace(i, noun)
    else:
        for kid in [kid for kid in tree.kids[i] if kid != noun and noun not in tree.kids[kid]]:
            if kid not in tree.above(noun):
                tree.attach(kid, noun, tree.deps[kid])
    tree.deps[i] = HIDDEN
    if tree.heads[i + 1] in (i, noun):
        if tree.heads[i + 1] != noun:
            tree.attach(i + 1, noun, HIDDEN)
        tree.deps[i + 1] = HIDDEN
    if mark:
        tree.marks[noun] = mark


def drop_picture(tree: Tree) -> set[int]:
    """Words that name the picture rather than something in it: "a photo of", "the image shows", "in the background".
    "A photo of a dog" becomes "a dog"; the other words are returned, and stand for no object."""
    dropped = set()
    for i in range(len(tree) - 1, -1, -1):
        word = tree.words[i]
        if word in BACKDROPS:
            dropped.add(i)
        if word in FRAMES and tree.deps[i] not in ("compound", "amod") and _in_frame(tree, i):
            dropped.add(i)
        if word not in PICTURES or tree.deps[i] in ("compound", "amod", HIDDEN):
            continue
        of = i + 2 < len(tree) and tree.words[i + 1] == "of"
        if not _speaks_of_itself(tree, i, of):
            continue
        noun = tree.phrase_head(i + 2) if of else None
        if noun is not None:
            _stand_for(tree, i, noun)
        else:
            dropped.add(i)
    return dropped


def _in_frame(tree: Tree, i: int) -> bool:
    """Whether a noun stands in "in the picture", without anything that would make it a thing of its own."""
    marks = [tree.words[k] for k in tree.having(i, "case")]
    described = tree.has(i, "nmod", "amod", "acl", "acl:relcl", "nmod:poss", "compound")
    return marks in (["in"], ["of"], ["from"], ["into"], ["within"], ["throughout"]) and not described


def _speaks_of_itself(tree: Tree, i: int, of: bool) -> bool:
    """Whether the noun names the picture that the text describes: the root of its sentence, what "this is" says, or
    the subject of a verb of showing. A picture with a place of its own ("on the wall") is a thing."""
    if any(tree.words[k] in COLOURS or tree.words[k] in ("framed", "hanging") for k in tree.having(i, "amod")):
        return False
    if tree.has(i, "nmod:poss") or tree.has(i, "cc", "conj"):
        return False
    label, head = tree.deps[i], tree.heads[i]
    if label in ("nsubj", "nsubj:pass"):
        return tree.lemmas[head] in SHOWING or tree.words[head] in PICTURES or tree.pos[head] == "ADJ"
    if label != "root" and not ((label == "obj" and tree.lemmas[head] in ("see", "have", "be")) or label == "conj"):
        return False
    return of or not any(_is_place(tree, k) for k in tree.having(i, "nmod", "obl", "acl", "acl:relcl"))


def _is_place(tree: Tree, noun: int) -> bool:
    if tree.words[noun] in FRAMES:
        return False
    if tree.pos[noun] == "VERB":
        return tree.lemmas[noun] in ("hang", "mount", "stick", "attach", "lean", "frame") or any(
            _is_place(tree, k) for k in tree.having(noun, "obl") if tree.lemmas[noun] not in SHOWING)
    words = {tree.words[k] for k in tree.having(noun, "case")}
    return bool(words & {"on", "above", "over", "under", "behind", "near", "beside", "by"}) or noun in tree.marks
