"""The two towers of an open_clip CLIP as plain functions: any picture size, short texts, one number format.

They compute what `open_clip.CLIP` computes (a test holds them against it); written out because the library's
forward needs the full picture size and the full text length, and because on CPUs explicit attention in bfloat16 is
about half as slow again as autocast. Shapes: B batch, N tokens, D width, E embedding, P patches, T text tokens.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor, nn


def block(x_BND: Tensor, layer: Any, heads: int, bias_NN: Tensor | None = None) -> Tensor:
    """One pre-norm transformer block (`open_clip.transformer.ResidualAttentionBlock`)."""
    batch, tokens, width = x_BND.shape
    kind = x_BND.dtype

    def weights(module: Any) -> tuple[Tensor, Tensor]:
        return module.weight.to(kind), module.bias.to(kind)

    h_BND = F.layer_norm(x_BND, (width,), *weights(layer.ln_1))
    attention = layer.attn
    qkv = F.linear(h_BND, attention.in_proj_weight.to(kind), attention.in_proj_bias.to(kind))
    q, k, v = qkv.view(batch, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)  # each (B, heads, N, D/heads)
    weights_BHNN = (q * (width // heads) ** -0.5) @ k.transpose(-1, -2)
    if bias_NN is not None:
        weights_BHNN = weights_BHNN + bias_NN.to(kind)
    mixed_BND = (weights_BHNN.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, width)
    x_BND = x_BND + F.linear(mixed_BND, *weights(attention.out_proj))
    h_BND = F.layer_norm(x_BND, (width,), *weights(layer.ln_2))
    return x_BND + F.linear(F.gelu(F.linear(h_BND, *weights(layer.mlp.c_fc))), *weights(layer.mlp.c_proj))


def positions(visual: Any, rows: int, columns: int, corner: tuple[int, int]) -> Tensor:
    """Position embeddings of a window of the grid that begins at `corner` (row, column): (1 + rows * columns, D)."""
    height, width = visual.grid_size
    table = visual.positional_embedding
    grid_HWD = table[1:].view(height, width, -1)
    window = grid_HWD[corner[0] : corner[0] + rows, corner[1] : corner[1] + columns]
    return torch.cat([table[:1], window.reshape(rows * columns, -1)])


def encode_image(model: CLIP, images_B3SS: Tensor, corner: tuple[int, int] = (0, 0)) -> tuple[Tensor, Tensor]:
    """Image vectors (B, E) and projected patch tokens (B, P, E), neither normalised.

    images: normalised, float; smaller than the model's own size if need be. The result has the images' dtype.
    """
    visual, kind = model.visual, images_B3SS.dtype
    side = visual.patch_size[0]
    rows, columns = images_B3SS.shape[2] // side, images_B3SS.shape[3] // side
    patches_BPV = F.unfold(images_B3SS, side, stride=side).transpose(1, 2)  # (B, P, 3 * side * side)
    x_BPD = patches_BPV @ visual.conv1.weight.to(kind).flatten(1).T
    cls_B1D = visual.class_embedding.to(kind).expand(len(x_BPD), 1, -1)
    x_BND = torch.cat([cls_B1D, x_BPD], 1) + positions(visual, rows, columns, corner).to(kind)
    x_BND = F.layer_norm(x_BND, x_BND.shape[-1:], visual.ln_pre.weight.to(kind), visual.ln_pre.bias.to(kind))
    for layer in visual.transformer.resblocks:
        x_BND = block(x_BND, layer, layer.attn.num_heads)
    x_BND = F.layer_norm(x_BND, x_BND.shape[-1:], visual.ln_post.weight.to(kind), visual.ln_post.bias.to(kind))
    out_BNE = x_BND @ visual.proj.to(kind)
    return out_BNE[:, 0], out_BNE[:, 1:]


def encode_text(model: CLIP, tokens_BT: Tensor, kind: torch.dtype = torch.float32) -> Tensor:
    """Text vectors (B, E), not normalised, of sequences of any length up to the model's."""
    length = tokens_BT.shape[1]
    x_BTD = (model.token_embedding(tokens_BT) + model.positional_embedding[:length]).to(kind)
    for layer in model.transformer.resblocks:
        x_BTD = block(x_BTD, layer, layer.attn.num_heads, model.attn_mask[:length, :length])
    end_BD = x_BTD[torch.arange(len(x_BTD)), tokens_BT.argmax(1)]
    end_BD = F.layer_norm(end_BD, end_BD.shape[-1:], model.ln_final.weight.to(kind), model.ln_final.bias.to(kind))
    projection = model.text_projection
    weight = projection.weight.T if isinstance(projection, nn.Linear) else projection
    return end_BD @ weight.to(kind)
