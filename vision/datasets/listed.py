"""Pictures and masks of a published dataset, as its archive numbers them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parsers.errors import Code, DatasetError
from parsers.vocabulary import Vocabulary
from vision.datasets.folder import read_labels
from vision.datasets.protocol import BACKGROUND_ID, IGNORE_ID, ClassTable

UNKNOWN = -1
"""In a table of stored values: a value that the dataset does not have."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture and its mask."""

    key: str
    image: Path
    labels: Path


class ListedDataset:
    """An EvalDataset over pairs of pictures and masks. Ids: 0 the background where the protocol has one, 1..N the
    classes, 65535 what is ignored.

    `load` raises InputError for a picture, and DatasetError for a mask that is missing (`label-missing`), cannot be
    read (`label-unreadable`), has another size than its picture (`label-size`) or holds values that the dataset does
    not have (`label-unknown-id`).
    """

    always: tuple[str, ...] = ()
    ignore_id: int | None = IGNORE_ID

    def __init__(self, spec: str, protocol: str, split: str, classes: ClassTable, names: str, pairs: Sequence[Pair],
                 id_of_value: NDArray[np.int32], *, background: bool,
                 read: Callable[[Path], NDArray[np.integer]] = read_labels) -> None:
        """spec: how a person names it, "voc21:PATH"; protocol: "voc21"; id_of_value: (65536,), see `value_table`;
        names: a list of the class table; read: a mask file to stored values."""
        self.name = f"{protocol}:{split}"
        self.protocol, self.names, self.spec = protocol, names, spec
        self.knowledge: Vocabulary = classes.vocabulary(names)
        """What the names and the background are called; synonyms are further names of a class."""
        self.classes = ({BACKGROUND_ID: "background"} if background else {}) | classes.names(names)
        self._pairs, self._id_of_value, self._read = pairs, id_of_value, read
        expected = classes.images.get(split)
        self.warnings = () if len(pairs) == expected or expected is None else (
            f"{self.name} has {len(pairs):,} pictures, the published split {expected:,}: figures are not comparable.",)

    def __len__(self) -> int:
        return len(self._pairs)

    def key(self, i: int) -> str:
        return self._pairs[i].key

    def load(self, i: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        from vision.images import read_image

        pair = self._pairs[i]
        image_HW3 = read_image(pair.image)
        if not pair.labels.is_file():
            raise self._error(Code.LABEL_MISSING, f"{pair.image} has no mask: {pair.labels} is not there.",
                              "Every picture of the split has a mask.")
        values_HW = self._read(pair.labels)
        if image_HW3.shape[:2] != values_HW.shape:
            (height, width), (rows, columns) = image_HW3.shape[:2], values_HW.shape
            raise self._error(Code.LABEL_SIZE, f"{pair.labels} is {columns}x{rows}, its picture {width}x{height}.",
                              "Masks are as large as their pictures.")
        ids_HW = self._id_of_value[values_HW]
        if ids_HW.min(initial=0) == UNKNOWN:
            found = sorted(set(np.unique(values_HW[ids_HW == UNKNOWN]).tolist()))
            raise self._error(Code.LABEL_UNKNOWN_ID, f"{pair.labels} holds the values {found[:5]}.",
                              f"The values of {self.protocol}: docs/datasets.md.")
        return image_HW3, ids_HW.astype(np.uint16)

    def check_files(self) -> None:
        """Raises DatasetError if files of the split are not there; says how many and which is the first."""
        missing: Counter[Code] = Counter()
        first: Path | None = None
        for pair in self._pairs:
            for path, code in ((pair.image, Code.FILE_MISSING), (pair.labels, Code.LABEL_MISSING)):
                if not path.is_file():
                    missing[code] += 1
                    first = first or path
        if missing:
            counted = ", ".join(f"{code} {count}" for code, count in missing.items())
            code = Code.LABEL_MISSING if missing[Code.LABEL_MISSING] else Code.FILE_MISSING
            raise self._error(code, f"{self.name} lacks files ({counted} of {len(self._pairs)}); the first: {first}.",
                              "Every picture of the split and its mask.")

    def _error(self, code: Code, given: str, allowed: str) -> DatasetError:
        return DatasetError(code, given, allowed, "Unpack the archive again, or leave such pictures out: "
                                                  f"lexiseg eval {self.spec} --skip-bad")


def value_table(ids: Mapping[int, int], ignored: Iterable[int] = (), default: int = UNKNOWN) -> NDArray[np.int32]:
    """(65536,) stored value to id: those of `ids`, `IGNORE_ID` for those of `ignored`, else `default`."""
    table = np.full(65536, default, np.int32)
    for value, id in ids.items():
        table[value] = id
    table[list(ignored)] = IGNORE_ID
    return table


def find_folder(root: Path, places: Sequence[str], needs: Sequence[str], what: str, spec: str) -> Path:
    """The first of `places` below `root` that holds all of `needs`. Raises DatasetError, which says what was looked
    for."""
    for place in places:
        if all((root / place / need).exists() for need in needs):
            return root / place
    raise DatasetError(Code.DATASET_INVALID, f"{root} is not {what}: " + (
        f"no {' and '.join(needs)} below it." if root.is_dir() else "there is no such folder."),
        f"A folder that holds {', '.join(needs)}, or one above it.",
        f"Unpack the official archives, then lexiseg eval {spec}:PATH; docs/datasets.md shows the layout.")


def read_list(path: Path, spec: str) -> list[str]:
    """The keys of a split, one a line. Raises DatasetError."""
    try:
        keys = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(Code.DATASET_INVALID, f"The list of the split, {path}, cannot be read.",
                           "A text file with one name a line.",
                           f"Unpack it from the archive, or name another split: lexiseg eval {spec}:PATH,split=val"
                           ) from error
    if not keys:
        raise DatasetError(Code.DATASET_INVALID, f"The list of the split, {path}, is empty.", "One name a line.",
                           "Unpack it from the archive again.")
    return keys


def listed_twice(images: Path, labels: Path, suffix: str, mask_suffix: str) -> list[Pair]:
    """Pairs for every picture in `images` and every mask in `labels`, by the name before the suffixes, sorted."""
    keys = {path.name.removesuffix(suffix) for path in images.glob(f"*{suffix}")}
    keys |= {path.name.removesuffix(mask_suffix) for path in labels.glob(f"*{mask_suffix}")}
    return [Pair(key, images / f"{key}{suffix}", labels / f"{key}{mask_suffix}") for key in sorted(keys)]
