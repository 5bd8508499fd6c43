"""Plain facts about a text become `ScenePriors`, whoever found them: the rules or the learned head."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from parsers.names import MAX_NAME_LENGTH, name_problem
from parsers.priors import ObjectPrior, Reason, RelationPrior, ScenePriors
from parsers.scene_forms import noun_lemma
from parsers.scene_phrases import number_of
from parsers.scene_words import MAX_COUNT


def priors_from_facts(text: str, objects: Sequence[str], attributes: Iterable[tuple[int, str]] = (),
                      counts: Iterable[tuple[int, int]] = (), relations: Iterable[tuple[int, str, int]] = (),
                      absent: Iterable[str] = (), reason: Reason | None = None) -> ScenePriors:
    """The priors that these facts make.

    objects: names as in the text, in the order of the text; the other facts give indexes into them. Names are put in
    small letters with single spaces; what cannot be a name (`names.name_problem`) is left out with all that is said of
    it. An attribute that is a number ("2") is a count. Facts that repeat are stated once. A name that the text also
    states is not absent.
    """
    names = [_clean(name) for name in objects]
    kept = [i for i, name in enumerate(names) if name_problem(name) is None]
    place = {old: new for new, old in enumerate(kept)}
    said: dict[int, list[str]] = {old: [] for old in kept}
    number = {i: count for i, count in counts if i in place}
    for i, attribute in attributes:
        word = _clean(attribute)
        if i not in place or not word or len(word) > MAX_NAME_LENGTH or name_problem(word) is not None:
            continue
        count = number_of(word) if word.isdigit() else None
        if count is not None:
            number.setdefault(i, count)
        elif word not in said[i]:
            said[i].append(word)
    found = tuple(ObjectPrior(name=names[i], lemma=lemma_of(names[i]), attributes=tuple(said[i]),
                              count=min(max(number.get(i, 1), 1), MAX_COUNT)) for i in kept)
    stated = dict.fromkeys((place[s], _clean(predicate), place[o]) for s, predicate, o in relations
                           if s in place and o in place and name_problem(_clean(predicate)) is None)
    affirmed = {item.lemma for item in found}
    denied = dict.fromkeys(name for name in map(_clean, absent)
                           if name_problem(name) is None and lemma_of(name) not in affirmed)
    if not found and not denied and reason is None:
        reason = "no-objects"
    return ScenePriors(text=text, objects=found, absent=tuple(denied), reason=reason,
                       relations=tuple(RelationPrior(subject=s, predicate=p, object=o) for s, p, o in stated))


def lemma_of(name: str) -> str:
    """A name with its last word in the singular: "traffic lights" gives "traffic light"."""
    first, _, last = name.rpartition(" ")
    return f"{first} {noun_lemma(last)}".strip()


def _clean(text: str) -> str:
    return " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).casefold().split())
