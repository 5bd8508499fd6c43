"""The three attentions of LLMFormer, each with its alternatives.

The sources state the modules and their order; equations are ours where docs/llmformer.md says so.

Shapes: B batch; Q mask queries; D width; H heads; d = D / H; N objects; R relations; L levels; P_l cells of level l;
c text width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.llmformer.priors import PriorBatch


def split_heads(x_BND: Tensor, heads: int) -> Tensor:
    """(B, H, N, d)."""
    return x_BND.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x_BHNd: Tensor) -> Tensor:
    """(B, N, D)."""
    return x_BHNd.transpose(1, 2).flatten(2)


class PriorEmbedding(nn.Module):
    """P: one row per object, and before them one learned row "none", so that a mask need not match any object."""

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.object = nn.Linear(text_width, width, bias=False)
        self.attribute = nn.Linear(text_width, width, bias=False)
        self.no_attribute = nn.Parameter(torch.zeros(text_width))
        self.norm = nn.LayerNorm(width)
        self.none = nn.Parameter(torch.randn(width) * 0.02)

    def attributes(self, priors: PriorBatch) -> Tensor:
        """(B, N, c): a learned vector where nothing is said of an object."""
        return torch.where(priors.described_BN[..., None], priors.attributes_BNc, self.no_attribute)

    def forward(self, priors: PriorBatch, *, use_attributes: bool) -> Tensor:
        """(B, N + 1, D)."""
        rows_BND = self.object(priors.objects_BNc)
        if use_attributes:
            rows_BND = rows_BND + self.attribute(self.attributes(priors))
        none_B1D = self.none.expand(len(rows_BND), 1, -1)
        return torch.cat([none_B1D, self.norm(rows_BND)], 1)


class SemanticAttention(nn.Module):
    """Masks read the priors. Gives the new masks, and A (B, Q, N): how much each mask is each object.

    fusion `cross-attention`: A is the mean of the heads' attention, without the column of "none". `add` and `concat`
    give every mask the mean of all objects, and A is even over them. cue: cosines of masks and objects that are added
    to the attention's logits, with a learned weight per head.
    """

    def __init__(self, width: int, heads: int, fusion: str, *, cue: bool) -> None:
        super().__init__()
        self.heads, self.fusion = heads, fusion
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(2 * width if fusion == "concat" else width, width)
        if fusion == "cross-attention":
            self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
            if cue:
                self.cue_weight = nn.Parameter(torch.full((heads,), 8.0))
                self.cue_none = nn.Parameter(torch.full((heads,), 0.3))
        self.norm = nn.LayerNorm(width)

    def forward(self, masks_BQD: Tensor, priors_BND: Tensor, valid_BN: Tensor,
                cue_BQN: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """priors: N + 1 rows with "none" first; valid: N."""
        if self.fusion != "cross-attention":
            return self._even(masks_BQD, priors_BND, valid_BN)
        weights_BHQN = self.weights(masks_BQD, priors_BND, valid_BN, cue_BQN)
        read_BQD = join_heads(weights_BHQN @ split_heads(self.value(priors_BND), self.heads))
        return self.norm(masks_BQD + self.out(read_BQD)), weights_BHQN.mean(1)[..., 1:]

    def weights(self, masks_BQD: Tensor, priors_BND: Tensor, valid_BN: Tensor,
                cue_BQN: Tensor | None = None) -> Tensor:
        """(B, H, Q, N + 1): rows sum to 1; 0 for what is filling."""
        queries, keys = (split_heads(part(x), self.heads) for part, x in
                         ((self.query, masks_BQD), (self.key, priors_BND)))
        logits_BHQN = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
        if cue_BQN is not None:
            cues_BHQN = torch.cat([self.cue_none[None, :, None, None].expand(len(masks_BQD), -1, masks_BQD.shape[1], 1),
                                   cue_BQN[:, None].expand(-1, self.heads, -1, -1)], -1)
            logits_BHQN = logits_BHQN + self.cue_weight[:, None, None] * cues_BHQN
        allowed_BN = F.pad(valid_BN, (1, 0), value=True)
        return logits_BHQN.masked_fill(~allowed_BN[:, None, None], float("-inf")).softmax(-1)

    def _even(self, masks_BQD: Tensor, priors_BND: Tensor, valid_BN: Tensor) -> tuple[Tensor, Tensor]:
        share_BN = valid_BN / valid_BN.sum(-1, keepdim=True).clamp(min=1)
        none_B1 = (~valid_BN.any(-1, keepdim=True)).to(share_BN.dtype)
        mean_B1D = torch.cat([none_B1, share_BN], 1)[:, None] @ self.value(priors_BND)
        mean_BQD = mean_B1D.expand_as(masks_BQD)
        joined = torch.cat([masks_BQD, mean_BQD], -1) if self.fusion == "concat" else mean_BQD
        return self.norm(masks_BQD + self.out(joined)), share_BN[:, None].expand(-1, masks_BQD.shape[1], -1)


class VisualAttention(nn.Module):
    """Masks read the picture: one shared projection, one result per level, and gates g over the levels.

    `attend` gives all levels; what chooses among them are the classes below.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def attend(self, masks_BQD: Tensor, positions_QD: Tensor, level_BPD: Tensor, places_PD: Tensor,
               blocked_BQP: Tensor | None) -> Tensor:
        """(B, Q, D) of one level. blocked: cells that a mask must not look at; a row that blocks all blocks none."""
        queries = split_heads(self.query(masks_BQD + positions_QD), self.heads)
        keys, values = split_heads(self.key(level_BPD + places_PD), self.heads), split_heads(self.value(level_BPD),
                                                                                             self.heads)
        allowed = None
        if blocked_BQP is not None:
            allowed = ~(blocked_BQP & ~blocked_BQP.all(-1, keepdim=True))[:, None]
        return self.out(join_heads(F.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed)))

    def weights(self, masks_BQD: Tensor, positions_QD: Tensor, level_BPD: Tensor, places_PD: Tensor) -> Tensor:
        """(B, H, Q, P): the attention map of one level."""
        queries = split_heads(self.query(masks_BQD + positions_QD), self.heads)
        keys = split_heads(self.key(level_BPD + places_PD), self.heads)
        return (queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5).softmax(-1)


class ScaleSelection(nn.Module):
    """s = MLP([t W ; M]) over the levels, t the attribute embedding of a mask; then g by `kind`.

    kind `hard`: one level, by Gumbel-softmax with a straight-through gradient in training and by the largest score
    afterwards; `soft`: softmax; `mean`: all alike; `single:l`: level l.
    """

    def __init__(self, text_width: int, width: int, levels: int, kind: str) -> None:
        super().__init__()
        self.levels, self.kind = levels, kind
        if kind in ("hard", "soft"):
            self.attribute = nn.Linear(text_width, width)
            self.score = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, levels))

    def forward(self, masks_BQD: Tensor, told_BQc: Tensor) -> Tensor:
        """(B, Q, L)."""
        if self.kind == "mean":
            return masks_BQD.new_full((*masks_BQD.shape[:2], self.levels), 1 / self.levels)
        if self.kind.startswith("single"):
            gates_BQL = masks_BQD.new_zeros(*masks_BQD.shape[:2], self.levels)
            gates_BQL[..., int(self.kind[-1])] = 1
            return gates_BQL
        scores_BQL = self.score(torch.cat([self.attribute(told_BQc), masks_BQD], -1))
        if self.kind == "soft":
            return scores_BQL.softmax(-1)
        if self.training:
            return F.gumbel_softmax(scores_BQL.float(), tau=1.0, hard=True).to(scores_BQL.dtype)
        return F.one_hot(scores_BQL.argmax(-1), self.levels).to(scores_BQL.dtype)


class AttentionCues(nn.Module):
    """Gates from what attention maps look like (after TSG, arXiv 2205.07056, of which the abstract alone is known;
    form ours): per level the largest weight and the entropy of a mask's map over the picture, and of its map over
    the other masks; a small network; softmax."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(2 * levels + 2, 32), nn.ReLU(), nn.Linear(32, levels))

    def forward(self, maps: Sequence[Tensor], among_BHQQ: Tensor) -> Tensor:
        """maps: (B, H, Q, P_l) per level. (B, Q, L)."""
        cues = [cue for weights in (*maps, among_BHQQ) for cue in _shape_of(weights)]
        return self.score(torch.stack(cues, -1)).softmax(-1)


def _shape_of(weights_BHQP: Tensor) -> tuple[Tensor, Tensor]:
    """Largest weight and entropy (0 to 1) of the heads' mean map, (B, Q) each."""
    mean_BQP = weights_BHQP.mean(1)
    entropy_BQ = -(mean_BQP * (mean_BQP + 1e-8).log()).sum(-1) / max(1.0, float(torch.tensor(mean_BQP.shape[-1]).log()))
    return mean_BQP.amax(-1), entropy_BQ


class RelationAttention(nn.Module):
    """Self-attention among masks whose logits carry the relations of their objects.

    G (B, H, N, N) holds w_h . r for a stated relation, w'_h . r for its reverse, 0 elsewhere; the bias of masks is
    A G A^T, times a learned lambda per head.
    """

    def __init__(self, text_width: int, width: int, heads: int, *, relation: bool) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        if relation:
            self.forward_edge = nn.Linear(text_width, heads, bias=False)
            self.reverse_edge = nn.Linear(text_width, heads, bias=False)
            self.strength = nn.Parameter(torch.full((heads,), 0.1))

    def graph(self, priors: PriorBatch) -> Tensor:
        """G, (B, H, N, N)."""
        batch, count = priors.valid_BN.shape
        said_BR1 = priors.related_BR[..., None]
        along_BRH = self.forward_edge(priors.relations_BRc) * said_BR1
        back_BRH = self.reverse_edge(priors.relations_BRc) * said_BR1
        s_BR, o_BR = priors.pairs_BR2.unbind(-1)
        flat_BMH = along_BRH.new_zeros(batch, count * count, self.heads)
        for places_BR, values_BRH in ((s_BR * count + o_BR, along_BRH), (o_BR * count + s_BR, back_BRH)):
            flat_BMH = flat_BMH.scatter_add(1, places_BR[..., None].expand_as(values_BRH), values_BRH)
        return flat_BMH.transpose(1, 2).unflatten(2, (count, count))

    def bias(self, linked_BQN: Tensor, priors: PriorBatch) -> Tensor:
        """B, (B, H, Q, Q): the graph of objects as a graph of masks."""
        linked_B1QN = linked_BQN[:, None]
        return linked_B1QN @ self.graph(priors) @ linked_B1QN.transpose(-1, -2)

    def weights(self, masks_BQD: Tensor, positions_QD: Tensor) -> Tensor:
        """(B, H, Q, Q): the attention map without relations."""
        queries, keys, _ = self._parts(masks_BQD, positions_QD)
        return (queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5).softmax(-1)

    def forward(self, masks_BQD: Tensor, positions_QD: Tensor, bias_BHQQ: Tensor | None = None) -> Tensor:
        queries, keys, values = self._parts(masks_BQD, positions_QD)
        weighted = None if bias_BHQQ is None else (self.strength[:, None, None] * bias_BHQQ).to(queries.dtype)
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=weighted)
        return self.norm(masks_BQD + self.out(join_heads(mixed)))

    def _parts(self, masks_BQD: Tensor, positions_QD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight_3D, bias_3D = self.inputs.weight.chunk(3), self.inputs.bias.chunk(3)
        placed_BQD = masks_BQD + positions_QD
        return tuple(split_heads(F.linear(x, weight_3D[i], bias_3D[i]), self.heads)
                     for i, x in enumerate((placed_BQD, placed_BQD, masks_BQD)))  # type: ignore[return-value]
