"""JSON Schemas of what crosses doors as files: `python -m parsers.schemas` writes them to docs/schemas/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from parsers.files import pretty_json, write_atomic
from parsers.prepared import PreparedRow
from parsers.priors import ScenePriors
from parsers.vocabulary import Vocabulary

SCHEMAS: dict[str, type[BaseModel]] = {
    "scene_priors": ScenePriors, "description": PreparedRow, "vocabulary": Vocabulary}
"""File name without its suffix to the model it describes."""
FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schemas"


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one entry of SCHEMAS."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **SCHEMAS[name].model_json_schema()}


def write_schemas(folder: Path) -> list[Path]:
    """Writes every schema into `folder` and returns the files."""
    paths = []
    for name in SCHEMAS:
        path = folder / f"{name}.json"
        write_atomic(path, pretty_json(schema(name)))
        paths.append(path)
    return paths


if __name__ == "__main__":
    for written in write_schemas(FOLDER):
        print(written)
