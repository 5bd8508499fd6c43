"""LLMFormer: a mask transformer whose queries attend to what a description says of the picture.

H. Shi, S. D. Dao, J. Cai: LLMFormer, IJCV 133(2), 2025. Modules and data flow are the paper's as far as they are
public; equations and sizes are ours (docs/llmformer.md says which).

Shapes: B batch; S side of the window; Q mask queries; D decoder width; N objects; L levels, P_l cells of level l;
h, w cells of the masks; P patches of the encoder; c text width; K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
    Mask2FormerSinePositionEmbedding,
)

from parsers.errors import Code, ModelError
from vision.llmformer.adapter import VitAdapter
from vision.llmformer.attentions import (
    AttentionCues,
    PriorEmbedding,
    RelationAttention,
    ScaleSelection,
    SemanticAttention,
    VisualAttention,
)
from vision.llmformer.config import LEVELS, LlmformerConfig
from vision.llmformer.deformable import reset_offsets
from vision.llmformer.priors import PriorBatch
from vision.llmformer.towers import Tower, load_tower

FIRST_SCALE, LARGEST_SCALE = 1 / 0.07, 100.0
"""Of the cosines that are class logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the heads say after one layer."""

    masks_BQhw: Tensor
    """Logits."""
    classes_BQc: Tensor
    """Of length 1, comparable with text vectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What the model says of a batch."""

    layers: tuple[Prediction, ...]
    """Before the first layer and after each; the last is the result."""
    pixels_Bchw: Tensor | None
    """Of length 1 along c; of the per-pixel head, where there is one."""
    linked_BQN: Tensor
    """A of the last layer: how much each mask is each object."""

    @property
    def last(self) -> Prediction:
        return self.layers[-1]


@dataclass(frozen=True, slots=True)
class Picture:
    """What the layers read of the pictures."""

    levels: tuple[Tensor, ...]
    """(B, P_l, D), the coarsest first."""
    places: tuple[Tensor, ...]
    """(P_l, D), positions."""
    shapes: tuple[tuple[int, int], ...]
    mask_features_BDhw: Tensor
    text_space_BPc: Tensor | None
    """Of length 1."""
    grid: tuple[int, int]


class DecoderLayer(nn.Module):
    """Semantic attention, visual attention, relation attention, feed-forward."""

    def __init__(self, config: LlmformerConfig) -> None:
        super().__init__()
        width, heads = config.width, config.heads
        self.config = config
        self.semantic = SemanticAttention(width, heads, config.fusion, cue=config.cue)
        self.visual = VisualAttention(width, heads)
        if config.attention == "ours":
            self.scale = ScaleSelection(config.text_width, width, LEVELS, config.scales)
        elif config.attention == "tsg":
            self.cues = AttentionCues(LEVELS)
        self.relation = RelationAttention(config.text_width, width, heads, relation=config.relation)
        if config.cue:
            self.look = nn.Linear(config.text_width, width)
        self.feedforward = nn.Sequential(nn.Linear(width, config.feedforward), nn.ReLU(),
                                         nn.Linear(config.feedforward, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, masks_BQD: Tensor, positions_QD: Tensor, number: int, picture: Picture, before: Prediction,
                prior_rows_BND: Tensor, told_BNc: Tensor, priors: PriorBatch,
                seen_BQc: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, Q, D) and A (B, Q, N). number: of the layer; before: what the heads said last; told: attribute vectors
        of the objects; seen: mask-pooled text-space features."""
        cue_BQN = None
        if seen_BQc is not None:
            masks_BQD = masks_BQD + self.look(seen_BQc)
            cue_BQN = seen_BQc @ priors.objects_BNc.transpose(1, 2)
        masks_BQD, linked_BQN = self.semantic(masks_BQD, prior_rows_BND, priors.valid_BN, cue_BQN)
        masks_BQD = self.visual.norm(masks_BQD + self._look(masks_BQD, positions_QD, number, picture, before,
                                                            linked_BQN @ told_BNc))
        bias = self.relation.bias(linked_BQN, priors) if self.config.relation else None
        masks_BQD = self.relation(masks_BQD, positions_QD, bias)
        return self.norm(masks_BQD + self.feedforward(masks_BQD)), linked_BQN

    def _look(self, masks_BQD: Tensor, positions_QD: Tensor, number: int, picture: Picture, before: Prediction,
              told_BQc: Tensor) -> Tensor:
        """(B, Q, D): what the masks read of the picture."""
        inside = self.config.attention == "mask2former" or self.config.masked

        def read(level: int) -> Tensor:
            blocked = _outside(before.masks_BQhw, picture.shapes[level]) if inside else None
            return self.visual.attend(masks_BQD, positions_QD, picture.levels[level], picture.places[level], blocked)

        if self.config.attention == "mask2former":
            return read(number % LEVELS)
        if self.config.attention == "tsg":
            maps = [self.visual.weights(masks_BQD, positions_QD, level, places)
                    for level, places in zip(picture.levels, picture.places, strict=True)]
            gates_BQL = self.cues(maps, self.relation.weights(masks_BQD, positions_QD))
        elif self.config.scales.startswith("single"):
            return read(int(self.config.scales[-1]))
        else:
            gates_BQL = self.scale(masks_BQD, told_BQc)
        return sum((gates_BQL[..., level, None] * read(level) for level in range(LEVELS)), torch.zeros(()))


def _outside(masks_BQhw: Tensor, shape: tuple[int, int]) -> Tensor:
    """bool (B, Q, P_l): cells of a level outside of the masks."""
    return F.interpolate(masks_BQhw.detach(), shape, mode="bilinear", align_corners=False).flatten(2) < 0


class Llmformer(nn.Module):
    """The whole model. The tower is in evaluation mode and without gradients where it is frozen."""

    def __init__(self, config: LlmformerConfig, tower: Tower) -> None:
        super().__init__()
        self.config, self.tower = config, tower
        width, text = config.width, config.text_width
        self.adapter = VitAdapter(config.adapter, tower, finest=config.mask_stride == 4)
        self.pixel_decoder = make_pixel_decoder(config, tower.width)
        self.positions = Mask2FormerSinePositionEmbedding(width // 2, normalize=True)
        self.level_embedding = nn.Parameter(torch.randn(LEVELS, width) * 0.02)
        self.query = nn.Parameter(torch.randn(config.queries, width))
        self.query_position = nn.Parameter(torch.randn(config.queries, width))
        self.priors = PriorEmbedding(text, width)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.mask_head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                                       nn.Linear(width, width))
        named = nn.Linear(width, text)
        self.class_head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), named)
        self.no_object = nn.Parameter(F.normalize(torch.randn(text), dim=0))
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        if config.pixel_head:
            self.pixel_head = nn.Conv2d(width, text, 1)
        if config.cue:
            if tower.text_width is None:
                raise ModelError(Code.MODEL_UNSUPPORTED, f"The encoder {config.tower.path} has no text space.",
                                 "An open_clip directory, or a LLaVA directory with its projector.",
                                 "Set model.cue to false, or give such an encoder.")
            if config.tower.kind == "llava":
                self.to_text = nn.Sequential(nn.LayerNorm(tower.text_width), nn.Linear(tower.text_width, text))
            nn.init.normal_(named.weight, std=0.01)
            self.seen_weight, self.linked_weight = nn.Parameter(torch.ones(())), nn.Parameter(torch.tensor(0.5))
            if config.pixel_head:
                nn.init.normal_(self.pixel_head.weight, std=0.01)
                self.pixel_weight = nn.Parameter(torch.ones(()))
        if config.tower.frozen:
            tower.requires_grad_(False)
            tower.eval()

    def train(self, mode: bool = True) -> Llmformer:
        super().train(mode)
        if self.config.tower.frozen:
            self.tower.eval()
        return self

    def forward(self, images_B3SS: Tensor, priors: PriorBatch) -> Predictions:
        """images: normalised with the tower's mean and std."""
        config = self.config
        if config.priors == "none":
            priors = priors.without(torch.zeros(len(images_B3SS), dtype=torch.bool, device=images_B3SS.device))
        picture = self.read(images_B3SS)
        use_attributes = config.priors == "object+attribute"
        rows_BND = self.priors(priors, use_attributes=use_attributes)
        told_BNc = self.priors.attributes(priors) if use_attributes else torch.zeros_like(priors.attributes_BNc)
        masks_BQD = self.query.expand(len(images_B3SS), -1, -1)
        linked_BQN = masks_BQD.new_zeros(*masks_BQD.shape[:2], priors.valid_BN.shape[1])
        predictions = []
        prediction, seen_BQc = self._heads(masks_BQD, picture, linked_BQN, priors)
        predictions.append(prediction)
        for number, layer in enumerate(self.layers):
            masks_BQD, linked_BQN = layer(masks_BQD, self.query_position, number, picture, prediction, rows_BND,
                                          told_BNc, priors, seen_BQc)
            prediction, seen_BQc = self._heads(masks_BQD, picture, linked_BQN, priors)
            predictions.append(prediction)
        return Predictions(layers=tuple(predictions), linked_BQN=linked_BQN,
                           pixels_Bchw=self._name_pixels(picture) if config.pixel_head else None)

    def read(self, images_B3SS: Tensor) -> Picture:
        """All that does not depend on priors."""
        features = self.adapter(self.tower, images_B3SS, frozen=self.config.tower.frozen)
        decoded = self.pixel_decoder(list(features.maps))
        maps = decoded.multi_scale_features
        levels = tuple(level.flatten(2).transpose(1, 2) + embedding
                       for level, embedding in zip(maps, self.level_embedding, strict=True))
        places = tuple(self.positions(level[:1].shape, level.device, level.dtype).flatten(2).transpose(1, 2)[0]
                       for level in maps)
        text_space = self.tower.text_space(features.tokens_BNE) if self.config.cue else None
        if text_space is not None and self.config.tower.kind == "llava":
            text_space = self.to_text(text_space)
        return Picture(levels, places, tuple((level.shape[2], level.shape[3]) for level in maps),
                       decoded.mask_features, None if text_space is None else F.normalize(text_space, dim=-1),
                       features.grid)

    def class_logits(self, classes_BQc: Tensor, texts_Kc: Tensor) -> Tensor:
        """(B, Q, K + 1): scaled cosines with the text vectors, "no object" last. texts: of length 1."""
        vectors_Kc = torch.cat([texts_Kc, F.normalize(self.no_object, dim=0)[None]])
        return self.scale * (classes_BQc @ vectors_Kc.T.to(classes_BQc.dtype))

    @property
    def scale(self) -> Tensor:
        """From cosine to logit."""
        return self.log_scale.exp().clamp(max=LARGEST_SCALE)

    def _name_pixels(self, picture: Picture) -> Tensor:
        """(B, c, h, w) of length 1 along c: the per-pixel head, with `cue` beside the encoder's own features."""
        named_Bchw = self.pixel_head(picture.mask_features_BDhw)
        if picture.text_space_BPc is not None:
            seen_Bchw = picture.text_space_BPc.transpose(1, 2).unflatten(2, picture.grid)
            named_Bchw = named_Bchw + self.pixel_weight * F.interpolate(
                seen_Bchw, named_Bchw.shape[-2:], mode="bilinear", align_corners=False)
        return F.normalize(named_Bchw, dim=1)

    def _heads(self, masks_BQD: Tensor, picture: Picture, linked_BQN: Tensor,
               priors: PriorBatch) -> tuple[Prediction, Tensor | None]:
        """The prediction, and the mask-pooled text-space features (B, Q, c) of a model with `cue`."""
        normed_BQD = self.norm(masks_BQD)
        features_BDhw = picture.mask_features_BDhw
        masks_BQhw = (self.mask_head(normed_BQD) @ features_BDhw.flatten(2)).unflatten(2, features_BDhw.shape[-2:])
        classes_BQc, seen_BQc = self.class_head(normed_BQD), None
        if picture.text_space_BPc is not None:
            share_BQP = F.interpolate(masks_BQhw.detach().sigmoid(), picture.grid, mode="area").flatten(2)
            seen_BQc = F.normalize(share_BQP.to(picture.text_space_BPc.dtype) @ picture.text_space_BPc, dim=-1)
            classes_BQc = (classes_BQc + self.seen_weight * seen_BQc
                           + self.linked_weight * (linked_BQN @ priors.objects_BNc))
        return Prediction(masks_BQhw=masks_BQhw, classes_BQc=F.normalize(classes_BQc, dim=-1)), seen_BQc


def make_pixel_decoder(config: LlmformerConfig, channels: int) -> Mask2FormerPixelDecoder:
    """transformers' decoder with the start that its own models give it: the module leaves its level embedding
    uninitialised and its deformable offsets at random."""
    decoder = Mask2FormerPixelDecoder(Mask2FormerConfig(
        feature_size=config.width, mask_feature_size=config.width, hidden_dim=config.width,
        encoder_feedforward_dim=config.pixel_feedforward, encoder_layers=config.pixel_layers,
        num_attention_heads=config.heads, feature_strides=[4, 8, 16, 32], common_stride=config.mask_stride,
        dropout=0.0), [channels] * 4)
    nn.init.normal_(decoder.level_embed, std=0.02)
    for module in decoder.modules():
        if isinstance(module, Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention):
            reset_offsets(module)
    return decoder


def build_model(config: LlmformerConfig, base: Path) -> Llmformer:
    """A model with random weights around its encoder; relative paths count from `base`. Raises ModelError."""
    return Llmformer(config, load_tower(config.tower, config.window, base))
