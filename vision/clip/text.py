"""Names to text vectors, computed once per name and remembered on disk.

The cache is a folder per (model digest, templates) with one safetensors file per set of names that was computed
together. A file that is damaged is computed again; a folder that cannot be written leaves the memory of the process.

Shapes: N names; D embedding; M templates.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from parsers.errors import OutputError
from parsers.files import canonical_json, sha256_bytes, write_atomic
from vision.clip.encoder import ClipEncoder
from vision.clip.templates import IMAGENET_TEMPLATES

CACHE_FORMAT = 1
NAMES_PER_CALL = 64


class TextEncoder:
    """Text vectors of names: each template filled with the name and encoded to length 1, their mean, to length 1."""

    def __init__(self, encoder: ClipEncoder, templates: Sequence[str], cache: Path | None = None) -> None:
        """templates: sentences with `{}`, none for the 80 ImageNet templates; cache: folder, None for
        `cache_folder()`."""
        self._encoder = encoder
        self.templates = tuple(templates) or IMAGENET_TEMPLATES
        key = sha256_bytes(canonical_json([CACHE_FORMAT, encoder.digest, self.templates]))
        self._folder = (cache or cache_folder()) / key
        self._known = _read_cache(self._folder)

    def embed(self, names: Sequence[str]) -> torch.Tensor:
        """(N, D) float32 of length 1, on the CPU, in the order of `names`; a name may occur more than once."""
        missing = list(dict.fromkeys(name for name in names if name not in self._known))
        if missing:
            computed = self._compute(missing)
            self._known |= computed
            _write_cache(self._folder, computed)
        if not names:
            return self._encoder.encode_prompts([])
        return torch.from_numpy(np.stack([self._known[name] for name in names]))

    def _compute(self, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        vectors: dict[str, NDArray[np.float32]] = {}
        for start in range(0, len(names), NAMES_PER_CALL):
            part = names[start:start + NAMES_PER_CALL]
            prompts = [template.replace("{}", name) for name in part for template in self.templates]
            prompts_NMD = self._encoder.encode_prompts(prompts).unflatten(0, (len(part), -1))
            mean_ND = torch.nn.functional.normalize(prompts_NMD.mean(dim=1), dim=-1)
            vectors |= dict(zip(part, mean_ND.numpy(), strict=True))
        return vectors


def cache_folder() -> Path:
    """Where text vectors are remembered: LEXISEG_CACHE, else `lexiseg` in the user's cache folder; then `text`."""
    base = os.environ.get("LEXISEG_CACHE")
    if base:
        return Path(base) / "text"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lexiseg" / "text"


def _write_cache(folder: Path, vectors: dict[str, NDArray[np.float32]]) -> None:
    names = sorted(vectors)
    table_ND = np.stack([vectors[name] for name in names])
    listed = np.frombuffer(canonical_json(names), np.uint8)
    digest = np.frombuffer(_digest(table_ND, listed), np.uint8)
    data = save_safetensors({"vectors": table_ND, "names": listed, "digest": digest})
    with suppress(OutputError):  # a cache that cannot be written costs time, not the job
        write_atomic(folder / f"{sha256_bytes(listed.tobytes())}.safetensors", data)


def _read_cache(folder: Path) -> dict[str, NDArray[np.float32]]:
    vectors: dict[str, NDArray[np.float32]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        vectors |= dict(_read_file(path))
    return vectors


def _read_file(path: Path) -> Iterable[tuple[str, NDArray[np.float32]]]:
    try:
        content = load_safetensors(path.read_bytes())
        table_ND, listed = content["vectors"], content["names"]
        if content["digest"].tobytes() != _digest(table_ND, listed):
            return []
        return list(zip(json.loads(listed.tobytes()), table_ND, strict=True))
    except (OSError, SafetensorError, KeyError, ValueError):
        return []


def _digest(table_ND: NDArray[np.float32], listed: NDArray[np.uint8]) -> bytes:
    return sha256_bytes(table_ND.tobytes() + listed.tobytes()).encode()
