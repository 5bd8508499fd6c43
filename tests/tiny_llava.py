"""LLaVA-Phi2 in miniature, with random weights: the parts, every published layout of a checkpoint, and what the parts
answer when they are put together by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
    SiglipVisionModel,
)

HEADS, HIDDEN, LAYERS, ROWS, CONTEXT = 2, 64, 2, 300, 1024
VISION = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2,
          "image_size": 28, "patch_size": 7}
PATCHES = 16
WRAPPERS = ("zhu", "llava", "tiny", "hf")
GENERATIONS = ("new", "fused", "orig")
Weights = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A text model, an image tower and a projector."""

    text: PhiForCausalLM
    tower: Any
    projector: torch.nn.Sequential
    siglip: bool

    @torch.no_grad()
    def logits(self, ids_T: torch.Tensor, image_token: int, pixels_13SS: torch.Tensor | None = None) -> torch.Tensor:
        """(T, rows) of one prompt, in which a run of `image_token` stands for the picture."""
        vectors_TD = self.text.model.embed_tokens(ids_T).clone()
        if pixels_13SS is not None:
            hidden = self.tower(pixels_13SS, output_hidden_states=True).hidden_states
            vectors_TD[ids_T == image_token] = self.projector(hidden[-2][0, 1:])
        return self.text(inputs_embeds=vectors_TD[None]).logits[0]


def make_parts(seed: int = 0, *, siglip: bool = False, scale: float = 0.3) -> Parts:
    """Random weights, biases too; those of the head large enough to change answers."""
    torch.manual_seed(seed)
    text = PhiForCausalLM(PhiConfig(
        vocab_size=ROWS, hidden_size=HIDDEN, intermediate_size=4 * HIDDEN, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, max_position_embeddings=CONTEXT, partial_rotary_factor=0.5, rope_theta=10000.0,
        tie_word_embeddings=False, bos_token_id=0, eos_token_id=0))
    tower: Any = (SiglipVisionModel(SiglipVisionConfig(**VISION, vision_use_head=False)) if siglip
                  else CLIPVisionModel(CLIPVisionConfig(**VISION)))
    size = VISION["hidden_size"]
    projector = torch.nn.Sequential(torch.nn.Linear(size, HIDDEN), torch.nn.GELU(), torch.nn.Linear(HIDDEN, HIDDEN))
    for module in (text, tower, projector):
        for name, value in module.named_parameters():
            value.data = torch.randn(value.shape) * scale + (1.0 if "norm" in name and "weight" in name else 0.0)
    text.lm_head.bias.data = torch.randn(ROWS) * 2
    return Parts(text=text.eval(), tower=tower.eval(), projector=projector.eval(), siglip=siglip)


def weights_of(parts: Parts, wrapper: str, generation: str) -> Weights:
    """The weights under the names of a layout."""
    text = _fused(parts.text.state_dict(), generation)
    tower = {name.removeprefix("vision_model."): value for name, value in parts.tower.state_dict().items()}
    stems = {"zhu": "model.vision_tower.vision_model.", "llava": "model.vision_tower.vision_tower.vision_model.",
             "tiny": "vision_tower._vision_tower.vision_model.", "hf": "vision_tower."}
    places = {"tiny": "connector._connector.{}.", "hf": "multi_modal_projector.linear_{}."}
    place = places.get(wrapper, "model.mm_projector.{}.")
    inner = "language_model." if wrapper in ("tiny", "hf") else ""
    weights = {f"{inner}{name}": value for name, value in text.items()}
    weights |= {f"{stems[wrapper]}{name}": value for name, value in tower.items()}
    for number, name in ((0, 1), (2, 2)):
        stem = place.format(name if wrapper == "hf" else number)
        weights |= {f"{stem}{part}": value for part, value in parts.projector[number].state_dict().items()}
    return weights


def _fused(weights: Weights, generation: str) -> Weights:
    """The text model's weights as a generation of Phi spells them."""
    if generation == "new":
        return weights
    result = {}
    for name, value in weights.items():
        if ".self_attn.q_proj." in name:
            three = [weights[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            if generation == "fused":
                by_head = [one.unflatten(0, (HEADS, -1)) for one in three]
                fused = torch.stack(by_head, dim=1).flatten(0, 2)
                result[name.replace("q_proj", "query_key_value")] = fused
            else:
                result[_orig(name.replace("self_attn.q_proj", "mixer.Wqkv"))] = torch.cat(three)
        elif ".self_attn.k_proj." not in name and ".self_attn.v_proj." not in name:
            result[name if generation == "fused" else _orig(name)] = value
    if generation == "orig":
        result["transformer.h.0.mixer.rotary_emb.inv_freq"] = torch.ones(4)
    return result


def _orig(name: str) -> str:
    for new, old in (("model.embed_tokens", "transformer.embd.wte"), ("model.final_layernorm", "lm_head.ln"),
                     ("model.layers.", "transformer.h."), ("input_layernorm", "ln"),
                     ("self_attn.dense", "mixer.out_proj")):
        name = name.replace(new, old)
    return name if name.startswith(("transformer.", "lm_head.ln")) else name.replace("lm_head.", "lm_head.linear.")


def config_of(wrapper: str, generation: str, *, siglip: bool = False) -> dict[str, Any]:
    """The `config.json` that goes with a layout."""
    if generation == "orig":
        text: dict[str, Any] = {
            "vocab_size": ROWS, "n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "n_head_kv": None,
            "n_inner": None, "n_positions": CONTEXT, "rotary_dim": HIDDEN // HEADS // 2,
            "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5}
    else:
        text = {"vocab_size": ROWS, "hidden_size": HIDDEN, "intermediate_size": 4 * HIDDEN,
                "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "max_position_embeddings": CONTEXT,
                "partial_rotary_factor": 0.5, "hidden_act": "gelu_new"}
    multimodal: dict[str, Any] = {"mm_projector_type": "mlp2x_gelu", "mm_vision_select_layer": -2,
                                  "mm_vision_select_feature": "patch", "image_aspect_ratio": "pad"}
    vision = {**VISION, "model_type": "siglip_vision_model" if siglip else "clip_vision_model"}
    match wrapper:
        case "zhu":
            return {"architectures": ["LlavaPhiForCausalLM"], "model_type": "llava_phi", "eos_token_id": 2, **text,
                    "vision_config": {"vision_tower": vision | multimodal}}
        case "llava":
            return {"model_type": "phi-llava", **text, **multimodal, "vision_config": vision}
        case "tiny":
            return {"model_type": "tinyllava", "image_token_index": -200, "connector_type": "mlp2x_gelu",
                    "text_config": text, "vision_config": vision}
    return {"model_type": "llava", "text_config": text, "vision_config": vision, "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default"}


def save_checkpoint(folder: Path, weights: Weights, config: dict[str, Any], *, pickled: bool = False,
                    shards: int = 1) -> Path:
    """A directory as its makers publish it: weights, configuration, tokenizer."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_tokenizer(folder)
    names, of_file = sorted(weights), {}
    stem, suffix = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    for number in range(shards):
        name = f"{stem}.{suffix}" if shards == 1 else f"{stem}-{number + 1:05}-of-{shards:05}.{suffix}"
        part = {key: weights[key].contiguous().clone() for key in names[number::shards]}
        torch.save(part, folder / name) if pickled else save_file(part, folder / name)
        of_file |= dict.fromkeys(part, name)
    if shards > 1:
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": of_file}))
    return folder


def save_tokenizer(folder: Path) -> None:
    """Every byte is a token, after the one for the end of a text."""
    vocabulary = {"<|endoftext|>": 0} | {byte: number for number, byte in
                                         enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()), 1)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token="<|endoftext|>",
                            unk_token="<|endoftext|>").save_pretrained(folder)
