"""The values that cross the doors of `vision`.

Shapes: H, W image height and width in pixels; h, w height and width of the score map; C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from parsers import ScenePriors, Vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image and what to look for in it. Samples of one batch may have different vocabularies."""

    image_HW3: NDArray[np.uint8]
    """RGB, as a person sees it (EXIF orientation applied)."""
    vocabulary: Vocabulary
    priors: ScenePriors | None = None
    """What a description says of it."""
    key: str = ""
    """Its name in the data set or job; prepared descriptions are found by it."""


class LabelRule(Protocol):
    """How a published method comes from its maps to labels, where that is not the most probable class of each pixel.
    It carries what it needs besides the image."""

    def decide(self, image_HW3: NDArray[np.uint8], refinement: str,
               device: str) -> tuple[NDArray[np.uint16], NDArray[np.float32], NDArray[np.uint16]]:
        """(H, W) winners as indices into the class ids, (H, W) how sure they are in [0, 1], and the class ids, 0
        first. device: `cpu`, `cuda` or `cuda:N`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreMap:
    """How well each class fits each place of one image."""

    scores_CHW: NDArray[np.float16]
    """(C, h, w) at feature resolution, in the order of `class_ids`: log-probability-like logits over the classes;
    a softmax over C gives the per-place class probabilities."""
    class_ids: tuple[int, ...]
    """The vocabulary id of each row; 0 is background and present only if the vocabulary has background words."""
    names: tuple[str, ...]
    image_scores_C: NDArray[np.float32]
    """Evidence in [0, 1] that the class is in the image at all."""
    rule: LabelRule | None = None
    """Where labels follow by a rule of their own; `scores_CHW` then is (C, 1, 1) and takes no part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A connected part (8-neighbourhood) of one class."""

    id: int
    class_id: int
    box: tuple[int, int, int, int]
    """x, y, width, height in pixels."""
    area: int
    """Pixels."""
    score: float
    """Mean probability of the class over the region, in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMap:
    """One image, labelled at full size."""

    labels_HW: NDArray[np.uint16]
    """Class id; 0 is background or nothing."""
    scores: dict[int, float]
    """Class id to the mean probability over its pixels, for the classes that occur."""
    confidence_HW: NDArray[np.float16] | None = None
    """Probability of the winning class per pixel, in [0, 1]."""
    regions: tuple[Region, ...] = field(default=())


class Segmenter(Protocol):
    """A backend: images and vocabularies in, score maps out, one per sample and in order.

    A sample's result does not depend on the other samples of the batch.
    """

    def score(self, samples: Sequence[Sample]) -> list[ScoreMap]: ...


@runtime_checkable
class ConcurrentSegmenter(Segmenter, Protocol):
    """A backend whose `score` may run in several threads at once."""

    def prepare(self, vocabulary: Vocabulary) -> None:
        """Computes what is needed once per vocabulary, such as text vectors; called before the first `score`."""
