"""Whatever is sent, the API answers as its own description says, and never with a defect."""

from __future__ import annotations

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from service.api.app import create_app
from service.api.settings import ApiSettings
from service.api.tokens import add_token


@pytest.fixture(scope="module")
def app(tmp_path_factory, saved_models):
    """A site without workers."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "pictures").mkdir()
    changes = {"LEXISEG_DATA": str(folder / "data"), "LEXISEG_API_ROOTS": str(folder / "pictures"),
               "LEXISEG_MODELS": str(saved_models)}
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    yield create_app(ApiSettings(segment_timeout_s=0.2), open_to_all=False)
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def test_answers_are_as_described_and_never_a_defect(app):
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 20
    token = add_token(app.state.site.settings.tokens, "all", "admin")
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(max_examples=15, suppress_health_check=list(HealthCheck))
        def check(case):
            case.call_and_validate(headers={"Authorization": f"Bearer {token}"},
                                   excluded_checks=[positive_data_acceptance])  # class names have rules of their own

        check()
