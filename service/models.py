"""`lexiseg models`: what is here, and whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parsers.errors import LexisegError
from service.console import console, say, say_json, show_error
from vision.models import Manifest, ModelCard, list_models, models_root, resolve_model, verify_model


def list_all(as_json: bool = False) -> None:
    """The models that can be given by name, as a table or as JSON."""
    rows = [_row(card) for card in list_models()]
    if as_json:
        say_json({"format_version": 1, "models": rows})
        return
    if not rows:
        say(f"No models below {models_root()}. Copy an open_clip directory there, or give --model DIR.")
        return
    from rich.table import Column, Table

    table = Table(Column("model", no_wrap=True), "kind", "window", "words",
                  Column("licence", no_wrap=True, max_width=36))
    for row in rows:
        words = row["known_words"] if row["kind"] != "clip" or row["known_words"] is not None else "any"
        table.add_row(row["name"], row["kind"], *("" if value is None else str(value)
                                                  for value in (row["window"], words, row["licence"])))
    console().print(table)


def _row(card: Manifest) -> dict[str, Any]:
    words = card.known_words if isinstance(card, ModelCard) else None
    return {"name": model_name(card.directory), "card": card.name, "kind": card.kind,
            "window": card.window if isinstance(card, ModelCard) else None,
            "patch": card.patch if isinstance(card, ModelCard) else None,
            "known_words": None if words is None else len(words), "licence": card.licence,
            "directory": str(card.directory)}


def verify(names: list[str]) -> bool:
    """Verifies the models (all listed ones if `names` is empty) one by one; True if all are whole."""
    whole = True
    for name in names or [model_name(card.directory) for card in list_models()]:
        try:
            files = verify_model(resolve_model(name, "clip"))
        except LexisegError as error:
            show_error(error)
            whole = False
        else:
            say(f"{name}: {len(files)} files as they should be ({', '.join(files)})")
    return whole


def model_name(directory: Path) -> str:
    """What to give as --model: the path below the models' folder."""
    root = models_root()
    return directory.relative_to(root).as_posix() if directory.is_relative_to(root) else str(directory)
