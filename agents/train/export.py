"""From a training checkpoint to a LLaVA directory that transformers and vLLM load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from tokenizers import Tokenizer
from torch import Tensor

from agents.train.knowledge import seen_names
from agents.train.network import GRID, MEAN, PATCH, SIDE, STD, make_config
from agents.train.tokenizer import CONTEXT, END, IMAGE, PADDING, make_tokenizer, save_tokenizer
from parsers.files import pretty_json, sha256_file, write_atomic
from vision.datasets.sprites import texture_names
from vision.train.checkpoint import read_checkpoint

WEIGHTS = "model.safetensors"
VIEWS = 5
"""How often the model describes a picture by default (docs/pocket.md, "Several views")."""
LICENCE = "trained on drawings of Noto Color Emoji (OFL-1.1), OpenMoji (CC BY-SA 4.0) and Fluent Emoji (MIT)"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'USER: ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}{{ '<image>\\n' }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% else %}{{ ' ASSISTANT:' + message['content'] + '<|endoftext|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)
PREFIXES = (("model.vision_tower.", "vision_tower.vision_model."),
            ("model.multi_modal_projector.", "multi_modal_projector."),
            ("model.language_model.", "language_model.model."), ("lm_head.", "language_model.lm_head."))


def export_llava(checkpoint: Path, out: Path) -> Path:
    """Writes weights (float16, named as vLLM and every transformers read them), configurations, tokenizer, chat
    template and `model.json` into `out`."""
    with safe_open(checkpoint, "pt") as file:
        names = [name for name in file.keys() if name.startswith("model.")]  # noqa: SIM118
        weights = {name.removeprefix("model."): file.get_tensor(name) for name in names}
    return write_model(weights, out)


def write_model(weights: dict[str, Tensor], out: Path) -> Path:
    """`export_llava` from the weights of a network, under transformers' names."""
    out.mkdir(parents=True, exist_ok=True)
    named = {stored_name(name): value.to(torch.float16).contiguous() for name, value in weights.items()}
    write_atomic(out / WEIGHTS, save(named, {"format": "pt"}))
    write_atomic(out / "config.json", pretty_json(stored_config()))
    end, padding = (make_tokenizer().token_to_id(word) for word in (END, PADDING))
    write_atomic(out / "generation_config.json", pretty_json(
        {"do_sample": False, "bos_token_id": end, "eos_token_id": end, "pad_token_id": padding}))
    pictures = {
        "image_processor_type": "LlavaImageProcessor", "do_convert_rgb": True, "do_pad": True, "do_resize": True,
        "size": {"shortest_edge": SIDE}, "resample": 3, "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE}, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": MEAN, "image_std": STD,
    }
    write_atomic(out / "preprocessor_config.json", pretty_json(pictures | {"processor_class": "LlavaProcessor"}))
    write_atomic(out / "processor_config.json", pretty_json({
        "processor_class": "LlavaProcessor", "patch_size": PATCH, "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1, "image_token": IMAGE,
    }))
    write_atomic(out / "chat_template.jinja", CHAT_TEMPLATE.encode())
    save_tokenizer(out)
    files = sorted(path.name for path in out.iterdir() if path.suffix in (".json", ".jinja", ".safetensors"))
    write_atomic(out / "model.json", pretty_json({
        "format_version": 1, "name": "pocket-llava-phi2", "kind": "llava", "prompt_style": "short", "sees_images": True,
        "window": SIDE, "patches": GRID * GRID, "context": CONTEXT, "mean": MEAN, "std": STD, "licence": LICENCE,
        "trained_by": "python -m agents.train llava", "terms": [*seen_names(), *texture_names()],
        "views": VIEWS,
        "files": {name: sha256_file(out / name) for name in files if name != "model.json"},
    }))
    return out


def read_weights(start: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, or of a directory that `export_llava` wrote, under transformers' names, float32; of
    a directory, for the pieces of today (`carried_words`)."""
    if not start.is_dir():
        return read_checkpoint(start).weights
    found = {}
    for stored, value in load_file(start / WEIGHTS).items():
        ours, theirs = next(pair for pair in PREFIXES if stored.startswith(pair[1]))
        found[ours + stored.removeprefix(theirs)] = value.float()
    return carried_words(found, start)


def carried_words(weights: dict[str, Tensor], start: Path) -> dict[str, Tensor]:
    """Weights of a model directory whose tokenizer had other pieces: pieces that both know keep their vectors, new ones
    begin near the mean of all, the same in both tables where these are the same."""
    old = Tokenizer.from_file(str(start / "tokenizer.json")).get_vocab()
    new = make_tokenizer().get_vocab()
    carried = dict(weights)
    for name in ("model.language_model.embed_tokens.weight", "lm_head.weight", "lm_head.bias"):
        value = weights[name]
        rows = value.mean(0).expand(len(new), *value.shape[1:]).clone()
        if value.ndim > 1:
            rows += torch.randn(rows.shape, generator=torch.Generator().manual_seed(0)) * value.std() / 2
        for word, i in new.items():
            if word in old:
                rows[i] = value[old[word]]
        carried[name] = rows
    return carried


def stored_config() -> dict[str, Any]:
    """`config.json` without what is the same for every model, in the older spelling of the rotary values, which every
    transformers and vLLM read."""
    config = make_config()
    text, vision = config.text_config, config.vision_config
    kept = {name: getattr(config, name) for name in (
        "architectures", "model_type", "image_token_index", "image_seq_length", "projector_hidden_act",
        "multimodal_projector_bias", "vision_feature_layer", "vision_feature_select_strategy", "tie_word_embeddings")}
    text_kept = {name: getattr(text, name) for name in (
        "architectures", "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "hidden_act", "max_position_embeddings", "layer_norm_eps",
        "qk_layernorm", "resid_pdrop", "embd_pdrop", "attention_dropout", "tie_word_embeddings", "bos_token_id",
        "eos_token_id", "pad_token_id")}
    vision_kept = {name: getattr(vision, name) for name in (
        "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size",
        "patch_size", "hidden_act", "layer_norm_eps", "projection_dim")}
    rotary = {name: text.rope_parameters[name] for name in ("partial_rotary_factor", "rope_theta")}
    inner = {"n_inner": text.intermediate_size}  # the name that vLLM's Phi reads; without it, it takes 4 x hidden_size
    return kept | {"dtype": "float32", "text_config": text_kept | rotary | inner | {"dtype": "float32"},
                   "vision_config": vision_kept | {"dtype": "float32"}}


def stored_name(name: str) -> str:
    """transformers' name of a weight as it is stored: the older names, which every version and vLLM read."""
    for ours, stored in PREFIXES:
        if name.startswith(ours):
            return stored + name.removeprefix(ours)
    raise ValueError(f"There is no stored name for the weight {name}.")
