"""The `llmformer` backend: samples to score maps.

Shapes: H, W image in pixels; S side of a window in pixels, g in cells of the masks; Q mask queries; C classes; N names;
c text width; B windows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from parsers.errors import Code, ModelError, SettingError
from parsers.files import sha256_file
from parsers.prepared import PreparedPriors
from parsers.priors import ScenePriors
from parsers.vocabulary import Vocabulary
from vision.clip.encoder import choose_device
from vision.clip.ensemble import NameLists, name_lists
from vision.clip.settings import ClipSettings
from vision.llmformer.directory import read_config, read_model
from vision.llmformer.model import Llmformer
from vision.llmformer.priors import PriorPhrases, embed_priors, prior_phrases
from vision.llmformer.settings import LlmformerSettings
from vision.llmformer.words import Words, load_words, words_of
from vision.models import ModelCard, load_card, model_digest
from vision.types import Sample, ScoreMap
from vision.windows import Canvas, cut_windows, plan_windows

PIXEL_SHARE = 0.5
"""Of the per-pixel head in the result, where a model has one and its card has no number of its own."""
EPS = 1e-6
Window = tuple[int, int, np.ndarray]
"""Index of the sample, number of the window, and its pixels."""
NOTHING = PriorPhrases(objects=(), attributes=(), relations=())


class LlmformerSegmenter:
    """Names in images by masks that read the image and what is said of it."""

    def __init__(self, model: Llmformer, words: Words, card: ModelCard, *, digest: str = "",
                 settings: LlmformerSettings | None = None, device: str = "cpu") -> None:
        self.card, self.digest, self.settings = card, digest, settings or LlmformerSettings()
        self._model, self._words, self._device = model.to(device).eval(), words, torch.device(device)
        self._mean_3, self._std_3 = (torch.tensor(v, device=device) * 255 for v in (model.tower.mean, model.tower.std))
        self._prepared = _prepared(self.settings)
        self._lists = ClipSettings(subclass_count=self.settings.subclass_count)
        self._share = card.thresholds.get("pixel_share", PIXEL_SHARE) if model.config.pixel_head else 0.0

    def score(self, samples: Sequence[Sample]) -> list[ScoreMap]:
        """One score map per sample, in order; log-probabilities of the classes, float16.

        A class's score at a place is the sum over masks of its probability times the mask (MaskFormer's semantic
        inference), "no object" left out. Batches and priors have fixed shapes, so the result of a sample does not
        depend on the others.

        Raises DatasetError for a picture that the file of descriptions has no row for.
        """
        config, settings = self._model.config, self.settings
        grid = config.window // config.cell
        sizes = [sample.image_HW3.shape[:2] for sample in samples]
        plans = [plan_windows(height, width, grid, tile=settings.tile, overlap=settings.overlap)
                 for height, width in sizes]
        told = [self._told(sample) for sample in samples]
        texts = [self._texts(sample.vocabulary) for sample in samples]
        phrases = [prior_phrases(priors if settings.priors == "given" else None, config.objects, config.relations)
                   for priors in told]
        canvases = [Canvas(plan, len(lists.class_ids)) for plan, (lists, _) in zip(plans, texts, strict=True)]
        evidence = [torch.zeros(len(lists.class_ids)) for lists, _ in texts]
        windows = ((index, number, window_SS3) for index, (sample, plan) in enumerate(zip(samples, plans, strict=True))
                   for number, window_SS3 in enumerate(
                       cut_windows(sample.image_HW3, plan, config.window, self.card.interpolation)))
        for batch in _batches(windows, settings.batch_size):
            shown = [phrases[index] for index, _, _ in batch]
            masks_BQgg, classes_BQc, pixels_Bcgg = self._look([window_SS3 for _, _, window_SS3 in batch], shown)
            for row, (index, number, _) in enumerate(batch):
                lists, table_Nc = texts[index]
                scores_Cgg, found_C = self._classify(masks_BQgg[row], classes_BQc[row], lists, table_Nc,
                                                     None if pixels_Bcgg is None else pixels_Bcgg[row])
                canvases[index].add(number, scores_Cgg.cpu().numpy())
                evidence[index] = torch.maximum(evidence[index], found_C.cpu())
        return [_finish(canvas, found_C, lists)
                for canvas, found_C, (lists, _) in zip(canvases, evidence, texts, strict=True)]

    def unknown_words(self, vocabulary: Vocabulary) -> list[str]:
        """The words of the vocabulary that the text encoder never saw, lower case, once each, in order."""
        known = self._words.known_words
        if known is None:
            return []
        said = (word for name in name_lists(vocabulary, self._lists).words for word in words_of(name))
        return [word for word in dict.fromkeys(said) if word not in known]

    def warnings(self, vocabulary: Vocabulary) -> list[str]:
        """Sentences for people: what this model cannot know of this vocabulary."""
        unknown = self.unknown_words(vocabulary)
        if not unknown:
            return []
        names = [name for name in name_lists(vocabulary, self._lists).words if set(unknown) & set(words_of(name))]
        return [f"The model {self.card.name} was trained on a closed list of words that lacks "
                f"{_listed(sorted(unknown))}; expect poor masks for {_listed(names)}."]

    def _told(self, sample: Sample) -> ScenePriors | None:
        """What is known to be said of a picture."""
        if sample.priors is None and self._prepared is not None:
            return self._prepared.of(sample.key)
        return sample.priors

    def _texts(self, vocabulary: Vocabulary) -> tuple[NameLists, Tensor]:
        lists = name_lists(vocabulary, self._lists)
        return lists.to(self._device), self._words.names(lists.words).to(self._device)

    @torch.inference_mode()
    def _look(self, windows_SS3: Sequence[np.ndarray],
              phrases: Sequence[PriorPhrases]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Mask logits (B, Q, g, g), class embeddings (B, Q, c) and pixel embeddings (B, c, g, g)."""
        config, size = self._model.config, self.settings.batch_size
        images_BSS3 = np.zeros((size, config.window, config.window, 3), np.uint8)
        images_BSS3[:len(windows_SS3)] = np.stack(windows_SS3)
        values_BSS3 = (torch.from_numpy(images_BSS3).to(self._device).float() - self._mean_3) / self._std_3
        filled = [*phrases, *[NOTHING] * (size - len(phrases))]
        priors = embed_priors(filled, self._words.names, self._words.phrases, objects=config.objects,
                              relations=config.relations, width=config.text_width).to(self._device)
        found = self._model(values_BSS3.permute(0, 3, 1, 2).contiguous(), priors)
        pixels_Bcgg = None if found.pixels_Bchw is None else found.pixels_Bchw.float()
        return found.last.masks_BQhw.float(), found.last.classes_BQc.float(), pixels_Bcgg  # half precision in training

    @torch.inference_mode()
    def _classify(self, masks_Qgg: Tensor, classes_Qc: Tensor, lists: NameLists, table_Nc: Tensor,
                  pixels_cgg: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scores (C, g, g) that sum to 1 over the classes, and evidence (C,) in [0, 1]. A class has the largest logit
        of its names; a name that the text encoder does not know has the least there is."""
        scale = self._model.scale
        unknown_N = ~table_Nc.any(-1)
        logits_QM = self._model.class_logits(classes_Qc[None], table_Nc)[0]  # M = N + 1, "no object" last
        logits_QC = logits_QM[:, :-1].masked_fill(unknown_N, -float(scale))[:, lists.lists_CM].amax(-1)
        chances_QC = torch.cat([logits_QC, logits_QM[:, -1:]], 1).softmax(-1)[:, :-1]
        inside_Qgg = masks_Qgg.sigmoid()
        scores_Cgg = torch.einsum("qc,qhw->chw", chances_QC, inside_Qgg) + EPS
        scores_Cgg = scores_Cgg / scores_Cgg.sum(0)
        if pixels_cgg is not None:
            logits_Ngg = scale * torch.einsum("nc,chw->nhw", table_Nc, pixels_cgg)
            logits_Ngg = logits_Ngg.masked_fill(unknown_N[:, None, None], -float(scale))
            pixel_Cgg = logits_Ngg[lists.lists_CM].amax(1).log_softmax(0)
            scores_Cgg = ((1 - self._share) * scores_Cgg.log() + self._share * pixel_Cgg).softmax(0)
        largest_Q1 = inside_Qgg.flatten(1).amax(1, keepdim=True)
        return scores_Cgg, (chances_QC * largest_Q1).amax(0)


def _finish(canvas: Canvas, found_C: Tensor, lists: NameLists) -> ScoreMap:
    scores_Chw = canvas.mean()
    scores_Chw = np.log(scores_Chw / scores_Chw.sum(axis=0))
    background_C = np.array(lists.class_ids) == 0
    return ScoreMap(scores_CHW=scores_Chw.astype(np.float16), class_ids=lists.class_ids, names=lists.class_names,
                    image_scores_C=np.where(background_C, np.float32(1), found_C.numpy()).astype(np.float32))


def load(model_dir: Path, *, device: str = "auto", settings: LlmformerSettings | None = None) -> LlmformerSegmenter:
    """The backend on a model directory; raises ModelError and SettingError."""
    device = choose_device(device)
    card = load_card(model_dir)
    if card.kind != "llmformer":
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{model_dir} is a model of kind {card.kind!r}.",
                         "The backend llmformer needs one of kind 'llmformer'.", f"Give --backend {card.kind}.")
    digest = model_digest(card)
    model = read_model(model_dir)
    words = load_words(read_config(model_dir).words, model_dir, device)
    return LlmformerSegmenter(model, words, card, digest=digest, settings=settings, device=device)


def _prepared(settings: LlmformerSettings) -> PreparedPriors | None:
    """The file of descriptions. Raises DatasetError; SettingError where it is another one than it was."""
    if settings.descriptions is None:
        return None
    path, wanted = Path(settings.descriptions), settings.descriptions_sha256
    if wanted is not None and path.is_file() and sha256_file(path) != wanted:
        raise SettingError(Code.SETTING_INVALID, f"The descriptions {path} were changed since the job was submitted.",
                           "The file as it was then.", "Put it back, or submit again into another --out.")
    return PreparedPriors.read(path)


def _batches(items: Iterable[Window], size: int) -> Iterator[list[Window]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _listed(names: Sequence[str], most: int = 10) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
