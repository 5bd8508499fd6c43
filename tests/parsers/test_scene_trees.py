"""The rules on hand-annotated trees: spaCy's CLEAR labels and Universal Dependencies say the same."""

from __future__ import annotations

import pytest
from tests.parsers.scene_notation import notation
from tests.parsers.trees import doc

from parsers.priors import ScenePriors
from parsers.scene import priors_of_docs

# name: (CLEAR, Universal Dependencies, objects, relations, absent)
CONSTRUCTIONS = {
    "a preposition after a noun": (
        "a/DT/1/det lamp/NN/1/ROOT on/IN/1/prep the/DT/4/det table/NN/2/pobj",
        "a/DT/1/det lamp/NN/1/ROOT on/IN/4/case the/DT/4/det table/NN/1/nmod",
        ["lamp", "table"], ["lamp > on > table"], []),
    "a preposition after a verb": (
        "a/DT/1/det man/NN/1/ROOT sitting/VBG/1/acl on/IN/2/prep a/DT/5/det bench/NN/3/pobj",
        "a/DT/1/det man/NN/1/ROOT sitting/VBG/1/acl on/IN/5/case a/DT/5/det bench/NN/2/obl",
        ["man", "bench"], ["man > sit on > bench"], []),
    "an object": (
        "a/DT/1/det boy/NN/2/nsubj kicks/VBZ/2/ROOT a/DT/5/det red/JJ/5/amod ball/NN/2/dobj",
        "a/DT/1/det boy/NN/2/nsubj kicks/VBZ/2/ROOT a/DT/5/det red/JJ/5/amod ball/NN/2/obj",
        ["boy", "ball (red)"], ["boy > kick > ball"], []),
    "a passive with its agent": (
        "the/DT/1/det ball/NN/3/nsubjpass is/VBZ/3/auxpass held/VBN/3/ROOT by/IN/3/agent a/DT/6/det dog/NN/4/pobj",
        "the/DT/1/det ball/NN/3/nsubj:pass is/VBZ/3/aux:pass held/VBN/3/ROOT by/IN/6/case a/DT/6/det dog/NN/3/obl:agent",
        ["ball", "dog"], ["dog > hold > ball"], []),
    "a noun after the copula": (
        "the/DT/1/det man/NN/2/nsubj is/VBZ/2/ROOT a/DT/4/det firefighter/NN/2/attr",
        "the/DT/1/det man/NN/4/nsubj is/VBZ/4/cop a/DT/4/det firefighter/NN/4/ROOT",
        ["man (firefighter)"], [], []),
    "adjectives after the copula": (
        "the/DT/1/det car/NN/2/nsubj is/VBZ/2/ROOT red/JJ/2/acomp and/CC/3/cc white/JJ/3/conj",
        "the/DT/1/det car/NN/3/nsubj is/VBZ/3/cop red/JJ/3/ROOT and/CC/5/cc white/JJ/3/conj",
        ["car (red; white)"], [], []),
    "a place after the copula": (
        "the/DT/1/det cat/NN/2/nsubj is/VBZ/2/ROOT in/IN/2/prep the/DT/5/det box/NN/3/pobj",
        "the/DT/1/det cat/NN/5/nsubj is/VBZ/5/cop in/IN/5/case the/DT/5/det box/NN/5/ROOT",
        ["cat", "box"], ["cat > in > box"], []),
    "there is": (
        "there/EX/1/expl is/VBZ/1/ROOT a/DT/3/det dog/NN/1/attr under/IN/1/prep the/DT/6/det tree/NN/4/pobj",
        "there/EX/1/expl is/VBZ/1/ROOT a/DT/3/det dog/NN/1/nsubj under/IN/6/case the/DT/6/det tree/NN/1/obl",
        ["dog", "tree"], ["dog > under > tree"], []),
    "a relative clause": (
        "a/DT/1/det man/NN/1/ROOT who/WP/4/nsubj is/VBZ/4/aux holding/VBG/1/relcl an/DT/6/det umbrella/NN/4/dobj",
        "a/DT/1/det man/NN/1/ROOT who/WP/4/nsubj is/VBZ/4/aux holding/VBG/1/acl:relcl an/DT/6/det umbrella/NN/4/obj",
        ["man", "umbrella"], ["man > hold > umbrella"], []),
    "a relative clause on the object": (
        "the/DT/1/det ball/NN/1/ROOT that/WDT/6/dobj the/DT/4/det dog/NN/6/nsubj is/VBZ/6/aux chasing/VBG/1/relcl",
        "the/DT/1/det ball/NN/1/ROOT that/WDT/6/obj the/DT/4/det dog/NN/6/nsubj is/VBZ/6/aux chasing/VBG/1/acl:relcl",
        ["ball", "dog"], ["dog > chase > ball"], []),
    "a possessive": (
        "the/DT/1/det dog/NN/4/poss 's/POS/1/case red/JJ/4/amod collar/NN/4/ROOT",
        "the/DT/1/det dog/NN/4/nmod:poss 's/POS/1/case red/JJ/4/amod collar/NN/4/ROOT",
        ["dog", "collar (red)"], ["dog > have > collar"], []),
    "a particle": (
        "a/DT/1/det man/NN/1/ROOT picking/VBG/1/acl up/RP/2/prt a/DT/5/det bag/NN/2/dobj",
        "a/DT/1/det man/NN/1/ROOT picking/VBG/1/acl up/RP/2/compound:prt a/DT/5/det bag/NN/2/obj",
        ["man", "bag"], ["man > pick up > bag"], []),
    "two prepositions in a row": (
        "smoke/NN/0/ROOT coming/VBG/0/acl out/IN/1/prep of/IN/2/prep a/DT/5/det chimney/NN/3/pobj",
        "smoke/NN/0/ROOT coming/VBG/0/acl out/IN/5/case of/IN/5/case a/DT/5/det chimney/NN/1/obl",
        ["smoke", "chimney"], ["smoke > come out of > chimney"], []),
    "a preposition of several words": (
        "a/DT/1/det dog/NN/1/ROOT in/IN/1/prep front/NN/2/pobj of/IN/3/prep the/DT/6/det door/NN/4/pobj",
        "a/DT/1/det dog/NN/1/ROOT in/IN/3/case front/NN/1/nmod of/IN/6/case the/DT/6/det door/NN/3/nmod",
        ["dog", "door"], ["dog > in front of > door"], []),
    "a preposition of several words after the copula": (
        "the/DT/1/det lamp/NN/2/nsubj is/VBZ/2/ROOT to/IN/2/prep the/DT/5/det left/NN/3/pobj of/IN/5/prep the/DT/8/det "
        "bed/NN/6/pobj",
        "the/DT/1/det lamp/NN/5/nsubj is/VBZ/5/cop to/IN/5/case the/DT/5/det left/NN/5/ROOT of/IN/8/case the/DT/8/det "
        "bed/NN/5/nmod",
        ["lamp", "bed"], ["lamp > to the left of > bed"], []),
    "a negated verb": (
        "the/DT/1/det woman/NN/4/nsubj is/VBZ/4/aux not/RB/4/neg wearing/VBG/4/ROOT glasses/NNS/4/dobj",
        "the/DT/1/det woman/NN/4/nsubj is/VBZ/4/aux not/RB/4/advmod wearing/VBG/4/ROOT glasses/NNS/4/obj",
        ["woman"], [], ["glasses"]),
    "without": (
        "a/DT/1/det man/NN/1/ROOT without/IN/1/prep a/DT/4/det hat/NN/2/pobj",
        "a/DT/1/det man/NN/1/ROOT without/IN/4/case a/DT/4/det hat/NN/1/nmod",
        ["man"], [], ["hat"]),
    "without doing": (
        "a/DT/1/det man/NN/1/ROOT standing/VBG/1/acl without/IN/2/prep wearing/VBG/3/pcomp a/DT/6/det hat/NN/4/dobj",
        "a/DT/1/det man/NN/1/ROOT standing/VBG/1/acl without/IN/4/mark wearing/VBG/2/advcl a/DT/6/det hat/NN/4/obj",
        ["man (standing)"], [], ["hat"]),
    "things joined by and": (
        "a/DT/1/det table/NN/1/ROOT with/IN/1/prep plates/NNS/2/pobj ,/,/3/punct cups/NNS/3/conj and/CC/5/cc forks/NNS/5/conj",
        "a/DT/1/det table/NN/1/ROOT with/IN/3/case plates/NNS/1/nmod ,/,/5/punct cups/NNS/3/conj and/CC/7/cc forks/NNS/3/conj",
        ["table", "plates", "cups", "forks"], ["table > with > plates", "table > with > cups", "table > with > forks"], []),
    "a group": (
        "a/DT/1/det group/NN/1/ROOT of/IN/1/prep people/NNS/2/pobj standing/VBG/3/acl on/IN/4/prep a/DT/7/det hill/NN/5/pobj",
        "a/DT/1/det group/NN/1/ROOT of/IN/3/case people/NNS/1/nmod standing/VBG/3/acl on/IN/7/case a/DT/7/det hill/NN/4/obl",
        ["people", "hill"], ["people > stand on > hill"], []),
    "control": (
        "a/DT/1/det boy/NN/3/nsubj is/VBZ/3/aux trying/VBG/3/ROOT to/TO/5/aux catch/VB/3/xcomp a/DT/7/det ball/NN/5/dobj",
        "a/DT/1/det boy/NN/3/nsubj is/VBZ/3/aux trying/VBG/3/ROOT to/TO/5/mark catch/VB/3/xcomp a/DT/7/det ball/NN/5/obj",
        ["boy", "ball"], ["boy > catch > ball"], []),
    "someone who gets something": (
        "a/DT/1/det woman/NN/1/ROOT giving/VBG/1/acl a/DT/4/det dog/NN/2/dative a/DT/6/det bone/NN/2/dobj",
        "a/DT/1/det woman/NN/1/ROOT giving/VBG/1/acl a/DT/4/det dog/NN/2/iobj a/DT/6/det bone/NN/2/obj",
        ["woman", "dog", "bone"], ["woman > give to > dog", "woman > give > bone"], []),
    "to someone": (
        "a/DT/1/det boy/NN/1/ROOT throwing/VBG/1/acl a/DT/4/det ball/NN/2/dobj to/IN/2/dative a/DT/7/det girl/NN/5/pobj",
        "a/DT/1/det boy/NN/1/ROOT throwing/VBG/1/acl a/DT/4/det ball/NN/2/obj to/IN/7/case a/DT/7/det girl/NN/2/obl",
        ["boy", "ball", "girl"], ["boy > throw > ball", "boy > throw to > girl"], []),
    "a count and a compound": (
        "two/CD/3/nummod red/JJ/3/amod traffic/NN/3/compound lights/NNS/3/ROOT",
        "two/CD/3/nummod red/JJ/3/amod traffic/NN/3/compound lights/NNS/3/ROOT",
        ["2 traffic lights (red)"], [], []),
    "a picture that speaks of itself": (
        "the/DT/1/det image/NN/2/nsubj shows/VBZ/2/ROOT a/DT/4/det man/NN/2/dobj riding/VBG/4/acl a/DT/7/det bike/NN/5/dobj",
        "the/DT/1/det image/NN/2/nsubj shows/VBZ/2/ROOT a/DT/4/det man/NN/2/obj riding/VBG/4/acl a/DT/7/det bike/NN/5/obj",
        ["man", "bike"], ["man > ride > bike"], []),
    "made of": (
        "the/DT/1/det wall/NN/3/nsubjpass is/VBZ/3/auxpass made/VBN/3/ROOT of/IN/3/prep brick/NN/4/pobj",
        "the/DT/1/det wall/NN/3/nsubj:pass is/VBZ/3/aux:pass made/VBN/3/ROOT of/IN/5/case brick/NN/3/obl",
        ["wall (brick)", "brick"], ["wall > make of > brick"], []),
}


@pytest.mark.parametrize("scheme", ["clear", "universal"])
@pytest.mark.parametrize("name", CONSTRUCTIONS)
def test_both_label_schemes_give_the_same_priors(name: str, scheme: str) -> None:
    clear, universal, objects, relations, absent = CONSTRUCTIONS[name]
    tree = doc(clear if scheme == "clear" else universal)
    found = notation(priors_of_docs([tree], tree.text))
    assert found == (sorted(objects), sorted(relations), sorted(absent))


def test_a_word_with_hyphens_is_one_name() -> None:
    tree = doc("a/DT/3/det t/NN/3/compound -/,/3/punct shirt/NN/3/ROOT")
    joined = type(tree)(tree.vocab, words=[token.text for token in tree], spaces=[True, False, False, False],
                        pos=["DET", "NOUN", "PUNCT", "NOUN"], heads=[3, 3, 3, 3], deps=[t.dep_ for t in tree])
    assert priors_of_docs([joined], "a t-shirt").objects[0].name == "t-shirt"


def test_a_tree_without_tags_or_labels_gives_empty_priors_with_a_reason() -> None:
    plain = doc("dogs/NNS/0/ROOT").vocab
    from spacy.tokens import Doc

    priors = priors_of_docs([Doc(plain, words=["some", "words"])], "some words")
    assert priors == ScenePriors(text="some words", reason="no-objects")


def test_reference_crosses_the_pieces_of_a_text() -> None:
    first = doc("a/DT/1/det man/NN/2/nsubj sits/VBZ/2/ROOT")
    second = doc("he/PRP/2/nsubj is/VBZ/2/aux wearing/VBG/2/ROOT a/DT/4/det hat/NN/2/dobj")
    assert notation(priors_of_docs([first, second], "")) == (["hat", "man (sitting)"], ["man > wear > hat"], [])
