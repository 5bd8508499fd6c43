"""What a job is made with: the backend, its model, the versions of everything that has a say in the bytes."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from agents.offline import require_offline
from parsers.errors import ModelError
from parsers.vocabulary import Vocabulary
from vision.types import Segmenter
from workers.records import Job, MadeWith, ModelRecord, Problem, VocabularyRecord, job_counts
from workers.spec import JobSpec

CODE_ROOMS = ("parsers", "agents", "vision", "workers")
"""Rooms whose code has a say in what is written."""


def load_backend(spec: JobSpec) -> Segmenter:
    """The backend of a job with its model. Raises SettingError, ModelError."""
    import vision

    require_offline()
    settings = vision.make_settings(spec.backend, spec.settings)
    return vision.load_segmenter(spec.backend, Path(spec.model), device=spec.device, settings=settings)


def made_with(spec: JobSpec, vocabulary: Vocabulary, segmenter: Segmenter) -> MadeWith:
    """What this process would make a job with. A backend of the tests or of a user need not have a card."""
    card = getattr(segmenter, "card", None)
    known_words = getattr(card, "known_words", None)
    model = ModelRecord(path=spec.model, sha256=getattr(segmenter, "digest", ""), name=getattr(card, "name", None),
                        licence=getattr(card, "licence", None),
                        known_words=None if known_words is None else len(known_words))
    warnings: Sequence[str] = getattr(segmenter, "warnings", lambda vocabulary: [])(vocabulary)
    return MadeWith(model=model, versions=versions(), warnings=tuple(warnings), code_sha256=code_digest(),
                    device=getattr(segmenter, "device", None), precision=getattr(segmenter, "precision", None))


def name_warnings(spec: JobSpec, vocabulary: Vocabulary) -> tuple[str, ...]:
    """What the model of a job without candidates cannot know of the names that came together, as far as its card tells;
    nothing for a backend without a card of known words."""
    if spec.backend != "clip":
        return ()
    from vision.models import load_card

    try:
        return tuple(load_card(spec.model).warnings(list(vocabulary.names.values())))
    except ModelError:  # it is gone since; the masks are there
        return ()


def describe_job(spec: JobSpec, vocabulary: Vocabulary, with_: MadeWith, *,
                 state: Literal["running", "stopped", "done"], counts: Mapping[str, int] = {}, total: int | None = None,
                 notes: Sequence[str] = (), unreadable: Sequence[Problem] = ()) -> Job:
    """The job as job.json has it. counts: pictures by state; notes: warnings of who submitted it."""
    warnings = (*vocabulary.warnings(), *with_.warnings, *notes, *(problem.message for problem in unreadable))
    described = spec.model_dump(mode="json", exclude={"vocabulary"})
    if spec.free is not None:
        described["free"] |= {name: _without_password(described["free"][name]) for name in ("llm", "store")}
    return Job(state=state, spec=described, model=with_.model,
               versions=with_.versions, code_sha256=with_.code_sha256, device=with_.device,
               precision=with_.precision, total=total, counts=job_counts(counts),
               vocabulary=VocabularyRecord(sha256=vocabulary.digest, classes=len(vocabulary.classes),
                                           warnings=tuple(vocabulary.warnings())),
               warnings=tuple(dict.fromkeys(warnings)), unreadable_folders=tuple(unreadable))


def _without_password(places: str | None) -> str | None:
    """Addresses, with commas between them, as everybody may read them."""
    return None if places is None else re.sub(r"://[^/@,]*@", "://", places)


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
