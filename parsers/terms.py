"""Names of several words that a text uses as one: "ballot box with ballot", "woman's boot".

No grammar can tell that such a name is a single thing. Whoever wrote the text may have a list of the names that it
uses, as a language model that was taught them; each is read as a plain noun and put back afterwards (ours).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from parsers.names import name_key

if TYPE_CHECKING:
    from parsers.priors import ScenePriors

NOUNS = ("lamp", "chair", "bottle", "basket", "ladder", "pillow", "candle", "carpet", "jacket", "wallet", "bucket",
         "blanket", "cabinet", "mirror", "teapot", "drawer", "napkin", "saucer", "kettle", "button", "barrel",
         "bracelet", "curtain", "mattress")
"""What stands in, the first that the text does not hold. A text with more names keeps the rest as they are."""


def hide_terms(text: str, terms: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The text with a noun for each of its terms, the longest first, and which noun stands for which."""
    if not terms:
        return text, {}
    pattern, spelling = _prepared(tuple(terms))
    words = set(re.findall(r"\w+", text.lower()))
    free = iter([noun for noun in NOUNS if noun not in words])
    standing: dict[str, str] = {}

    def hide(found: re.Match[str]) -> str:
        key = name_key(found[0])
        if key not in standing:
            noun = next(free, None)
            if noun is None:
                return found[0]
            standing[key] = noun
        return standing[key]

    hidden = pattern.sub(hide, text)
    return hidden, {noun: spelling[key] for key, noun in standing.items()}


def show_terms(priors: ScenePriors, text: str, standing: Mapping[str, str]) -> ScenePriors:
    """The priors of a hidden text as those of `text`."""
    if not standing:
        return priors
    nouns = re.compile(rf"\b(?:{'|'.join(standing)})\b")

    def show(said: str) -> str:
        return nouns.sub(lambda found: standing[found[0]], said)

    objects = tuple(one.model_copy(update={
        "name": show(one.name), "lemma": show(one.lemma), "attributes": tuple(map(show, one.attributes)),
    }) for one in priors.objects)
    relations = tuple(one.model_copy(update={"predicate": show(one.predicate)}) for one in priors.relations)
    return priors.model_copy(update={"text": text, "objects": objects, "relations": relations,
                                     "absent": tuple(map(show, priors.absent))})


@lru_cache(maxsize=8)
def _prepared(terms: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    """What finds the terms in a text, the longest first, and their spelling by key."""
    longest_first = sorted(set(terms), key=lambda term: (-len(term), term))
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)
    return pattern, {name_key(term): term for term in terms}
