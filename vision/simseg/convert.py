"""A SimSeg checkpoint (`.pth`, as its authors publish it) becomes a model directory.

Shapes: E width; P patches.
"""

from __future__ import annotations

import math
import pickle
import re
import shutil
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch.nn import functional as F

from parsers.errors import Code, ModelError
from parsers.files import pretty_json, sha256_file, write_atomic
from vision.models import CARD_FILE
from vision.simseg.network import CONFIG_FILE, HEAD_WIDTH, SimSeg, SimSegConfig, SimSegTokenizer, config_json, fill
from vision.simseg.objective import HIGHEST, LOWEST

WEIGHTS = "model.safetensors"
TOKENIZER_FILES = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                   "added_tokens.json")
IMAGE_SIZE = 288
"""Pixels a side of the published evaluation."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGE, TEXT = "image_encoder.model.model.", "text_encoder.model."
BLOCK = {"norm1": "ln_1", "norm2": "ln_2", "attn.qkv": "attn.in_proj", "attn.proj": "attn.out_proj",
         "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
HALF_LARGEST = torch.finfo(torch.float16).max
MOST_LOST = 0.1
"""How far a weight may be from itself in half precision, as a share of its length. Values below 3e-8 become 0, which
harms a weight that has no larger ones."""
DIMENSIONS = {
    IMAGE + "cls_token": 3, IMAGE + "pos_embed": 3, IMAGE + "patch_embed.proj.weight": 4,
    IMAGE + "patch_embed.proj.bias": 1, IMAGE + "blocks.0.mlp.fc1.bias": 1,
    TEXT + "embeddings.word_embeddings.weight": 2, TEXT + "embeddings.position_embeddings.weight": 2,
    TEXT + "embeddings.token_type_embeddings.weight": 2, TEXT + "encoder.layer.0.intermediate.dense.bias": 1,
    "image_projection.linear.weight": 2, "text_projection.linear.weight": 2}
"""Of what sizes are read from, and of what is rearranged; the others are compared when the weights are put in."""
TEMPERATURE = "loss.temperature"
"""One number, of any dimensions."""


def convert_checkpoint(checkpoint: Path, tokenizer: Path, to: Path, *, name: str | None = None,
                       image_size: int = IMAGE_SIZE, half: bool = False) -> Path:
    """Writes a model directory `to` and returns it. tokenizer: a folder with the tokenizer files of the BERT that the
    model was trained with (`vocab.txt` or `tokenizer.json`). half: store in half precision.

    Only tensors are read from the checkpoint: one that holds pickled objects is refused. Raises ModelError
    (`model-missing`, `model-corrupt`, `model-unsupported`, `model-incomplete`).
    """
    weights = simseg_weights(read_state_dict(checkpoint), image_size, str(checkpoint))
    files = [tokenizer / file for file in TOKENIZER_FILES if (tokenizer / file).is_file()]
    if not any(path.name in TOKENIZER_FILES[:2] for path in files):
        raise ModelError(Code.MODEL_INCOMPLETE, f"{tokenizer} has neither vocab.txt nor tokenizer.json.",
                         "The tokenizer files of the BERT that the model was trained with (bert-base-uncased).",
                         "lexiseg models convert-simseg CHECKPOINT --tokenizer FOLDER --to FOLDER")
    config = config_of(weights, image_size)
    model = SimSeg(config)
    fill(model, weights, str(checkpoint))
    if half:
        weights = {key: _halved(key, value, checkpoint) for key, value in weights.items()}
    to.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copyfile(path, to / path.name)
    write_atomic(to / CONFIG_FILE, pretty_json(config_json(config)))
    write_atomic(to / WEIGHTS, save({key: value.contiguous() for key, value in weights.items()}))
    SimSegTokenizer(to, config.context_length)(["a word"])
    temperature = float(model.temperature.detach().clamp(LOWEST, HIGHEST))
    names = (CONFIG_FILE, WEIGHTS, *(path.name for path in files))
    card = {"format_version": 1, "name": name or to.name, "kind": "simseg", "window": image_size,
            "patch": config.patch_size, "mean": MEAN, "std": STD, "interpolation": "bilinear", "templates": [],
            "variant": "loda", "pooling": "loda", "ensemble": "code",
            "thresholds": {"logit_scale": round(1 / temperature, 4), "temperature": round(temperature, 6)},
            "files": {file: sha256_file(to / file) for file in sorted(names)}}
    write_atomic(to / CARD_FILE, pretty_json(card))
    return to


def read_state_dict(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The tensors of a `.pth`, by name; no code of the file is run. Raises ModelError."""
    if not checkpoint.is_file():
        raise ModelError(Code.MODEL_MISSING, f"There is no file {checkpoint}.", "A checkpoint (.pth).",
                         "Look: ls " + str(checkpoint.parent))
    try:
        with warnings.catch_warnings():  # of protocols that it does not read anyway
            warnings.simplefilter("ignore")
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error).lower() and "unsupported" not in str(error).lower():
            raise _unreadable(checkpoint, error) from error
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{checkpoint} holds a pickled object"
                         + (f" ({found[1]})" if found else "") + " besides tensors; reading it could run code.",
                         "A checkpoint of tensors alone.", "Where its origin is trusted, keep its tensors only: "
                         'torch.save({"state_dict": ...}), and convert that file.') from error
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise _unreadable(checkpoint, error) from error
    tensors = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(tensors, Mapping) or not tensors or not all(
            isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in tensors.items()):
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{checkpoint} holds no table of named tensors.",
                         "A dictionary of tensors, or one below the key state_dict.", "Bring the published checkpoint.")
    return {key.removeprefix("module."): value for key, value in tensors.items()}


def _unreadable(checkpoint: Path, error: Exception) -> ModelError:
    said = next(iter(str(error).splitlines()), repr(error))
    return ModelError(Code.MODEL_CORRUPT, f"{checkpoint} cannot be read: {said}.",
                      "A checkpoint that torch.save wrote.", "Copy it again.")


def simseg_weights(published: Mapping[str, torch.Tensor], image_size: int, where: str) -> dict[str, torch.Tensor]:
    """The published weights under our names, float32. Raises ModelError where names are missing or unknown."""
    weights, unknown = {}, []
    published = {key.replace(TEXT + "model.", TEXT, 1): value for key, value in published.items()}  # BERT in a wrapper
    for key, value in published.items():
        new = _new_name(key)
        if new is None:
            unknown.append(key)
        elif new:
            weights[new] = value.float()
    lacking = [key for key in (*DIMENSIONS, TEMPERATURE) if key not in published]
    if lacking or unknown:
        parts = [f"{kind}: {', '.join(keys[:5])}" + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
                 for kind, keys in (("missing", lacking), ("not known", unknown)) if keys]
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{where} is no SimSeg checkpoint; {'; '.join(parts)}.",
                         "Names such as image_encoder.model.model.cls_token and text_projection.linear.weight.",
                         "Bring simseg.vit-s.pth or simseg.vit-b.pth.")
    _check(published, image_size, where)
    weights["visual.class_embedding"] = weights["visual.class_embedding"].flatten()
    weights["visual.proj"] = weights["visual.proj"].T
    weights["temperature"] = weights["temperature"].reshape(())
    patch = weights["visual.conv1.weight"].shape[-1]
    positions_PE = _resized(weights["visual.positional_embedding"][0], image_size // patch)
    positions_PE[1:] += weights.pop("visual.conv1.bias")
    weights["visual.positional_embedding"] = positions_PE
    return weights


def _check(published: Mapping[str, torch.Tensor], image_size: int, where: str) -> None:
    """Raises ModelError where a weight that is rearranged has another shape than the others ask for, and where any
    holds what is no finite number."""
    for key, value in published.items():
        if not bool(torch.isfinite(value).all()):
            raise ModelError(Code.MODEL_CORRUPT, f"{key} of {where} holds values that are no finite numbers.",
                             "Weights of finite numbers.", "Copy it again, or bring the published checkpoint.")
    for key, count in DIMENSIONS.items():
        if published[key].ndim != count or published[key].numel() == 0:
            raise _misshapen(key, published[key], f"{count} dimensions", where)
    width, _, *sides = published[IMAGE + "patch_embed.proj.weight"].shape
    if sides[0] != sides[1] or image_size % sides[0]:
        raise _misshapen(IMAGE + "patch_embed.proj.weight", published[IMAGE + "patch_embed.proj.weight"],
                         f"square patches, a whole number of them in {image_size} pixels", where)
    words = TEXT + "embeddings.word_embeddings.weight"
    text_width = published[words].shape[1]
    for key, numbers in ((IMAGE + "patch_embed.proj.weight", width), (words, text_width)):
        if numbers % HEAD_WIDTH:
            raise _misshapen(key, published[key], f"a width that is a multiple of {HEAD_WIDTH}", where)
    cells = math.isqrt(published[IMAGE + "pos_embed"].shape[1] - 1)  # a side
    embedding = len(published["image_projection.linear.weight"])
    wanted = {
        IMAGE + "cls_token": (1, 1, width), IMAGE + "patch_embed.proj.weight": (width, 3, *sides),
        IMAGE + "patch_embed.proj.bias": (width,), IMAGE + "pos_embed": (1, max(cells, 1)**2 + 1, width),
        "image_projection.linear.weight": (embedding, width), "text_projection.linear.weight": (embedding, text_width)}
    for key, shape in wanted.items():
        if tuple(published[key].shape) != shape:
            raise _misshapen(key, published[key], f"the shape {shape}", where)
    if published[TEMPERATURE].numel() != 1:
        raise _misshapen(TEMPERATURE, published[TEMPERATURE], "one number", where)


def _misshapen(key: str, value: torch.Tensor, wanted: str, where: str) -> ModelError:
    return ModelError(Code.MODEL_UNSUPPORTED, f"{key} of {where} has the shape {tuple(value.shape)}.",
                      f"Here it needs {wanted}.", "Bring simseg.vit-s.pth or simseg.vit-b.pth.")


def _new_name(key: str) -> str | None:
    """Our name of a published weight; empty for one that carries nothing, None for one that is not known."""
    fixed = {
        IMAGE + "cls_token": "visual.class_embedding", IMAGE + "pos_embed": "visual.positional_embedding",
        IMAGE + "patch_embed.proj.weight": "visual.conv1.weight", IMAGE + "patch_embed.proj.bias": "visual.conv1.bias",
        IMAGE + "norm.weight": "visual.ln_post.weight", IMAGE + "norm.bias": "visual.ln_post.bias",
        "image_projection.linear.weight": "visual.proj", "text_projection.linear.weight": "text.projection.weight",
        TEMPERATURE: "temperature", TEXT + "embeddings.position_ids": "",
        TEXT + "pooler.dense.weight": "", TEXT + "pooler.dense.bias": ""}
    if key in fixed:
        return fixed[key]
    if key.startswith((TEXT + "embeddings.", TEXT + "encoder.layer.")):
        return "text.bert." + key.removeprefix(TEXT)
    block = re.fullmatch(re.escape(IMAGE) + r"blocks\.(\d+)\.(.+)\.(weight|bias)", key)
    if block is None or block[2] not in BLOCK:
        return None
    joint = "_" if block[2] == "attn.qkv" else "."
    return f"visual.transformer.resblocks.{block[1]}.{BLOCK[block[2]]}{joint}{block[3]}"


def _resized(positions_PE: torch.Tensor, side: int) -> torch.Tensor:
    """Bicubic, corners not aligned, the class token's row kept: as the published evaluation does it."""
    trained = round((len(positions_PE) - 1) ** 0.5)
    if trained == side:
        return positions_PE.clone()
    table_1Ehw = positions_PE[1:].T.unflatten(1, (trained, trained))[None]
    resized_1Ehw = F.interpolate(table_1Ehw, (side, side), mode="bicubic", align_corners=False)
    return torch.cat([positions_PE[:1], resized_1Ehw[0].flatten(1).T])


def config_of(weights: Mapping[str, torch.Tensor], image_size: int) -> SimSegConfig:
    """The sizes that the shapes of the weights tell."""
    def layers(prefix: str) -> int:
        return len({key.removeprefix(prefix).split(".")[0] for key in weights if key.startswith(prefix)})

    words, first = weights["text.bert.embeddings.word_embeddings.weight"], "visual.transformer.resblocks."
    return SimSegConfig(
        image_size=image_size, patch_size=weights["visual.conv1.weight"].shape[-1],
        width=len(weights["visual.class_embedding"]), layers=layers(first), mlp=len(weights[first + "0.mlp.c_fc.bias"]),
        embed_dim=weights["visual.proj"].shape[1], text_width=words.shape[1], vocabulary=words.shape[0],
        text_layers=layers("text.bert.encoder.layer."),
        text_mlp=len(weights["text.bert.encoder.layer.0.intermediate.dense.bias"]),
        positions=len(weights["text.bert.embeddings.position_embeddings.weight"]),
        token_types=len(weights["text.bert.embeddings.token_type_embeddings.weight"]))


def _halved(key: str, value: torch.Tensor, checkpoint: Path) -> torch.Tensor:
    """In half precision. Raises ModelError where a value would become infinite, or too much of the weight 0."""
    if float(value.abs().max()) > HALF_LARGEST:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{key} of {checkpoint} has values beyond {HALF_LARGEST:.0f}.",
                         "Values that half precision can hold.", "Convert it in single precision.")
    halved = value.half()
    if float((halved.double() - value).norm()) > MOST_LOST * float(value.double().norm()):
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{key} of {checkpoint} has values too small for half precision.",
                         "Values that half precision does not make 0.", "Convert it in single precision.")
    return halved


