"""Predictions with and without given names, both against one dataset by Open mIoU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from parsers.free import names_of, own_vocabulary
from parsers.prepared import PreparedRow
from vision.datasets.base import EvalDataset
from vision.evaluate import NameTable, choose_candidates
from vision.llmformer.open_miou import OpenScores, OpenTally, cosine_similarity
from vision.llmformer.words import Words
from vision.metrics import IGNORED
from vision.refine import refine
from vision.types import Sample, Segmenter


def evaluate_open(dataset: EvalDataset, segmenter: Segmenter, words: Words, told: Callable[[str], PreparedRow],
                  *, free: bool, absent: int | None = None, limit: int | None = None,
                  floor: float = 0.0) -> OpenScores:
    """Open mIoU and mapped mIoU of the first `limit` pictures; see `open_tally`. Similarities are cosines of text
    vectors above `floor`."""
    tally = open_tally(dataset, segmenter, told, free=free, absent=absent, limit=limit)
    return tally.scores(similarity(words, tally.names, tally.classes, floor))


def open_tally(dataset: EvalDataset, segmenter: Segmenter, told: Callable[[str], PreparedRow], *, free: bool,
               absent: int | None = None, limit: int | None = None) -> OpenTally:
    """What was predicted in the first `limit` pictures.

    free: the vocabulary of a picture are the names in what is said of it; else the dataset's candidates
    (`vision.evaluate`). Nothing is background in either case, since every place of these datasets has a name. told: a
    picture's key to what is said of it. A picture of which nothing is said is a picture of misses.
    """
    table = NameTable(dataset, (), None)
    tally, row_names = OpenTally(list(table.row)), list(table.row)
    for i in range(len(dataset) if limit is None else min(limit, len(dataset))):
        image_HW3, labels_HW = dataset.load(i)
        truth_HW, key = table.truth(labels_HW), dataset.key(i)
        row = told(key)
        if free:
            named = names_of(row)
            vocabulary = own_vocabulary(named).model_copy(update={"background": ()}) if named else None
        else:
            present = [row_names[row] for row in np.flatnonzero(np.bincount(truth_HW[truth_HW != IGNORED]))]
            vocabulary = table.sub_vocabulary(choose_candidates(key, present, table.names, absent, table.always))
        found_HW, names = np.zeros(truth_HW.shape, np.uint16), {}
        if vocabulary is not None:
            sample = Sample(image_HW3=image_HW3, vocabulary=vocabulary, priors=row.priors, key=key)
            found_HW = refine(image_HW3, segmenter.score([sample])[0]).labels_HW
            names = {entry.id: entry.name for entry in vocabulary.classes}
        tally.add(truth_HW, found_HW, names)
    return tally


def similarity(words: Words, names: Sequence[str], classes: Sequence[str], floor: float = 0.0) -> np.ndarray:
    """S of predicted names and classes; a name that the text encoder does not know is like nothing."""
    return cosine_similarity(words.names([name or "nothing" for name in names]).numpy(),
                             words.names(list(classes)).numpy(), floor)
