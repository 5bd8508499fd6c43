"""Names of weights: how each published layout of LLaVA-Phi2 spells them, and what they are called in the target.

Three wrappers (what stands around the text model) times three generations of Phi, in any combination:

    zhu     model.vision_tower.vision_model.*               model.mm_projector.{0,2}.*
    llava   model.vision_tower.vision_tower.vision_model.*  model.mm_projector.{0,2}.*
    tiny    vision_tower._vision_tower.vision_model.*       connector._connector.{0,2}.*      language_model.*
    hf      vision_tower.[vision_model.]*                   multi_modal_projector.linear_*    language_model.*
            (also with `model.` in front, as transformers 5 has it in memory)

    new     self_attn.{q,k,v}_proj                  three matrices
    fused   self_attn.query_key_value               one matrix, rows ordered [heads, 3, head size]
    orig    mixer.Wqkv, mixer.out_proj, ln, wte     one matrix, rows ordered [3, heads, head size]

Patterns are anchored and tried in order. A name that fits none is an error of the caller, never dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Fusion = Literal["interleaved", "stacked"]
"""How the rows of a fused q/k/v matrix are ordered: [heads, 3, head size], or [3, heads, head size]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Where one weight of the target comes from."""

    source: str
    """Name in the source."""
    fusion: Fusion | None = None
    """The source holds q, k and v together, ordered so; None: it is taken whole."""
    part: int = 0
    """Of a fused source: 0 q, 1 k, 2 v."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """All names of a checkpoint, sorted out."""

    wrapper: str
    """Names of the wrapper's layout, `+` between them where a checkpoint mixes several."""
    generation: str
    """The same for the generation of Phi."""
    pieces: dict[str, Piece]
    """Name in the target to where it comes from."""
    dropped: tuple[str, ...]
    """Names that are recomputed or unused by the target: position ids, rotary tables, the head of SigLIP."""
    unknown: tuple[str, ...]
    """Names that fit no layout."""
    doubled: tuple[str, ...]
    """Names of the target that several names of the source lead to."""


_DROPPED = re.compile(r"(?:^|\.)(?:position_ids|inv_freq)$|(?:^|\.)rotary_emb\.|\.vision_model\.head\.|"
                      r"^(?:model\.)?vision_tower\.head\.")
_WRAPPERS: tuple[tuple[str, str, str], ...] = (
    ("llava", r"model\.vision_tower\.vision_tower\.vision_model\.(.+)", r"vision_tower.vision_model.\1"),
    ("zhu", r"model\.vision_tower\.vision_model\.(.+)", r"vision_tower.vision_model.\1"),
    ("tiny", r"vision_tower\._vision_tower\.vision_model\.(.+)", r"vision_tower.vision_model.\1"),
    ("hf", r"(?:model\.)?vision_tower\.(?:vision_model\.)?((?:embeddings|encoder|pre_layrnorm|post_layernorm)\..+)",
     r"vision_tower.vision_model.\1"),
    ("llava", r"model\.mm_projector\.0\.(weight|bias)", r"multi_modal_projector.linear_1.\1"),
    ("llava", r"model\.mm_projector\.2\.(weight|bias)", r"multi_modal_projector.linear_2.\1"),
    ("tiny", r"connector\._connector\.0\.(weight|bias)", r"multi_modal_projector.linear_1.\1"),
    ("tiny", r"connector\._connector\.2\.(weight|bias)", r"multi_modal_projector.linear_2.\1"),
    ("hf", r"(?:model\.)?(multi_modal_projector\.linear_[12]\.(?:weight|bias))", r"\1"),
)
_LANGUAGE_MODEL = re.compile(r"model\.language_model\.|language_model\.(?=model\.|transformer\.|lm_head\.)")
_STEM, _LAYER = r"(?:model|transformer)\.", r"(?:model|transformer)\.(?:h|layers)\.(\d+)\."
_TEXT: tuple[tuple[str, str, str], ...] = (
    ("", r"model\.embed_tokens\.weight", "model.embed_tokens.weight"),
    ("", r"model\.final_layernorm\.(weight|bias)", r"model.final_layernorm.\1"),
    ("", r"lm_head\.(weight|bias)", r"lm_head.\1"),
    ("", r"model\.layers\.(\d+)\.((?:input_layernorm|self_attn\.dense)\.(?:weight|bias))", r"model.layers.\1.\2"),
    ("", _LAYER + r"(mlp\.fc[12]\.(?:weight|bias))", r"model.layers.\1.\2"),
    ("new", r"model\.layers\.(\d+)\.self_attn\.([qkv]_proj)\.(weight|bias)", r"model.layers.\1.self_attn.\2.\3"),
    ("orig", _STEM + r"(?:embd\.)?wte\.weight", "model.embed_tokens.weight"),
    ("orig", r"lm_head\.ln\.(weight|bias)", r"model.final_layernorm.\1"),
    ("orig", r"lm_head\.linear\.(weight|bias)", r"lm_head.\1"),
    ("orig", _LAYER + r"ln\.(weight|bias)", r"model.layers.\1.input_layernorm.\2"),
    ("orig", _LAYER + r"mixer\.out_proj\.(weight|bias)", r"model.layers.\1.self_attn.dense.\2"),
)
_FUSED: tuple[tuple[str, str, Fusion], ...] = (
    ("fused", r"model\.layers\.(\d+)\.self_attn\.query_key_value\.(weight|bias)", "interleaved"),
    ("orig", _LAYER + r"mixer\.Wqkv\.(weight|bias)", "stacked"),
)


def map_names(names: Iterable[str]) -> Mapping:
    """Sorts the names of a checkpoint's weights into those of the target."""
    wrappers, generations = set[str](), set[str]()
    pieces, dropped, unknown, doubled = dict[str, Piece](), list[str](), list[str](), list[str]()

    def add(target: str, piece: Piece) -> None:
        if target in pieces:
            doubled.append(target)
        pieces[target] = piece

    for name in sorted(names):
        if _DROPPED.search(name):
            dropped.append(name)
            continue
        if found := _first_match(_WRAPPERS, name):
            wrapper, target = found
            wrappers.add(wrapper)
            add(target, Piece(source=name))
            continue
        text_name = _text_name(name)
        if found := _first_match(_TEXT, text_name):
            generation, target = found
            generations.add(generation)
            add(f"language_model.{target}", Piece(source=name))
        elif fused := _fused_targets(text_name):
            generation, fusion, targets = fused
            generations.add(generation)
            for part, target in enumerate(targets):
                add(f"language_model.{target}", Piece(source=name, fusion=fusion, part=part))
        else:
            unknown.append(name)
    if "zhu" in wrappers:
        wrappers.discard("llava")  # its projector is spelt the same way
    return Mapping(wrapper="+".join(sorted(wrappers)), generation="+".join(sorted(generations - {""})), pieces=pieces,
                   dropped=tuple(dropped), unknown=tuple(unknown), doubled=tuple(doubled))


def tower_names(names: Iterable[str]) -> dict[str, Piece]:
    """The weights of an image tower saved on its own (CLIPModel, CLIPVisionModel or their SigLIP sisters), by their
    names in the target; weights of a text tower beside it are left out."""
    pieces = {}
    for name in names:
        match = re.fullmatch(r"(?:vision_model\.)?((?:embeddings|encoder|pre_layrnorm|post_layernorm)\..+)", name)
        if match and not _DROPPED.search(name):
            pieces[f"vision_tower.vision_model.{match[1]}"] = Piece(source=name)
    return pieces


def _text_name(name: str) -> str:
    """A name of the text model as PhiForCausalLM has it."""
    if match := _LANGUAGE_MODEL.match(name):
        rest = name[match.end():]
        return f"model.{rest}" if match[0] == "model.language_model." else rest
    return name


def _first_match(rules: Iterable[tuple[str, str, str]], name: str) -> tuple[str, str] | None:
    for label, pattern, target in rules:
        if match := re.fullmatch(pattern, name):
            return label, match.expand(target)
    return None


def _fused_targets(name: str) -> tuple[str, Fusion, list[str]] | None:
    for generation, pattern, fusion in _FUSED:
        if match := re.fullmatch(pattern, name):
            return generation, fusion, [f"model.layers.{match[1]}.self_attn.{part}_proj.{match[2]}" for part in "qkv"]
    return None
