"""Hand-annotated sentences as spaCy `Doc` objects, written as `word/TAG/head/label` with heads counted from 0."""

from __future__ import annotations

import spacy
from spacy.tokens import Doc

VOCAB = spacy.blank("en").vocab
UNIVERSAL = {"N": "NOUN", "V": "VERB", "J": "ADJ", "D": "DET", "I": "ADP", "P": "PRON", "C": "NUM", "R": "ADV"}
"""First letter of a Penn tag and its universal one, where the two go together."""
SPECIAL = {"CC": "CCONJ", "TO": "PART", "RP": "ADP", "POS": "PART", "WP": "PRON", "WDT": "PRON", "EX": "PRON",
           ",": "PUNCT", ".": "PUNCT", "PRP$": "PRON"}
BE = {"is", "are", "was", "were", "be", "being", "been"}


def doc(annotated: str) -> Doc:
    """The `Doc` of an annotated sentence."""
    rows = [token.rsplit("/", 3) for token in annotated.split()]
    words, tags, heads, labels = (list(column) for column in zip(*rows, strict=True))
    pos = [SPECIAL.get(tag) or UNIVERSAL[tag[0]] for tag in tags]
    pos = ["AUX" if label in ("aux", "aux:pass", "auxpass", "cop") or word in BE else tag
           for word, tag, label in zip(words, pos, labels, strict=True)]
    return Doc(VOCAB, words=words, tags=tags, pos=pos, heads=[int(head) for head in heads], deps=labels,
               lemmas=[word.lower() for word in words])
