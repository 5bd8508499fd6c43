"""Images and knowledge become masks: encoders, backends, refinement, datasets, metrics.

The names below are the public ones. Those that need torch are imported when they are first used, so `import vision`
stays quick.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Nothing here may reach for a network. The Hugging Face packages read these once, when they are imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

from parsers.errors import Code, SettingError
from vision.refine import refine  # eager: a later import of the module must not hide the function
from vision.types import LabelMap, Region, Sample, ScoreMap, Segmenter

if TYPE_CHECKING:
    from vision.clip.segmenter import ClipSegmenter
    from vision.clip.settings import ClipSettings
    from vision.llmformer.segmenter import LlmformerSegmenter
    from vision.llmformer.settings import LlmformerSettings

BACKENDS = {"clip": "vision.clip.segmenter:load", "llmformer": "vision.llmformer.segmenter:load"}
"""Name of a backend to the function that loads it."""
SETTINGS = {"clip": "ClipSettings", "llmformer": "LlmformerSettings"}
"""Name of a backend to the public name of the class of its options."""

_LAZY = {
    "ClipSettings": "vision.clip.settings",
    "LlmformerSettings": "vision.llmformer.settings",
    "ModelCard": "vision.models",
    "list_models": "vision.models",
    "load_card": "vision.models",
    "open_dataset": "vision.datasets",
    "read_image": "vision.images",
    "resolve_model": "vision.models",
    "verify_model": "vision.models",
}

__all__ = [
    "BACKENDS", "ClipSettings", "LabelMap", "LlmformerSettings", "ModelCard", "Region", "Sample", "ScoreMap",
    "Segmenter", "list_models", "load_card", "load_segmenter", "make_settings", "open_dataset", "read_image",
    "refine", "resolve_model", "verify_model",
]


def load_segmenter(backend: str, model_dir: Path, *, device: str = "auto",
                   settings: ClipSettings | LlmformerSettings | None = None) -> ClipSegmenter | LlmformerSegmenter:
    """The backend of that name on a model directory. device: `auto`, `cpu`, `cuda` or `cuda:N`; settings: the
    backend's own options, None for their defaults.

    Raises SettingError for an unknown backend or a device that is not there, ModelError for the directory.
    """
    _check(backend)
    module, _, function = BACKENDS[backend].partition(":")
    return getattr(importlib.import_module(module), function)(model_dir, device=device, settings=settings)


def make_settings(backend: str, given: Mapping[str, Any]) -> Any:
    """The options of a backend from their names and values; None for a backend that has no class of options.

    Raises SettingError for an unknown backend, for an option that it has not, and for a value that is not allowed.
    """
    _check(backend)
    if backend not in SETTINGS:
        return None
    kind = __getattr__(SETTINGS[backend])
    allowed = [field.name for field in dataclasses.fields(kind)]
    unknown = [name for name in given if name not in allowed]
    if unknown:
        raise SettingError(Code.SETTING_INVALID, f"The backend {backend} has no option {', '.join(unknown)}.",
                           f"Its options: {', '.join(allowed)}.", "lexiseg segment --help")
    return kind(**given)


def _check(backend: str) -> None:
    if backend not in BACKENDS:
        raise SettingError(Code.SETTING_INVALID, f"There is no backend {backend!r}.",
                           f"Allowed: {', '.join(BACKENDS)}.", "lexiseg segment --help")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'vision' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
