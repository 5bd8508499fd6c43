import hashlib
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from parsers import Code, Provenance, Vocabulary, VocabularyClass, VocabularyError
from parsers.names import name_key, name_problem

FULL = """\
# my animals
classes:
  - id: 1
    name: animal
  - id: 7
    name: dog
    synonyms: [hound, domestic dog]
    gloss: the animal, not the food
    parent: animal
    subclasses: [poodle, husky]
    cluster: pets
    color: "#1F77b4"
    maps_to: Canine
    provenance: {source: llm, model: pocket, prompt: list kinds of dogs, date: 2026-11-21}
background: [sky, hound, Dog, grass]
"""


def write(folder, text, name="words.yaml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def error_of(folder, text):
    path = write(folder, text)
    with pytest.raises(VocabularyError) as caught:
        Vocabulary.load(path)
    assert str(path) in str(caught.value)
    assert f"`lexiseg vocabulary check {path}`" in str(caught.value)
    return caught.value


def test_from_names():
    vocabulary = Vocabulary.from_names(" dog,  red   panda,Cat")
    assert vocabulary.names == {1: "dog", 2: "red panda", 3: "Cat"}
    assert vocabulary == Vocabulary.from_names(["dog", "red panda", "Cat"])
    assert vocabulary.background_words == () and not vocabulary.is_frozen


def test_from_names_never_gives_the_id_that_means_ignore():
    vocabulary = Vocabulary.from_names([f"name {number}" for number in range(300)])
    assert list(vocabulary.names)[252:256] == [253, 254, 256, 257]


@pytest.mark.parametrize(("names", "parts"), [
    pytest.param("", ["No class names", "--classes"], id="nothing"),
    pytest.param([], ["No class names"], id="empty list"),
    pytest.param(" , ,", ["No class names"], id="only commas"),
    pytest.param("dog,,cat", ["name 2 of 3", "is empty", "--classes"], id="empty"),
    pytest.param("dog, cat,", ["name 3 of 3", "is empty"], id="comma at the end"),
    pytest.param(["dog", "x" * 1000], ["name 2 of 2", "1,000 characters"], id="a thousand characters"),
    pytest.param("dog,Dog", ["class 2 'Dog'", "class 1 'dog' has the same name"], id="duplicate"),
    pytest.param("cat,сat", ["class 2", "looks the same as class 1 'cat'", "CYRILLIC"], id="look-alike"),
    pytest.param("dog,a\x07", ["U+0007"], id="control character"),
    pytest.param("dog,Background", ["background"], id="background"),
    pytest.param([f"n{number}" for number in range(65_534)], ["65,534", "At most 65,533"], id="too many"),
])
def test_refused_names(names, parts):
    with pytest.raises(VocabularyError) as caught:
        Vocabulary.from_names(names)
    assert caught.value.code is Code.CLASS_NAME_INVALID
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_a_full_file(tmp_path):
    vocabulary = Vocabulary.load(write(tmp_path, FULL))
    dog = vocabulary.classes[1]
    assert dog.synonyms == ("hound", "domestic dog") and dog.subclasses == ("poodle", "husky")
    assert dog.provenance == Provenance(source="llm", model="pocket", prompt="list kinds of dogs", date="2026-11-21")
    assert dog.rgb == (0x1F, 0x77, 0xB4) and dog.maps_to == "Canine" and dog.gloss == "the animal, not the food"
    assert vocabulary.names == {1: "animal", 7: "dog"}
    assert vocabulary.background_words == ("sky", "grass"), "minus every name and synonym, whatever the capitals"


@pytest.mark.parametrize("name", ["again.yaml", "again.yml", "again.json"])
def test_round_trip(tmp_path, name):
    vocabulary = Vocabulary.load(write(tmp_path, FULL))
    vocabulary.save(tmp_path / name)
    assert Vocabulary.load(tmp_path / name) == vocabulary
    assert "digest" not in (tmp_path / name).read_text().replace("# ", "")


def test_saved_yaml_begins_with_words_for_its_reader_and_holds_only_what_was_given(tmp_path):
    Vocabulary.from_names("dog, no").save(tmp_path / "words.yaml")
    text = (tmp_path / "words.yaml").read_text()
    assert text.startswith("# A lexiseg vocabulary") and "lexiseg vocabulary check" in text
    assert text.endswith("format_version: 1\nclasses:\n  - id: 1\n    name: dog\n  - id: 2\n    name: 'no'\n")


NAMES = st.text(max_size=40).filter(lambda text: name_problem(text) is None and name_key(text) != "background")


@given(st.lists(NAMES, min_size=1, max_size=5, unique_by=name_key), st.sampled_from(["words.yaml", "words.json"]))
def test_any_names_survive_the_file(tmp_path_factory, names, suffix):
    try:
        vocabulary = Vocabulary.from_names(names)
    except VocabularyError as error:
        assert "looks the same" in str(error)
        return
    path = tmp_path_factory.getbasetemp() / suffix
    vocabulary.frozen().save(path)
    assert Vocabulary.load(path) == vocabulary.frozen()


def test_digest_is_of_the_content():
    one = Vocabulary.from_names("dog, cat")
    assert one.digest == hashlib.sha256(
        b'{"classes":[{"id":1,"name":"dog"},{"id":2,"name":"cat"}],"format_version":1}').hexdigest()
    assert one.digest == one.frozen().digest == Vocabulary.from_names(" dog,cat ").digest
    others = [Vocabulary.from_names("cat, dog"), Vocabulary.from_names("dog, Cat"), Vocabulary.from_names("dog"),
              Vocabulary(classes=one.classes, background=("sky",)),
              Vocabulary(classes=(one.classes[0], VocabularyClass(id=3, name="cat"))),
              Vocabulary(classes=(one.classes[0], VocabularyClass(id=2, name="cat", subclasses=("tabby",))))]
    assert len({vocabulary.digest for vocabulary in (one, *others)}) == 7


def test_freeze_detects_a_change_and_can_accept_it(tmp_path):
    path = tmp_path / "words.yaml"
    Vocabulary.load(write(tmp_path, FULL)).frozen().save(path)
    assert Vocabulary.load(path).is_frozen and "# Frozen" in path.read_text()
    path.write_text("# a comment changes nothing\n" + path.read_text())
    assert Vocabulary.load(path).is_frozen
    path.write_text(path.read_text().replace("poodle", "pudel"))
    with pytest.raises(VocabularyError) as caught:
        Vocabulary.load(path)
    assert f"`lexiseg vocabulary freeze {path}`" in str(caught.value) and "changed" in str(caught.value)
    Vocabulary.load(path, verify=False).frozen().save(path)
    assert Vocabulary.load(path).classes[1].subclasses == ("pudel", "husky")


def test_inside_another_model_the_digest_is_kept_and_checked():
    class Job(BaseModel):
        vocabulary: Vocabulary

    job = Job(vocabulary=Vocabulary.from_names("dog, cat").frozen())
    text = job.model_dump_json()
    assert Job.model_validate_json(text) == job
    with pytest.raises(VocabularyError, match="changed after it was frozen"):
        Job.model_validate_json(text.replace("cat", "rat"))


def test_values_are_frozen_and_hashable():
    vocabulary = Vocabulary.from_names("dog, cat")
    with pytest.raises(ValidationError):
        vocabulary.classes = ()
    assert hash(vocabulary) == hash(Vocabulary.from_names("dog,cat"))


def test_default_colors_are_distinct_and_fixed():
    colors = {number: VocabularyClass(id=number, name="x").rgb for number in range(1, 255)}
    assert len(set(colors.values())) == 254
    assert colors[1] == (121, 156, 242)
    assert min(max(color) for color in colors.values()) > 130, "none is near black, which is the background"
    for first, second in itertools.pairwise(colors.values()):
        assert sum(abs(a - b) for a, b in zip(first, second, strict=True)) > 60


@pytest.mark.parametrize(("text", "parts"), [
    pytest.param("classes:\n  - id: 1\n    name: dog\n    colour: red\n",
                 ["line 4", "class 1 'dog'", "'colour' is not known", "Did you mean 'color'?", "synonyms"],
                 id="unknown key of a class"),
    pytest.param("clases: []\nclasses: [{id: 1, name: dog}]", ["line 1", "'clases'", "Did you mean 'classes'?"],
                 id="unknown key at the top"),
    pytest.param("classes: [{id: 1, name: dog, provenance: {source: llm, modle: x}}]",
                 ["'modle'", "Did you mean 'model'?", "class 1 'dog'"], id="unknown key of provenance"),
    pytest.param("classes: [{id: 1, name: dog, zzz: 1}]", ["'zzz' is not known", "Known keys"], id="no near key"),
    pytest.param("classes:\n - name: dog", ["line 2", "entry 1 of classes", "key 'id' is missing"], id="no id"),
    pytest.param("classes: [{id: 1}]", ["key 'name' is missing"], id="no name"),
    pytest.param("classes: [{id: '1', name: dog}]", ["id holds '1'", "number from 1 to 65534"], id="id in quotes"),
    pytest.param("classes: [{id: true, name: dog}]", ["id holds true"], id="id is true"),
    pytest.param("classes: [{id: 0, name: dog}]", ["id holds 0", "from 1"], id="id 0"),
    pytest.param("classes: [{id: 255, name: dog}]", ["id holds 255", "not 255"], id="id 255"),
    pytest.param("classes: [{id: 65535, name: dog}]", ["id holds 65535"], id="id 65535"),
    pytest.param("classes: [{id: 1, name: 7}]", ["name holds 7", "quotes"], id="name is a number"),
    pytest.param("classes: [{id: 1, name: ''}]", ["class 1 ''", "is empty"], id="empty name"),
    pytest.param("classes: [{id: 1, name: dog, synonyms: hound}]", ["synonyms holds 'hound'", "a list of texts"],
                 id="text for a list"),
    pytest.param("classes: [{id: 1, name: dog, synonyms: [hound, 3]}]", ["synonyms holds 3"], id="number in a list"),
    pytest.param("classes: [{id: 1, name: dog, subclasses: [a, '']}]", ["class 1 'dog'", "is empty"],
                 id="empty subclass"),
    pytest.param("classes: [{id: 1, name: dog, color: red}]", ["color holds 'red'", "#1f77b4"], id="color"),
    pytest.param("classes: [{id: 1, name: dog, provenance: {source: gpt}}]", ["source holds 'gpt'", '"llm"'],
                 id="provenance source"),
    pytest.param("classes: [{id: 1, name: dog, provenance: {source: llm, date: today}}]", ["date holds 'today'"],
                 id="provenance date"),
    pytest.param("classes: [dog, cat]", ["entry 1 of classes", "entry 2 of classes", "2 problems"], id="only names"),
    pytest.param("classes: 3", ["classes holds 3", "a list of classes"], id="classes is a number"),
    pytest.param("classes: []", ["no class in it"], id="no classes"),
    pytest.param("- dog\n- cat\n", ["no class in it"], id="a list"),
    pytest.param("", ["no class in it"], id="empty file"),
    pytest.param("format_version: 2\nclasses: [{id: 1, name: dog}]", ["format_version holds 2", "Allowed: 1"],
                 id="a later format"),
    pytest.param("classes: [{id: 1, name: dog}]\ndigest: 12ab\n", ["line 2", "digest holds '12ab'"], id="bad digest"),
    # contradictions
    pytest.param("classes:\n  - {id: 4, name: dog}\n  - {id: 4, name: cat}\n",
                 ["line 3", "class 4 'cat'", "id 4 is already used by class 4 'dog'"], id="id reused"),
    pytest.param("classes: [{id: 1, name: dog}, {id: 2, name: DOG}]", ["class 2 'DOG'", "same name"], id="duplicate"),
    pytest.param("classes: [{id: 1, name: dog, parent: dogs}, {id: 2, name: dog show}]",
                 ["parent 'dogs' is not a class", "Did you mean 'dog'?"], id="unknown parent"),
    pytest.param("classes: [{id: 1, name: dog, parent: dog}]", ["dog > dog"], id="own parent"),
    pytest.param("classes: [{id: 1, name: a, parent: b}, {id: 2, name: b, parent: c}, {id: 3, name: c, parent: b}]",
                 ["class 2 'b'", "b > c > b"], id="parent cycle"),
    pytest.param("classes: [{id: 1, name: animal, subclasses: [Dog]}, {id: 2, name: dog}]",
                 ["subclass 'Dog' also names class 2 'dog'", "remove it"], id="subclass is another class"),
    pytest.param("classes: [{id: 1, name: animal, subclasses: [hound]}, {id: 2, name: dog, synonyms: [hound]}]",
                 ["subclass 'hound' also names class 2 'dog'"], id="subclass is a synonym of another class"),
    pytest.param("classes: [{id: 1, name: a, synonyms: [c]}, {id: 2, name: b, synonyms: [C]}]",
                 ["synonym 'C' also names class 1 'a'"], id="synonym of two classes"),
    pytest.param("classes: [{id: 1, name: dog, subclasses: [pug, husky, Pug]}]", ["'Pug' repeats"], id="repeated"),
    pytest.param("classes: [{id: 1, name: dog, synonyms: [Dog]}]", ["'Dog' repeats"], id="synonym is its class"),
    pytest.param("classes: [{id: 1, name: dog, subclasses: [dog, Dog]}]", ["'Dog' repeats"], id="own name twice"),
    pytest.param("classes: [{id: 1, name: dog}]\nbackground:\n  - sky\n  - Sky\n", ["line 4", "'Sky' is given twice"],
                 id="background word twice"),
])
def test_refused_files_name_file_line_class_and_what_is_allowed(tmp_path, text, parts):
    message = str(error_of(tmp_path, text))
    assert all(part in message for part in parts), message


def test_a_cycle_is_told_once(tmp_path):
    text = "classes: [{id: 1, name: a, parent: b}, {id: 2, name: b, parent: a}, {id: 3, name: c, parent: a}]"
    assert str(error_of(tmp_path, text)).count("lead back") == 1


def test_many_problems_are_listed_and_the_rest_counted(tmp_path):
    text = "classes:\n" + "".join(f"  - {{id: {number}, name: dog}}\n" for number in range(1, 21))
    message = str(error_of(tmp_path, text))
    assert "has 19 problems" in message and "and 11 more" in message and len(message) < 3000


def test_name_problems_have_their_own_code(tmp_path):
    assert error_of(tmp_path, "classes: [{id: 1, name: dog}, {id: 2, name: dog}]").code is Code.CLASS_NAME_INVALID
    assert error_of(tmp_path, "classes: [{id: 1, name: dog}, {id: 1, name: dog}]").code is Code.VOCABULARY_INVALID


def test_a_huge_vocabulary_is_read_in_reasonable_time(tmp_path):
    Vocabulary.from_names([f"thing number {number}" for number in range(3000)]).save(tmp_path / "words.yaml")
    assert len(Vocabulary.load(tmp_path / "words.yaml").classes) == 3000


@pytest.mark.parametrize(("text", "part"), [
    pytest.param("classes: [{id: 1, name: t-shirt}, {id: 2, name: T shirt}]", "differ only in punctuation", id="near"),
    pytest.param("classes: [{id: 1, name: собака}]", "written in CYRILLIC", id="Cyrillic"),
    pytest.param("classes: [{id: 1, name: dog, subclasses: [犬]}]", "'犬' of class 1 'dog' is written in CJK",
                 id="subclass"),
    pytest.param("classes: [{id: 1, name: grey сat}]", "mixes alphabets in 'сat'", id="mixed word"),
    pytest.param(f"classes: [{{id: 1, name: {'very ' * 15}long}}]", "79 characters", id="long"),
    pytest.param("classes: [{id: 1, name: a, subclasses: [mouse]}, {id: 2, name: b, subclasses: [Mouse]}]",
                 "belongs to both class 1 'a' and class 2 'b'", id="subclass of two"),
    pytest.param("classes: [{id: 1, name: dog, subclasses: [Dog, pug]}]", "its own subclass", id="own subclass"),
    pytest.param("classes: [{id: 1, name: a, color: '#ff0000'}, {id: 2, name: b, color: '#FF0000'}]",
                 "have the same color", id="color twice"),
])
def test_warnings(tmp_path, text, part):
    warnings = Vocabulary.load(write(tmp_path, text)).warnings()
    assert len(warnings) == 1 and part in warnings[0], warnings


def test_ordinary_names_have_no_warnings():
    assert Vocabulary.from_names("dog, pâté, jack-o'-lantern, 3D printer, traffic light").warnings() == []


def test_the_example_of_the_page_shows_every_key(tmp_path):
    page = (Path(__file__).resolve().parents[2] / "docs" / "vocabulary.md").read_text()
    vocabulary = Vocabulary.load(write(tmp_path, page.split("```yaml\n")[1].split("```")[0]))
    assert vocabulary.warnings() == []
    assert set(vocabulary.classes[1].model_dump(exclude_defaults=True)) == set(VocabularyClass.model_fields)


def test_json_and_yaml_have_one_digest(tmp_path):
    vocabulary = Vocabulary.load(write(tmp_path, FULL)).frozen()
    vocabulary.save(tmp_path / "a.json")
    vocabulary.save(tmp_path / "a.yaml")
    assert json.loads((tmp_path / "a.json").read_text())["digest"] == vocabulary.digest
    assert Vocabulary.load(tmp_path / "a.json") == Vocabulary.load(tmp_path / "a.yaml")
