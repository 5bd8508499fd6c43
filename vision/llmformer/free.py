"""No candidates given: what a description names is the vocabulary of its picture."""

from __future__ import annotations

from collections.abc import Iterable

from parsers.errors import Code, VocabularyError
from parsers.names import name_key
from parsers.priors import ScenePriors
from parsers.vocabulary import Vocabulary

NOTHING = "nothing"
"""The background word of a picture of which nothing in the vocabulary is said: all of it is background."""


def free_classes(vocabulary: Vocabulary, priors: ScenePriors | None) -> Vocabulary:
    """The classes that a description names (name, synonym or subclass), and the background words. Where it names none,
    a vocabulary of background alone."""
    said = {name_key(text) for item in (priors.objects if priors else ()) for text in (item.name, item.lemma)}
    named = tuple(entry for entry in vocabulary.classes
                  if said & {name_key(text) for text in (entry.name, *entry.synonyms, *entry.subclasses)})
    words = vocabulary.background if named else vocabulary.background or (NOTHING,)
    return vocabulary.model_copy(update={"classes": named, "background": words})


def merged_vocabulary(descriptions: Iterable[ScenePriors]) -> Vocabulary:
    """The names of all descriptions as one vocabulary, sorted. Raises VocabularyError where they name nothing."""
    found: dict[str, str] = {}
    for priors in descriptions:
        vocabulary = free_vocabulary(priors)
        for entry in vocabulary.classes if vocabulary else ():
            found.setdefault(name_key(entry.name), entry.name)
    if not found:
        raise VocabularyError(Code.VOCABULARY_INVALID, "The descriptions name nothing.",
                              "At least one description that names a thing.",
                              "lexiseg parse TEXT shows what one names.")
    return Vocabulary.from_names([found[key] for key in sorted(found)])


def free_vocabulary(priors: ScenePriors | None) -> Vocabulary | None:
    """The different things of a description, by lemma and in its order, with ids from 1; None where it names none.

    A name that cannot be that of a class is left out.
    """
    found: dict[str, str] = {}
    for item in priors.objects if priors else ():
        try:
            Vocabulary.from_names([item.lemma])
        except VocabularyError:
            continue
        found.setdefault(name_key(item.lemma), item.lemma)
    return Vocabulary.from_names(list(found.values())) if found else None
