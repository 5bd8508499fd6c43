"""Model directories: the card that describes one, where they live, and whether their files are whole.

A model directory holds what the library that loads it needs (for `clip` an open_clip directory) and, for models that
come with or for lexiseg, a `model.json` (`docs/schemas/model.json`). Weights are safetensors, never pickle.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from parsers.errors import Code, ModelError, SettingError
from parsers.files import canonical_json, sha256_bytes, sha256_file
from vision.refine.settings import parse_refinement

CARD_FILE = "model.json"
CONFIG_FILE = "open_clip_config.json"
WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
FORMAT_VERSION = 1
CARD_KINDS = ("clip", "simseg", "llmformer")
"""Kinds of models that the `clip` backend loads."""
_WORD = re.compile(r"[^\W_]+")
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


class Origin(BaseModel):
    """Where a model was downloaded from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str = Field(min_length=1)
    revision: str = Field(min_length=1)
    licence: str | None = None
    """As the repository's own card names it."""


class Manifest(BaseModel):
    """What `model.json` says of a model of any kind, those of other rooms too."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: Literal[1] = 1
    name: str = Field(min_length=1)
    kind: str = Field(min_length=1)
    licence: str | None = None
    files: dict[str, str] = Field(default_factory=dict)
    """File name inside the directory to hexadecimal sha256."""
    _directory: Path = PrivateAttr(default=Path())

    @property
    def directory(self) -> Path:
        """Where it was read."""
        return self._directory

    @field_validator("files")
    @classmethod
    def _files_stay_inside(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise ValueError(f"file name {name!r} leaves the directory")
        return files


class ModelCard(Manifest):
    """What `model.json` says of a model that segments."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["clip", "simseg", "llmformer"] = "clip"
    """`clip`: an open_clip directory; `simseg`: made by `lexiseg models convert`; `llmformer`: trained on masks."""
    window: int = Field(gt=0)
    """Width and height in pixels of the square that the model looks at."""
    patch: int = Field(gt=0)
    """Width and height in pixels of one cell of the score map."""
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    """Per channel (R, G, B), of values in [0, 1]."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    templates: tuple[str, ...] = ()
    """Sentences in which `{}` stands for the name; empty: the 80 ImageNet templates that open_clip carries."""
    variant: Literal["vanilla", "loda", "maskclip", "sclip", "clearclip", "naclip", "resclip", "sc-clip"] = "naclip"
    """The dense features that `variant = auto` stands for."""
    ensemble: Literal["code", "softmax", "mean", "max", "map-mean", "mask-vote", "super+lambda"] = "softmax"
    """The default of the option of the same name."""
    pooling: Literal["model", "loda"] = "model"
    """The image vector: the model's own image embedding, or LoDA pooling of its patch tokens."""
    refine: str = "none"
    """The refinement that `--refine auto` stands for; no part of what the model is, so not of its digest."""
    thresholds: dict[str, float] = Field(default_factory=dict)
    """Numbers found on training images: `logit_scale` (cosine to logit, default 40), `temperature` (of the softmax
    ensemble, default 0.02), `presence_threshold` and `presence_temperature` (cosines; without the first the test is
    relative to the other classes), `presence_weight` (default 1)."""
    known_words: tuple[str, ...] | None = None
    """The closed list of words that it was trained on; null where there is no such list."""
    known_names: tuple[str, ...] | None = None
    trained_by: str | None = None
    """The command that made it."""
    origin: Origin | None = None
    """Of a model that `lexiseg models pull` brought."""

    def unknown_words(self, names: Iterable[str]) -> list[str]:
        """The words of names that the model never saw, lower case, once each, in order; none where there is no closed
        list of words."""
        if self.known_words is None:
            return []
        known = {word for entry in self.known_words for word in _words(entry)}
        return [word for word in dict.fromkeys(word for name in names for word in _words(name)) if word not in known]

    def warnings(self, names: Sequence[str]) -> list[str]:
        """Sentences for people: what the model cannot know of names."""
        unknown = set(self.unknown_words(names))
        if not unknown:
            return []
        poor = [name for name in names if unknown & set(_words(name))]
        return [f"The model {self.name} was trained on a closed list of words that lacks {_listed(sorted(unknown))}; "
                f"expect poor masks for {_listed(poor)}."]

    @field_validator("templates")
    @classmethod
    def _templates_have_a_place(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if "{}" not in template:
                raise ValueError(f"template {template!r} has no {{}} for the name")
        return templates

    @field_validator("refine")
    @classmethod
    def _refine_is_a_method(cls, text: str) -> str:
        try:
            parse_refinement(text)
        except SettingError as error:
            raise ValueError(str(error)) from error
        return text

    @field_validator("std")
    @classmethod
    def _std_is_positive(cls, std: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(std) <= 0:
            raise ValueError("std must be above 0")
        return std


AnyManifest = TypeVar("AnyManifest", bound=Manifest)


def models_root() -> Path:
    """The folder in which models are looked up by name: LEXISEG_MODELS, else `models/` of the project."""
    return Path(os.environ.get("LEXISEG_MODELS") or Path(__file__).resolve().parent.parent / "models")


def load_card(directory: Path | str) -> ModelCard:
    """The card of an open_clip directory: its `model.json`, or one derived from `open_clip_config.json`.

    Raises ModelError (`model-missing`, `model-incomplete`, `model-unsupported`). Weights are not read.
    """
    directory = _existing(directory)
    path = directory / CARD_FILE
    card = _read_card(path, ModelCard) if path.exists() else _derived_card(directory)
    card._directory = directory
    return card


def load_manifest(directory: Path | str) -> Manifest:
    """What every kind of model has in common. Raises as `load_card`."""
    directory = _existing(directory)
    path = directory / CARD_FILE
    if not path.exists() or _kind(path) in (*CARD_KINDS, None):
        return load_card(directory)
    manifest = _read_card(path, Manifest)
    manifest._directory = directory
    return manifest


def _existing(directory: Path | str) -> Path:
    if not Path(directory).is_dir():
        raise ModelError(Code.MODEL_MISSING, f"{directory} is not a directory.",
                         "A model is a directory on this machine.", "lexiseg models list")
    return Path(directory)


def verify_model(directory: Path | str) -> list[str]:
    """Reads every file of a model and compares it with the sha256 on the card.

    Returns the names of the checked files (a directory without `model.json` has no digests to compare with: its
    files must only be there). Raises ModelError (`model-missing`, `model-incomplete`, `model-corrupt`,
    `model-unsupported`).
    """
    return sorted(_checked_files(load_manifest(directory)))


def model_digest(card: ModelCard) -> str:
    """Hexadecimal sha256 over the card and the content of its files, which are verified on the way.

    Raises as `verify_model`.
    """
    content = card.model_dump(mode="json", exclude={"files", "refine", "origin"})
    return sha256_bytes(canonical_json({"card": content, "files": _checked_files(card)}))


def list_models() -> list[Manifest]:
    """All models below `models_root()`, in order of their directories; those of the backend `clip` as ModelCard. Raises
    ModelError for a card that cannot be read."""
    return [load_manifest(directory) for directory in _directories(models_root())]


def resolve_model(name_or_dir: str | Path | None, kind: str = "clip") -> Path:
    """The directory of a model given as a directory, as a name below `models_root()`, or not at all (the pocket
    model of that kind). Raises ModelError (`model-missing`)."""
    root = models_root()
    wanted = str(name_or_dir) if name_or_dir is not None else f"pocket/{kind}"
    candidates = [root / wanted] if name_or_dir is None else [Path(wanted).expanduser(), root / wanted]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    known = [str(directory.relative_to(root)) for directory in _directories(root)
             if _kind(directory / CARD_FILE) in ((*CARD_KINDS, None) if kind in CARD_KINDS else (kind, None))]
    raise ModelError(Code.MODEL_MISSING, f"There is no model {wanted!r}, neither as a directory nor below {root}.",
                     f"Models here: {', '.join(known) or 'none'}.", "lexiseg models list")


def weights_file(directory: Path) -> Path:
    """The safetensors file of an open_clip directory. Raises ModelError: `model-unsupported` where only pickled
    weights are found, `model-incomplete` where there are none."""
    for name in WEIGHT_FILES:
        if (directory / name).is_file():
            return directory / name
    allowed = f"Weights as safetensors, named {' or '.join(WEIGHT_FILES)}."
    pickled = sorted(path.name for path in directory.iterdir() if path.suffix in PICKLE_SUFFIXES)
    if pickled:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{directory} has only pickled weights ({', '.join(pickled)}), "
                         "which can run code when they are read.", allowed,
                         "Convert them with safetensors.torch.save_file, then lexiseg models verify " + str(directory))
    raise ModelError(Code.MODEL_INCOMPLETE, f"{directory} has no weights.", allowed, _next_step(directory))


def _directories(root: Path) -> list[Path]:
    """Model directories below `root`."""
    return sorted({path.parent for name in (CARD_FILE, CONFIG_FILE) for path in root.rglob(name)})


def _kind(path: Path) -> str | None:
    """The kind that a card names; None where there is none to read, which `load_card` then says."""
    try:
        return json.loads(path.read_bytes()).get("kind")
    except (OSError, ValueError, AttributeError):
        return None


def _read_card(path: Path, kind: type[AnyManifest]) -> AnyManifest:
    content = _read_json(path)
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{path} has format_version {version!r}.",
                         f"This lexiseg reads format_version {FORMAT_VERSION}.", _next_step(path.parent))
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{path} is not a valid model card: {problems}.",
                         "docs/schemas/model.json says what it may hold.", _next_step(path.parent)) from error


def _derived_card(directory: Path) -> ModelCard:
    """A card for an open_clip directory as its makers publish it."""
    path = directory / CONFIG_FILE
    if not path.exists():
        raise ModelError(Code.MODEL_INCOMPLETE, f"{directory} has neither {CARD_FILE} nor {CONFIG_FILE}.",
                         "An open_clip directory: its configuration, safetensors weights and tokenizer.",
                         "lexiseg models list")
    config = _read_json(path)
    preprocess = config.get("preprocess_cfg") or {}
    try:
        vision = config["model_cfg"]["vision_cfg"]
        if "patch_size" not in vision:
            raise ModelError(Code.MODEL_UNSUPPORTED, f"{path} describes an image tower without patches.",
                             "Vision transformers of open_clip (vision_cfg with patch_size).", _next_step(directory))
        interpolation = preprocess.get("interpolation", "bicubic")
        return ModelCard(
            name=directory.resolve().name, window=_side(vision.get("image_size", 224)),
            patch=_side(vision["patch_size"]),
            mean=tuple(preprocess.get("mean", OPENAI_MEAN)), std=tuple(preprocess.get("std", OPENAI_STD)),
            interpolation=interpolation if interpolation == "bilinear" else "bicubic")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{path} is not the configuration of an open_clip model: {error}.",
                         "A file with model_cfg (vision_cfg, text_cfg) and preprocess_cfg.",
                         _next_step(directory)) from error


def _side(size: Any) -> int:
    if isinstance(size, list):
        if len(set(size)) != 1:
            raise ValueError(f"image or patch of {size} is not square")
        return int(size[0])
    return int(size)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(Code.MODEL_INCOMPLETE, f"{path} cannot be read: {error.strerror}.", "A readable file.",
                         _next_step(path.parent)) from error
    except ValueError as error:
        raise ModelError(Code.MODEL_CORRUPT, f"{path} is not JSON: {error}.", "A JSON object.",
                         _next_step(path.parent)) from error
    if not isinstance(content, dict):
        raise ModelError(Code.MODEL_CORRUPT, f"{path} holds a {type(content).__name__}.", "A JSON object.",
                         _next_step(path.parent))
    return content


def _checked_files(card: Manifest) -> dict[str, str]:
    """File name to sha256, compared with the card where the card has digests."""
    directory = card.directory
    is_clip = isinstance(card, ModelCard)
    weights = weights_file(directory) if is_clip and not card.files.keys() & set(WEIGHT_FILES) else None
    if not is_clip and not card.files:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{directory / CARD_FILE} lists no files.",
                         "The files with their sha256.", _next_step(directory))
    expected = dict(card.files)
    if not expected and weights is not None:
        names = sorted(path.name for path in directory.iterdir()
                       if path.is_file() and path.suffix in (".json", ".txt", ".model") and path.name != CARD_FILE)
        return {name: sha256_file(directory / name) for name in [*names, weights.name]}
    if weights is not None:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{directory / CARD_FILE} lists no sha256 for {weights.name}.",
                         "A card that lists its files lists the weights too.", _next_step(directory))
    for name, digest in expected.items():
        path = directory / name
        if not path.is_file():
            raise ModelError(Code.MODEL_INCOMPLETE, f"{directory} lacks {name}.",
                             f"All of: {', '.join(sorted(expected))}.", _next_step(directory))
        found = sha256_file(path)
        if found != digest:
            raise ModelError(Code.MODEL_CORRUPT, f"{path} has sha256 {found}, the model card says {digest}.",
                             "The file as it was published.", "Copy it again, then " + _next_step(directory))
    return expected


def _words(name: str) -> list[str]:
    return _WORD.findall(name.lower())


def _listed(names: Sequence[str], most: int = 10) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _next_step(directory: Path) -> str:
    return f"lexiseg models verify {directory}"
