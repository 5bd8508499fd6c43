"""The spaCy pipeline that reads English: the pocket one, or one that a person brings in a directory.

It is loaded from a directory on this machine alone, never by the name of a package and never from a network. Rules on
top of it read both label schemes, UD (`obl`, `case`: the pocket pipeline) and CLEAR (`prep`, `pobj`: `en_core_web_*`).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parsers.errors import Code, MissingPackageError, ModelError
from parsers.files import sha256_file

if TYPE_CHECKING:
    from spacy.language import Language

CARD_FILE = "model.json"
CONFIG_FILE = "config.cfg"
META_FILE = "meta.json"
FORMAT_VERSION = 1
UNUSED = ("ner", "senter")
"""Components of `en_core_web_*` that the rules do not ask; left out, parsing is faster."""
NEEDED = {
    "part-of-speech tags": ("morphologizer", "attribute_ruler"),
    "lemmas": ("lemmatizer", "trainable_lemmatizer"),
    "a dependency parse": ("parser",),
}
"""What a pipeline must give, and the factories of spaCy that give it."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
"""spaCy itself asks no network; a transformer that a person's own pipeline brings might."""
NEXT_STEP = "Name the directory of a spaCy pipeline, or make the pocket one: python -m parsers.train pipeline"


def pocket_pipeline() -> Path:
    """The directory of the pipeline that comes with the project: `pocket/en_scene` below LEXISEG_MODELS, else below
    `models/` of the project."""
    root = os.environ.get("LEXISEG_MODELS") or Path(__file__).resolve().parent.parent / "models"
    return Path(root) / "pocket" / "en_scene"


def import_spacy(*, with_torch: bool = False) -> None:
    """Imports spaCy. Its numerical library Thinc imports torch wherever that is installed: 490 MB and seconds that a
    pipeline without a transformer never uses. Unless `with_torch`, that import fails, as if torch were not installed;
    where torch or spaCy is in the process already, nothing changes. torch itself can be imported afterwards.

    Raises MissingPackageError (`package-missing`).
    """
    hidden = not with_torch and not {"torch", "spacy"} & sys.modules.keys()
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]  # Python's own mark of a module not to be found
    try:
        import spacy  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(Code.PACKAGE_MISSING, "spaCy is not installed.", "",
                                  "pip install 'lexiseg[parsers]'") from error
    finally:
        if hidden:
            del sys.modules["torch"]


def load_pipeline(path: Path | None = None) -> Language:
    """The pipeline in the directory `path`, without it the pocket one. Files that a `model.json` lists are compared
    with their sha256. Components in `UNUSED` are not loaded.

    Raises ModelError (`model-missing`, `model-incomplete`, `model-corrupt`, `model-unsupported`) and
    MissingPackageError (`package-missing`) where spaCy is not installed.
    """
    directory = pocket_pipeline() if path is None else Path(path)
    _check_files(directory)
    os.environ.update(OFFLINE)
    import_spacy(with_torch=_has_transformer(directory))
    import spacy

    try:
        nlp = spacy.load(directory, exclude=UNUSED)
    except Exception as error:  # a damaged file fails in whichever library reads it, each with errors of its own
        raise ModelError(Code.MODEL_CORRUPT, f"{directory} does not load as a spaCy pipeline: {error}.",
                         f"A pipeline that spaCy {spacy.__version__} loads.", NEXT_STEP) from error
    factories = {nlp.get_pipe_meta(name).factory for name in nlp.pipe_names}
    for gives, needed in NEEDED.items():
        if not factories.intersection(needed):
            raise ModelError(Code.MODEL_UNSUPPORTED, f"The pipeline in {directory} does not give {gives}; it has "
                             f"{', '.join(nlp.pipe_names) or 'no components'}.",
                             f"A pipeline with {' or '.join(needed)}.", NEXT_STEP)
    return nlp


def _check_files(directory: Path) -> None:
    """Raises ModelError where the directory is no pipeline or its files are not those of its `model.json`."""
    if not directory.is_dir():
        raise ModelError(Code.MODEL_MISSING, f"{directory} is not a directory.",
                         "A spaCy pipeline is a directory on this machine; names of packages are not looked up.",
                         NEXT_STEP)
    missing = [name for name in (META_FILE, CONFIG_FILE) if not (directory / name).is_file()]
    if missing:
        inside = sorted(str(file.parent) for file in directory.glob(f"*/{CONFIG_FILE}"))
        raise ModelError(Code.MODEL_INCOMPLETE, f"{directory} has no {' and no '.join(missing)}.",
                         "A directory as spaCy writes it.", f"Name {inside[0]} instead." if inside else NEXT_STEP)
    if not (directory / CARD_FILE).is_file():
        return
    card = _read_card(directory / CARD_FILE)
    for name, digest in card["files"].items():
        file = directory / name
        if not file.is_file():
            raise ModelError(Code.MODEL_INCOMPLETE, f"{directory} lacks {name}.",
                             f"All files of {CARD_FILE}.", "Copy the directory again, or " + NEXT_STEP)
        if sha256_file(file) != digest:
            raise ModelError(Code.MODEL_CORRUPT, f"{file} is not the file that {CARD_FILE} describes.",
                             f"A file with sha256 {digest}.", "Copy the directory again, or " + NEXT_STEP)


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_bytes())
        version, files = card["format_version"], card["files"]
        plain = all(isinstance(name, str) and isinstance(digest, str) for name, digest in files.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(Code.MODEL_CORRUPT, f"{path} is not a model card.",
                         "A JSON object with format_version and files.", NEXT_STEP) from error
    if version != FORMAT_VERSION:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{path} has format_version {version!r}.",
                         f"This lexiseg reads format_version {FORMAT_VERSION}.", NEXT_STEP)
    if not plain:
        raise ModelError(Code.MODEL_CORRUPT, f"{path} lists files without a sha256.", "File names and digests.",
                         NEXT_STEP)
    return card


def _has_transformer(directory: Path) -> bool:
    """Whether the pipeline needs torch (`en_core_web_trf`)."""
    return "transformer" in (directory / CONFIG_FILE).read_text(encoding="utf-8", errors="replace")
