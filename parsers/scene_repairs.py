"""Common misreadings of captions, put right: parsers learn from newspapers and letters, where a text seldom begins
with a bare noun and never says "man holding surfboard".

Each function looks for one shape of words, tags and labels that cannot be meant, and changes the `Tree`. A tree
without such shapes stays as it is.
"""

from __future__ import annotations

from parsers.scene_attachments import hang_places, join_names
from parsers.scene_forms import is_participle, is_plural, noun_lemma
from parsers.scene_tree import BE, NOMINALS, Tree
from parsers.scene_words import (
    ADJECTIVES,
    ANIMALS,
    COLOURS,
    ED_ADJECTIVES,
    FINITE_VERBS,
    ING_NOUNS,
    JOINING_VERBS,
    MATERIALS,
    NUMBERS,
    PEOPLE,
    PLACE_WORDS,
    QUANTITIES,
    RELATIVE,
    THINGS,
)

SUBJECTS = ("nsubj", "nsubj:pass")
ARTICLES = frozenset({"a", "an", "the", "his", "her", "their", "its", "this", "that", "some", "no", "my"})
NOT_NOUNS = frozenset({"VERB", "ADJ", "ADV", "X", "INTJ", "AUX", "SYM", "SCONJ"})
KNOWN = PEOPLE | ANIMALS | THINGS
PARTICLES = frozenset({"on", "in", "at", "near", "under", "behind", "over", "by", "with"})
PARTICLE_VERBS = frozenset({"have", "put", "try", "turn", "switch", "get", "take", "pull"})
"""Verbs after which these words are no prepositions: "putting on a hat"."""
PREMODIFIERS = ("det", "amod", "compound", "nummod")
ENDS = frozenset({"PUNCT", "ADP", "AUX", "CCONJ", "VERB", "SCONJ", "PART"})
"""Tags of what may follow the last word of a noun phrase."""
AFTER_NOUN = frozenset({"next", "close", "behind", "on", "in", "with", "has", "is", "are", "of"})


def repair(tree: Tree) -> None:
    """Applies all repairs, once each, from left to right."""
    size = range(len(tree))
    for i in size:
        _known_noun(tree, i)
        _has_and_noun(tree, i)
        _opening_noun(tree, i)
        _noun_with_article(tree, i)
        _noun_after_to(tree, i)
        _adjective_as_noun(tree, i)
        _place_word(tree, i)
    for i in size:
        _verb_in_name(tree, i)
        _name_as_clause(tree, i)
        _opening_participle(tree, i)
        _subject_in_name(tree, i)
        _subjects_joined(tree, i)
        _clause_after_relative(tree, i)
    join_names(tree)
    hang_places(tree)


# ---------------------------------------------------------------- tools

def _opens(tree: Tree, i: int) -> bool:
    """Whether `i` begins its sentence, after articles, numbers and describing words."""
    k = i - 1
    while k >= 0 and tree.sentences[k] == tree.sentences[i]:
        if not (tree.words[k] in ARTICLES or tree.pos[k] in ("DET", "NUM", "ADJ") or tree.words[k] in COLOURS
                or tree.words[k] in MATERIALS or tree.words[k] in NUMBERS):
            return False
        k -= 1
    return True


def _split_at_verb(tree: Tree, verb: int) -> None:
    """Takes a name with a verb in it apart: the noun before the verb is who does it, what follows is its object."""
    noun = verb - 1
    thing = tree.phrase_head(verb + 1) if verb + 1 < len(tree) else None
    right = [k for k in [noun, *tree.above(noun)] if k > noun]
    while right and right[-1] > verb and thing is not None and right[-1] > thing:
        right.pop()
    before = [k for k in range(noun) if tree.heads[k] > noun and tree.sentences[k] == tree.sentences[noun]
              and tree.heads[k] in right and k not in tree.above(noun)]
    if right:
        tree.replace(right[-1], noun)
    elif verb in tree.above(noun):
        return
    for k in before:
        tree.attach(k, noun, tree.deps[k])
    for k in [k for k in tree.kids[noun] if k > verb and k != thing and tree.deps[k] not in ("conj", "cc", "punct")]:
        if k not in tree.above(verb):
            tree.attach(k, verb, "obl" if tree.deps[k] == "nmod" else tree.deps[k])
    if verb not in tree.above(noun):
        tree.attach(verb, noun, "acl")
    if thing is not None and thing > verb and thing not in tree.above(noun):
        for k in [k for k in range(verb + 1, thing) if tree.heads[k] in (noun, verb)]:
            tree.attach(k, thing, tree.deps[k])
        case = tree.first(thing, "case")
        if thing not in tree.above(verb):
            tree.attach(thing, verb, "obl" if case is not None and case < thing else "obj")
    tree.to_verb(verb)


# ---------------------------------------------------------------- nouns read as something else

def _known_noun(tree: Tree, i: int) -> None:
    """"riding a skateboard" with "skateboard" read as an adverb: a word that is a thing or a person is a noun."""
    if tree.pos[i] not in ("ADV", "ADJ", "X", "INTJ") or noun_lemma(tree.words[i]) not in KNOWN or (
            tree.words[i] in COLOURS or tree.has(i, "cop")):
        return
    head, label = tree.heads[i], tree.deps[i]
    following = tree.is_noun(i + 1) if i + 1 < len(tree) else False
    tree.to_noun(i)
    if label not in ("advmod", "amod", "xcomp", "compound:prt"):
        return
    if head < i and tree.pos[head] == "VERB":
        tree.deps[i] = "obl" if tree.has(i, "case") or tree.has(head, "obj") else "obj"
    elif head < i and tree.words[head] in COLOURS and tree.deps[head] == "root":
        tree.replace(head, i)
        tree.deps[head] = "amod"
    elif head < i and tree.is_noun(head):
        tree.deps[i] = "nmod"
    elif head > i and following:
        tree.deps[i] = "compound"
    elif head > i and tree.pos[head] in ("NOUN", "PROPN", "VERB", "ADJ"):
        tree.deps[i] = "nsubj"


def _has_and_noun(tree: Tree, i: int) -> None:
    """"the sign has lettering": no participle in -ing follows "has"."""
    if tree.words[i] not in ("has", "have", "having") or tree.deps[i] != "aux":
        return
    head = tree.heads[i]
    if head <= i or not tree.words[head].endswith("ing"):
        return
    after = [kid for kid in tree.kids[head] if kid > i]
    tree.replace(head, i)
    for kid in after:
        if tree.deps[kid] not in ("punct", "conj"):
            tree.attach(kid, head, tree.deps[kid])
    tree.pos[i], tree.lemmas[i], tree.deps[head] = "VERB", "have", "obj"
    tree.to_noun(head)


def _opening_noun(tree: Tree, i: int) -> None:
    """"elephant playing in the mud", "train at the station": a sentence without subject begins with its noun."""
    word, label = tree.words[i], tree.deps[i]
    if tree.pos[i] not in NOT_NOUNS or word in COLOURS or word in BE or word in QUANTITIES or not _opens(tree, i):
        return
    if label not in ("root", "compound", "nsubj", "amod", "mark", "advmod", "case", "obl", "nmod"):
        return
    following = i + 1
    after = tree.words[following] if following < len(tree) else ""
    if label != "root":
        # "surfer riding a wave" with "surfer" below "riding"
        odd = tree.pos[i] not in ("ADJ", "ADP") and after.endswith("ing") and not word.endswith(("ing", "ed", "ly"))
        if tree.heads[i] == following and tree.pos[following] == "VERB" and (
                odd or word.removesuffix("s") in PEOPLE | ANIMALS):
            tree.to_noun(i)
            tree.deps[i] = "nsubj"
        return
    if tree.has(i, "nsubj", "nsubj:pass", "aux", "aux:pass", "cop", "expl", "mark", "case"):
        return
    if tree.pos[i] == "VERB" and word.endswith(("ing", "ed")) and (
            not tree.has(i, "amod", "det", "nummod") or tree.has(i, "compound", "obj")):
        return
    if not after or tree.pos[following] == "PUNCT":
        if (i > 0 and tree.pos[i] not in ("VERB", "ADJ", "ADV")) or tree.has(i, "det", "compound", "amod"):
            tree.to_noun(i)
        return
    if (tree.pos[following] in ("ADP", "AUX", "CCONJ") or after in AFTER_NOUN or after in RELATIVE
            or (after.endswith(("ing", "ed")) and tree.pos[following] == "VERB")):
        tree.to_noun(i)


def _noun_with_article(tree: Tree, i: int) -> None:
    """"is in a cellar" with "cellar" read as an adjective; verbs labelled as subjects."""
    word, pos = tree.words[i], tree.pos[i]
    if pos in NOMINALS or i == 0 or word in COLOURS or word in QUANTITIES or word in BE:
        return
    if pos == "VERB" and not tree.has(i, "obj", "nsubj", "aux", "cop", "nsubj:pass", "aux:pass"):
        if tree.deps[i] in SUBJECTS or (tree.deps[i] == "obj" and tree.tags[i] != "VBG" and not tree.kids[i] and (
                tree.pos[tree.heads[i]] == "VERB")):
            tree.to_noun(i)
            return
        if word in ING_NOUNS and tree.pos[i - 1] in ("ADP", "SCONJ") and tree.heads[i - 1] == i:
            tree.to_noun(i)
            tree.deps[i - 1], tree.deps[i] = "case", "obl"
            return
        joined = tree.deps[i] == "conj" and tree.is_noun(tree.heads[i]) and tree.heads[i] < i
        if joined and tree.tags[i] in ("VB", "VBP") and not tree.has(i, "advmod", "xcomp", "obl"):
            tree.to_noun(i)
            return
        case = tree.first(i, "case")
        if case is not None and case < i and tree.has(i, "nmod:poss", "det") and not word.endswith("ing"):
            tree.to_noun(i)
            return
    before = tree.words[i - 1]
    article = before in ARTICLES and (before not in ("that", "this", "her", "no") or tree.pos[i - 1] == "DET")
    described = tree.heads[i - 1] == i and tree.deps[i - 1] in ("amod", "compound", "nummod", "det")
    if not (article or described) or (i + 1 < len(tree) and tree.pos[i + 1] not in ENDS):
        return
    if pos not in ("ADJ", "X", "VERB", "INTJ") or tree.deps[i] in ("amod", "advmod", "aux", "mark", "compound:prt"):
        return
    if pos == "VERB" and tree.is_noun(i - 1):
        return
    if pos == "VERB" and tree.has(i, "nsubj", "obj", "aux", "cop", "nsubj:pass", "aux:pass"):
        return
    if pos == "ADJ" and not article and tree.has(i, "nsubj", "cop"):
        return
    tree.to_noun(i)


def _noun_after_to(tree: Tree, i: int) -> None:
    """"attached to wall" with "wall" read as a verb: no infinitive follows a participle of joining."""
    if tree.pos[i] != "VERB" or tree.words[i - 1:i] != ["to"] or i < 2 or tree.heads[i - 1] != i:
        return
    joined = i - 2
    if tree.has(i, "obj", "nsubj", "obl", "xcomp") or not (
            (tree.words[joined].endswith("ed") and tree.base(joined) in JOINING_VERBS) or tree.words[joined] == "next"):
        return
    tree.to_noun(i)
    tree.deps[i - 1] = "case"
    if tree.words[joined] != "next" and i not in tree.above(joined):
        tree.attach(i, joined, "obl")


def _adjective_as_noun(tree: Tree, i: int) -> None:
    """"looks cloudy" with "cloudy" read as a noun."""
    if tree.words[i] in ADJECTIVES and tree.pos[i] == "NOUN" and tree.deps[i] in ("obj", "xcomp", "root", "conj") and (
            not tree.has(i, "det", "amod", "compound", "nummod", "case")):
        tree.pos[i] = "ADJ"
        if tree.deps[i] == "obj":
            tree.deps[i] = "xcomp"


def _place_word(tree: Tree, i: int) -> None:
    """"near two bottles", "alongside a runway" with the preposition read as an adjective of the noun."""
    if tree.kids[i] or i == 0 or i + 1 >= len(tree):
        return
    if tree.words[i] in PARTICLES and tree.deps[i] in ("compound:prt", "advmod") and tree.heads[i] == i - 1:
        noun = tree.phrase_head(i + 1)
        if noun is not None and tree.is_noun(noun) and tree.heads[noun] == i - 1 and not tree.has(noun, "case") and (
                tree.lemmas[i - 1] not in PARTICLE_VERBS and tree.deps[noun] in ("obj", "obl", "advmod", "obl:npmod")):
            tree.attach(i, noun, "case")
            tree.deps[noun] = "obl"
        return
    if tree.words[i] not in PLACE_WORDS or tree.deps[i] not in ("amod", "compound", "advmod", "nmod", "appos", "dep",
                                                                "nummod"):
        return
    noun = tree.phrase_head(i + 1)
    if noun is None or not tree.is_noun(noun) or i in tree.above(noun):
        return
    tree.attach(i, noun, "case")
    tree.pos[i] = "ADP"
    before = i - 1
    if tree.heads[before] == noun and tree.deps[before] in ("compound", "amod", "nmod") and tree.is_noun(before):
        left = [kid for kid in tree.kids[noun] if kid < before]
        tree.replace(noun, before)
        for kid in [kid for kid in tree.kids[before] if kid > before and kid != noun and tree.deps[kid] != "punct"]:
            tree.attach(kid, noun, tree.deps[kid])
        for kid in left:
            tree.attach(kid, before, tree.deps[kid])
        tree.deps[noun] = "nmod"


# ---------------------------------------------------------------- verbs read as part of a name

def _verb_in_name(tree: Tree, i: int) -> None:
    """"man holding surfboard", "girl wears a helmet", "zebra walking on the grass" read as names."""
    word, noun = tree.words[i], i - 1
    if noun < 0 or tree.sentences[noun] != tree.sentences[i] or not tree.is_noun(noun):
        return
    who = tree.words[noun]
    if who in COLOURS or who in MATERIALS or any(k > noun for k in tree.having(noun, "case")):
        return
    animate = (who.removesuffix("s") in PEOPLE | ANIMALS or who in ("men", "women", "people", "children"))
    agreeing = word.endswith("s") or (animate and is_plural(who))
    if tree.is_noun(i) and agreeing and tree.has(i, *SUBJECTS) and tree.has(i, "obl") and (
            not tree.has(i, "cop", "case", "det", "amod")):
        tree.to_verb(i)  # "a flock of birds flies over the water"
        return
    if word in FINITE_VERBS and tree.pos[i] != "VERB":
        ends = i + 1 == len(tree) or tree.pos[i + 1] == "PUNCT"
        if tree.deps[i] == "acl":
            tree.to_verb(i)
        elif not is_plural(who) and (animate if ends else tree.pos[i + 1] != "AUX"):
            _split_at_verb(tree, i)
        return
    if tree.is_noun(i) and tree.heads[noun] == i and tree.deps[noun] in ("compound", "amod") and (
            (is_participle(word) and tree.words[i + 1:i + 2] == ["by"]) or (tree.has(i, "obj") and word.endswith("s"))):
        _split_at_verb(tree, i)  # "a horse ridden by a woman", "a boy kicks a ball"
        return
    if animate and is_plural(who) and tree.is_noun(i) and tree.heads[noun] == i and tree.deps[noun] == "compound":
        if not is_plural(word) and i + 1 < len(tree) and tree.pos[i + 1] in ("ADP", "DET"):
            _split_at_verb(tree, i)  # "three zebras graze in a field"
        return
    if not word.endswith("ing") or word in ING_NOUNS or tree.pos[i] not in ("VERB", "NOUN", "ADJ", "PROPN"):
        return
    over = tree.heads[i]
    inside = tree.deps[i] in ("compound", "amod", "nmod", "nsubj", "obj") and over > i
    nested = i in tree.above(noun) or (over in tree.above(noun) and over > i)
    acting = tree.pos[i] == "VERB" or animate or tree.base(i) in ("hold", "wear", "ride", "carry")
    below_thing = tree.deps[i] == "acl" and over == noun and tree.deps[noun] == "compound" and tree.heads[noun] > i
    second = inside and tree.deps[i] != "nsubj" and animate and tree.pos[i] == "VERB" and noun == tree.heads[over]
    if (inside and nested and acting) or below_thing or second:  # second: "man and woman holding flowers"
        _split_at_verb(tree, i)
    elif (tree.heads[noun] == i and tree.deps[noun] in ("compound", "amod") and tree.pos[i] in ("NOUN", "PROPN", "VERB")
            and (tree.pos[i] == "VERB" or tree.has(i, "nmod"))
            and tree.deps[i] in ("root", "conj", "nmod", "obl") and over <= i):
        after = [kid for kid in tree.kids[i] if kid > i and tree.deps[kid] in (
            "nmod", "obl", "obj", "advmod", "advcl", "compound:prt", "xcomp")]
        tree.replace(i, noun)
        for kid in after:
            tree.attach(kid, i, "obl" if tree.deps[kid] == "nmod" else tree.deps[kid])
        tree.deps[i] = "acl"
        tree.to_verb(i)


def _name_as_clause(tree: Tree, i: int) -> None:
    """"tree trunk growing", "light post next to a building" read as subject and predicate."""
    noun = i - 1
    if noun < 0 or tree.heads[noun] != i or tree.deps[noun] != "nsubj":
        return
    word = tree.words[noun]
    if tree.pos[noun] not in ("NOUN", "PROPN", "ADJ") or is_plural(word) or tree.has(noun, "nummod"):
        return
    if tree.has(i, "cop", "aux", "obj", "expl", "ccomp", "case"):
        return
    if tree.is_noun(i):
        tree.deps[noun] = "amod" if word in COLOURS or tree.pos[noun] == "ADJ" else "compound"
        return
    bare = tree.pos[i] == "VERB" and tree.tags[i] in ("VB", "VBP") and tree.words[i] == tree.lemmas[i]
    ends = i + 1 == len(tree) or tree.pos[i + 1] in ENDS | {"ADV", "ADJ"}
    if bare and ends and not tree.has(i, "xcomp") and word not in PEOPLE | ANIMALS:
        tree.deps[noun] = "compound"
        tree.to_noun(i)


def _opening_participle(tree: Tree, i: int) -> None:
    """"striped rug on floor", "surfing dog": a participle before a bare noun describes it."""
    if tree.pos[i] != "VERB" or tree.deps[i] != "root" or i + 1 >= len(tree) or not _opens(tree, i):
        return
    word = tree.words[i]
    if word in ED_ADJECTIVES and tree.heads[i - 1:i] == [i] and tree.deps[i - 1] in SUBJECTS:
        tree.deps[i - 1] = "advmod"
    noun = next((kid for kid in tree.kids[i] if kid > i and tree.deps[kid] in (
        "obj", "nsubj", "advmod", "xcomp", "dep", "obl", "compound", "nsubj:pass")), None)
    if noun is None or tree.has(noun, "case", "det", "mark", "nmod:poss"):
        return
    if any(tree.pos[k] not in ("ADJ", "NOUN", "PROPN", "VERB") for k in range(i + 1, noun)):
        return
    if tree.first(i, "nsubj", "aux", "aux:pass", "cop") not in (None, noun):
        return
    past = word.endswith(("ed", "en")) or tree.tags[i] == "VBN"
    if past or not word.endswith("ing") or tree.words[noun].removesuffix("s") in PEOPLE | ANIMALS:
        tree.replace(i, noun)
        tree.deps[i] = "amod" if past or word.endswith("ing") else "compound"
        if tree.deps[i] == "compound":
            tree.pos[i] = "NOUN"
        tree.to_noun(noun)


def _subject_in_name(tree: Tree, i: int) -> None:
    """"wire running along the wall" with "wire" read as part of the verb's name."""
    noun = i - 1
    if tree.pos[i] != "VERB" or noun < 0 or tree.deps[i] == "amod":
        return
    subject = tree.first(i, *SUBJECTS)
    if subject is not None:  # "two pieces of fabric sitting"
        below = tree.heads[noun] == i and tree.deps[noun] == "compound"
        if below and tree.words[noun - 1] == "of" and noun - 2 == subject:
            tree.attach(noun, subject, "nmod")
        return
    if tree.heads[noun] == i and tree.is_noun(noun) and tree.words[noun] not in COLOURS and (
            tree.deps[noun] in ("compound", "obl:npmod", "amod", "nmod", "obl", "advmod", "dep")) and (
            not tree.has(noun, "case")):
        tree.deps[noun] = "nsubj"
        for kid in [kid for kid in tree.kids[i] if kid < noun and tree.deps[kid] in PREMODIFIERS]:
            tree.attach(kid, noun, tree.deps[kid])


def _subjects_joined(tree: Tree, i: int) -> None:
    """"a man and a woman are sitting" read as "a man" and "a woman is sitting"; "running and barking" as verb and
    noun."""
    first = tree.heads[i]
    if tree.deps[i] != "conj" or first >= i:
        return
    if tree.pos[i] == "NOUN" and tree.words[i].endswith("ing") and tree.words[first].endswith("ing") and (
            tree.pos[first] == "VERB" and tree.words[i] not in ING_NOUNS and not tree.has(i, "det", "amod")):
        tree.to_verb(i)
    second = tree.first(i, *SUBJECTS)
    if second is None or tree.pos[i] not in ("VERB", "ADJ") or not tree.is_noun(first) or second > i:
        return
    if tree.deps[first] != "root" or tree.has(first, "nsubj", "cop", "acl", "nmod", "acl:relcl"):
        return
    if all(tree.pos[k] in ("CCONJ", "DET", "ADJ", "NUM") or tree.heads[k] in (first, second)
           for k in range(first + 1, second)) and any(tree.pos[k] == "CCONJ" for k in range(first + 1, second)):
        label = tree.deps[second]
        tree.replace(first, i)
        tree.deps[first] = label
        tree.attach(second, first, "conj")


def _clause_after_relative(tree: Tree, i: int) -> None:
    """"the woman who wears a hat is tall" read as "who wears: a hat is tall": the last clause is the woman's."""
    verb, thing = tree.heads[i], tree.first(i, *SUBJECTS)
    if tree.deps[i] != "ccomp" or tree.deps[verb] != "acl:relcl" or thing is None or not verb < thing < i:
        return
    own = tree.first(verb, *SUBJECTS)
    if own is None or tree.words[own] not in RELATIVE or tree.has(i, "mark") or (
            tree.has(verb, "obj") or any(tree.pos[k] == "PUNCT" for k in range(verb, thing))):
        return
    noun, label = tree.heads[verb], tree.deps[thing]
    tree.attach(thing, verb, "obj")
    tree.replace(noun, i)
    tree.attach(noun, i, label)
    tree.attach(verb, noun, "acl:relcl")
    for kid in [kid for kid in tree.kids[i] if kid < noun and tree.deps[kid] in PREMODIFIERS]:
        tree.attach(kid, noun, tree.deps[kid])
