"""A model directory: `config.json`, `model.safetensors` (half precision, without a frozen encoder) and `model.json`."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save
from torch import Tensor

from parsers.errors import Code, ModelError
from parsers.files import pretty_json, sha256_file, write_atomic
from vision.llmformer.config import LlmformerConfig, differing_keys
from vision.llmformer.model import Llmformer, build_model
from vision.llmformer.words import TableWords, Words
from vision.models import CARD_FILE, ModelCard

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
TOWER = "tower."


def trained_state(model: Llmformer) -> dict[str, Tensor]:
    """The weights that belong to the model itself: all but those of a frozen encoder."""
    return {name: value for name, value in model.state_dict().items()
            if not (model.config.tower.frozen and name.startswith(TOWER))}


def load_state(model: Llmformer, weights: dict[str, Tensor], where: str) -> None:
    """Puts weights into a model. Raises ModelError (`model-corrupt`) naming what is missing, unknown or of another
    shape."""
    wanted = trained_state(model)
    problems = [f"{name} is missing" for name in wanted.keys() - weights.keys()]
    problems += [f"{name} is unknown" for name in weights.keys() - wanted.keys()]
    problems += [f"{name} is {tuple(weights[name].shape)}, not {tuple(wanted[name].shape)}"
                 for name in wanted.keys() & weights.keys() if weights[name].shape != wanted[name].shape]
    if problems:
        shown = "; ".join(sorted(problems)[:5])
        raise ModelError(Code.MODEL_CORRUPT, f"{where} does not fit its configuration: {shown}"
                         + (f" and {len(problems) - 5} more." if len(problems) > 5 else "."),
                         "Weights and config.json of the same model.", "Copy both again from their source.")
    model.load_state_dict({name: value.float() for name, value in weights.items()}, strict=False)


def read_config(directory: Path) -> LlmformerConfig:
    """Raises ModelError."""
    path = directory / CONFIG_FILE
    try:
        return LlmformerConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelError(Code.MODEL_INCOMPLETE, f"{path} cannot be read: {error.strerror}.",
                         "An LLMFormer directory: config.json, model.safetensors, model.json.",
                         "lexiseg models list") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{path} is not the configuration of an LLMFormer: {problems}.",
                         "docs/llmformer.md says what it may hold.", "Correct it, or copy it again.") from error


def read_model(directory: Path) -> Llmformer:
    """The model of a directory, in evaluation mode, float32, on the CPU. Raises ModelError."""
    model = build_model(read_config(directory), directory)
    path = directory / WEIGHTS_FILE
    try:
        weights = load_file(path)
    except FileNotFoundError as error:
        raise ModelError(Code.MODEL_INCOMPLETE, f"{directory} has no {WEIGHTS_FILE}.", "The weights.",
                         f"lexiseg models verify {directory}") from error
    except Exception as error:  # the library raises its own kinds for damaged files
        raise ModelError(Code.MODEL_CORRUPT, f"{path} cannot be read: {error}.", "Safetensors.",
                         f"lexiseg models verify {directory}") from error
    load_state(model, weights, str(path))
    return model.eval()


def write_model(directory: Path, model: Llmformer, words: Words, *, name: str, trained_by: str,
                thresholds: dict[str, float] | None = None, known_names: tuple[str, ...] | None = None,
                licence: str | None = None, refine: str = "none") -> ModelCard:
    """Writes the directory; paths in the configuration must count from it already. A table of text vectors is not
    copied."""
    state = {key: value.to(torch.float16).contiguous().cpu() for key, value in trained_state(model).items()}
    directory.mkdir(parents=True, exist_ok=True)
    write_atomic(directory / WEIGHTS_FILE, save(state, {"format": "pt"}))
    write_atomic(directory / CONFIG_FILE, pretty_json(model.config.model_dump(mode="json")))
    known = None if words.known_words is None or isinstance(words, TableWords) else tuple(sorted(words.known_words))
    side = model.config.window
    card = ModelCard(
        name=name, kind="llmformer", window=side, patch=model.config.cell, mean=_three(model.tower.mean),
        std=_three(model.tower.std), templates=tuple(getattr(words, "templates", ())), thresholds=thresholds or {},
        known_words=known, known_names=known_names, licence=licence, trained_by=trained_by, refine=refine,
        files={file: sha256_file(directory / file) for file in (CONFIG_FILE, WEIGHTS_FILE)})
    write_atomic(directory / CARD_FILE, pretty_json(card.model_dump(mode="json")))
    return card


def check_same(found: str, wanted: LlmformerConfig, where: str) -> None:
    """Raises ModelError (`model-unsupported`) that names the differing keys if the configuration `found`, a JSON
    text, is not `wanted`."""
    try:
        differing = differing_keys(LlmformerConfig.model_validate(json.loads(found)), wanted)
    except (ValueError, TypeError) as error:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{where} holds no configuration that can be read: {error}.",
                         "A checkpoint of this version.", "Begin in another folder: --out DIR") from error
    if differing:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{where} was made with another configuration: "
                         f"{'; '.join(differing[:10])}.", "The same model section (checkpoint and given).",
                         "Give the configuration that it was made with, or another --out DIR.")


def _three(values: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue
