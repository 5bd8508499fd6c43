"""Free names to classes: what a person, a caption or a language model calls a thing, looked up in a vocabulary.

A name is looked up as a whole first: as it is written, by its spelling (punctuation and gaps make no difference), by
the lemma that came with it, by its number ("puppies" is "puppy"). If it is unknown, its head decides: a "traffic
light pole" is a pole, and never a traffic light, which only says what kind of pole. Longer heads come first, so a
"red traffic light" is a traffic light and not a light. What the vocabulary leaves open is reported, not guessed.
The order of these ways is ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from parsers.names import name_key, name_problem, plain_key, shorten
from parsers.nouns import singulars
from parsers.vocabulary_checks import label

if TYPE_CHECKING:
    from parsers.vocabulary import Vocabulary, VocabularyClass


class How(StrEnum):
    """How a name was found, the surest way first."""

    EXACT = "exact"
    """As the vocabulary writes it; capital letters and articles make no difference."""
    SPELLING = "spelling"
    """But for punctuation and gaps: "tv monitor" and "tvmonitor"."""
    LEMMA = "lemma"
    """By the lemma that came with it."""
    NUMBER = "number"
    """One is the singular of the other."""
    HEAD = "head"
    """Not the whole name but its head, by any of the ways above."""


class Role(StrEnum):
    """What a word is in the vocabulary."""

    NAME = "name"
    SYNONYM = "synonym"
    SUBCLASS = "subclass"
    BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A word of the vocabulary that fits."""

    entry: VocabularyClass | None
    """The class; None for a background word."""
    role: Role
    word: str
    """As the vocabulary writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchResult:
    """What a vocabulary knows under a name: one class, the background, several classes, or nothing."""

    text: str
    how: How | None = None
    """None if nothing was found."""
    part: str = ""
    """The part of the text that was found, in small letters: "pole"."""
    candidates: tuple[Candidate, ...] = ()
    """What fits equally well: each class once, in the order of the vocabulary; or one background word."""
    mentioned: tuple[VocabularyClass, ...] = ()
    """If nothing was found: classes that the text names but is not ("traffic light pole" where "traffic light" is a
    class and "pole" is none)."""
    reason: str = ""
    """If nothing was found: why, as a sentence."""

    @property
    def entry(self) -> VocabularyClass | None:
        """The one class that the name stands for; None for several, none, or the background."""
        return self.candidates[0].entry if len(self.candidates) == 1 else None

    @property
    def is_ambiguous(self) -> bool:
        return len(self.candidates) > 1

    @property
    def is_background(self) -> bool:
        return len(self.candidates) == 1 and self.candidates[0].entry is None

    def __str__(self) -> str:
        """One line for a person: "'puppies': class 2 'dog' (number, subclass 'puppy')"."""
        if self.how is None:
            named = f" It mentions {', '.join(map(label, self.mentioned))}." if self.mentioned else ""
            return f"{shorten(self.text)}: nothing. {self.reason}{named}"
        found = [f"{label(one.entry) if one.entry else 'the background'} ({self.how}, {one.role} {shorten(one.word)})"
                 for one in self.candidates]
        return f"{shorten(self.text)}: {'one of ' if self.is_ambiguous else ''}{', '.join(found)}"


class Matcher:
    """The words of a vocabulary, indexed. `Vocabulary.match` makes one on its first use."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._order = {entry.id: position for position, entry in enumerate(vocabulary.classes)}
        self._parents = {entry.name: entry.parent for entry in vocabulary.classes}
        self._exact: dict[str, list[Candidate]] = {}
        self._spelling: dict[str, list[Candidate]] = {}
        self._singular: dict[str, list[Candidate]] = {}
        for candidate in _words(vocabulary):
            key = name_key(candidate.word)
            known = self._exact.setdefault(key, [])
            if known and not candidate.role == known[0].role == Role.SUBCLASS:
                continue  # a class that is its own subclass; a background word that is a subclass
            known.append(candidate)
            self._spelling.setdefault(spelling_key(key), []).append(candidate)
            for form in singular_forms(key):
                self._singular.setdefault(form, []).append(candidate)

    def match(self, text: str, lemma: str | None = None) -> MatchResult:
        """See `Vocabulary.match`."""
        if problem := name_problem(text):
            return MatchResult(text=text, reason=f"A text that {problem} is no name.")
        key, lemma = name_key(text), name_key(lemma or "")
        words = key.split()
        while len(words) > 1 and (words[0] in DETERMINERS or words[0].isdecimal()):
            del words[0]
        bare = " ".join(words)
        for form in dict.fromkeys((key, bare)):
            if found := self._look_up(form, lemma):
                return self._result(text, form, *found)
        if words[0] in DENIALS:
            return self._nothing(text, bare, "It denies what it names.")
        parts = [part for part in _JOINTS.split(bare) if part]
        if len(parts) > 1:
            return self._match_joined(text, parts, lemma)
        return self._match_head(text, bare, lemma)

    def _match_joined(self, text: str, parts: list[str], lemma: str) -> MatchResult:
        """ "dogs and cats" names two things; in "black and white cat" only the last part names one."""
        last = self.match(parts[-1], lemma)
        if last.how is None:
            return self._nothing(text, " ".join(parts), "It names several things, and the last one is unknown.")
        found = [candidate for part in parts[:-1] for candidate in self.match(part).candidates]
        return self._result(text, last.part, How.HEAD, [*found, *last.candidates], things=len(parts))

    def _match_head(self, text: str, bare: str, lemma: str) -> MatchResult:
        """The longest known phrase with the head, with what follows it ("glass of milk") or without; for "a group of
        dogs" the dogs are the head."""
        words = _BRACKETS.sub(" ", bare).split() or bare.split()
        length = _head_length(words)
        for start in range(length):
            form = " ".join(words[start:length])
            for phrase in dict.fromkeys((" ".join(words[start:]), form)):
                if found := self._look_up(phrase, lemma):
                    return self._result(text, phrase, How.HEAD, found[1])
            if (words[start] in NOT_THE_THING or (start and _is_participle(words[start]))
                    or not NOT_THEIR_HEAD.isdisjoint((form, *singular_forms(form)))):
                break
        else:
            head = words[length - 1]
            if words[length:length + 1] == ["of"] and not MEASURES.isdisjoint((head, *singulars(head))):
                inner = self.match(" ".join(words[length + 1:]), lemma)
                if inner.how is not None:
                    return self._result(text, inner.part, How.HEAD, inner.candidates)
        return self._nothing(text, bare, "No name, synonym, subclass or background word fits.")

    def _look_up(self, form: str, lemma: str) -> tuple[How, list[Candidate]] | None:
        """What the surest way that finds anything finds."""
        if found := self._exact.get(form):
            return How.EXACT, found
        if found := self._spelling.get(spelling_key(form)):
            return How.SPELLING, found
        if lemma:
            given = iter(()) if form in OTHER_THING else _with_head(form, lambda _: (lemma.split()[-1],))
            if found := [one for name in given for one in self._exact.get(name, ())]:
                return How.LEMMA, found
        if found := [one for name in singular_forms(form) for one in self._exact.get(name, ())]:
            return How.NUMBER, found
        return (How.NUMBER, found) if (found := self._singular.get(form)) else None

    def _result(self, text: str, part: str, how: How, found: Iterable[Candidate], things: int = 1) -> MatchResult:
        """Each class once; for one thing none that is above another that fits; the background only if nothing else
        fits."""
        found = [*found]
        classes = {one.entry.id: (one.entry, one) for one in reversed(found) if one.entry is not None}
        above = {name for entry, _ in classes.values() for name in self._above(entry)} if things == 1 else ()
        kept = [pair for pair in classes.values() if pair[0].name not in above]
        kept.sort(key=lambda pair: self._order[pair[0].id])
        return MatchResult(text=text, how=how, part=part,
                           candidates=tuple(one for _, one in kept) or tuple(found[:1]))

    def _above(self, entry: VocabularyClass) -> Iterator[str]:
        parent = entry.parent
        while parent is not None:
            yield parent
            parent = self._parents[parent]

    def _nothing(self, text: str, part: str, reason: str) -> MatchResult:
        words = _spaced(part)
        found: dict[int, VocabularyClass] = {}
        for start in range(len(words)):
            for end in range(start + 1, min(start + MAX_MENTIONED_WORDS, len(words)) + 1):
                _, candidates = self._look_up(" ".join(words[start:end]), "") or (None, [])
                found.update({one.entry.id: one.entry for one in candidates if one.entry is not None})
        mentioned = sorted(found.values(), key=lambda entry: self._order[entry.id])
        return MatchResult(text=text, reason=reason, mentioned=tuple(mentioned))


def _words(vocabulary: Vocabulary) -> Iterator[Candidate]:
    for entry in vocabulary.classes:
        yield Candidate(entry, Role.NAME, entry.name)
        for role, words in ((Role.SYNONYM, entry.synonyms), (Role.SUBCLASS, entry.subclasses)):
            yield from (Candidate(entry, role, word) for word in words)
    yield from (Candidate(None, Role.BACKGROUND, word) for word in vocabulary.background_words)


def spelling_key(key: str) -> str:
    """What two names share when they differ only in punctuation and gaps: "tv monitor" and "TVMonitor"."""
    return plain_key(key).replace(" ", "")


def _spaced(key: str) -> list[str]:
    """The words of `key` without the punctuation around them."""
    return _JOINTS.sub(" ", _BRACKETS.sub(lambda found: f" {found[0][1:-1]} ", key)).split()


def singular_forms(key: str) -> Iterator[str]:
    """The names that `key`, in small letters, may be the plural of: "bottles of wine" gives "bottle of wine"."""
    return iter(()) if key in OTHER_THING else _with_head(key, singulars)


def _with_head(key: str, forms: Callable[[str], Iterable[str]]) -> Iterator[str]:
    """`key` with each of the `forms` of its head in the head's place."""
    words = key.split()
    head = _head_length(words) - 1
    return (" ".join([*words[:head], form, *words[head + 1:]]) for form in forms(words[head]))


def _head_length(words: list[str]) -> int:
    """How many words there are up to the head: those before the first preposition, relative pronoun, form of "be" or
    second article, without a participle at their end ("a man riding a horse", "a woman dressed in red")."""
    length = next((place for place in range(1, len(words)) if words[place] in AFTER_A_HEAD), len(words))
    while length > 1 and _is_participle(words[length - 1]):
        length -= 1
    return length


def _is_participle(word: str) -> bool:
    return _PARTICIPLE.fullmatch(word) is not None and word not in NO_PARTICIPLES


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


MAX_MENTIONED_WORDS = 4
"""Words that a class mentioned in a longer text may have."""
DETERMINERS = _set("""
    a an the some any this that these those his her its their my your our one two three four five six seven eight nine
    ten several many few both all each every another other more most""")
DENIALS = _set("no not without neither nor never non")
AFTER_A_HEAD = DETERMINERS | _set("""
    of with in on at by for from to into onto near next under over behind beside above below beneath between inside
    outside against along around across through without within during about like as than that which who whose whom
    where when while is are was were be has have had""")
NO_PARTICIPLES = _set("""
    awning bowling boxing building bunkbed breed ceiling clothing daybed duckling dumpling earring evening flatbed
    morning painting pudding railing seabed seaweed seedling sibling spring stocking string tweed wedding""")
MEASURES = _set("""
    bunch bundle collection couple crowd dozen flock group herd image kind lot number pack pair photo photograph picture
    piece pile row set slice sort stack swarm team type variety""")
"""In "a pair of shoes" the shoes are what is there."""
OTHER_THING = _set("glasses spectacles shorts briefs boxers braces tights woods")
"""Plurals that, standing alone, mostly name another thing than their singular: who wears glasses wears no glass."""
NOT_THE_THING = _set("fake gingerbread inflatable plush stuffed toy")
"""A toy car is no car."""
NOT_THEIR_HEAD = frozenset({
    "bird house", "box car", "cable car", "cable tie", "cat walk", "coat tree", "computer mouse", "corn dog",
    "dog house", "doll house", "egg plant", "family tree", "fire dog", "fire engine", "fire fly", "fire house",
    "flower bed", "french fry", "green house", "guinea pig", "hair tie", "hobby horse", "horse chestnut", "horse fly",
    "hot dog", "jack knife", "jelly bean", "jelly fish", "lake bed", "light house", "mickey mouse", "mountain lion",
    "paper plane", "piggy bank", "pine apple", "pool table", "power plant", "prairie dog", "rail car", "railroad bed",
    "railroad car", "railroad tie", "river bed", "rocking horse", "saw horse", "sea cucumber", "sea horse",
    "sea lion", "sea star", "shoe tree", "snow angel", "spider plant", "star fish", "stick figure", "subway car",
    "tank top", "tanker car", "teddy bear", "trailer bed", "train car", "tree house", "truck bed", "water melon",
    "zip tie",
})
"""Compounds whose last word is not what they are: a hot dog is no dog."""

_JOINTS = re.compile(r"\s+(?:and|or)\s+|\s*[,;/&+]\s*")
_BRACKETS = re.compile(r"\([^()]*\)|\[[^][]*\]")
_PARTICIPLE = re.compile(r"[a-z]{3,}(?:ing|ed)")
