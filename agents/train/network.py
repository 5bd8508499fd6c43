"""The pocket LLaVA-Phi2's network: its configuration, its start, and a forward pass made for training.

The forward pass computes what transformers' LLaVA computes (a test holds them against each other), in one number format
and with many questions per picture: the picture's tokens are computed once, each question sees them and itself alone.
Shapes: B rows, P patches, N = 1 + P tokens before the questions, T tokens of questions and answers, D width, H heads.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, PhiConfig

from agents.train.tokenizer import CONTEXT, END, IMAGE, PADDING, make_tokenizer

SIDE, PATCH = 128, 8
GRID = SIDE // PATCH
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
WIDTH, LAYERS, MLP = 256, 4, 768
LOUDNESS = 4.0
"""How much louder than what a patch shows the projector reads where it lies, at the beginning (`add_places`)."""


FINDERS = ((1, 0), (2, 1))
"""Layer and head of the attention that learns to look at the thing in question (`looking_loss`). After three rounds
these two were the nearest to it of heads that little else depended on."""


def make_config() -> LlavaConfig:
    """6.8 million parameters: half of them see, half read and write."""
    tokenizer = make_tokenizer()
    end, image, padding = (tokenizer.token_to_id(word) for word in (END, IMAGE, PADDING))
    text = PhiConfig(
        architectures=["PhiForCausalLM"], vocab_size=tokenizer.get_vocab_size(), hidden_size=WIDTH,
        intermediate_size=MLP, num_hidden_layers=LAYERS, num_attention_heads=WIDTH // 64, hidden_act="gelu_new",
        max_position_embeddings=CONTEXT, partial_rotary_factor=0.5, rope_theta=10000.0, qk_layernorm=False,
        layer_norm_eps=1e-5, resid_pdrop=0.0, embd_pdrop=0.0, attention_dropout=0.0, tie_word_embeddings=False,
        bos_token_id=end, eos_token_id=end, pad_token_id=padding)
    vision = CLIPVisionConfig(hidden_size=256, intermediate_size=768, num_hidden_layers=5, num_attention_heads=4,
                              image_size=SIDE, patch_size=PATCH, hidden_act="gelu", projection_dim=192)
    return LlavaConfig(
        architectures=["LlavaForConditionalGeneration"], text_config=text, vision_config=vision,
        image_token_index=image, projector_hidden_act="gelu", multimodal_projector_bias=True, vision_feature_layer=-1,
        vision_feature_select_strategy="default", image_seq_length=GRID * GRID, tie_word_embeddings=False)


def make_network(clip: Path | None = None, seed: int = 0) -> LlavaForConditionalGeneration:
    """Random weights; with `clip`, the directory of the pocket CLIP, the vision tower begins as CLIP's. The head has
    the bias that Phi's has and transformers' LLaVA leaves out.

    Its matrix is that of the embeddings, as long as it learns: a name that is read, a name that a patch is asked for,
    and a name that is said are then one vector, and to find, to copy or to leave out what was said needs no map
    between two tables that would have to be learnt name by name.
    """
    torch.manual_seed(seed)
    network = LlavaForConditionalGeneration(make_config())
    network.lm_head = nn.Linear(WIDTH, network.config.text_config.vocab_size, bias=True)
    network.lm_head.weight = network.model.language_model.embed_tokens.weight
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "vision_tower" in name:
                continue
            if weight.ndim > 1:
                nn.init.normal_(weight, std=0.02 if "embed_tokens" in name or "lm_head" in name else WIDTH**-0.5)
            elif name.endswith("bias"):
                weight.zero_()
    start_text_layers(network)
    if clip is not None:
        network.model.vision_tower.load_state_dict(clip_weights(clip))
    return network


@torch.no_grad()
def start_text_layers(network: LlavaForConditionalGeneration) -> None:
    """Random weights for the layers that read and write; what they add is small at first. Half of the heads begin with
    keys like their queries: a word looks for what is like it, a patch of that name or the word said before (ours)."""
    for layer in network.model.language_model.layers:
        for name, weight in layer.named_parameters():
            if weight.ndim > 1:
                nn.init.normal_(weight, std=WIDTH**-0.5 * (0.3 if "dense" in name or "fc2" in name else 1.0))
            else:
                weight.fill_(1.0 if "layernorm.weight" in name else 0.0)
        layer.self_attn.k_proj.weight[:WIDTH // 2] = layer.self_attn.q_proj.weight[:WIDTH // 2]


def clip_weights(clip: Path) -> dict[str, Tensor]:
    """The image tower of an open_clip directory under the names of transformers' CLIPVisionModel, float32."""
    found = {name.removeprefix("visual."): value.float()
             for name, value in load_file(clip / "open_clip_model.safetensors").items() if name.startswith("visual.")}
    weights = {
        "embeddings.class_embedding": found["class_embedding"],
        "embeddings.patch_embedding.weight": found["conv1.weight"],
        "embeddings.position_embedding.weight": found["positional_embedding"],
    }
    for ours, theirs in (("pre_layrnorm", "ln_pre"), ("post_layernorm", "ln_post")):
        weights |= {f"{ours}.{part}": found[f"{theirs}.{part}"] for part in ("weight", "bias")}
    depth = 1 + max(int(name.split(".")[2]) for name in found if name.startswith("transformer.resblocks."))
    for i in range(depth):
        ours, theirs = f"encoder.layers.{i}", f"transformer.resblocks.{i}"
        for part in ("weight", "bias"):
            projections = found[f"{theirs}.attn.in_proj_{part}"].chunk(3)
            weights |= {f"{ours}.self_attn.{name}_proj.{part}": value.clone()
                        for name, value in zip("qkv", projections, strict=True)}
            weights |= {f"{ours}.{to}.{part}": found[f"{theirs}.{of}.{part}"] for to, of in (
                ("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"),
                ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"))}
    return weights


@torch.no_grad()
def initialise_projector(network: LlavaForConditionalGeneration, images_B3SS: Tensor) -> None:
    """The projector's first layer begins as a random rotation of standardised features, whatever their scale."""
    features_BPV = patch_features(network, images_B3SS, torch.float32)
    flat_NV = features_BPV.flatten(0, 1)
    mean, spread = flat_NV.mean(0), flat_NV.std(0) + 1e-3
    first = network.model.multi_modal_projector.linear_1
    rotation = nn.init.orthogonal_(torch.empty_like(first.weight))
    first.weight.copy_(rotation / spread)
    first.bias.copy_(-first.weight @ mean)


@torch.no_grad()
def add_places(network: LlavaForConditionalGeneration, images_B3SS: Tensor, strength: float = 12.0) -> None:
    """Lets the tower know where a patch lies: a code of its row and column, beside what it shows.

    The pocket CLIP learnt from random windows of its grid, so neither row nor column of a patch can be read from its
    features, and 300 steps of training did not bring them back; the order of a description and its relations need
    them. The code takes the eight directions that say least of the pictures given, among those that no patch filter
    writes into. The layers are kept from reading and writing these until training finds them of use, so it passes
    through to the projector. strength: its length in standard deviations of the embeddings; before the first norm,
    whose gain makes up for it. The way is ours.
    """
    tower: Any = network.model.vision_tower
    embeddings, norm = tower.embeddings, tower.pre_layrnorm
    patches = F.unfold(normalised(images_B3SS, torch.float32), PATCH, stride=PATCH).transpose(1, 2)
    filters_VX = embeddings.patch_embedding.weight.flatten(1)
    table_PV = embeddings.position_embedding.weight[1:]
    spread = (patches @ filters_VX.T + table_PV).std(-1).mean()
    features_BPV = patch_features(network, images_B3SS, torch.float32)
    taken = torch.cat([filters_VX, embeddings.class_embedding[:, None]], 1)
    free_VF = torch.linalg.svd(taken, full_matrices=True).U[:, taken.shape[1]:]
    free_VF = torch.linalg.qr(norm.weight[:, None] * free_VF).Q  # after the norm
    quiet = torch.linalg.eigh(free_VF.T @ features_BPV.flatten(0, 1).T.cov() @ free_VF).eigenvectors
    at = (torch.arange(GRID) + 0.5) / GRID
    waves = torch.stack([(math.pi * (at - 0.5)).sin(), (2 * math.pi * at).cos(), (2 * math.pi * at).sin(),
                         (4 * math.pi * at).cos()], 1)
    waves -= waves.mean(0)
    code_PC = torch.cat([waves.repeat_interleave(GRID, 0), waves.repeat(GRID, 1)], 1)
    code_PC *= strength * spread / code_PC.norm(dim=1).mean()
    axes_VC = free_VF @ quiet[:, :code_PC.shape[1]]
    table_PV += code_PC @ (axes_VC / norm.weight[:, None]).T
    norm.weight.mul_((1 + strength**2 / len(axes_VC)) ** 0.5)
    rest_VV = torch.eye(len(axes_VC)) - axes_VC @ axes_VC.T
    for layer in tower.encoder.layers:
        attention = layer.self_attn
        for before, reading in ((layer.layer_norm1, (attention.q_proj, attention.k_proj, attention.v_proj)),
                                (layer.layer_norm2, (layer.mlp.fc1,))):
            for linear in reading:
                linear.weight.copy_((linear.weight * before.weight) @ rest_VV / before.weight)
        for linear in (attention.out_proj, layer.mlp.fc2):
            linear.weight.copy_(rest_VV @ linear.weight)
            linear.bias.copy_(rest_VV @ linear.bias)
    first = network.model.multi_modal_projector.linear_1
    sight = LOUDNESS * (features_BPV @ rest_VV @ first.weight.T).flatten(0, 1).std(0).mean() / len(axes_VC) ** 0.5
    reading = nn.init.orthogonal_(torch.empty(len(first.weight), axes_VC.shape[1])) * len(axes_VC) ** 0.5
    written = patch_features(network, images_B3SS, torch.float32) @ axes_VC
    first.weight.copy_(first.weight @ rest_VV + reading * sight / written.flatten(0, 1).std(0) @ axes_VC.T)


def normalised(images_B3SS: Tensor, kind: torch.dtype) -> Tensor:
    """uint8 pixels to the model's range."""
    mean, std = (torch.tensor(v, device=images_B3SS.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return ((images_B3SS.float() / 255 - mean) / std).to(kind)


def patch_features(network: LlavaForConditionalGeneration, images_B3SS: Tensor, kind: torch.dtype,
                   places_P: Tensor | None = None) -> Tensor:
    """What the vision tower says of each patch, before the projector: (B, P, V). images: uint8. places: where in the
    grid the patches of a smaller picture lie, by row (`window`)."""
    tower: Any = network.model.vision_tower
    embeddings = tower.embeddings
    pixels = F.unfold(normalised(images_B3SS, kind), PATCH, stride=PATCH).transpose(1, 2)  # (B, P, 3 * patch pixels)
    x_BPV = pixels @ embeddings.patch_embedding.weight.to(kind).flatten(1).T
    cls_B1V = embeddings.class_embedding.to(kind).expand(len(x_BPV), 1, -1)
    table = embeddings.position_embedding.weight
    if places_P is not None:
        table = torch.cat([table[:1], table[1 + places_P]])
    x = torch.cat([cls_B1V, x_BPV], 1) + table.to(kind)
    x = _norm(x, tower.pre_layrnorm)
    heads = tower.config.num_attention_heads
    for layer in tower.encoder.layers:
        attention = layer.self_attn
        q, k, v = _qkv(_norm(x, layer.layer_norm1), attention, heads)
        mixed = attend(q, k, v)
        x = x + _linear(mixed.transpose(1, 2).flatten(2), attention.out_proj)
        x = x + _linear(F.gelu(_linear(_norm(x, layer.layer_norm2), layer.mlp.fc1)), layer.mlp.fc2)
    return x[:, 1:]


def window(rows: int, top: int, left: int) -> Tensor:
    """The places of a square of `rows` x `rows` patches in the grid, row by row: (P,)."""
    return ((torch.arange(rows) + top)[:, None] * GRID + torch.arange(rows) + left).flatten()


def opened_states(network: LlavaForConditionalGeneration, features_BPV: Tensor) -> Tensor:
    """What the text layers are given of each patch, final norm included: (B, P, D); the head can read it as it reads
    words."""
    opened, _ = _opened(network, features_BPV)
    return _norm(opened[:, 1:], network.model.language_model.final_layernorm)


def text_states(network: LlavaForConditionalGeneration, tokens_BT: Tensor, segments_BT: Tensor, positions_BT: Tensor,
                features_BPV: Tensor | None = None, kind: torch.dtype = torch.bfloat16,
                watched: list[Tensor] | None = None) -> Tensor:
    """The states that the head turns into words, final norm included: (B, T, D).

    tokens: ids. segments: number of the question within its row; tokens of one segment see one another (causally),
    their row's picture, and nothing else. positions: 0-based places in the sequence that each question would be alone.
    features: what `patch_features` returned; before them stands the token that opens a turn. watched: is given the
    attention of each of FINDERS to the tokens before the questions, (B, T, N).
    """
    phi: Any = network.model.language_model
    x = F.embedding(tokens_BT, phi.embed_tokens.weight).to(kind)
    before = 0
    batch, length = tokens_BT.shape
    positions = positions_BT
    allowed = (segments_BT[:, :, None] == segments_BT[:, None]) & torch.ones(length, length, dtype=torch.bool).tril()
    if features_BPV is not None:
        opened, before = _opened(network, features_BPV)
        x = torch.cat([opened, x], 1)
        positions = torch.cat([torch.arange(before).expand(batch, -1), positions], 1)
        allowed = torch.cat([torch.ones(batch, length, before, dtype=torch.bool), allowed], 2)
    mask_B1TS = torch.zeros(allowed.shape, dtype=kind).masked_fill(~allowed, float("-inf"))[:, None]
    turn = rotation(positions, kind)
    heads = phi.config.num_attention_heads
    for number, layer in enumerate(phi.layers):
        h = _norm(x, layer.input_layernorm)
        q, k, v = _qkv(h, layer.self_attn, heads)
        q, k = rotated(q, turn), rotated(k, turn)
        mixed = attend(q[:, :, before:], k, v, mask_B1TS)
        for finder in FINDERS:
            if watched is not None and finder[0] == number:
                watched.append(attention(q[:, finder[1], before:], k[:, finder[1]], mask_B1TS[:, 0])[..., :before])
        if before and number + 1 < len(phi.layers):
            first = attend(q[:, :, :before], k[:, :, :before], v[:, :, :before], causal_mask(before, kind))
            mixed = torch.cat([first, mixed], 2)
        elif before:  # nothing reads the picture's tokens after the last layer
            x, h = x[:, before:], h[:, before:]
        x = x + _parallel(mixed, h, layer)
    return _norm(x, phi.final_layernorm)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention, (B, H, S, D / H); written out in bfloat16, which is the quicker way on CPUs."""
    if q.dtype == torch.float32:
        return F.scaled_dot_product_attention(q, k, v, mask)
    return attention(q, k, mask) @ v


def attention(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """What each query takes from each key, in [0, 1]: (..., S of q, S of k)."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return (scores if mask is None else scores + mask).softmax(-1)


@cache
def causal_mask(length: int, kind: torch.dtype) -> Tensor:
    """What is added to scores so that nothing sees what follows it."""
    return torch.full((length, length), float("-inf"), dtype=kind).triu(1)


def opening_token() -> Tensor:
    """The id of the piece that opens a turn: (1, 1)."""
    return torch.tensor([[_opening()]])


def rotation(positions_BS: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary angles: (B, 1, S, rotary dimensions) each; half of a head's 64 turn."""
    rates = 10000.0 ** (-torch.arange(0, 32, 2) / 32)
    angles = positions_BS[:, None, :, None] * rates
    angles = torch.cat([angles, angles], -1)
    return angles.cos().to(kind), angles.sin().to(kind)


def rotated(x_BHSd: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Queries or keys with the first half of their dimensions turned by their place."""
    cos, sin = turn
    moving, still = x_BHSd.split([cos.shape[-1], x_BHSd.shape[-1] - cos.shape[-1]], -1)
    low, high = moving.chunk(2, -1)
    return torch.cat([moving * cos + torch.cat([-high, low], -1) * sin, still], -1)


def logits(network: LlavaForConditionalGeneration, states_ND: Tensor, among: Tensor | None = None) -> Tensor:
    """Scores of all tokens, or of those with the ids `among`, float32."""
    weight_WD, bias_W = network.lm_head.weight, network.lm_head.bias
    if among is not None:
        weight_WD, bias_W = weight_WD[among], bias_W[among]
    return F.linear(states_ND, weight_WD.to(states_ND.dtype), bias_W.to(states_ND.dtype)).float()


def _opened(network: LlavaForConditionalGeneration, features_BPV: Tensor) -> tuple[Tensor, int]:
    """The token that opens a turn and the projected patches, (B, 1 + P, D), and how many they are."""
    projector = network.model.multi_modal_projector
    seen = _linear(F.gelu(_linear(features_BPV, projector.linear_1)), projector.linear_2)
    table = network.model.language_model.embed_tokens.weight
    opening = F.embedding(opening_token().expand(len(seen), 1), table).to(seen.dtype)
    return torch.cat([opening, seen], 1), 1 + seen.shape[1]


def _parallel(mixed_BHSd: Tensor, normed_BSD: Tensor, layer: Any) -> Tensor:
    """What a layer of Phi adds: attention and MLP side by side."""
    return _linear(mixed_BHSd.transpose(1, 2).flatten(2), layer.self_attn.dense) + _linear(
        F.gelu(_linear(normed_BSD, layer.mlp.fc1), approximate="tanh"), layer.mlp.fc2)


@cache
def _opening() -> int:
    found = make_tokenizer().token_to_id("USER:\u0120")
    assert found is not None  # it is one of the pieces
    return found


def _norm(x: Tensor, norm: Any) -> Tensor:
    return F.layer_norm(x, norm.weight.shape, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)


def _linear(x: Tensor, layer: Any) -> Tensor:
    return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


def _qkv(x_BSD: Tensor, attention: Any, heads: int) -> Tensor:
    """Queries, keys and values in one product: (3, B, H, S, D / H)."""
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    weight, bias = (torch.cat([getattr(part, name) for part in parts]).to(x_BSD.dtype) for name in ("weight", "bias"))
    batch, length, _ = x_BSD.shape
    return F.linear(x_BSD, weight, bias).view(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
