"""A training file of LLMFormer: the model, its data, its schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from parsers.errors import Code, SettingError
from vision.llmformer.config import LlmformerConfig

CONFIGS = Path(__file__).parent / "configs"


class VectorsConfig(BaseModel):
    """Text vectors taken from an array, for a model without a text tower."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    array: str
    """NumPy file, (names, width)."""
    names: str
    """JSON list of the rows' names."""
    sources: dict[str, tuple[str, ...]]
    """Name to the rows whose mean stands for it."""


class DataConfig(BaseModel):
    """What is learned from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["pictograms", "folder", "camvid", "synthetic"]
    path: str | None = None
    """Of a folder (`vision.datasets.folder`) or of CamVid."""
    count: int = Field(default=1000, ge=1)
    """Different pictures of pictograms and synthetic data."""
    sprites: str = "runs/sprites"
    """The sprite sheets of pictograms."""
    loose: float = Field(default=0.3, ge=0, le=1)
    """Share of the pictogram scenes whose poses and drawing styles vary more than in validation scenes."""
    names: dict[str, str] = Field(default_factory=dict)
    """Class name of the data set to the name that the text encoder is asked for."""
    vectors: VectorsConfig | None = None
    """Where the table of text vectors is made from, if it is missing."""
    priors: str | None = None
    """A file of prepared descriptions (`parsers.prepared`); null: none is shown. Where it is missing,
    pictograms and labelled folders get stand-ins (`vision.train.llmformer_priors`)."""
    prior_share: float = Field(default=0.9, ge=0, le=1)
    """Share of the pictures that are shown with their description."""
    zoom: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest enlargement before a window is cut out, where 1 fits the shorter side to the window."""
    mirror: bool = False
    """Half of the pictures mirrored. Descriptions that say left or right become wrong by it."""
    jitter: float = Field(default=0.0, ge=0, le=1)
    """How far brightness, contrast and saturation vary."""


class LossConfig(BaseModel):
    """Weights of the losses and costs (those of Mask2Former and SAN) and the number of points they are taken at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: float = Field(default=2.0, ge=0)
    mask: float = Field(default=5.0, ge=0)
    dice: float = Field(default=5.0, ge=0)
    no_object: float = Field(default=0.1, gt=0)
    points: int = Field(default=12544, ge=16)
    pixel: float = Field(default=0.0, ge=0)
    """Of the per-pixel head."""
    pixel_cells: int | None = Field(default=None, ge=1)
    """Cells of each picture that the per-pixel head is asked for, chosen at random; null: all."""


class EvaluationConfig(BaseModel):
    """What is measured while training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    """As `lexiseg eval` takes it."""
    candidates: str = "present+20"
    limit: int | None = Field(default=200, ge=1)
    every: int = Field(default=1000, ge=1)
    """Steps."""
    priors: str | None = None
    """A file of prepared descriptions; null: none is shown."""
    group: str | None = None
    """Names of this group alone ("seen"); null: all."""


class TrainingConfig(BaseModel):
    """One training run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    model: LlmformerConfig
    data: DataConfig
    loss: LossConfig = LossConfig()
    evaluation: EvaluationConfig | None = None
    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    """Pictures of one step and process."""
    rate: float = Field(default=1e-4, gt=0)
    """Highest learning rate of AdamW."""
    schedule: Literal["poly", "cosine"] = "poly"
    warmup: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    """Not of embeddings, norms and biases."""
    clip: float = Field(default=0.01, gt=0)
    """Largest norm of the gradient of the whole model."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    seed: int = Field(default=0, ge=0)
    report: int = Field(default=20, ge=1)
    """Steps between two lines of the log."""
    save: int = Field(default=200, ge=1)
    """Steps between two checkpoints."""

    @model_validator(mode="after")
    def _fits(self) -> TrainingConfig:
        if self.loss.pixel and not self.model.pixel_head:
            raise ValueError("loss.pixel needs model.pixel_head")
        return self


def read_training(path: Path, changes: dict[str, Any] | None = None) -> TrainingConfig:
    """A training file (YAML or JSON), given as a path or as a name below `configs/`, with single values changed:
    {"model.relation": False}. Raises SettingError that names the keys at fault."""
    found = path if path.is_file() else CONFIGS / f"{path}.yaml"
    known = ", ".join(sorted(entry.stem for entry in CONFIGS.glob("*.yaml")))
    try:
        content = yaml.safe_load(found.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(Code.SETTING_INVALID, f"{path} cannot be read: {error.strerror}.",
                           f"A training file, or one of {known}.", "See docs/llmformer.md") from error
    except yaml.YAMLError as error:
        raise SettingError(Code.SETTING_INVALID, f"{path} is not YAML: {error}.", "A training file.",
                           "See docs/llmformer.md") from error
    for key, value in (changes or {}).items():
        place = content
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    try:
        return TrainingConfig.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SettingError(Code.SETTING_INVALID, f"{found} is not a training file: {problems}.",
                           "docs/llmformer.md says what it may hold.", "Correct the keys that are named.") from error
