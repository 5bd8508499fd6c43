"""From a training checkpoint to a LLaVA directory that transformers and vLLM load."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from agents.train.network import GRID, MEAN, PATCH, SIDE, STD, make_config
from agents.train.tokenizer import CONTEXT, END, IMAGE, PADDING, make_tokenizer, save_tokenizer
from parsers.files import pretty_json, sha256_file, write_atomic

WEIGHTS = "model.safetensors"
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
PREFIXES = (("model.vision_tower.", "vision_tower.vision_model."), ("model.multi_modal_projector.",) * 2,
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
    config = make_config().to_dict() | {"dtype": "float32", "torch_dtype": "float32"}
    write_atomic(out / "config.json", pretty_json(config))
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
        "trained_by": "python -m agents.train llava",
        "files": {name: sha256_file(out / name) for name in files if name != "model.json"},
    }))
    return out


def stored_name(name: str) -> str:
    """transformers' name of a weight as it is stored: the older names, which every version and vLLM read."""
    for ours, stored in PREFIXES:
        if name.startswith(ours):
            stored = "multi_modal_projector." if "projector" in ours else stored
            return stored + name.removeprefix(ours)
    raise ValueError(f"There is no stored name for the weight {name}.")
