"""Number of English nouns, for words that are compared with a closed list of names: "puppies" is "puppy"."""

from __future__ import annotations

import re

IRREGULAR = (
    ("people", "person"), ("children", "child"), ("men", "man"), ("teeth", "tooth"), ("feet", "foot"),
    ("geese", "goose"), ("mice", "mouse"), ("lice", "louse"), ("oxen", "ox"), ("dice", "die"), ("pence", "penny"),
)
"""Endings too: "firemen", "grandchildren"."""

ENDINGS = (
    ("ies", ("y", "ie")), ("ves", ("f", "fe", "ve")), ("zzes", ("z", "zz")), ("sses", ("ss", "s", "sse")),
    ("ices", ("ix", "ex", "ice")), ("ses", ("se", "s", "sis")), ("xes", ("x", "xe", "xis")), ("zes", ("z", "ze")),
    ("ches", ("ch", "che")), ("shes", ("sh", "she")), ("oes", ("o", "oe")), ("eaux", ("eau",)), ("ae", ("a",)),
    ("s", ("",)), ("i", ("us", "o")), ("a", ("um", "on")),
)
"""Plural endings and the singular ones they may stand for, the usual one first. The first that fits decides."""

_WORD = re.compile(r"[a-z][a-z'-]{2,}")


def singulars(word: str) -> tuple[str, ...]:
    """What `word`, in small letters, may be the plural of, the likeliest first: "axes" gives "axe", "ax" and "axis".

    The answers are meant to be looked up among names that exist. Rules of English spelling with a table of the
    irregular words, ours: a dictionary would choose one reading, and here the names choose. Empty for words that are
    no plural, and for what is not written in English letters.
    """
    if not _WORD.fullmatch(word) or word.endswith("ss"):
        return ()
    found = [word.removesuffix(plural) + singular for plural, singular in IRREGULAR if word.endswith(plural)]
    for plural, endings in ENDINGS:
        if word.endswith(plural) and len(word) > len(plural):
            found += [word.removesuffix(plural) + ending for ending in endings]
            break
    return tuple(dict.fromkeys(found))
