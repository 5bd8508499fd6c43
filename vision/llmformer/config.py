"""What an LLMFormer is made of: sizes, towers, and every switch of the method.

A configuration is a JSON object (`config.json` of a model directory, `model:` of a training file). Two models fit the
same weights exactly when their configurations agree; `differing_keys` says where they do not.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

SCALES = ("single:0", "single:1", "single:2", "mean", "soft", "hard")
LEVELS = 3
"""Feature maps that the decoder looks at, the coarsest first (strides 32, 16 and 8 of the adapter's picture)."""


class TowerConfig(BaseModel):
    """The vision encoder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["open_clip", "llava", "timm"]
    path: str | None = None
    """Of an open_clip or LLaVA directory, or of a safetensors file of timm's weights; a relative one counts from the
    model's own directory. A timm tower without one begins with random weights."""
    digest: str | None = None
    """sha256 of the model in `path` (`vision.models.model_digest`); null: not checked."""
    name: str | None = None
    """timm only: the name of a vision transformer, such as `vit_tiny_patch16_224`. Weights are never downloaded."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """timm only: further arguments of `timm.create_model`."""
    frozen: bool = True
    """Whether training leaves the encoder as it is; its weights are then not part of a checkpoint."""

    @model_validator(mode="after")
    def _has_a_source(self) -> TowerConfig:
        if self.kind == "timm" and not self.name:
            raise ValueError("a timm tower needs `name`")
        if self.kind != "timm" and not self.path:
            raise ValueError(f"a tower of kind {self.kind} needs `path`")
        if self.kind == "timm" and self.frozen and not self.path:
            raise ValueError("a timm tower without `path` has random weights: frozen must be false")
        return self


class WordsConfig(BaseModel):
    """Where text vectors come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["open_clip", "table"]
    """The text tower of a CLIP, or a file of vectors for a closed list of names (`vision.llmformer.words`)."""
    path: str
    """An open_clip directory, or the file; a relative one counts from the model's own directory."""
    digest: str | None = None
    """sha256 of the CLIP (`vision.models.model_digest`) or of the file; null: not checked."""


class AdapterConfig(BaseModel):
    """The ViT-Adapter (Chen et al., ICLR 2023)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    interactions: int = Field(default=4, ge=1)
    """Into how many groups the encoder's blocks are divided."""
    injector: bool = True
    """False: read-only, the encoder never sees the adapter and runs without gradients when it is frozen."""
    stem: int = Field(default=64, ge=8)
    """Channels of the first convolutions; the four levels have 1, 2, 4 and 4 times as many."""
    stem_stride: Literal[2, 4] = 4
    """Pixels per cell of the finest level. 4 for patches of 14 or 16 pixels, 2 for patches of 8."""
    stem_blocks: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Residual blocks (two 3x3 convolutions each) after each level; for encoders that begin with random weights."""
    points: int = Field(default=4, ge=1)
    heads: int = Field(default=16, ge=1)
    ratio: float = Field(default=0.5, gt=0, le=1)
    """Width of the values of deformable attention as a share of the encoder's width."""
    extra_extractors: int = Field(default=2, ge=0)
    """Further extractors in the last interaction."""


class LlmformerConfig(BaseModel):
    """The whole model. Defaults are those of the specification for a full-size model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    tower: TowerConfig
    words: WordsConfig
    adapter: AdapterConfig = AdapterConfig()
    window: int = Field(default=640, gt=0)
    """Side in pixels of the square that the adapter is shown."""
    text_width: int = Field(default=768, gt=0)
    """Length of the text vectors of classes, objects, attributes and relations."""
    width: int = Field(default=256, ge=32, multiple_of=32)
    """d of the decoder and the pixel decoder."""
    heads: int = Field(default=8, ge=1)
    queries: int = Field(default=100, ge=1)
    layers: int = Field(default=6, ge=1)
    feedforward: int = Field(default=2048, ge=1)
    pixel_layers: int = Field(default=6, ge=1)
    """Layers of multi-scale deformable attention in the pixel decoder."""
    pixel_feedforward: int = Field(default=1024, ge=1)
    mask_stride: Literal[4, 8] = 4
    """Cells of the masks: the adapter's finest level (4) or the one above it (8), counted as if the stem's stride
    were 4."""
    objects: int = Field(default=32, ge=1)
    """N: objects of a description beyond this many are left out."""
    relations: int = Field(default=32, ge=1)
    """Relations of a description beyond this many are left out."""
    priors: Literal["none", "object", "object+attribute"] = "object+attribute"
    fusion: Literal["add", "concat", "cross-attention"] = "cross-attention"
    """How a mask learns of the objects."""
    scales: Literal["single:0", "single:1", "single:2", "mean", "soft", "hard"] = "hard"
    """Which feature map a mask looks at; `hard`: the one that its attribute embedding chooses."""
    relation: bool = True
    """Whether the object relations bias the attention among masks."""
    attention: Literal["ours", "mask2former", "tsg"] = "ours"
    """What a mask looks at the picture with: scaled visual attention, Mask2Former's masked attention over the levels
    in turn, or scale gates from attention maps (TSG)."""
    masked: bool = False
    """Scaled visual attention stays inside the mask found so far, as in Mask2Former."""
    cue: bool = False
    """Mask-pooled text-space features of the encoder take part: they are added to the class embedding and, compared
    with the object vectors, to the correspondence of masks and objects; and the vectors of a mask's objects are added
    to its class embedding. A LLaVA's features are what its projector hands to the language model, brought to the width
    of the text vectors by a learned linear map. Ours, not of the paper; not with a timm tower."""
    pixel_head: bool = False
    """A second head that names every cell by itself, trained with cross-entropy; with `cue` it corrects the encoder's
    text-space features. It learns sooner than masks are matched. Ours."""

    @model_validator(mode="after")
    def _fits(self) -> LlmformerConfig:
        share, rest = divmod(self.width, self.heads)
        if rest or share & (share - 1):
            raise ValueError(f"width {self.width} / heads {self.heads} is not a power of two")
        if self.cue and self.tower.kind == "timm":
            raise ValueError("cue needs a tower of kind open_clip or llava, which has text-space features")
        cell = 8 * self.adapter.stem_stride
        if self.window % cell:
            raise ValueError(f"window {self.window} is no multiple of {cell}, the coarsest cells of the adapter")
        return self

    @property
    def cell(self) -> int:
        """Side in window pixels of a cell of the masks."""
        return self.mask_stride * self.adapter.stem_stride // 4


def differing_keys(one: BaseModel, other: BaseModel) -> list[str]:
    """Where two configurations differ: "adapter.stem 64 and 32", in order."""
    return _differences(one.model_dump(mode="json"), other.model_dump(mode="json"), "")


def _differences(one: Any, other: Any, path: str) -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        return [found for key in sorted(one.keys() | other.keys())
                for found in _differences(one.get(key), other.get(key), f"{path}.{key}".lstrip("."))]
    return [] if one == other else [f"{path} {one!r} and {other!r}"]
