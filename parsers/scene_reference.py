"""Which mentions name one object: "a man ... he ... the man". Simple rules over a whole text, ours.

A pronoun names the last fitting object, subjects before others. A noun with "the", "this" or a possessive names an
object of the same noun from before, unless their descriptions differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from parsers.scene_forms import is_plural
from parsers.scene_objects import Mention
from parsers.scene_words import ANIMALS, COLOURS, MEN, PEOPLE, PERSON_OF_PRONOUN, WOMEN

REACH = 40
"""Mentions looked back over. Keeps the time linear in the length of a text."""


def resolve(mentions: Sequence[Mention]) -> list[int | None]:
    """For each mention the index of the first mention of its object (its own index where it is the first), None for a
    pronoun whose object is not named. Denied mentions are objects of their own."""
    first: list[int | None] = []
    for i, mention in enumerate(mentions):
        earlier = [k for k in range(max(0, i - REACH), i) if first[k] == k and not mentions[k].denied]
        if mention.pronoun:
            first.append(_of_pronoun(mention, mentions, earlier))
            if first[-1] is None and mention.pronoun in PERSON_OF_PRONOUN and not mention.owner:
                mention.name = PERSON_OF_PRONOUN[mention.pronoun]
                mention.lemma = "person" if mention.name == "people" else mention.name
                first[-1] = i
        elif mention.denied or mention.other:
            first.append(i)
        else:
            first.append(_same_noun(mention, mentions, earlier, i))
    return first


def _of_pronoun(mention: Mention, mentions: Sequence[Mention], earlier: list[int]) -> int | None:
    fitting = [k for k in earlier if _fits(mention.pronoun, mentions[k])
               and mention.sentence - mentions[k].sentence <= 2]
    if not fitting:
        return None
    return max(fitting, key=lambda k: (mentions[k].sentence == mention.sentence and mentions[k].subject,
                                       mentions[k].subject and mention.sentence - mentions[k].sentence <= 1, k))


def _fits(pronoun: str, mention: Mention) -> bool:
    word = mention.lemma.rsplit(" ", 1)[-1]
    many = mention.count > 1 or is_plural(mention.name.rsplit(" ", 1)[-1])
    if mention.pronoun:
        return mention.pronoun == pronoun
    if pronoun == "they":
        return many or (word in PEOPLE and word not in MEN | WOMEN)
    if many:
        return False
    if pronoun == "he":
        return (word in PEOPLE and word not in WOMEN) or word in ANIMALS
    if pronoun == "she":
        return (word in PEOPLE and word not in MEN) or word in ANIMALS
    return word not in PEOPLE or word in ("baby", "child", "infant", "team", "crowd", "family")


def _same_noun(mention: Mention, mentions: Sequence[Mention], earlier: list[int], own: int) -> int:
    if not mention.definite:
        return own
    for k in reversed(earlier):
        other = mentions[k]
        if other.pronoun or not _one_name(mention, other):
            continue
        if other.sentence == mention.sentence and other.definite:
            continue
        if _differ(mention, other):
            continue
        return k
    return own


def _one_name(later: Mention, earlier: Mention) -> bool:
    """The same name, or the later one is its last words: "the bus" after "a school bus"."""
    if is_plural(later.name.rsplit(" ", 1)[-1]) != is_plural(earlier.name.rsplit(" ", 1)[-1]):
        return False
    return later.lemma == earlier.lemma or earlier.lemma.endswith(" " + later.lemma)


def _differ(later: Mention, earlier: Mention) -> bool:
    """Whether the two are described as different things: a red one and a blue one, two and three."""
    if later.count > 1 and earlier.count > 1 and later.count != earlier.count:
        return True
    if earlier.count > 1 and not is_plural(later.name.rsplit(" ", 1)[-1]):
        return True
    ours, theirs = set(later.attributes), set(earlier.attributes)
    if not ours or ours <= theirs:
        return False
    return bool(theirs - ours) and bool(ours & COLOURS) == bool(theirs & COLOURS)
