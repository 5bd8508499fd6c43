"""One export from its options to the folder it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from parsers.errors import Code, SettingError
from parsers.files import pretty_json
from workers.exports.categories import categories_of, dropped_classes
from workers.exports.coco import write_coco, write_panoptic
from workers.exports.cvat import write_cvat
from workers.exports.label_studio import IMAGE_PREFIX, write_label_studio
from workers.exports.masks import write_masks
from workers.exports.options import Options
from workers.exports.source import Source
from workers.exports.target import RECORD, building
from workers.exports.yolo import write_yolo


@dataclass(frozen=True, slots=True)
class Format:
    """A format that can be asked for."""

    write: Callable[[Source, Path, Options], None]
    names: tuple[str, ...]
    """What it writes at the top of its folder, beside export.json."""
    per_class: bool
    """Whether segments per class can be asked for."""


FORMATS = {
    "coco": Format(write_coco, ("annotations.json",), per_class=True),
    "panoptic": Format(write_panoptic, ("panoptic.json", "panoptic"), per_class=True),
    "png": Format(write_masks, ("classes.json", "masks"), per_class=False),
    "yolo": Format(write_yolo, ("data.yaml", "labels", "renames.json"), per_class=False),
    "label-studio": Format(write_label_studio, ("labeling_config.xml", "tasks"), per_class=True),
    "cvat": Format(write_cvat, ("annotations.xml", "labels.json"), per_class=True),
}


class ExportRecord(BaseModel):
    """export.json: what an export was made from and what is in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    format: str
    per_class: bool = Field(description="one segment per class and picture, not one per connected part")
    unmatched: str = Field(description="what became of classes without maps_to: keep, drop or error")
    vocabulary_sha256: str
    model: str | None
    model_sha256: str
    categories: dict[int, str] = Field(description="id to name")
    dropped_classes: tuple[str, ...] = Field(description="classes that were left out, since they have no maps_to")
    images: int = Field(description="pictures in the export, those in which nothing was found among them")
    empty: int = Field(description="pictures in which the job found nothing")
    left_out: int = Field(description="pictures without a mask, which failed in the job")


def export_job(out: Path, format: str, to: Path, *, per_class: bool = False, unmatched: str = "keep",
               image_prefix: str | None = None,
               on_progress: Callable[[int, int], None] | None = None) -> ExportRecord:
    """Writes the masks of the finished job in the folder `out` into the folder `to` (docs/exports.md).

    format: a key of FORMATS. per_class: one segment per class and picture instead of one per connected part.
    unmatched: `keep`, `drop` or `error`, for classes without `maps_to` (categories_of). image_prefix: Label Studio
    only, what stands before a picture's name in its address; None for `/data/local-files/?d=`. on_progress gets
    pictures done and in all, in the calling thread.

    `to` appears whole or not at all; it may be a new or empty folder or an earlier export of this format. The same
    `out` and options give the same bytes. Memory does not depend on the number of pictures.

    Raises SettingError, DatasetError (`out` is no finished job, or was changed), VocabularyError, OutputError,
    MissingPackageError.
    """
    if format not in FORMATS:
        raise SettingError(Code.SETTING_INVALID, f"--format {format!r}.", f"One of: {', '.join(FORMATS)}.",
                           "docs/exports.md says what each is for.")
    kind = FORMATS[format]
    if per_class and not kind.per_class:
        able = ", ".join(name for name, other in FORMATS.items() if other.per_class)
        raise SettingError(Code.SETTING_INVALID, f"--per-class with --format {format}.", f"It goes with {able}.",
                           "Leave --per-class out.")
    if image_prefix is not None and format != "label-studio":
        raise SettingError(Code.SETTING_INVALID, f"--image-prefix with --format {format}.",
                           "It goes with label-studio; the other formats name pictures by their path.",
                           "Leave --image-prefix out.")
    source = Source.open(out)
    categories = categories_of(source.vocabulary, unmatched)
    report = None if on_progress is None else (lambda done: on_progress(done, source.images))
    options = Options(categories=categories, per_class=per_class, on_picture=report,
                      image_prefix=IMAGE_PREFIX if image_prefix is None else image_prefix)
    record = ExportRecord(
        format=format, per_class=per_class, unmatched=unmatched, vocabulary_sha256=source.vocabulary.digest,
        model=source.job.model.name, model_sha256=source.job.model.sha256, images=source.images, empty=source.empty,
        left_out=source.left_out, categories={category.id: category.name for category in categories},
        dropped_classes=dropped_classes(source.vocabulary, categories))
    with building(to, kind.names) as folder:
        kind.write(source, folder, options)
        (folder / RECORD).write_bytes(pretty_json(record.model_dump(mode="json")))
    return record
