"""Names and phrases to text vectors: the text tower of a CLIP, or a file with a closed list of names.

A file of vectors is a safetensors file with `vectors` (names, c) and `names`, their JSON list as bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors
from torch import Tensor

from parsers.errors import Code, ModelError
from parsers.files import canonical_json, sha256_file, write_atomic
from parsers.names import name_key
from vision.llmformer.config import WordsConfig

REMEMBERED = 200_000
"""Vectors that are kept in memory at most."""
PHRASE_TEMPLATES = ("{}",)
"""Of attribute and relation phrases."""
PROMPTS_PER_CALL = 256
WORD = re.compile(r"[^\W_]+")


class Words(Protocol):
    """Texts to vectors of length 1 on the CPU, (texts, width); zeros for a text of unknown words alone."""

    width: int
    digest: str
    """sha256 of what the vectors come from."""
    known_words: frozenset[str] | None
    """None where any word may be known."""

    def names(self, texts: Sequence[str]) -> Tensor:
        """Vectors of names: the mean over the templates."""
        ...

    def phrases(self, texts: Sequence[str]) -> Tensor:
        """Vectors of phrases as they are."""
        ...


class ClipWords:
    """The text tower of an open_clip directory. Vectors are remembered as long as the process lives."""

    def __init__(self, directory: Path, digest: str | None = None, device: str = "cpu") -> None:
        from vision.clip.encoder import ClipEncoder
        from vision.clip.templates import IMAGENET_TEMPLATES
        from vision.models import load_card

        card = load_card(directory)
        self._encoder = ClipEncoder(card, device=device, variant="loda")
        _check_digest(digest, self._encoder.digest, directory)
        self.digest = self._encoder.digest
        self.width = int(self._encoder.encode_prompts([]).shape[1])
        self.templates = card.templates or IMAGENET_TEMPLATES
        known = card.known_words
        self.known_words = None if known is None else frozenset(w for entry in known for w in words_of(entry))
        self._remembered: dict[tuple[bool, str], Tensor] = {}

    def names(self, texts: Sequence[str]) -> Tensor:
        return self._embed(texts, self.templates, True)

    def phrases(self, texts: Sequence[str]) -> Tensor:
        return self._embed(texts, PHRASE_TEMPLATES, False)

    def _embed(self, texts: Sequence[str], templates: Sequence[str], kind: bool) -> Tensor:
        missing = [text for text in dict.fromkeys(texts) if (kind, text) not in self._remembered]
        if len(self._remembered) + len(missing) > REMEMBERED:
            self._remembered.clear()
            missing = list(dict.fromkeys(texts))
        for start in range(0, len(missing), PROMPTS_PER_CALL):
            part = missing[start:start + PROMPTS_PER_CALL]
            prompts = [template.replace("{}", text) for text in part for template in templates]
            vectors_NMc = self._encoder.encode_prompts(prompts).unflatten(0, (len(part), -1))
            vectors_Nc = torch.nn.functional.normalize(vectors_NMc.mean(1), dim=-1)
            for text, vector_c in zip(part, vectors_Nc, strict=True):
                self._remembered[kind, text] = vector_c if self._is_known(text) else torch.zeros_like(vector_c)
        if not texts:
            return torch.zeros(0, self.width)
        return torch.stack([self._remembered[kind, text] for text in texts])

    def _is_known(self, text: str) -> bool:
        return self.known_words is None or any(word in self.known_words for word in words_of(text))


class TableWords:
    """Vectors from a file; what is not in it is unknown."""

    def __init__(self, path: Path, digest: str | None = None) -> None:
        if not path.is_file():
            raise ModelError(Code.MODEL_INCOMPLETE, f"The text vectors {path} are not there.",
                             "The file that `words.path` of config.json names.", "Bring it to that place.")
        self.digest = sha256_file(path)
        _check_digest(digest, self.digest, path)
        try:
            content = load_safetensors(path.read_bytes())
            vectors = torch.from_numpy(content["vectors"].astype(np.float32))
            names = json.loads(content["names"].tobytes())
            self._row = {name_key(name): vector for name, vector in zip(names, vectors, strict=True)}
        except Exception as error:  # safetensors, JSON and key errors
            raise ModelError(Code.MODEL_CORRUPT, f"{path} is not a file of text vectors: {error}.",
                             "Safetensors with `vectors` and `names`.", "Copy it again from its source.") from error
        self.width = int(vectors.shape[1])
        self.known_words: frozenset[str] | None = frozenset(word for name in names for word in words_of(name))

    def names(self, texts: Sequence[str]) -> Tensor:
        nothing = torch.zeros(self.width)
        return torch.stack([self._row.get(name_key(text), nothing) for text in texts]) if texts \
            else torch.zeros(0, self.width)

    phrases = names


def write_table(path: Path, vectors: Mapping[str, Tensor]) -> None:
    """A file of vectors, which are made length 1."""
    table = torch.nn.functional.normalize(torch.stack([vector.float() for vector in vectors.values()]), dim=-1)
    names = np.frombuffer(canonical_json(list(vectors)), np.uint8)
    write_atomic(path, save_safetensors({"vectors": table.half().numpy(), "names": names}))


def load_words(config: WordsConfig, base: Path, device: str = "cpu") -> Words:
    """The text vectors that a configuration names; relative paths count from `base`. Raises ModelError."""
    path = (base / config.path).resolve()
    if config.kind == "table":
        return TableWords(path, config.digest)
    return ClipWords(path, config.digest, device)


def words_of(text: str) -> list[str]:
    """Lower-case words."""
    return WORD.findall(text.lower())


def _check_digest(wanted: str | None, found: str, path: Path) -> None:
    if wanted not in (None, found):
        raise ModelError(Code.MODEL_UNSUPPORTED, f"The text vectors of {path} have sha256 {found}, the model was "
                         f"trained with {wanted}.", "Those that it was trained with.",
                         "Bring them, or train again: python -m vision.train llmformer --help")
