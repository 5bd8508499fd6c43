"""Base forms of English verbs by the rules of spelling: "sitting" may be "sit", "riding" may be "ride"."""

from __future__ import annotations

VOWELS = frozenset("aeiou")
WEAK_ENDINGS = ("er", "en", "el", "on", "om", "it", "et", "or", "al", "ow", "ay", "ey", "oy", "ew", "aw")
"""Of stems that take no final e though they end in a vowel and a consonant: "opening", "showing"."""


def base_forms(word: str) -> tuple[str, ...]:
    """What `word`, in small letters, may be a form of, the likeliest first; the word itself is always among them.

    Rules of ours. Irregular forms ("sat") are not known here."""
    found: list[str] = []
    if word.endswith("ies") and len(word) > 4:
        found = [word[:-3] + "y", word[:-1]]
    elif word.endswith("es") and len(word) > 3:
        sibilant = word[:-2].endswith(("s", "x", "z", "ch", "sh", "o"))
        found = [word[:-2], word[:-1]] if sibilant else [word[:-1], word[:-2]]
    elif word.endswith("s") and not word.endswith("ss") and len(word) > 3:
        found = [word[:-1]]
    elif word.endswith("ied") and len(word) > 4:
        found = [word[:-3] + "y"]
    elif word.endswith("ing") and len(word) > 5:
        found = _stems(word[:-3])
    elif word.endswith("ed") and len(word) > 4:
        found = _stems(word[:-2])
    return tuple(dict.fromkeys([*found, word]))


def _stems(stem: str) -> list[str]:
    """Base forms of a stem that has lost "ing" or "ed"."""
    if stem[-1] == stem[-2] and stem[-1] not in "aeiou":
        return [stem, stem[:-1]] if stem[-1] in "lsfz" else [stem[:-1], stem]
    wants_e = stem[-1] in "vzcu" or stem.endswith(("dg", "rg", "rs", "as", "is", "us", "ag")) or (
        stem[-1] == "l" and stem[-2] not in VOWELS)
    closed = (stem[-1] not in VOWELS and stem[-1] not in "wxy" and stem[-2] in VOWELS
              and (len(stem) < 3 or stem[-3] not in VOWELS) and not stem.endswith(WEAK_ENDINGS))
    return [stem + "e", stem] if wants_e or closed else [stem, stem + "e"]
