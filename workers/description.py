"""What a job is made with: the backend, its model, the versions of everything that has a say in the bytes."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parsers.vocabulary import Vocabulary
from vision.types import Segmenter
from workers.records import Job, ModelRecord, VocabularyRecord
from workers.spec import JobSpec

CODE_ROOMS = ("parsers", "agents", "vision", "workers")
"""Rooms whose code has a say in what is written."""


def load_backend(spec: JobSpec) -> Segmenter:
    """The backend of a job with its model. Raises SettingError, ModelError."""
    import vision

    settings = vision.make_settings(spec.backend, spec.settings)
    return vision.load_segmenter(spec.backend, Path(spec.model), device=spec.device, settings=settings)


def describe_model(spec: JobSpec, segmenter: Segmenter) -> ModelRecord:
    """The model as job.json has it. A backend of the tests or of a user need not have a card."""
    card = getattr(segmenter, "card", None)
    known_words = getattr(card, "known_words", None)
    return ModelRecord(path=spec.model, sha256=getattr(segmenter, "digest", ""), name=getattr(card, "name", None),
                       licence=getattr(card, "licence", None),
                       known_words=None if known_words is None else len(known_words))


def model_warnings(segmenter: Segmenter, vocabulary: Vocabulary) -> list[str]:
    """What the model cannot know of the vocabulary."""
    return list(getattr(segmenter, "warnings", lambda vocabulary: [])(vocabulary))


def describe_job(spec: JobSpec, vocabulary: Vocabulary, model: ModelRecord, versions: dict[str, str], *,
                 warnings: Sequence[str], **values: Any) -> Job:
    """The job as job.json has it. values: further fields of `Job`."""
    return Job(spec=spec.model_dump(mode="json", exclude={"vocabulary"}), model=model, versions=versions,
               vocabulary=VocabularyRecord(sha256=vocabulary.digest, classes=len(vocabulary.classes),
                                           warnings=tuple(vocabulary.warnings())),
               warnings=tuple(dict.fromkeys(warnings)), **values)


def versions() -> dict[str, str]:
    """Of Python, lexiseg and the libraries that have a say in the bytes, where they are installed."""
    versions = {"python": platform.python_version()}
    for name in ("lexiseg", "numpy", "pillow", "torch", "open_clip_torch", "transformers", "pydensecrf2"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def code_digest() -> str:
    """Hexadecimal sha256 over the code that has a say in what is written, and the versions. Workers of one job must
    agree in it."""
    digest = hashlib.sha256(repr(sorted(versions().items())).encode())
    root = Path(__file__).resolve().parent.parent
    for room in CODE_ROOMS:
        for path in sorted((*(root / room).rglob("*.py"), *(root / room).rglob("*.j2"))):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
