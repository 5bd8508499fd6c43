import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.nouns import singulars


@pytest.mark.parametrize(("plural", "singular"), [
    ("dogs", "dog"), ("puppies", "puppy"), ("cookies", "cookie"), ("ties", "tie"), ("buses", "bus"), ("boxes", "box"),
    ("axes", "axe"), ("axes", "axis"), ("benches", "bench"), ("headaches", "headache"), ("dishes", "dish"),
    ("glosses", "gloss"), ("quizzes", "quiz"), ("potatoes", "potato"), ("shoes", "shoe"), ("leaves", "leaf"),
    ("knives", "knife"), ("gloves", "glove"), ("people", "person"), ("children", "child"), ("firemen", "fireman"),
    ("women", "woman"), ("teeth", "tooth"), ("feet", "foot"), ("geese", "goose"), ("mice", "mouse"), ("oxen", "ox"),
    ("dice", "die"), ("cacti", "cactus"), ("larvae", "larva"), ("bacteria", "bacterium"), ("matrices", "matrix"),
    ("analyses", "analysis"), ("houses", "house"), ("menus", "menu"), ("plateaux", "plateau"), ("t-shirts", "t-shirt"),
    ("grandchildren", "grandchild"), ("faces", "face"), ("heroes", "hero"), ("maxes", "max"),
])
def test_singulars_of_regular_and_irregular_plurals(plural, singular):
    assert singular in singulars(plural)


@pytest.mark.parametrize("word", ["dress", "grass", "dog", "sheep", "", "s", "as", "собаки", "狗", "DOGS", "red dogs"])
def test_what_is_no_plural_has_no_singular(word):
    assert singulars(word) == ()


@given(st.text(max_size=30))
def test_any_text(text):
    found = singulars(text)
    assert len(found) == len(set(found)) and text not in found and "" not in found


@pytest.mark.parametrize("stem", ["dog", "cat", "table", "tree", "window", "car", "shirt", "lamp", "apple", "chair"])
def test_the_usual_singular_comes_first(stem):
    assert singulars(stem + "s")[0] == stem
