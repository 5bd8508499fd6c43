"""Conversion of a LLaVA-Phi2 checkpoint, of any published layout, to the one that vLLM and transformers serve.

The target is a directory of `LlavaForConditionalGeneration` with the names of weights that both read, and with the
bias of the head: transformers has no place for it, and vLLM leaves it uninitialised, without a word, where the file
lacks it, so it is always written (zeros if the source has none).
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import save_file

from agents.card import CARD_FILE, LanguageModelCard
from agents.llava_phi2.checkpoint import Checkpoint
from agents.llava_phi2.config import (
    TEXT,
    TOWER,
    llava_config,
    read_config,
    text_config,
    vision_config,
    weight_shapes,
)
from agents.llava_phi2.layouts import Mapping, Piece, map_names, tower_names
from agents.llava_phi2.tokens import write_processor, write_tokenizer
from parsers.errors import Code, ModelError, OutputError, SettingError
from parsers.files import output_error, pretty_json, sha256_file, write_atomic

REPORT_FILE = "conversion.json"
HEAD_BIAS = f"{TEXT}lm_head.bias"
HEAD, EMBEDDING = f"{TEXT}lm_head.weight", f"{TEXT}model.embed_tokens.weight"
SHARD_BYTES = 2 << 30
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class ConversionReport(BaseModel):
    """What was found in a checkpoint and what became of it; `conversion.json` of the result."""

    model_config = ConfigDict(frozen=True)

    format_version: Literal[1] = 1
    wrapper: str
    """Layout of what stands around the text model: `zhu`, `llava`, `tiny` or `hf`."""
    generation: str
    """Generation of Phi's names: `new`, `fused` or `orig`."""
    source_files: dict[str, str]
    """Weight file of the source to hexadecimal sha256."""
    source_weights: int
    weights: dict[str, int]
    """Part of the target (`text`, `projector`, `tower`) to its number of weights."""
    parameters: int
    split: int
    """Weights of the target that came out of a fused one."""
    dropped: tuple[str, ...]
    """Names of the source that the target does not need."""
    tower: Literal["checkpoint", "given"]
    """Whether the image tower came with the checkpoint or from the directory given apart."""
    tower_differs: bool | None
    """Whether a tower given apart differs from the checkpoint's own, which is then used; None: only one was there."""
    head_bias: Literal["source", "zeros"]
    image_token: int
    end_token: int
    image_tokens: int
    """Tokens that one picture becomes."""
    dtype: str
    notes: tuple[str, ...]
    """What a person should know: values taken from Phi-2 because the source is silent, and the like."""
    files: dict[str, str]
    """File of the result to hexadecimal sha256; the model's card has them, too."""


def convert_llava_phi2(source: Path, target: Path, *, tower: Path | None = None, dtype: str = "bfloat16"
                       ) -> ConversionReport:
    """Converts the checkpoint in `source`; `target` then is a whole model directory, or untouched.

    tower: directory of the image tower (CLIP or SigLIP, as transformers saves it), for checkpoints that come without
    one. dtype: `bfloat16`, which full models are served in (float16 gives NaN after fine-tuning), or `float32`.

    Raises ModelError (`model-missing`, `model-incomplete`, `model-corrupt`, `model-unsupported`), SettingError for an
    unknown dtype, and OutputError where `target` is in use or cannot be written.
    """
    if dtype not in DTYPES:
        raise SettingError(Code.SETTING_INVALID, f"--dtype {dtype!r}.", f"Allowed: {', '.join(DTYPES)}.",
                           "Leave it out for bfloat16.")
    _check_target(target)
    checkpoint, source_config = Checkpoint(source), read_config(source)
    mapping = _map(checkpoint)
    given = None if tower is None else Checkpoint(tower)
    pieces = {name: (checkpoint, piece) for name, piece in mapping.pieces.items()}
    from_checkpoint = any(name.startswith(TOWER) for name in pieces)
    if given is not None and not from_checkpoint:
        pieces |= {name: (given, piece) for name, piece in tower_names(given.names).items()}
    if not any(name.startswith(TOWER) for name in pieces):
        raise ModelError(Code.MODEL_INCOMPLETE, f"{source} has no image tower; it was trained on "
                         f"{source_config.get('mm_vision_tower') or 'one that its configuration does not name'}.",
                         "A tower with the checkpoint, or --vision-tower DIR.",
                         "Bring that CLIP to this machine and give its directory as --vision-tower.")
    notes = []
    text = text_config(source_config)
    if "partial_rotary_factor" not in str(source_config) and "rotary_dim" not in source_config:
        notes.append("The source names no partial_rotary_factor; Phi-2's 0.4 was taken.")
    vision = vision_config(source_config, frozenset(pieces),
                           read_config(tower) if tower is not None and not from_checkpoint else None)
    if HEAD not in pieces and EMBEDDING in pieces and source_config.get("tie_word_embeddings"):
        pieces[HEAD] = pieces[EMBEDDING]
        notes.append("The head shares the embedding's weights in the source; it got its own copy.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
    except OSError as error:
        raise output_error(target, error) from error
    try:
        image, end = write_tokenizer(source, folder, text["vocab_size"])
        if image != 50295 and text["vocab_size"] == 51200:
            notes.append(f"<image> is token {image}, not 50295: this tokenizer is not Phi-2's as published.")
        config = llava_config(source_config, text, vision, image_token=image, end_token=end, dtype=dtype)
        shapes = weight_shapes(config)
        _check_names(source, shapes, pieces)
        write_atomic(folder / "config.json", pretty_json(config))
        pad = (source_config.get("image_aspect_ratio") or "pad") == "pad"
        if not pad:
            notes.append(f"The source says image_aspect_ratio {source_config['image_aspect_ratio']!r}: the middle "
                         "square of a picture is looked at, not the whole of it.")
        write_processor(folder, config, pad=pad)
        _write_weights(folder, shapes, pieces, config, DTYPES[dtype])
        report = ConversionReport(
            wrapper=mapping.wrapper, generation=mapping.generation or "unknown",
            source_files={path.name: sha256_file(path) for path in checkpoint.files},
            source_weights=len(checkpoint.names), weights=dict(Counter(map(_part_of, shapes))),
            parameters=sum(torch.Size(shape).numel() for shape in shapes.values()),
            split=sum(piece.fusion is not None for _, piece in pieces.values()), dropped=mapping.dropped,
            tower="checkpoint" if from_checkpoint else "given",
            tower_differs=_tower_differs(checkpoint, mapping, given) if from_checkpoint and given else None,
            head_bias="source" if HEAD_BIAS in pieces else "zeros", image_token=image, end_token=end,
            image_tokens=config["image_seq_length"], dtype=dtype, notes=tuple(notes),
            files={path.name: sha256_file(path) for path in sorted(folder.iterdir())})
        write_atomic(folder / REPORT_FILE, pretty_json(report.model_dump(mode="json")))
        card = LanguageModelCard(name=target.resolve().name, window=vision["image_size"], files=report.files,
                                 context=text["max_position_embeddings"], trained_by=_origin(source_config))
        write_atomic(folder / CARD_FILE, pretty_json(card.model_dump(mode="json")))
        folder.chmod(0o755)
        if target.exists():
            target.rmdir()  # it is empty
        folder.rename(target)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _check_target(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(Code.OUTPUT_COLLISION, f"{target} is there already.", "A new or an empty folder.",
                          "Give another DST, or remove it.")


def _map(checkpoint: Checkpoint) -> Mapping:
    """The names of a checkpoint, all of them known and each leading to a place of its own."""
    mapping = map_names(checkpoint.names)
    if mapping.unknown:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{checkpoint.directory} has {len(mapping.unknown)} weights of no "
                         f"known layout of LLaVA-Phi2: {_some(mapping.unknown)}.",
                         "The layouts of LLaVA-Phi, LLaVA, TinyLLaVA and transformers, over Phi-2.",
                         "Compare with docs/serving.md; another model needs its own way to vLLM.")
    if mapping.doubled:
        raise ModelError(Code.MODEL_CORRUPT, f"Several weights of {checkpoint.directory} lead to the same place: "
                         f"{_some(mapping.doubled)}.", "Each weight once.", "Copy the directory again.")
    return mapping


def _check_names(source: Path, shapes: dict[str, tuple[int, ...]], pieces: dict[str, tuple[Checkpoint, Piece]]) -> None:
    """Every weight of the target has a source, and every source a place in the target."""
    missing = sorted(shapes.keys() - pieces.keys() - {HEAD_BIAS})
    if missing:
        raise ModelError(Code.MODEL_INCOMPLETE, f"{source} lacks {len(missing)} weights: {_some(missing)}.",
                         "A whole checkpoint whose config.json fits it.", "Copy the directory again.")
    left = sorted(pieces.keys() - shapes.keys())
    if left:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{source} has {len(left)} weights more than its config.json tells "
                         f"of: {_some(left)}.", "A config.json that fits the weights (text_config, vision_config).",
                         "Write the sizes into config.json, then run this again.")


def _write_weights(folder: Path, shapes: dict[str, tuple[int, ...]], pieces: dict[str, tuple[Checkpoint, Piece]],
                   config: dict[str, Any], dtype: torch.dtype) -> None:
    """Files of at most `SHARD_BYTES` each, in the order of the source's files, so that each of those is read once."""
    names = sorted(shapes, key=lambda name: (*_place(pieces.get(name)), name))
    size = torch.empty((), dtype=dtype).element_size()
    needed = sum(torch.Size(shapes[name]).numel() for name in names) * size
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(Code.DISK_FULL, f"{needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free.", "",
                          "Free space, then run again.")
    shards, room = list[list[str]](), 0
    for name in names:
        room -= torch.Size(shapes[name]).numel() * size
        if room < 0 or not shards:
            shards.append([])
            room = SHARD_BYTES - torch.Size(shapes[name]).numel() * size
        shards[-1].append(name)
    file_of: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        path = folder / (f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1
                         else "model.safetensors")
        save_file({name: _weight(name, shapes[name], pieces, config, dtype) for name in shard}, path,
                  metadata={"format": "pt"})
        file_of |= dict.fromkeys(shard, path.name)
    if len(shards) > 1:
        write_atomic(folder / "model.safetensors.index.json", pretty_json({
            "metadata": {"total_size": needed}, "weight_map": dict(sorted(file_of.items()))}))


def _place(piece: tuple[Checkpoint, Piece] | None) -> tuple[str, str]:
    return ("", "") if piece is None else (piece[0].file_of(piece[1].source), piece[1].source)


def _weight(name: str, shape: tuple[int, ...], pieces: dict[str, tuple[Checkpoint, Piece]], config: dict[str, Any],
            dtype: torch.dtype) -> torch.Tensor:
    """One weight of the target."""
    if name not in pieces:
        return torch.zeros(shape, dtype=dtype)  # the head's bias
    checkpoint, piece = pieces[name]
    value = checkpoint.tensor(piece.source)
    if piece.fusion is not None and value.shape[0] == 3 * shape[0]:
        value = split_fused(value, piece, config["text_config"]["num_attention_heads"])
    if value.shape != shape or not value.is_floating_point():
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{piece.source} of {checkpoint.directory} is {tuple(value.shape)} of "
                         f"{value.dtype}; config.json asks for {shape}.", "A config.json that fits the weights "
                         "(text_config, vision_config), and weights that are not quantised.",
                         "Write the sizes into config.json, or get the checkpoint as it was trained.")
    if not torch.isfinite(value).all():
        raise ModelError(Code.MODEL_CORRUPT, f"{piece.source} of {checkpoint.directory} has values that are not "
                         "numbers.", "Finite numbers.", "Copy the directory again.")
    return value.to(dtype).contiguous().clone()


def split_fused(value: torch.Tensor, piece: Piece, heads: int) -> torch.Tensor:
    """q, k or v out of a fused weight (3 D, D) or bias (3 D,): (D, D) or (D,)."""
    rows, rest = value.shape[0] // 3, value.shape[1:]
    if piece.fusion == "stacked":
        return value.reshape(3, rows, *rest)[piece.part]  # D, ...
    return value.reshape(heads, 3, rows // heads, *rest)[:, piece.part].reshape(rows, *rest)  # D, ...


def _tower_differs(checkpoint: Checkpoint, mapping: Mapping, given: Checkpoint) -> bool:
    """Whether any weight of the tower that both have is not the same."""
    other = tower_names(given.names)
    for name in sorted(mapping.pieces.keys() & other.keys()):
        ours, theirs = checkpoint.tensor(mapping.pieces[name].source), given.tensor(other[name].source)
        narrow = min(ours.dtype, theirs.dtype, key=lambda dtype: torch.finfo(dtype).bits)
        if ours.shape != theirs.shape or not torch.equal(ours.to(narrow), theirs.to(narrow)):
            return True
    return False


def _origin(source_config: dict[str, Any]) -> str:
    return f"lexiseg models convert-llava-phi2, from a {source_config.get('model_type', 'nameless')} checkpoint"


def _part_of(name: str) -> str:
    return "tower" if name.startswith(TOWER) else "text" if name.startswith(TEXT) else "projector"


def _some(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
