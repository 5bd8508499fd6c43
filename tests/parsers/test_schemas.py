import json

import jsonschema
import pytest

from parsers import ScenePriors, Vocabulary
from parsers.schemas import FOLDER, SCHEMAS, schema, write_schemas


def test_committed_schemas_are_current(tmp_path):
    for path in write_schemas(tmp_path):
        assert (FOLDER / path.name).read_bytes() == path.read_bytes(), "run: python -m parsers.schemas"


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_schemas(name):
    jsonschema.Draft202012Validator.check_schema(schema(name))


def test_saved_vocabularies_fit_the_schema(tmp_path):
    path = tmp_path / "words.json"
    Vocabulary.from_names("dog, cat").frozen().save(path)
    validator = jsonschema.Draft202012Validator(schema("vocabulary"))
    validator.validate(json.loads(path.read_text()))
    for broken in ({}, {"classes": [{"id": 1}]}, {"classes": [{"id": 255, "name": "a"}]},
                   {"classes": [{"id": 0, "name": "a"}]}, {"classes": [], "colour": 1},
                   {"classes": [{"id": 1, "name": "a", "color": "red"}]}):
        assert not validator.is_valid(broken), broken


def test_scene_priors_fit_the_schema():
    priors = ScenePriors.model_validate({
        "text": "two red dogs under a tree, no cars", "absent": ["cars"],
        "objects": [{"name": "red dogs", "lemma": "dog", "attributes": ["red"], "count": 2},
                    {"name": "tree", "lemma": "tree"}],
        "relations": [{"subject": 0, "predicate": "under", "object": 1}]})
    jsonschema.Draft202012Validator(schema("scene_priors")).validate(priors.model_dump(mode="json"))
