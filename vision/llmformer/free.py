"""No candidates given: what a description names is the vocabulary of its picture."""

from __future__ import annotations

from parsers.errors import VocabularyError
from parsers.names import name_key
from parsers.priors import ScenePriors
from parsers.vocabulary import Vocabulary


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
