"""`lexiseg models`: what is here, whether it is whole, and language models made ready for vLLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parsers.errors import LexisegError
from service.console import console, printable, say, say_json, show_error
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


def convert_simseg(checkpoint: Path, tokenizer: Path, to: Path, half: bool) -> None:
    """Turns a SimSeg checkpoint into a model directory. Raises ModelError."""
    from vision.simseg.convert import convert_checkpoint

    convert_checkpoint(checkpoint, tokenizer, to, half=half)
    say(f"{to}: {sum(path.stat().st_size for path in to.iterdir()) / 1e6:.0f} MB; use it with --model {to}")


def convert_llava_phi2(source: Path, target: Path, tower: Path | None, dtype: str, as_json: bool) -> None:
    """Converts a LLaVA-Phi2 checkpoint and shows what was found, mapped and dropped."""
    from agents.llava_phi2 import convert

    report = convert.convert_llava_phi2(source, target, tower=tower, dtype=dtype)
    if as_json:
        say_json(report.model_dump(mode="json"))
        return
    weights = ", ".join(f"{number} {part}" for part, number in report.weights.items())
    towers = {None: "", True: " (the one given apart differs from it and was not used)",
              False: " (the one given apart is the same)"}
    say(f"found    {report.source_weights} weights in {len(report.source_files)} files: layout {report.wrapper}, Phi "
        f"names {report.generation}")
    say(f"mapped   {sum(report.weights.values())} weights ({weights}; {report.parameters / 1e9:.2f} billion numbers), "
        f"{report.split} of them split out of fused ones")
    say(f"dropped  {len(report.dropped)}: {', '.join(map(printable, report.dropped[:5])) or 'nothing'}"
        + (f" and {len(report.dropped) - 5} more" if len(report.dropped) > 5 else ""))
    say(f"tower    {'from the checkpoint' if report.tower == 'checkpoint' else f'from {tower}'}"
        f"{towers[report.tower_differs]}; a picture becomes {report.image_tokens} tokens")
    say(f"head     bias {'from the checkpoint' if report.head_bias == 'source' else 'of zeros: the source has none'}")
    say(f"written  {report.dtype}, <image> is token {report.image_token}, the end of a text {report.end_token}; "
        "conversion.json has all of this")
    for note in report.notes:
        say(f"note     {printable(note)}")
    say(f"Next: docs/serving.md, or on this processor: make serve MODEL={target}")


def model_name(directory: Path) -> str:
    """What to give as --model: the path below the models' folder."""
    root = models_root()
    return directory.relative_to(root).as_posix() if directory.is_relative_to(root) else str(directory)
