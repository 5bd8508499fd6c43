"""The description of a job."""

from __future__ import annotations

import jsonschema
import pytest
from pydantic import ValidationError

from workers.schemas import FOLDER, SCHEMAS, schema_bytes
from workers.spec import JobSpec


def test_round_trip_through_json(make_spec):
    spec = make_spec(settings={"variant": "naclip", "tile": 64}, preset="fast", overlay=True,
                     refine="torch-crf:stride=1,iterations=5")
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    jsonschema.validate(spec.model_dump(mode="json"), SCHEMAS["job_spec"])


@pytest.mark.parametrize("change", [{"inputs": ()}, {"refine": "magic"}, {"refine": "torch-crf:depth=3"},
                                    {"refine": "pamr:iterations=-1"}, {"batch": 0}, {"workers": 0}, {"out": ""},
                                    {"colour": "red"}, {"format_version": 2}], ids=str)
def test_what_is_not_allowed(make_spec, change):
    with pytest.raises(ValidationError):
        make_spec(**change)


def test_a_spec_cannot_be_changed(make_spec):
    with pytest.raises(ValidationError):
        make_spec().batch = 3


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_published_schemas_are_current(name):
    assert (FOLDER / f"{name}.json").read_bytes() == schema_bytes(name), "run: python -m workers.schemas"
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
