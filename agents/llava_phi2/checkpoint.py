"""Weights of a checkpoint directory, one at a time: safetensors, or torch files that hold nothing but tensors."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from parsers.errors import Code, ModelError

INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
ALLOWED = "Weights as model*.safetensors or pytorch_model*.bin, whole, in the directory itself."


class Checkpoint:
    """The weights of a directory. Nothing is read but names until a tensor is asked for; torch files are read with
    `weights_only`, so they cannot run code."""

    def __init__(self, directory: Path) -> None:
        """Raises ModelError: `model-missing`, `model-incomplete` (no weights, a missing part), `model-unsupported` (a
        file with more than tensors in it), `model-corrupt`."""
        self.directory = directory
        self.files = weight_files(directory)
        self._names: dict[str, Path] = {}
        self._opened: tuple[Path, Any] | None = None
        for path in self.files:
            for name in self._read(path)[0]:
                if name in self._names:
                    raise ModelError(Code.MODEL_CORRUPT, f"{name!r} is both in {self._names[name].name} and in "
                                     f"{path.name} of {directory}.", "Each weight once.", "Copy the directory again.")
                self._names[name] = path

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._names)

    def tensor(self, name: str) -> torch.Tensor:
        """On the CPU, in the type that it was saved in. Raises KeyError for a name that is not here."""
        return self._read(self._names[name])[1](name)

    def file_of(self, name: str) -> str:
        """The path of the file that holds a tensor."""
        return str(self._names[name])

    def _read(self, path: Path) -> tuple[list[str], Callable[[str], torch.Tensor]]:
        """The names in a file, and a function that reads one of them; the last file stays open."""
        if self._opened is None or self._opened[0] != path:
            self._opened = (path, _open_safetensors(path) if path.suffix == ".safetensors" else _open_torch(path))
        return self._opened[1]


def weight_files(directory: Path) -> list[Path]:
    """The files that hold the weights of a directory; safetensors are preferred. Raises ModelError
    (`model-missing`, `model-incomplete`, `model-corrupt`)."""
    if not directory.is_dir():
        raise ModelError(Code.MODEL_MISSING, f"{directory} is not a directory.",
                         "A model is a directory on this machine.", "Check the path.")
    for index_name, pattern in zip(INDEX_FILES, ("model*.safetensors", "pytorch_model*.bin"), strict=True):
        found = sorted(directory.glob(pattern))
        if not found and not (directory / index_name).exists():
            continue
        if not (directory / index_name).exists():
            return found
        try:
            listed = sorted(set(json.loads((directory / index_name).read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(Code.MODEL_CORRUPT, f"{directory / index_name} is not an index of weights: {error}.",
                             "JSON with weight_map.", "Copy the directory again.") from error
        missing = [name for name in listed if Path(name).name != name or not (directory / name).is_file()]
        if missing:
            raise ModelError(Code.MODEL_INCOMPLETE, f"{directory} lacks {', '.join(missing)}, which {index_name} "
                             "lists.", ALLOWED, "Copy the directory again.")
        return [directory / name for name in listed]
    given = f"{directory} has no weights."
    if list(directory.glob("adapter_model.*")) or (directory / "mm_projector.bin").exists():
        given += " What it has (an adapter, a projector) is only a part of a model."
    raise ModelError(Code.MODEL_INCOMPLETE, given, ALLOWED, "Merge or copy the whole model, then run this again.")


def _open_safetensors(path: Path) -> tuple[list[str], Callable[[str], torch.Tensor]]:
    try:
        file = safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise _corrupt(path, error) from error
    return list(file.keys()), file.get_tensor


def _open_torch(path: Path) -> tuple[list[str], Callable[[str], torch.Tensor]]:
    try:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files from before torch 1.6 cannot be mapped into memory
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{path} holds more than tensors, or is not a torch file; reading it "
                         "could run code.", ALLOWED, "Get the weights as safetensors.") from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise _corrupt(path, error) from error
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{path} is not a table of tensors.", ALLOWED,
                         "Get the weights as safetensors.")
    return list(content), content.__getitem__


def _corrupt(path: Path, error: Exception) -> ModelError:
    with path.open("rb") as file:
        pointer = file.read(40).startswith(b"version https://git-lfs")
    found = "is a Git LFS pointer, not the file itself" if pointer else f"cannot be read: {error}"
    return ModelError(Code.MODEL_CORRUPT, f"{path} {found}.", ALLOWED, "Copy the directory again.")
