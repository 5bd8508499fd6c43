"""The `clip` backend: samples to score maps.

Shapes: H, W image in pixels; h, w cells of the score map; g cells per side of a window; C classes; N names; P = g g
patches; D embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from parsers.errors import Code, ModelError
from parsers.vocabulary import Vocabulary
from vision.clip.encoder import ClipEncoder
from vision.clip.ensemble import NameLists, class_maps, name_lists, scaled_maps
from vision.clip.filters import filter_subclasses
from vision.clip.presence import evidence, presence, present
from vision.clip.resclip import Feedback, ResclipNumbers
from vision.clip.sclip_rule import SclipRule
from vision.clip.settings import ClipSettings
from vision.clip.simseg_rule import SimSegRule, squash
from vision.clip.slide import Slide, cut_slide, plan_slide, sclip_rule
from vision.clip.templates import chosen_templates
from vision.clip.text import TextEncoder
from vision.models import ModelCard, load_card
from vision.types import LabelRule, Sample, ScoreMap
from vision.windows import Canvas, WindowPlan, cut_windows, plan_windows

LOGIT_SCALE = 40.0
"""From cosine to logit where the model card has no number of its own (SC-CLIP's)."""
TEMPERATURE = 0.02
HALF_FLOOR = 6e4
"""Logits are not lower than minus this: half precision ends at 65,504, and an infinite one would spoil what follows."""
BACKGROUND = "background"
"""What SimSeg looks for besides the classes, literally."""

Texts = tuple[NameLists, torch.Tensor]


class ClipSegmenter:
    """Names in images by the likeness of patch features and text vectors.

    Source: LLM-Supervision (arXiv 2404.00701) on dense CLIP features; `docs/clip.md` says where this differs.
    """

    def __init__(self, encoder: ClipEncoder, settings: ClipSettings) -> None:
        self.card: ModelCard = encoder.card
        self.digest = encoder.digest
        self.settings = settings
        self._encoder = encoder
        self._text = TextEncoder(encoder, chosen_templates(settings.templates, self.card.templates))
        thresholds = self.card.thresholds
        self._logit_scale = settings.logit_scale or thresholds.get("logit_scale", LOGIT_SCALE)
        self._temperature = settings.temperature or thresholds.get("temperature", TEMPERATURE)
        self._ensemble = self.card.ensemble if settings.ensemble == "auto" else settings.ensemble
        self._feeds_back = encoder.variant == "resclip" and settings.feedback
        self._last: tuple[Vocabulary, NameLists, torch.Tensor] | None = None

    def prepare(self, vocabulary: Vocabulary) -> None:
        """Computes the text vectors of a vocabulary; `score` may then run in several threads at once."""
        self._texts([vocabulary])

    def score(self, samples: Sequence[Sample]) -> list[ScoreMap]:
        """One score map per sample, in order; logits are log-softmax over the classes, float16, or where the settings
        have a rule of their own what it needs.

        Windows of many samples go through the model together in batches of a fixed shape, so the result of a sample
        does not depend on the others.
        """
        texts = self._texts([sample.vocabulary for sample in samples])
        if self.settings.rule == "sclip":
            return self._score_slide(samples, texts)
        if self.settings.rule == "simseg":
            return self._score_squashed(samples, texts)
        grid = self.card.window // self.card.patch
        sizes = [sample.image_HW3.shape[:2] for sample in samples]
        plans = [plan_windows(height, width, grid, tile=self.settings.tile, overlap=self.settings.overlap)
                 for height, width in sizes]
        drafts = [_Draft(plan, len(lists.class_ids)) for plan, (lists, _) in zip(plans, texts, strict=True)]
        for batch in _in_batches(self._windows(samples, plans), self._encoder.batch_size):
            patches_BPD, pooled_BD = self._encode(batch, texts)
            for (index, window, _), patches_PD, pooled_D in zip(batch, patches_BPD, pooled_BD, strict=True):
                lists, table_ND = texts[index]
                maps_CP = self._class_maps(patches_PD, pooled_D, table_ND, lists)
                evidence_C = evidence(pooled_D, table_ND, lists, self.settings.presence_evidence)
                drafts[index].add(window, maps_CP.unflatten(1, (grid, grid)), evidence_C)
        return [self._finish(draft, lists) for draft, (lists, _) in zip(drafts, texts, strict=True)]

    def unknown_words(self, vocabulary: Vocabulary) -> list[str]:
        """The words of the vocabulary that the model never saw, lower case, once each, in order; none where the card
        has no closed list of words."""
        return self.card.unknown_words(name_lists(vocabulary, self.settings).words)

    @property
    def draft_side(self) -> int | None:
        """Pixels that the shorter side of a picture must keep: three windows, one of which the shorter side becomes,
        and no fewer than `short_side`. None for whole pictures: without `draft`, and with `tile`, which counts pixels
        of the original."""
        if not self.settings.draft or self.settings.tile is not None:
            return None
        return max(3 * self.card.window, self.settings.short_side or 0)

    @property
    def device(self) -> str:
        """Where the model computes: `cpu` or `cuda`."""
        return self._encoder.device.type

    @property
    def precision(self) -> str:
        """Of the image tower, as it came out: `float32` or `bfloat16`."""
        return "bfloat16" if self._encoder.half else "float32"

    @property
    def encoder(self) -> ClipEncoder:
        """What windows and names go through."""
        return self._encoder

    def warnings(self, vocabulary: Vocabulary) -> list[str]:
        """Sentences for people: what this model cannot know of this vocabulary."""
        return self.card.warnings(name_lists(vocabulary, self.settings).words)

    def _texts(self, vocabularies: Sequence[Vocabulary]) -> list[Texts]:
        """The name lists and their table of text vectors (N, D) on the device, per vocabulary."""
        last = self._last  # another thread may set it
        prepared = {id(last[0]): last[1:]} if last else {}
        fresh = {id(v): (v, self._lists(v)) for v in vocabularies if id(v) not in prepared}
        self._text.embed([word for _, lists in fresh.values() for word in lists.words])  # all missing ones at once
        for key, (vocabulary, lists) in fresh.items():
            table_ND = self._text.embed(lists.words).to(self._encoder.device)
            prepared[key] = (lists.to(self._encoder.device), table_ND)
            self._last = (vocabulary, *prepared[key])
        return [prepared[id(vocabulary)] for vocabulary in vocabularies]

    def _lists(self, vocabulary: Vocabulary) -> NameLists:
        if self.settings.subclass_filter != "none":
            bare = TextEncoder(self._encoder, ("{}",))
            vocabulary = filter_subclasses(vocabulary, bare.embed, self.settings.subclass_filter,
                                           self.settings.filter_cutoff)
        if self.settings.rule == "simseg" and not vocabulary.background_words:
            vocabulary = vocabulary.model_copy(update={"background": (BACKGROUND,)})
        return name_lists(vocabulary, self.settings)

    def _encode(self, batch: Sequence[tuple[int, int, NDArray[np.uint8]]],
                texts: Sequence[Texts]) -> tuple[torch.Tensor, torch.Tensor]:
        """`encode_windows` of (sample, window, pixels)."""
        feedback = None
        if self._feeds_back:
            feedback = Feedback(texts=[texts[index][1] for index, _, _ in batch], logit_scale=self._logit_scale)
        return self._encoder.encode_windows([window_SS3 for _, _, window_SS3 in batch], feedback)

    def _class_maps(self, patches_PD: torch.Tensor, pooled_D: torch.Tensor, table_ND: torch.Tensor,
                    lists: NameLists) -> torch.Tensor:
        return class_maps(patches_PD, pooled_D, table_ND, lists, self._ensemble, self._temperature,
                          self.settings.subclass_weight)

    def _score_squashed(self, samples: Sequence[Sample], texts: Sequence[Texts]) -> list[ScoreMap]:
        """For the rule `simseg`: each picture as one square."""
        squares = ((index, 0, squash(sample.image_HW3, self.card.window, self.card.interpolation))
                   for index, sample in enumerate(samples))
        score_maps = []
        for batch in _in_batches(squares, self._encoder.batch_size):
            patches_BPD, pooled_BD = self._encode(batch, texts)
            for (index, _, _), patches_PD, pooled_D in zip(batch, patches_BPD, pooled_BD, strict=True):
                lists, table_ND = texts[index]
                evidence_C = evidence(pooled_D, table_ND, lists, self.settings.presence_evidence)
                rows = sorted(self._present(evidence_C, lists))
                maps_KMP, weights_KM = scaled_maps(patches_PD, pooled_D, table_ND, lists, rows, self._ensemble,
                                                   self._temperature, self.settings.subclass_weight)
                grid = self.card.window // self.card.patch
                rule = SimSegRule(
                    maps_KMgg=maps_KMP.unflatten(2, (grid, grid)).cpu().numpy(), weights_KM=weights_KM.cpu().numpy(),
                    class_ids=tuple(lists.class_ids[row] for row in rows),
                    scores=tuple(evidence_C[rows].tolist()), side=self.card.window,
                    interpolation=self.card.interpolation, mean=self.card.mean, std=self.card.std,
                    vote=self.settings.vote, overlap_rule=self.settings.overlap_rule,
                    morphology=self.settings.morphology)
                score_maps.append(self._ruled(evidence_C.cpu(), lists, rule))
        return score_maps

    def _score_slide(self, samples: Sequence[Sample], texts: Sequence[Texts]) -> list[ScoreMap]:
        """For the rule `sclip`: windows over a picture that keeps its ratio."""
        slides = [plan_slide(sample.image_HW3.shape[0], sample.image_HW3.shape[1], self.card.window, self.settings)
                  for sample in samples]
        maps: list[list[torch.Tensor]] = [[] for _ in samples]
        rules: dict[int, SclipRule] = {}
        evidence_C = [torch.full((len(lists.class_ids),), -1.0) for lists, _ in texts]
        for batch in self._slide_batches(samples, slides):
            patches_BPD, pooled_BD = self._encode(batch, texts)
            for (index, _, _), patches_PD, pooled_D in zip(batch, patches_BPD, pooled_BD, strict=True):
                lists, table_ND = texts[index]
                maps[index].append((table_ND @ patches_PD.T).cpu())
                found_C = evidence(pooled_D, table_ND, lists, self.settings.presence_evidence).cpu()
                evidence_C[index] = torch.maximum(evidence_C[index], found_C)
                if len(maps[index]) == len(slides[index].corners):  # now, since the rule keeps fewer names
                    rules[index] = sclip_rule(maps[index], slides[index], lists, self.card.patch, self._logit_scale,
                                              self.settings)
                    maps[index] = []
        return [self._ruled(evidence_C[index], lists, rules[index]) for index, (lists, _) in enumerate(texts)]

    def _slide_batches(self, samples: Sequence[Sample],
                       slides: Sequence[Slide]) -> Iterator[list[tuple[int, int, NDArray[np.uint8]]]]:
        """Windows of the model's own size in batches, others one at a time; in order within each picture."""
        own = (self.card.window, self.card.window)
        cut = ((index, window, pixels) for index, (sample, slide) in enumerate(zip(samples, slides, strict=True))
               if slide.window == own for window, pixels in enumerate(cut_slide(sample.image_HW3, slide)))
        yield from _in_batches(cut, self._encoder.batch_size)
        for index, (sample, slide) in enumerate(zip(samples, slides, strict=True)):
            if slide.window != own:
                for window, pixels in enumerate(cut_slide(sample.image_HW3, slide)):
                    yield [(index, window, pixels)]

    def _present(self, evidence_C: torch.Tensor, lists: NameLists) -> list[int]:
        return present(evidence_C, lists.class_ids, top=self.settings.presence_top,
                       sigma=self.settings.presence_sigma, limit=self.settings.presence_limit)

    def _ruled(self, evidence_C: torch.Tensor, lists: NameLists, rule: LabelRule) -> ScoreMap:
        scores_C, _ = presence(evidence_C, lists.class_ids, self.card.thresholds)
        return ScoreMap(scores_CHW=np.zeros((len(lists.class_ids), 1, 1), np.float16), class_ids=lists.class_ids,
                        names=lists.class_names, image_scores_C=scores_C.numpy(), rule=rule)

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
        elif self.settings.presence == "hard":
            logits_Chw[self._absent(draft.evidence_C, lists)] -= HALF_FLOOR
        logits_Chw -= logits_Chw.max(axis=0)
        logits_Chw -= np.log(np.exp(logits_Chw).sum(axis=0))
        np.maximum(logits_Chw, -HALF_FLOOR, out=logits_Chw)
        return ScoreMap(scores_CHW=logits_Chw.astype(np.float16), class_ids=lists.class_ids, names=lists.class_names,
                        image_scores_C=scores_C.numpy())


    def _absent(self, evidence_C: torch.Tensor, lists: NameLists) -> list[int]:
        """Rows that the hard test leaves out. The background stays; without one the best class always does."""
        background = [0] if lists.class_ids[:1] == (0,) else []
        stay = self._present(evidence_C, lists) + background or [int(evidence_C.argmax())]
        return [row for row in range(len(lists.class_ids)) if row not in set(stay)]


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
    numbers = ResclipNumbers(
        cross_scale=settings.cross_scale, cross_share=settings.cross_share, feedback_scale=settings.feedback_scale,
        feedback_share=settings.feedback_share, threshold=settings.feedback_threshold)
    encoder = ClipEncoder(card, device=device, variant=settings.variant, batch_size=settings.batch_size,
                          residual=settings.residual, precision=settings.precision, numbers=numbers)
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

