"""The rules on hand-annotated trees: spaCy's CLEAR labels and Universal Dependencies say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc

from parsers.priors import ScenePriors
from parsers.scene import priors_of_docs
from tests.parsers.scene_notation import notation
from tests.parsers.trees import VOCAB, doc

CONSTRUCTIONS = yaml.safe_load((Path(__file__).parent / "trees.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("scheme", ["clear", "universal"])
@pytest.mark.parametrize("construction", CONSTRUCTIONS, ids=lambda construction: construction["name"])
def test_both_label_schemes_give_the_same_priors(construction: dict[str, Any], scheme: str) -> None:
    tree = doc(construction[scheme])
    found = notation(priors_of_docs([tree], tree.text))
    assert found == tuple(sorted(construction.get(kind, [])) for kind in ("objects", "relations", "absent"))


def test_a_word_with_hyphens_is_one_name() -> None:
    tree = doc("a/DT/3/det t/NN/3/compound -/,/3/punct shirt/NN/3/ROOT")
    joined = Doc(tree.vocab, words=[token.text for token in tree], spaces=[True, False, False, False],
                        pos=["DET", "NOUN", "PUNCT", "NOUN"], heads=[3, 3, 3, 3], deps=[t.dep_ for t in tree])
    assert priors_of_docs([joined], "a t-shirt").objects[0].name == "t-shirt"


def test_a_tree_without_tags_or_labels_gives_empty_priors_with_a_reason() -> None:
    plain = doc("dogs/NNS/0/ROOT").vocab
    priors = priors_of_docs([Doc(plain, words=["some", "words"])], "some words")
    assert priors == ScenePriors(text="some words", reason="no-objects")


def test_reference_crosses_the_pieces_of_a_text() -> None:
    first = doc("a/DT/1/det man/NN/2/nsubj sits/VBZ/2/ROOT")
    second = doc("he/PRP/2/nsubj is/VBZ/2/aux wearing/VBG/2/ROOT a/DT/4/det hat/NN/2/dobj")
    assert notation(priors_of_docs([first, second], "")) == (["hat", "man (sitting)"], ["man > wear > hat"], [])


LABELS = (
    "nsubj", "nsubj:pass", "obj", "iobj", "obl", "obl:agent", "nmod", "nmod:poss", "amod", "compound", "det", "case",
    "cop", "aux", "aux:pass", "acl", "acl:relcl", "advcl", "advmod", "xcomp", "ccomp", "conj", "cc", "mark", "nummod",
    "flat", "expl", "dep", "punct", "appos", "compound:prt", "prep", "pobj", "dobj", "attr", "acomp", "agent",
    "dative", "relcl", "poss", "nsubjpass", "auxpass", "prt", "pcomp", "neg", "oprd",
)
TAGS = (
    "NOUN", "VERB", "ADJ", "ADP", "DET", "ADV", "AUX", "PRON", "NUM", "CCONJ", "SCONJ", "PART", "PROPN", "PUNCT", "X",
)
WORDS = (
    "a", "the", "no", "two", "red", "and", "white", "dogs", "man", "riding", "wears", "kicks", "on", "in", "under",
    "of", "to", "next", "front", "side", "left", "group", "picture", "is", "are", "have", "not", "without", "with",
    "by", "covered", "made", "t", "-", "shirt", "'s", "his", "it", "they", "each", "other", "who", "that", "photo",
    "slice", "skateboard", "cloudy", "striped", "ridden", "couple", "none", "nor", "flies",
)


@given(st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(TAGS), st.sampled_from(LABELS), st.floats(0, 1),
                          st.booleans()), min_size=1, max_size=12))
@settings(max_examples=300)
def test_any_tree_gives_valid_priors(rows: list[tuple[str, str, str, float, bool]]) -> None:
    words, tags, labels, where, spaces = (list(column) for column in zip(*rows, strict=True))
    order = sorted(range(len(rows)), key=where.__getitem__)  # each word hangs on one earlier in this order
    heads = list(range(len(rows)))
    for place, i in enumerate(order):
        heads[i] = order[int(where[i] * place * 0.99)]
    labels = ["ROOT" if head == i else label for i, (head, label) in enumerate(zip(heads, labels, strict=True))]
    tree = Doc(VOCAB, words=words, pos=tags, heads=heads, deps=labels, spaces=spaces)
    priors = priors_of_docs([tree], tree.text)
    assert all(max(r.subject, r.object) < len(priors.objects) for r in priors.relations)
    assert priors.objects or priors.absent or priors.reason
