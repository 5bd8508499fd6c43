"""The learned head on disk: `model.json` (what it is, how it was made, sha256 of the files), `tables.json` (words)
and `weights.npz` (matrices as 8-bit integers with a float32 scale for each row, vectors in half precision)."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from parsers.errors import Code, ModelError
from parsers.files import canonical_json, pretty_json, sha256_bytes, write_atomic
from parsers.head_network import Array
from parsers.lexicon import Tables

CARD_FILE, TABLES_FILE, WEIGHTS_FILE = "model.json", "tables.json", "weights.npz"
FORMAT_VERSION = 1
KIND = "scene-head"
SCALE = ".scale"
NEXT_STEP = "Copy the directory again, or make it: python -m parsers.train head, then export-head"


@dataclass(frozen=True, slots=True)
class HeadModel:
    """Word tables and the arrays of one or more networks that answer together."""

    tables: Tables
    members: tuple[dict[str, Array], ...]


def save_model(model: HeadModel, directory: Path, card: dict[str, Any]) -> None:
    """Writes the three files. `card` says how the head was made; kind, version and digests are added to it."""
    arrays = {f"{member}/{name}": value for member, member_arrays in enumerate(model.members)
              for name, value in sorted(_packed(member_arrays).items())}
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    files = {TABLES_FILE: canonical_json(asdict(model.tables)), WEIGHTS_FILE: data.getvalue()}
    for name, content in files.items():
        write_atomic(directory / name, content)
    digests = {name: sha256_bytes(content) for name, content in files.items()}
    write_atomic(directory / CARD_FILE, pretty_json(
        {"format_version": FORMAT_VERSION, "kind": KIND, **card, "members": len(model.members), "files": digests}))


def load_model(directory: Path) -> HeadModel:
    """Reads what `save_model` wrote, as float32; the files are compared with their sha256.

    Raises ModelError (`model-missing`, `model-incomplete`, `model-unsupported`, `model-corrupt`).
    """
    if not directory.is_dir():
        raise ModelError(Code.MODEL_MISSING, f"{directory} is not a directory.",
                         "A learned head is a directory on this machine.", NEXT_STEP)
    card = _json(directory, _read(directory, CARD_FILE), CARD_FILE)
    if card.get("format_version") != FORMAT_VERSION or card.get("kind") != KIND:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{directory / CARD_FILE} has kind {card.get('kind')!r} and "
                         f"format_version {card.get('format_version')!r}.",
                         f"kind {KIND!r} and format_version {FORMAT_VERSION}.", NEXT_STEP)
    files = {name: _read(directory, name) for name in (TABLES_FILE, WEIGHTS_FILE)}
    digests = card.get("files")
    for name, content in files.items():
        if not isinstance(digests, dict) or digests.get(name) != sha256_bytes(content):
            raise ModelError(Code.MODEL_CORRUPT, f"{directory / name} is not the file that {CARD_FILE} describes.",
                             "Files with the sha256 that the card gives.", NEXT_STEP)
    words = _json(directory, files[TABLES_FILE], TABLES_FILE)
    try:
        tables = Tables(**{field.name: tuple(map(str, words[field.name])) for field in fields(Tables)})
        with np.load(io.BytesIO(files[WEIGHTS_FILE]), allow_pickle=False) as arrays:
            packed: list[dict[str, Any]] = [{} for _ in range(int(card["members"]))]
            for key in arrays.files:
                member, _, name = key.partition("/")
                packed[int(member)][name] = arrays[key]
        members = tuple(_unpacked(member) for member in packed)
    except (KeyError, ValueError, IndexError, TypeError, zipfile.BadZipFile) as error:
        raise ModelError(Code.MODEL_CORRUPT, f"{directory} does not hold a learned head: {error}.",
                         "Files as python -m parsers.train export-head writes them.", NEXT_STEP) from error
    return HeadModel(tables, members)


def _packed(arrays: dict[str, Array]) -> dict[str, Any]:
    """The arrays in a quarter of their bytes. A value moves by at most half a step, 1/254 of its row's largest."""
    packed: dict[str, Any] = {}
    for name, value in arrays.items():
        if value.ndim == 2:
            scale = np.maximum(np.abs(value).max(axis=1, keepdims=True), 1e-12).astype(np.float32) / 127
            packed[name], packed[f"{name}{SCALE}"] = np.rint(value / scale).astype(np.int8), scale
        else:
            packed[name] = value.astype(np.float16)
    return packed


def _unpacked(packed: dict[str, Any]) -> dict[str, Array]:
    return {name: value.astype(np.float32) * packed.get(f"{name}{SCALE}", np.float32(1))
            for name, value in packed.items() if not name.endswith(SCALE)}


def _read(directory: Path, name: str) -> bytes:
    try:
        return (directory / name).read_bytes()
    except OSError as error:
        raise ModelError(Code.MODEL_INCOMPLETE, f"{directory / name} cannot be read: {error.strerror}.",
                         f"A directory with {CARD_FILE}, {TABLES_FILE} and {WEIGHTS_FILE}.", NEXT_STEP) from error


def _json(directory: Path, content: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise ModelError(Code.MODEL_CORRUPT, f"{directory / name} is not JSON: {error}.", "", NEXT_STEP) from error
    if not isinstance(value, dict):
        raise ModelError(Code.MODEL_CORRUPT, f"{directory / name} is not a JSON object.", "", NEXT_STEP)
    return value
