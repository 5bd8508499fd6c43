"""Names of weights, sorted out."""

import pytest

from agents.llava_phi2.layouts import Piece, map_names, tower_names


@pytest.mark.parametrize(("name", "target"), [
    ("model.vision_tower.vision_tower.vision_model.pre_layrnorm.bias", "vision_tower.vision_model.pre_layrnorm.bias"),
    ("model.vision_tower.vision_model.post_layernorm.bias", "vision_tower.vision_model.post_layernorm.bias"),
    ("vision_tower._vision_tower.vision_model.post_layernorm.bias", "vision_tower.vision_model.post_layernorm.bias"),
    ("vision_tower.post_layernorm.bias", "vision_tower.vision_model.post_layernorm.bias"),
    ("model.vision_tower.embeddings.class_embedding", "vision_tower.vision_model.embeddings.class_embedding"),
    ("model.mm_projector.0.weight", "multi_modal_projector.linear_1.weight"),
    ("connector._connector.2.bias", "multi_modal_projector.linear_2.bias"),
    ("model.multi_modal_projector.linear_2.bias", "multi_modal_projector.linear_2.bias"),
    ("model.layers.3.mlp.fc1.bias", "language_model.model.layers.3.mlp.fc1.bias"),
    ("language_model.model.final_layernorm.bias", "language_model.model.final_layernorm.bias"),
    ("model.language_model.final_layernorm.bias", "language_model.model.final_layernorm.bias"),
    ("lm_head.bias", "language_model.lm_head.bias"),
    ("language_model.lm_head.bias", "language_model.lm_head.bias"),
    ("transformer.embd.wte.weight", "language_model.model.embed_tokens.weight"),
    ("model.h.3.ln.bias", "language_model.model.layers.3.input_layernorm.bias"),
    ("transformer.h.3.mixer.out_proj.bias", "language_model.model.layers.3.self_attn.dense.bias"),
    ("lm_head.ln.weight", "language_model.model.final_layernorm.weight"),
    ("language_model.lm_head.linear.bias", "language_model.lm_head.bias"),
])
def test_one_name(name, target):
    assert map_names([name]).pieces == {target: Piece(source=name)}


@pytest.mark.parametrize(("name", "fusion"), [("model.layers.3.self_attn.query_key_value.bias", "interleaved"),
                                              ("transformer.h.3.mixer.Wqkv.bias", "stacked")])
def test_a_fused_name_becomes_three(name, fusion):
    assert map_names([name]).pieces == {
        f"language_model.model.layers.3.self_attn.{letter}_proj.bias": Piece(source=name, fusion=fusion, part=part)
        for part, letter in enumerate("qkv")}


@pytest.mark.parametrize("name", [
    "model.layers.0.self_attn.rotary_emb.inv_freq", "transformer.h.0.mixer.rotary_emb.cos_cached",
    "model.vision_tower.vision_tower.vision_model.embeddings.position_ids",
    "vision_tower._vision_tower.vision_model.head.probe"])
def test_what_is_computed_again_is_dropped(name):
    found = map_names([name])
    assert (found.dropped, found.pieces, found.unknown) == ((name,), {}, ())


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.o_proj.weight", "xmodel.embed_tokens.weight",
                                  "model.embed_tokens.weight.extra", "model.mm_projector.1.weight",
                                  "vision_tower.other.weight"])
def test_other_names_are_unknown(name):
    found = map_names([name])
    assert (found.unknown, found.pieces, found.dropped) == ((name,), {}, ())


def test_two_names_for_one_place():
    assert map_names(["model.embed_tokens.weight", "transformer.wte.weight"]).doubled == (
        "language_model.model.embed_tokens.weight",)


def test_a_tower_beside_a_text_tower():
    assert tower_names(["vision_model.post_layernorm.bias", "text_model.final_layer_norm.bias", "logit_scale",
                        "vision_model.embeddings.position_ids"]) == {
        "vision_tower.vision_model.post_layernorm.bias": Piece(source="vision_model.post_layernorm.bias")}
