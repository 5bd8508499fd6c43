"""JSON Schemas of what jobs and evaluations read and write, for docs/schemas: `python -m workers.schemas`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agents.records import AskResult
from parsers.files import pretty_json, write_atomic
from vision.llmformer.config import LlmformerConfig
from vision.llmformer.similarity import Similarity
from workers.exports import ExportRecord
from workers.records import Job, Result
from workers.spec import JobSpec

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schemas"
SCHEMAS: dict[str, dict[str, Any]] = {
    "job_spec": JobSpec.model_json_schema(),
    "job": Job.model_json_schema(mode="serialization"),
    "result": Result.model_json_schema(mode="serialization"),
    "ask": AskResult.model_json_schema(mode="serialization"),
    "export": ExportRecord.model_json_schema(mode="serialization"),
    "similarity": Similarity.model_json_schema(),
    "llmformer": LlmformerConfig.model_json_schema(),
    "classes": {
        "title": "classes.json", "type": "object", "required": ["0", "ignore_id"],
        "description": "Class id as text to name; 0 is background. Also the layout of a dataset folder.",
        "properties": {"0": {"type": "string"}, "ignore_id": {"type": ["integer", "null"]}},
        "patternProperties": {"^[0-9]+$": {"type": "string"}}, "additionalProperties": False,
    },
}
"""File name below docs/schemas without its suffix to JSON Schema; `python -m workers.schemas` writes them."""


def schema_bytes(name: str) -> bytes:
    """A schema as it stands in docs/schemas."""
    return pretty_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **SCHEMAS[name]})


if __name__ == "__main__":
    for schema_name in SCHEMAS:
        write_atomic(FOLDER / f"{schema_name}.json", schema_bytes(schema_name))
