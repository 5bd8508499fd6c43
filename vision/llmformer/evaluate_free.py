"""Predictions with and without given names, both against one dataset by Open mIoU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parsers.free import names_of, own_vocabulary
from parsers.prepared import PreparedRow
from vision.datasets.base import EvalDataset
from vision.evaluate import BACKGROUND, NameTable, choose_candidates
from vision.llmformer.config import WordsConfig
from vision.llmformer.directory import read_config
from vision.llmformer.open_miou import OpenTally
from vision.llmformer.words import Words, load_words
from vision.metrics import IGNORED
from vision.refine import refine as refine_scores
from vision.types import Sample, Segmenter


def open_tally(dataset: EvalDataset, segmenter: Segmenter, told: Callable[[str], PreparedRow], *, free: bool,
               absent: int | None = None, limit: int | None = None, refine: str = "none", device: str = "cpu",
               batch_size: int = 16, on_progress: Callable[[int, int], None] = lambda done, total: None) -> OpenTally:
    """What was predicted in the first `limit` pictures.

    free: the vocabulary of a picture are the names in what is said of it; else the dataset's candidates
    (`vision.evaluate`). told: a picture's key to what is said of it. Where the dataset has a class "background", id 0
    is that class, and a picture of which nothing is said is all background; elsewhere nothing is background, and such
    a picture is one of misses. The rest as in `vision.evaluate.evaluate`, which says what is raised.
    """
    table = NameTable(dataset, (), None)
    tally, row_names = OpenTally(list(table.row)), list(table.row)
    has_background = BACKGROUND in table.row
    total = len(dataset) if limit is None else min(limit, len(dataset))
    for start in range(0, total, batch_size):
        truths: list[NDArray[np.int32]] = []
        samples: list[Sample | None] = []
        for i in range(start, min(start + batch_size, total)):
            image_HW3, labels_HW = dataset.load(i)
            truth_HW, key = table.truth(labels_HW), dataset.key(i)
            row = told(key)
            if free:
                named = names_of(row)
                vocabulary = own_vocabulary(named) if named else None
                if vocabulary and not has_background:
                    vocabulary = vocabulary.model_copy(update={"background": ()})
            else:
                present = [row_names[row] for row in np.flatnonzero(np.bincount(truth_HW[truth_HW != IGNORED]))]
                vocabulary = table.sub_vocabulary(choose_candidates(key, present, table.names, absent, table.always))
            truths.append(truth_HW)
            samples.append(Sample(image_HW3=image_HW3, vocabulary=vocabulary, priors=row.priors, key=key)
                           if vocabulary else None)
        score_maps = iter(segmenter.score([sample for sample in samples if sample]))
        for truth_HW, sample in zip(truths, samples, strict=True):
            found_HW, names = np.zeros(truth_HW.shape, np.uint16), {0: BACKGROUND} if has_background else {}
            if sample is not None:
                found_HW = refine_scores(sample.image_HW3, next(score_maps), refine, device=device).labels_HW
                names |= {entry.id: entry.name for entry in sample.vocabulary.classes}
            tally.add(truth_HW, found_HW, names)
        on_progress(start + len(samples), total)
    return tally


def text_vectors(backend: str, model: Path) -> Words:
    """The text tower that the model of a backend compares names with. Raises ModelError."""
    return load_words(read_config(model).words if backend == "llmformer" else
                      WordsConfig(kind="open_clip", path=str(model.resolve())), model)
