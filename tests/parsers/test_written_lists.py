import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.written_lists import clean_item, read_groups, read_list

THREE = ["poodle", "husky", "beagle"]


@pytest.mark.parametrize("text", [
    "1. poodle\n2. husky\n3. beagle", "1) poodle\n2) husky\n3) beagle", "(1) poodle\n(2) husky\n(3) beagle",
    "1.poodle\n2.husky\n3.beagle", "1 - poodle\n2 - husky\n3 - beagle", "[1] poodle\n[2] husky\n[3] beagle",
    "a) poodle\nb) husky\nc) beagle", "１．poodle\n２．husky\n３．beagle", "1、poodle\n2、husky\n3、beagle",
    "① poodle\n② husky\n③ beagle", "- poodle\n- husky\n- beagle", "* poodle\n* husky\n* beagle",
    "•poodle\n•husky\n•beagle",
    "– poodle\n– husky\n– beagle", "- [x] poodle\n- [ ] husky\n- [ ] beagle", "  - poodle\n  - husky\n  - beagle",
    "1. poodle 2. husky 3. beagle", "(1) poodle, (2) husky, (3) beagle", "poodle, husky, beagle",
    "poodle; husky; beagle",
    "poodle、husky、beagle。", "poodle，husky，beagle", "poodle, husky and beagle.", "poodle, husky, and beagle",
    "poodle, husky, or beagle", "Perros: poodle, husky, y beagle", "Hunde: poodle, husky, und beagle",
    "Breeds such as poodle, husky, and beagle.", "Dogs: poodle, husky, beagle", "poodle\nhusky\nbeagle",
    "poodle\r\nhusky\r\nbeagle\r\n", "poodle\n\nhusky\n\nbeagle\n", "Here are three:\npoodle\nhusky\nbeagle",
    "Sure! Here are three kinds of dogs:\n\n1. poodle\n2. husky\n3. beagle\n\nI hope this helps!",
    "Sure, here you go.\npoodle, husky, beagle\nLet me know if you need more, or others.",
    "1. **poodle** - a curly dog\n2. **husky**: pulls sleds.\n3. **beagle** (small), a hunter",
    "1. poodle – curly\n2. husky — pulls sleds\n3. beagle: hunts", "- \"poodle\"\n- “husky”\n- «beagle»",
    "1. The poodle\n2. a husky\n3. An beagle", "1. poodle\n   - curly\n   - small\n2. husky\n   - large\n3. beagle",
    "poodle: curly, small\nhusky: large, fluffy\nbeagle: brown, white", "- `poodle`\n- __husky__\n- *beagle*",
    "1. poodle.\n2. husky.\n3. beagle.", "1. poodle, a curly dog\n2. husky, which is large\n3. beagle, the hunter",
])
def test_lists_in_many_forms(text):
    assert read_list(text) == THREE


@pytest.mark.parametrize("text", [
    "", " \n ", "A dog is an animal that barks.", "Dogs, which are popular pets, come in many breeds.",
    "There are many dogs, cats, and birds here in the park.", "I cannot see, hear, or smell.",
    "The dog runs. The cat sleeps on the mat.", "Well, sure, you can, if it is fine.",
])
def test_prose_is_no_list(text):
    assert read_list(text) == []


@pytest.mark.parametrize(("text", "name"), [
    ("St. Bernard", "St. Bernard"), ("t-shirt", "t-shirt"), ("jack-o'-lantern", "jack-o'-lantern"), ("German_Shepherd ",
    "German Shepherd"), ("the Thinker", "Thinker"), ("Poodle. A curly dog.", "Poodle"), ("\"Red\" car", "Red\" car"),
    ("Poodle -> curly", "Poodle"), ("プードル：犬", "プードル"), ("", ""), ("***", ""), ("12. dog", "dog"), ("A", "A"),
])
def test_clean_item(text, name):
    assert clean_item(text) == name


GROUPS = {"Animals": ["dog", "cat"], "Food": ["pizza"]}


@pytest.mark.parametrize("text", [
    "Animals: dog, cat\nFood: pizza", "**Animals**: dog, cat\n**Food**: pizza",
    "**Animals:** dog, cat\n**Food:** pizza",
    "- Animals: dog, cat\n- Food: pizza", "1. Animals: dog, cat\n2. Food: pizza", "Animals: dog and cat, pizza".replace(
        " and cat, pizza", ", cat\nFood: pizza"),
    "Animals:\n- dog\n- cat\nFood:\n- pizza", "### Animals\n- dog\n- cat\n\n### Food\n- pizza",
    "**Animals**\n1. dog\n2. cat\n\n**Food**\n1. pizza", "1. Animals:\n   - dog\n   - cat\n2. Food:\n   - pizza",
    "1. **Animals**\n   - dog: a pet\n   - cat - a pet\n2. **Food**\n   - pizza (Italian)",
    "Here are the clusters:\n\nAnimals: dog, cat\nFood: pizza\n\nI hope this is what you wanted!",
    "Cluster 1: Animals\n- dog\n- cat\nCluster 2: Food\n- pizza",
    "**Group 1: Animals**\n- dog\n- cat\n**Group 2: Food**\n- pizza",
    "Animals: dog\nFood: pizza\nAnimals: cat", "Animals：dog、cat\nFood：pizza",
])
def test_groups_in_many_forms(text):
    assert read_groups(text) == GROUPS


@pytest.mark.parametrize(("text", "groups"), [
    ("Cluster 1: dog, cat\nCluster 2: pizza", {"Cluster 1": ["dog", "cat"], "Cluster 2": ["pizza"]}),
    ("A dog is an animal.", {}), ("", {}), ("dog, cat", {}), ("Animals:", {}), (":", {}), ("**", {}),
])
def test_other_groups(text, groups):
    assert read_groups(text) == groups


PIECES = st.lists(st.sampled_from(["1. ", "- ", "a", "dog", ", ", ": ", "\n", "\n\n", "**", "(", " - ", "and ",
                                   "Cluster 1",
                                   "#", "\t", "、", "“", "_", "such as ", " ", "x" * 90]), max_size=25).map("".join)


@given(st.text(max_size=80) | PIECES)
def test_any_text_gives_clean_items(text):
    for item in (*read_list(text), *(item for items in read_groups(text).values() for item in items)):
        assert item == " ".join(item.split())
        assert clean_item(item).strip() == clean_item(item)
