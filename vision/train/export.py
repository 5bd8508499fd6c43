"""From a training checkpoint to a model directory that plain open_clip loads."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from parsers.files import pretty_json, sha256_file, write_atomic
from vision.models import CARD_FILE, ModelCard
from vision.train.clip import MEAN, STD, WEIGHTS, model_config
from vision.train.pictures import bank_phrases
from vision.train.tokenizer import known_words, save_tokenizer

TEMPLATES = ("{}", "a {}", "a picture of a {}")
ENSEMBLE = "max"
THRESHOLDS = {"logit_scale": 10.0, "temperature": 0.02, "presence_weight": 0.0}
"""Chosen on training scenes by `python -m vision.train thresholds`; see docs/pocket.md."""
LICENCE = "trained on drawings of Noto Color Emoji (OFL-1.1), OpenMoji (CC BY-SA 4.0) and Fluent Emoji (MIT)"


def export_clip(checkpoint: Path, out: Path) -> Path:
    """Writes weights (float16), open_clip's config, the tokenizer and `model.json` into `out`."""
    with safe_open(checkpoint, "pt") as file:
        names = [name for name in file.keys() if name.startswith("model.")]  # noqa: SIM118
        weights = {name.removeprefix("model."): file.get_tensor(name).to(torch.float16).contiguous() for name in names}
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / WEIGHTS, save(weights, {"format": "pt"}))
    write_atomic(out / "open_clip_config.json", pretty_json({
        "model_cfg": model_config(),
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "squash"},
    }))
    save_tokenizer(out)
    vision = model_config()["vision_cfg"]
    files = sorted(path.name for path in out.iterdir() if path.suffix in (".json", ".safetensors"))
    card = ModelCard(
        name="pocket-clip", kind="clip", window=vision["image_size"], patch=vision["patch_size"], mean=MEAN, std=STD,
        templates=TEMPLATES, variant="loda", ensemble=ENSEMBLE, pooling="model", refine="pydensecrf",
        thresholds=THRESHOLDS, known_words=tuple(known_words()), known_names=bank_phrases(), licence=LICENCE,
        trained_by="python -m vision.train clip",
        files={name: sha256_file(out / name) for name in files if name != CARD_FILE},
    )
    write_atomic(out / CARD_FILE, pretty_json(card.model_dump(mode="json")))
    return out
