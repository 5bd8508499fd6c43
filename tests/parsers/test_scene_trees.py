"""The rules on hand-annotated trees: spaCy's CLEAR labels and Universal Dependencies say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from spacy.tokens import Doc

from parsers.priors import ScenePriors
from parsers.scene import priors_of_docs
from tests.parsers.scene_notation import notation
from tests.parsers.trees import doc

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
