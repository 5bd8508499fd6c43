"""Names that a parser cut in two, and words that hang on the wrong neighbour: the second half of `scene_repairs`.

Each function looks for one shape that cannot be meant.
"""

from __future__ import annotations

from parsers.scene_forms import is_plural, noun_lemma
from parsers.scene_tree import Tree
from parsers.scene_words import (
    AGENTIVE,
    ANIMALS,
    COLOURS,
    FINITE_VERBS,
    FULL_OF,
    ING_NOUNS,
    MATERIALS,
    PEOPLE,
    SHADES,
)

ROLES = ("obj", "obl", "nmod", "nsubj", "nsubj:pass")
TOUCHING = ("on", "in", "around", "over", "under", "inside")


def join_names(tree: Tree) -> None:
    """Puts the parts of names together."""
    for i in range(len(tree)):
        _colours_before_noun(tree, i)
        _name_cut_in_two(tree, i)
        _case_in_name(tree, i)
        _covered(tree, i)


def hang_places(tree: Tree) -> None:
    """Hangs objects, places and relative clauses on the word they belong to."""
    for i in range(len(tree)):
        _doer_of_participle(tree, i)
        _bare_object(tree, i)
        _place_of_participle(tree, i)
        _place_of_companion(tree, i)
        _relative_without_word(tree, i)


def _take_place(tree: Tree, noun: int, word: int, label: str) -> None:
    """`noun` gets the role of `word` before it, with its articles and preposition; `word` describes it as `label`."""
    path = [word, *tree.above(word)]
    if noun in path:
        child = path[path.index(noun) - 1]
        if child != word:
            head, role = tree.heads[word], tree.deps[word]
            over, outer = tree.heads[noun], tree.deps[noun]
            tree.attach(child, child if over == noun else over, outer)
            tree.attach(noun, head, role)
    elif noun not in path and tree.heads[word] != word and noun not in tree.above(tree.heads[word]):
        tree.attach(noun, tree.heads[word], tree.deps[word])
    elif tree.heads[word] == word and word in tree.above(noun):
        tree.replace(word, noun)
    for kid in [kid for kid in tree.kids[word] if kid != noun]:
        tree.attach(kid, noun, tree.deps[kid])
    if word not in tree.above(noun):
        tree.attach(word, noun, label)


def _colours_before_noun(tree: Tree, i: int) -> None:
    """Colours and materials before a noun describe it, whatever the parser made of them: "a yellow and black scarf"."""
    if tree.words[i] not in COLOURS and tree.words[i] not in MATERIALS:
        return
    run, k = [i], i + 1
    while k < len(tree) and (tree.words[k] in COLOURS or tree.words[k] in ("and", ",", "&", "striped", "checkered")
                             or tree.words[k] in MATERIALS or tree.words[k] in SHADES or tree.deps[k] == "amod"):
        if tree.words[k] in COLOURS or tree.words[k] in MATERIALS:
            run.append(k)
        k += 1
    if k >= len(tree) or tree.words[k - 1] in ("and", ",", "&") or tree.sentences[k] != tree.sentences[i]:
        return
    while tree.deps[k] == "compound" and tree.heads[k] > k:
        k = tree.heads[k]
    if not tree.is_noun(k) and not (tree.words[k] in ING_NOUNS and tree.pos[k] == "VERB"):
        return
    for word in run:
        label, below = tree.deps[word], k in tree.above(word)
        if label in ROLES or (not below and label in ("conj", "root", "xcomp", "advmod", "acl")):
            if tree.pos[k] == "VERB":
                tree.to_noun(k)
            _take_place(tree, k, word, "amod")


def _name_cut_in_two(tree: Tree, i: int) -> None:
    """"birds on a traffic sign" with "on a traffic" apart from "sign"."""
    noun = i + 1
    if tree.deps[i] not in ("nmod", "obl", "obj") or noun >= len(tree) or not tree.is_noun(i):
        return
    if not tree.is_noun(noun) or tree.deps[noun] not in ("root", "obl", "nmod", "obj", "obl:npmod", "dep"):
        return
    if tree.has(noun, "det", "case", "cop", "aux", "nummod", "nmod:poss") or is_plural(tree.words[i]):
        return
    if (tree.deps[noun] == "root" and noun not in tree.above(i)) or tree.words[i] in PEOPLE | ANIMALS:
        return
    if not tree.has(i, "case", "det", "amod") or tree.words[noun] in FINITE_VERBS:
        return
    _take_place(tree, noun, i, "compound")


def _case_in_name(tree: Tree, i: int) -> None:
    """"at picnic table" with the preposition hung on "picnic": it belongs to the whole name."""
    if tree.deps[i] not in ("compound", "amod", "nummod") or tree.heads[i] <= i:
        return
    case = tree.first(i, "case")
    if case is not None and case < i:
        tree.attach(case, tree.heads[i], "case")


def _covered(tree: Tree, i: int) -> None:
    """"snow covered branches": the noun before the participle does it."""
    noun, thing = i - 1, tree.heads[i]
    if tree.words[i] not in FULL_OF or tree.deps[i] != "amod" or thing <= i or noun < 0:
        return
    beside = tree.heads[noun] == thing and tree.deps[noun] in ("compound", "amod", "nmod", "obl:npmod")
    if not beside and tree.heads[noun] != i:
        return
    if tree.pos[noun] in ("NOUN", "PROPN", "ADJ") and tree.words[noun] not in COLOURS:
        tree.pos[noun] = "NOUN"
        tree.attach(noun, i, "obl:agent")
        tree.marks[noun] = "with" if tree.words[i] == "filled" else "by"
        tree.deps[i], tree.pos[i], tree.tags[i] = "acl", "VERB", "VBN"
        tree.lemmas[i] = tree.base(i)


# ---------------------------------------------------------------- what hangs where

def _doer_of_participle(tree: Tree, i: int) -> None:
    """"a woman in a blue shirt sitting on a chair": it is the woman who sits, not the shirt."""
    thing = tree.heads[i]
    if tree.pos[i] != "VERB" or not tree.words[i].endswith("ing") or tree.deps[i] not in ("acl", "xcomp", "advcl"):
        return
    if tree.lemmas[i] not in AGENTIVE or not tree.is_noun(thing) or noun_lemma(tree.words[thing]) in PEOPLE | ANIMALS:
        return
    over = tree.heads[thing]
    if tree.deps[thing] == "obj" and tree.pos[over] == "VERB" and tree.deps[over] == "acl":
        if tree.lemmas[over] in AGENTIVE and noun_lemma(tree.words[tree.heads[over]]) in PEOPLE | ANIMALS:
            tree.attach(i, tree.heads[over], "acl")
    elif tree.deps[thing] in ("nmod", "obl") and noun_lemma(tree.words[over]) in PEOPLE | ANIMALS and (
            {tree.words[k] for k in tree.having(thing, "case")} & {"in", "with"}):
        tree.attach(i, over, "acl")


def _bare_object(tree: Tree, i: int) -> None:
    """"is wearing shirt" with "shirt" as a clause: a noun without preposition after a verb is its object."""
    verb = tree.heads[i]
    if tree.deps[i] not in ("xcomp", "advcl", "ccomp", "obl", "obl:npmod") or i < verb or not tree.is_noun(i):
        return
    if tree.pos[verb] != "VERB" or not tree.words[verb].endswith("ing") or tree.has(verb, "obj"):
        return
    if not tree.has(i, "case", "mark", "cop", "nsubj") and i not in tree.marks and i - verb <= 4:
        tree.deps[i] = "obj"


def _place_of_participle(tree: Tree, i: int) -> None:
    """"family sitting at a table": a place right after a participle belongs to it rather than to the noun before."""
    start = tree.first(i, "case")
    if tree.deps[i] not in ("nmod", "advcl", "dep") or start is None or start >= i:
        return
    while start > 0 and tree.words[start - 1] in ("down", "up", "out"):
        start -= 1
    verb = start - 1
    if verb >= 0 and tree.pos[verb] == "VERB" and tree.deps[verb] in ("acl", "acl:relcl") and (
            tree.heads[verb] == tree.heads[i] and not tree.has(i, "acl:relcl")):
        tree.attach(i, verb, "obl")


def _place_of_companion(tree: Tree, i: int) -> None:
    """"a woman with her hand on a blender": a place right after "with ..." says where that is."""
    if tree.deps[i] not in ("nmod", "obl") or not tree.has(i, "case"):
        return
    head = tree.heads[i]
    earlier = [k for k in tree.kids[head] if head < k < i and tree.deps[k] in ("nmod", "obl")]
    if not earlier or not tree.is_noun(head):
        return
    companion = earlier[-1]
    marks = [tree.words[k] for k in tree.having(companion, "case")]
    start = tree.first(i, "case")
    if marks == ["with"] and start == companion + 1 and tree.words[start] in TOUCHING:
        tree.attach(i, companion, "nmod")


def _relative_without_word(tree: Tree, i: int) -> None:
    """"the tie the man is wearing", "the couch a person is sitting on": the last verb describes the first noun."""
    if tree.pos[i] != "VERB" or not tree.words[i].endswith("ing") or tree.has(i, "obj", "xcomp"):
        return
    end = i + 1
    dangling = end < len(tree) and tree.pos[end] in ("ADP", "ADV") and not tree.kids[end]
    end += dangling
    if (end < len(tree) and tree.pos[end] != "PUNCT") or tree.deps[i] not in ("root", "acl"):
        return
    if not dangling and tree.base(i) not in ("hold", "wear", "carry", "ride", "use", "eat", "pull", "push"):
        return
    thing = tree.first(i, "nsubj")
    if thing is None or not tree.has(i, "aux"):
        return
    who = tree.first(thing, "obj", "appos", "nmod", "acl", "dep", "acl:relcl", "conj")
    if who is not None and who > thing and tree.is_noun(who) and (
            not tree.has(who, "case", "cc") and tree.has(who, "det")):
        after = [kid for kid in tree.kids[thing] if who < kid < i and tree.deps[kid] in ("nmod", "acl", "obl")]
        tree.replace(i, thing)
        tree.attach(i, thing, "acl:relcl")
        tree.attach(who, i, "nsubj")
        for kid in after:
            tree.attach(kid, who, tree.deps[kid])
    elif dangling and not tree.has(thing, "det") and tree.words[thing] in PEOPLE | ANIMALS:
        parts = [kid for kid in tree.having(thing, "compound", "amod", "nmod") if tree.is_noun(kid)]
        if not parts or tree.words[parts[-1]] in COLOURS:
            return
        place = parts[-1]
        own = [kid for kid in tree.kids[thing] if kid < place]
        tree.replace(i, place)
        tree.attach(i, place, "acl:relcl")
        tree.attach(thing, i, "nsubj")
        for kid in own:
            tree.attach(kid, place, tree.deps[kid])
        for kid in [kid for kid in tree.kids[place] if kid > place and kid != i and tree.deps[kid] != "punct"]:
            tree.attach(kid, i, tree.deps[kid])
