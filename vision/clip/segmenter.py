"""The `clip` backend: samples to score maps.

Shapes: H, W image in pixels; h, w cells of the score map; g cells per side of a window; C classes; N names; P = g g
patches; D embedding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from parsers.errors import Code, ModelError
from parsers.vocabulary import Vocabulary
from vision.clip.encoder import ClipEncoder
from vision.clip.ensemble import NameLists, class_maps, name_lists
from vision.clip.presence import evidence, presence
from vision.clip.settings import ClipSettings
from vision.clip.text import PLAIN_TEMPLATES, TextEncoder
from vision.models import ModelCard, load_card
from vision.types import Sample, ScoreMap
from vision.windows import Canvas, WindowPlan, cut_windows, plan_windows

LOGIT_SCALE = 40.0
"""From cosine to logit where the model card has no number of its own (SC-CLIP's)."""
TEMPERATURE = 0.02
WORD = re.compile(r"[^\W_]+")


class ClipSegmenter:
    """Names in images by the likeness of patch features and text vectors.

    Source: LLM-Supervision (arXiv 2404.00701) on dense CLIP features; `docs/clip.md` says where this differs.
    """

    def __init__(self, encoder: ClipEncoder, settings: ClipSettings) -> None:
        self.card: ModelCard = encoder.card
        self.digest = encoder.digest
        self.settings = settings
        self._encoder = encoder
        self._text = TextEncoder(encoder, PLAIN_TEMPLATES if settings.templates == "plain" else self.card.templates)
        thresholds = self.card.thresholds
        self._logit_scale = thresholds.get("logit_scale", LOGIT_SCALE)
        self._temperature = settings.temperature or thresholds.get("temperature", TEMPERATURE)
        self._ensemble = self.card.ensemble if settings.ensemble == "auto" else settings.ensemble
        self._last: tuple[Vocabulary, NameLists, torch.Tensor] | None = None

    def score(self, samples: Sequence[Sample]) -> list[ScoreMap]:
        """One score map per sample, in order; logits are log-softmax over the classes, float16.

        Windows of many samples go through the model together in batches of a fixed shape, so the result of a sample
        does not depend on the others.
        """
        grid = self.card.window // self.card.patch
        sizes = [sample.image_HW3.shape[:2] for sample in samples]
        plans = [plan_windows(height, width, grid, tile=self.settings.tile, overlap=self.settings.overlap)
                 for height, width in sizes]
        texts = self._texts([sample.vocabulary for sample in samples])
        drafts = [_Draft(plan, len(lists.class_ids)) for plan, (lists, _) in zip(plans, texts, strict=True)]
        for batch in _in_batches(self._windows(samples, plans), self._encoder.batch_size):
            patches_BPD, pooled_BD = self._encoder.encode_windows([window_SS3 for _, _, window_SS3 in batch])
            for (index, window, _), patches_PD, pooled_D in zip(batch, patches_BPD, pooled_BD, strict=True):
                lists, table_ND = texts[index]
                maps_CP = class_maps(patches_PD, pooled_D, table_ND, lists, self._ensemble, self._temperature)
                evidence_C = evidence(pooled_D, table_ND, lists, self.settings.presence_evidence)
                drafts[index].add(window, maps_CP.unflatten(1, (grid, grid)), evidence_C)
        return [self._finish(draft, lists) for draft, (lists, _) in zip(drafts, texts, strict=True)]

    def unknown_words(self, vocabulary: Vocabulary) -> list[str]:
        """The words of the vocabulary that the model never saw, lower case, once each, in order; none where the card
        has no closed list of words."""
        if self.card.known_words is None:
            return []
        known = {word for entry in self.card.known_words for word in _words(entry)}
        names = name_lists(vocabulary, self.settings).words
        return [word for word in dict.fromkeys(word for name in names for word in _words(name)) if word not in known]

    @property
    def draft_side(self) -> int | None:
        """Pixels that the shorter side of a picture must keep: twice a window, which the shorter side becomes. None
        for whole pictures: without `draft`, and with `tile`, which counts pixels of the original."""
        return 2 * self.card.window if self.settings.draft and self.settings.tile is None else None

    @property
    def encoder(self) -> ClipEncoder:
        """What windows and names go through."""
        return self._encoder

    def warnings(self, vocabulary: Vocabulary) -> list[str]:
        """Sentences for people: what this model cannot know of this vocabulary."""
        unknown = set(self.unknown_words(vocabulary))
        if not unknown:
            return []
        names = [name for name in name_lists(vocabulary, self.settings).words if unknown & set(_words(name))]
        return [f"The model {self.card.name} was trained on a closed list of words that lacks "
                f"{_listed(sorted(unknown))}; expect poor masks for {_listed(names)}."]

    def _texts(self, vocabularies: Sequence[Vocabulary]) -> list[tuple[NameLists, torch.Tensor]]:
        """The name lists and their table of text vectors (N, D) on the device, per vocabulary."""
        prepared = {id(self._last[0]): self._last[1:]} if self._last else {}
        fresh = {id(v): (v, name_lists(v, self.settings)) for v in vocabularies if id(v) not in prepared}
        self._text.embed([word for _, lists in fresh.values() for word in lists.words])  # all missing ones at once
        for key, (vocabulary, lists) in fresh.items():
            table_ND = self._text.embed(lists.words).to(self._encoder.device)
            prepared[key] = (lists.to(self._encoder.device), table_ND)
            self._last = (vocabulary, *prepared[key])
        return [prepared[id(vocabulary)] for vocabulary in vocabularies]

    def _windows(self, samples: Sequence[Sample],
                 plans: Sequence[WindowPlan]) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
        for index, (sample, plan) in enumerate(zip(samples, plans, strict=True)):
            cut = cut_windows(sample.image_HW3, plan, self.card.window, self.card.interpolation)
            for window, window_SS3 in enumerate(cut):
                yield index, window, window_SS3

    def _finish(self, draft: _Draft, lists: NameLists) -> ScoreMap:
        logits_Chw = draft.canvas.mean() * np.float32(self._logit_scale)
        scores_C, bias_C = presence(draft.evidence_C, lists.class_ids, self.card.thresholds)
        if self.settings.presence == "soft":
            logits_Chw += bias_C.numpy()[:, None, None]
        logits_Chw -= logits_Chw.max(axis=0)
        logits_Chw -= np.log(np.exp(logits_Chw).sum(axis=0))
        return ScoreMap(scores_CHW=logits_Chw.astype(np.float16), class_ids=lists.class_ids, names=lists.class_names,
                        image_scores_C=scores_C.numpy())


class _Draft:
    """What is known of one image while its windows pass."""

    def __init__(self, plan: WindowPlan, classes: int) -> None:
        self.canvas = Canvas(plan, classes)
        self.evidence_C = torch.full((classes,), -1.0)
        """A class is in a picture when it is in any of its windows: the maximum over them."""

    def add(self, window: int, maps_Cgg: torch.Tensor, evidence_C: torch.Tensor) -> None:
        self.canvas.add(window, maps_Cgg.cpu().numpy())
        self.evidence_C = torch.maximum(self.evidence_C, evidence_C.cpu())


def load(model_dir: Path, *, device: str = "auto", settings: ClipSettings | None = None) -> ClipSegmenter:
    """The backend on a model directory; raises ModelError and SettingError."""
    settings = settings or ClipSettings()
    card = load_card(model_dir)
    if card.window % card.patch:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{model_dir} has windows of {card.window} and patches of "
                         f"{card.patch} pixels.", "A window is a whole number of patches.",
                         f"lexiseg models verify {model_dir}")
    encoder = ClipEncoder(card, device=device, variant=settings.variant, batch_size=settings.batch_size)
    return ClipSegmenter(encoder, settings)


def _in_batches(items: Iterator, size: int) -> Iterator[list]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _words(name: str) -> list[str]:
    return WORD.findall(name.lower())


def _listed(names: Sequence[str], most: int = 10) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
