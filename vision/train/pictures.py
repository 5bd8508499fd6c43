"""Pictures with captions as a torch dataset. No mask and no box leaves this file.

Shapes: B batch, S side, M most mentions of a picture, K phrases of the bank, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import IterableDataset

from vision.datasets.pictograms import make_scene
from vision.datasets.sprites import SpriteSheet, concepts, load_sheet, texture_names
from vision.train.tokenizer import CONTEXT_LENGTH, make_tokenizer

TRAINING_SEED = 1_000_000
"""Seeds from here on belong to training; validation scenes and demos stay below."""


@cache
def bank_phrases() -> tuple[str, ...]:
    """The noun phrases that captions are made of: textures, super-classes, seen names."""
    superclasses = sorted({concept.superclass for concept in concepts()})
    names = (concept.name for concept in concepts() if concept.seen)
    return tuple(dict.fromkeys((*texture_names(), *superclasses, *names)))  # a few names are super-classes too


@cache
def _phrase_ids() -> dict[str, int]:
    return {phrase: i for i, phrase in enumerate(bank_phrases())}


@cache
def _members() -> dict[str, list[int]]:
    """Super-class to the bank ids of its names."""
    ids = _phrase_ids()
    members: dict[str, list[int]] = {}
    for concept in concepts():
        if concept.seen:
            members.setdefault(concept.superclass, []).append(ids[concept.name])
    return members


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Pictures, what their captions name, and the captions."""

    images_B3SS: Tensor
    """uint8, RGB."""
    named_BM: Tensor
    """int64 bank ids of the phrases in the caption, -1 where there are fewer."""
    unknown_BK: Tensor
    """bool: phrases of the bank that may be true of the picture although the caption does not use them: the
    super-class of a thing called by its name, the names of a thing called by its super-class."""
    captions_BT: Tensor
    """int64 token ids."""


class CaptionedPictures(IterableDataset):
    """Endless batches of pictures; batch n depends on (seed, n) alone, so a resumed run sees what it would have."""

    def __init__(self, sheets: list[Path], *, side: int, counts: tuple[int, int], sizes: tuple[int, int], loose: float,
                 batch: int, seed: int, start: int = 0) -> None:
        self.sheets, self.side, self.counts, self.sizes, self.loose = sheets, side, counts, sizes, loose
        self.batch, self.seed, self.start = batch, seed, start

    def __iter__(self) -> Iterator[Batch]:
        loaded = [load_sheet(path) for path in self.sheets]
        pools = [np.array([i for i in sheet.available if concepts()[i].seen]) for sheet in loaded]
        tokenizer = make_tokenizer()
        length = min(CONTEXT_LENGTH, 16 * (1 + self.counts[1] // 2))
        tokenizer.enable_truncation(length)
        tokenizer.enable_padding(pad_id=0, length=length)
        number = self.start
        while True:
            yield self._batch(loaded, pools, tokenizer, number)
            number += 1

    def _batch(self, sheets: list[SpriteSheet], pools: list[NDArray[np.intp]],
               tokenizer: Tokenizer, number: int) -> Batch:
        ids, members, width = _phrase_ids(), _members(), self.counts[1] + 1
        images = np.empty((self.batch, self.side, self.side, 3), np.uint8)
        named = np.full((self.batch, width), -1, np.int64)
        unknown = np.zeros((self.batch, len(ids)), bool)
        texts = []
        for row in range(self.batch):
            choice = (number * self.batch + row) % len(sheets)
            scene = make_scene([TRAINING_SEED + self.seed, number, row], sheets[choice], pool=pools[choice],
                               side=self.side, counts=self.counts, sizes=self.sizes, bank=2,
                               loose=row < self.loose * self.batch)
            images[row] = scene.image_HW3
            texts.append(scene.caption.text)
            phrases = [scene.texture]
            for mention in scene.caption.mentions:
                thing = scene.objects[mention.object]
                phrases.append(mention.noun)
                if mention.by_superclass:
                    unknown[row, members.get(thing.superclass, [])] = True
                else:
                    unknown[row, ids[thing.superclass]] = True
            found = sorted({ids[phrase] for phrase in phrases})
            named[row, : len(found)] = found
            unknown[row, found] = False
        tokens = np.array([encoding.ids for encoding in tokenizer.encode_batch(texts)])
        return Batch(images_B3SS=torch.from_numpy(images).permute(0, 3, 1, 2), named_BM=torch.from_numpy(named),
                     unknown_BK=torch.from_numpy(unknown), captions_BT=torch.from_numpy(tokens))
