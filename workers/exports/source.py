"""A finished job's folder, read picture by picture.

Masks say which pixels belong to what, results.jsonl says with which score; a mask that is not the one of results.jsonl
is refused.

Shapes: H, W height and width of the picture in pixels; h, w height and width of a box in it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import PngImagePlugin
from pydantic import ValidationError
from scipy import ndimage

from parsers.errors import Code, DatasetError
from parsers.files import sha256_bytes
from parsers.vocabulary import Vocabulary
from workers.drawing import ignore_id
from workers.exports.categories import Category
from workers.records import DONE, EMPTY, Job, Result, read_job, read_results

IGNORE = 65535
"""Stands for "ignore" in `Picture.categories_HW`, whatever the mask has."""
_EIGHT_CONNECTED = np.ones((3, 3), np.int8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """Pixels of one category in one picture."""

    category: Category
    box: tuple[int, int, int, int]
    """x, y, width, height in pixels; as small as can be."""
    mask_hw: NDArray[np.bool_]
    """The pixels inside the box."""
    area: int
    """Pixels."""
    score: float | None
    """Mean probability over the pixels, 6 decimals; None where the job gave none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEntry:
    """A processed picture without its mask."""

    id: int
    """1 for the first processed picture of the job, in the order of names."""
    name: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """A processed picture with its mask."""

    entry: ImageEntry
    categories_HW: NDArray[np.uint16]
    """Category id; 0 is background, or a class that is left out; 65535 is "ignore"."""
    labels_HW: NDArray[np.uint16]
    """Class id, as the mask has it."""
    categories: Sequence[Category]
    result: Result

    def parts(self) -> Iterator[Segment]:
        """The connected parts (8-neighbourhood) of each class, by class id and then in reading order, as
        `vision.refine` numbers them. A part is known in results.jsonl by its class and box: two parts of one class
        cannot share a box, since each would reach all four sides and they would cross. Parts that results.jsonl does
        not list have the score of their class."""
        by_class = {class_id: category for category in self.categories for class_id in category.class_ids}
        part_scores = {(region.class_id, region.box): region.score for region in self.result.regions}
        class_scores = {found.id: found.score for found in self.result.classes}
        for class_id, (rows, columns) in _extents(self.labels_HW):
            if class_id not in by_class:
                continue
            parts_hw, count = ndimage.label(self.labels_HW[rows, columns] == class_id, structure=_EIGHT_CONNECTED)
            for part, (y, x) in enumerate(ndimage.find_objects(parts_hw, max_label=count), start=1):
                mask_hw = parts_hw[y, x] == part
                box = (columns.start + x.start, rows.start + y.start, x.stop - x.start, y.stop - y.start)
                yield Segment(category=by_class[class_id], box=box, mask_hw=mask_hw, area=int(mask_hw.sum()),
                              score=part_scores.get((class_id, box), class_scores.get(class_id)))

    def whole_categories(self) -> Iterator[Segment]:
        """All pixels of each category as one segment, by id; its score is the mean over them."""
        by_id = {category.id: category for category in self.categories}
        for category_id, (rows, columns) in _extents(self.categories_HW):
            if category_id not in by_id:
                continue
            category, mask_hw = by_id[category_id], self.categories_HW[rows, columns] == category_id
            found = [entry for entry in self.result.classes if entry.id in category.class_ids]
            area = sum(entry.area for entry in found)
            score = round(sum(entry.score * entry.area for entry in found) / area, 6) if area else None
            height, width = mask_hw.shape
            yield Segment(category=category, box=(columns.start, rows.start, width, height), mask_hw=mask_hw,
                          area=int(mask_hw.sum()), score=score)

    def segments(self, per_class: bool) -> Iterator[Segment]:
        """`whole_categories` or `parts`."""
        return self.whole_categories() if per_class else self.parts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A finished job. Nothing in it grows with the number of pictures."""

    out: Path
    job: Job
    vocabulary: Vocabulary
    images: int
    """Pictures that were processed, empty ones among them."""
    empty: int
    """Pictures in which nothing was found."""
    left_out: int
    """Pictures without a mask: failed."""

    @classmethod
    def open(cls, out: Path) -> Self:
        """Reads job.json, vocabulary.yaml and, once, the lines of results.jsonl. Raises DatasetError."""
        job = _finished_job(out)
        vocabulary = Vocabulary.load(out / "vocabulary.yaml")
        if vocabulary.digest != job.vocabulary.sha256:
            raise _damaged(f"{out / 'vocabulary.yaml'} is not the vocabulary that the job ran with.")
        counts = {DONE: 0, EMPTY: 0}
        left_out, last = 0, ""
        for result in _results(out):
            if result.name <= last:
                raise _damaged(f"{out / 'results.jsonl'} has {result.name!r} after {last!r}; names are sorted.")
            last = result.name
            if result.state in counts:
                counts[result.state] += 1
            else:
                left_out += 1
        total = sum(counts.values()) + left_out
        if job.total is not None and total != job.total:
            raise _damaged(f"{out / 'results.jsonl'} has {total:,} lines, job.json tells of {job.total:,} pictures.")
        return cls(out=out, job=job, vocabulary=vocabulary, images=sum(counts.values()), empty=counts[EMPTY],
                   left_out=left_out)

    def entries(self) -> Iterator[ImageEntry]:
        """The processed pictures in the order of their names, without reading masks."""
        return (entry for entry, _ in self._processed())

    def pictures(self, categories: Sequence[Category],
                 on_picture: Callable[[int], None] | None = None) -> Iterator[Picture]:
        """The processed pictures in the order of their names; on_picture gets the number of those that are dealt with.

        Raises DatasetError for a mask that is missing, is not the one of results.jsonl or holds unknown ids.
        """
        class_ids = [entry.id for entry in self.vocabulary.classes]
        lookup = np.full(65536, -1, np.int32)
        lookup[[0, ignore_id(class_ids)]] = 0, IGNORE
        lookup[class_ids] = 0
        for category in categories:
            lookup[list(category.class_ids)] = category.id
        for entry, result in self._processed():
            labels_HW = self._mask(result)
            categories_HW = lookup[labels_HW]
            if (categories_HW < 0).any():
                unknown = sorted(set(labels_HW[categories_HW < 0].tolist()))
                raise _damaged(f"{self.out / (result.mask or '')} holds the ids {unknown[:5]}, which no class has.")
            yield Picture(entry=entry, categories_HW=categories_HW.astype(np.uint16), labels_HW=labels_HW,
                          categories=categories, result=result)
            if on_picture is not None:
                on_picture(entry.id)

    def _processed(self) -> Iterator[tuple[ImageEntry, Result]]:
        number = 0
        for result in _results(self.out):
            if result.state in (DONE, EMPTY):
                number += 1
                assert result.width is not None and result.height is not None
                yield ImageEntry(id=number, name=result.name, width=result.width, height=result.height), result

    def _mask(self, result: Result) -> NDArray[np.uint16]:
        path = self.out / (result.mask or "")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _damaged(f"The mask {path} cannot be read: {error.strerror}.") from error
        if result.mask_sha256 not in (None, sha256_bytes(data)):
            raise _damaged(f"The mask {path} was changed after the job: its sha256 is not the one in results.jsonl.")
        try:  # not Image.open, whose limit of pixels is smaller than that of a job
            labels_HW = np.asarray(PngImagePlugin.PngImageFile(io.BytesIO(data)))
        except (OSError, SyntaxError, ValueError) as error:
            raise _damaged(f"The mask {path} is not a readable PNG: {error}.") from error
        if labels_HW.shape != (result.height, result.width):
            raise _damaged(f"The mask {path} is not {result.width}x{result.height}, as results.jsonl says.")
        return labels_HW.astype(np.uint16)


def _finished_job(out: Path) -> Job:
    try:
        job = read_job(out)
    except OSError as error:
        raise DatasetError(Code.DATASET_INVALID, f"{out} is not the folder of a job: {out / 'job.json'} cannot be "
                           f"read ({error.strerror}).", "The --out of a finished job.",
                           "Check the path, or make one: lexiseg segment PICTURES --classes \"...\" --out "
                           f"{out}") from error
    except ValidationError as error:
        raise _damaged(f"{out / 'job.json'} is not the description of a job ({error.error_count()} problems).") \
            from error
    if job.state != "done":
        reason = f" ({job.error})" if job.error else ""
        raise DatasetError(Code.DATASET_INVALID,
                           f"The job in {out} is not finished: job.json says {job.state!r}{reason}.",
                           "A job that is done, so that an export never lacks pictures.",
                           f"Let it finish, or run it again: lexiseg segment ... --out {out}")
    return job


def _results(out: Path) -> Iterator[Result]:
    """The lines of results.jsonl, checked. Raises DatasetError."""
    path, number = out / "results.jsonl", 0
    try:
        for number, result in enumerate(read_results(out), start=1):
            parts = PurePosixPath(result.name).parts
            if not parts or ".." in parts or parts[0] == "/" or "\0" in result.name:
                raise _damaged(f"{path}, line {number}: {result.name!r} is not a path below a folder.")
            if result.state in (DONE, EMPTY) and (result.mask != f"masks/{result.name}.png" or not result.width
                                                  or not result.height):
                raise _damaged(f"{path}, line {number}: {result.name!r} has no mask or no size.")
            yield result
    except OSError as error:
        raise _damaged(f"{path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise _damaged(f"{path}, line {number + 1}, is not a result ({error.error_count()} problems).") from error


def _damaged(given: str) -> DatasetError:
    return DatasetError(Code.DATASET_INVALID, given, "The folder as the job left it.",
                        "Copy the folder again, or run the job again: lexiseg segment ... --out OUT")


def _extents(ids_HW: NDArray[np.uint16]) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """Each id but 0 that occurs, and the rows and columns that it spans, by id."""
    present = np.flatnonzero(np.bincount(ids_HW.ravel(), minlength=1))
    rank = np.zeros(65536, np.int32)
    rank[present] = np.arange(1, len(present) + 1)
    for value, extent in zip(present.tolist(), ndimage.find_objects(rank[ids_HW], len(present)), strict=True):
        if value:
            yield value, extent
