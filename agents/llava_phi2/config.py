"""The configuration of a converted model, made from the source's own and Phi-2's published sizes, and the shape of
every weight that follows from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from parsers.errors import Code, ModelError

PHI2: dict[str, Any] = {
    "vocab_size": 51200, "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": None, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5,
    "max_position_embeddings": 2048, "partial_rotary_factor": 0.4, "rope_theta": 10000.0, "qk_layernorm": False,
}
"""Phi-2 as published. PhiConfig's own default of partial_rotary_factor, 0.5, is not Phi-2's."""
OLD_NAMES = {
    "n_embd": "hidden_size", "n_inner": "intermediate_size", "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads", "n_head_kv": "num_key_value_heads", "n_positions": "max_position_embeddings",
    "activation_function": "hidden_act", "layer_norm_epsilon": "layer_norm_eps",
}
"""How the code that came with the first Phi-2 spelt the same values."""
CLIP_LARGE: dict[str, Any] = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    "projection_dim": 768,
}
"""openai/clip-vit-large-patch14-336."""
SIGLIP_SO400M: dict[str, Any] = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
    "num_attention_heads": 16, "image_size": 384, "patch_size": 14, "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
"""google/siglip-so400m-patch14-384."""
TOWER = "vision_tower.vision_model."
TEXT = "language_model."


def read_config(directory: Path) -> dict[str, Any]:
    """The `config.json` of a model directory. Raises ModelError (`model-incomplete`, `model-corrupt`)."""
    path = directory / "config.json"
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(Code.MODEL_INCOMPLETE, f"{path} cannot be read: {error.strerror}.",
                         "The configuration beside the weights.", "Copy the directory again.") from error
    except ValueError as error:
        raise ModelError(Code.MODEL_CORRUPT, f"{path} is not JSON: {error}.", "A JSON object.",
                         "Copy the directory again.") from error
    if not isinstance(content, dict):
        raise ModelError(Code.MODEL_CORRUPT, f"{path} holds a {type(content).__name__}.", "A JSON object.",
                         "Copy the directory again.")
    return content


def text_config(source: dict[str, Any]) -> dict[str, Any]:
    """The part for Phi: what the source says, at its top level or in `text_config`, else Phi-2's values. Which
    values are Phi-2's because the source is silent is not an error: shapes are compared with the weights later."""
    given = {OLD_NAMES.get(name, name): value for part in (source, source.get("text_config") or {})
             for name, value in part.items() if value is not None}
    given |= given.get("rope_parameters") or {}
    values = {name: given.get(name, default) for name, default in PHI2.items()}
    heads, hidden = values["num_attention_heads"], values["hidden_size"]
    if "intermediate_size" not in given:
        values["intermediate_size"] = 4 * hidden
    if "rotary_dim" in given and "partial_rotary_factor" not in given:
        values["partial_rotary_factor"] = given["rotary_dim"] / (hidden // heads)
    values["num_key_value_heads"] = values["num_key_value_heads"] or heads
    values["n_inner"] = values["intermediate_size"]  # vLLM's Phi reads this one, and takes 4 x hidden_size without it
    return {"architectures": ["PhiForCausalLM"], "model_type": "phi", **values, "tie_word_embeddings": False,
            "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attention_dropout": 0.0}


def vision_config(source: dict[str, Any], tower_names: frozenset[str], tower: dict[str, Any] | None) -> dict[str, Any]:
    """The part for the image tower. source: the checkpoint's configuration; tower_names: names of its weights in the
    target; tower: the configuration of a tower given apart, which goes first."""
    siglip = f"{TOWER}embeddings.class_embedding" not in tower_names
    values = dict(SIGLIP_SO400M if siglip else CLIP_LARGE)
    given = tower if tower is not None else source.get("vision_config") or {}
    for inner in ("vision_config", "vision_tower"):  # of a whole CLIP; of a llava_phi
        given = given.get(inner) or given
    values |= {name: given[name] for name in values if name in given and name != "model_type"}
    return values | ({"vision_use_head": False} if siglip else {})


def llava_config(source: dict[str, Any], text: dict[str, Any], vision: dict[str, Any], *, image_token: int,
                 end_token: int, dtype: str) -> dict[str, Any]:
    """The whole `config.json`. Raises ModelError (`model-unsupported`) for a projector or a choice of features that
    LlavaForConditionalGeneration does not have."""
    inner = (source.get("vision_config") or {}).get("vision_tower") or {}
    projector = source.get("mm_projector_type") or source.get("connector_type") or "mlp2x_gelu"
    if projector != "mlp2x_gelu":
        raise ModelError(Code.MODEL_UNSUPPORTED, f"The projector is {projector!r}.", "mlp2x_gelu.",
                         "Use another checkpoint: docs/serving.md lists them.")
    layer = _first(source, inner, "mm_vision_select_layer", "vision_feature_layer", default=-2)
    selected = _first(source, inner, "mm_vision_select_feature", "vision_feature_select_strategy", default="patch")
    strategy = {"patch": "default", "default": "default", "cls_patch": "full", "full": "full"}.get(selected)
    if strategy is None or not isinstance(layer, int):
        raise ModelError(Code.MODEL_UNSUPPORTED, f"Features {selected!r} of layer {layer!r} of the image tower.",
                         "patch or cls_patch, of one layer.", "Use another checkpoint: docs/serving.md lists them.")
    return {
        "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "dtype": dtype,
        "image_token_index": image_token, "image_seq_length": image_tokens(vision, strategy),
        "projector_hidden_act": "gelu", "multimodal_projector_bias": True, "vision_feature_layer": layer,
        "vision_feature_select_strategy": strategy, "tie_word_embeddings": False,
        "text_config": text | {"bos_token_id": end_token, "eos_token_id": end_token, "pad_token_id": end_token,
                               "dtype": dtype},
        "vision_config": vision | {"dtype": dtype},
    }


def image_tokens(vision: dict[str, Any], strategy: str) -> int:
    """Number of tokens that one picture becomes. `default` leaves out the first one, for SigLIP as well, whose first
    one is a patch (so was TinyLLaVA trained)."""
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    return patches + extra_tokens(vision) - (strategy == "default")


def extra_tokens(vision: dict[str, Any]) -> int:
    """Tokens of the tower that are not patches: the class token of CLIP."""
    return int(vision["model_type"] == "clip_vision_model")


def weight_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight of a converted model."""
    text, vision = config["text_config"], config["vision_config"]
    return {**_text_shapes(text), **_projector_shapes(text, vision), **_tower_shapes(vision)}


def _text_shapes(text: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, inner, vocabulary = text["hidden_size"], text["intermediate_size"], text["vocab_size"]
    keys = hidden // text["num_attention_heads"] * text["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {f"{TEXT}model.embed_tokens.weight": (vocabulary, hidden)}
    for number in range(text["num_hidden_layers"]):
        layer = f"{TEXT}model.layers.{number}."
        shapes |= _norm(f"{layer}input_layernorm", hidden) | _linear(f"{layer}self_attn.q_proj", hidden, hidden)
        shapes |= _linear(f"{layer}self_attn.k_proj", keys, hidden) | _linear(f"{layer}self_attn.v_proj", keys, hidden)
        shapes |= _linear(f"{layer}self_attn.dense", hidden, hidden)
        shapes |= _linear(f"{layer}mlp.fc1", inner, hidden) | _linear(f"{layer}mlp.fc2", hidden, inner)
    return shapes | _norm(f"{TEXT}model.final_layernorm", hidden) | _linear(f"{TEXT}lm_head", vocabulary, hidden)


def _projector_shapes(text: dict[str, Any], vision: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden = text["hidden_size"]
    return (_linear("multi_modal_projector.linear_1", hidden, vision["hidden_size"])
            | _linear("multi_modal_projector.linear_2", hidden, hidden))


def _tower_shapes(vision: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, inner, patch = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"]
    extra = extra_tokens(vision)
    places = (vision["image_size"] // patch) ** 2 + extra
    shapes: dict[str, tuple[int, ...]] = {
        f"{TOWER}embeddings.patch_embedding.weight": (hidden, 3, patch, patch),
        f"{TOWER}embeddings.position_embedding.weight": (places, hidden),
    }
    if extra:
        shapes |= {f"{TOWER}embeddings.class_embedding": (hidden,)} | _norm(f"{TOWER}pre_layrnorm", hidden)
    else:
        shapes[f"{TOWER}embeddings.patch_embedding.bias"] = (hidden,)
    for number in range(vision["num_hidden_layers"]):
        layer = f"{TOWER}encoder.layers.{number}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{layer}self_attn.{part}", hidden, hidden)
        shapes |= _norm(f"{layer}layer_norm1", hidden) | _norm(f"{layer}layer_norm2", hidden)
        shapes |= _linear(f"{layer}mlp.fc1", inner, hidden) | _linear(f"{layer}mlp.fc2", hidden, inner)
    return shapes | _norm(f"{TOWER}post_layernorm", hidden)


def _linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _first(source: dict[str, Any], inner: dict[str, Any], *names: str, default: Any) -> Any:
    return next((part[name] for part in (source, inner) for name in names if part.get(name) is not None), default)
