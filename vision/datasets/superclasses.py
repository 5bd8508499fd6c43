"""A dataset seen through wider classes: every name that has a super-class becomes it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from parsers.errors import Code, DatasetError
from parsers.names import name_key
from vision.datasets.base import EvalDataset

SUPERCLASSES, OTHERS = "super-classes", "other names"


class SuperclassView:
    """An EvalDataset with the pictures of another. `superclasses` maps names to super-classes; names that it leaves
    out stay as they are. Its groups are the super-classes and the other names.

    Raises DatasetError if `superclasses` has none of the dataset's names.
    """

    def __init__(self, dataset: EvalDataset, superclasses: Mapping[str, str]) -> None:
        wider = {name_key(name): superclass for name, superclass in superclasses.items()}
        if not any(name_key(name) in wider for name in dataset.classes.values()):
            raise DatasetError(Code.DATASET_INVALID, f"None of the names of {dataset.name} has a super-class.",
                               "A mapping from the dataset's names to super-classes.",
                               'Give --super-classes FILE with {"name": "super-class", ...}.')
        self._dataset = dataset
        self.name = f"{dataset.name} by super-class"
        self.classes = {id: wider.get(name_key(name), name) for id, name in dataset.classes.items()}
        self.ignore_id = dataset.ignore_id
        self.always = tuple(dict.fromkeys(wider.get(name_key(name), name) for name in dataset.always))
        supers = frozenset(wider.values()) & frozenset(self.classes.values())
        self.groups = {SUPERCLASSES: supers, OTHERS: frozenset(self.classes.values()) - supers}

    def __len__(self) -> int:
        return len(self._dataset)

    def key(self, i: int) -> str:
        return self._dataset.key(i)

    def load(self, i: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        return self._dataset.load(i)
