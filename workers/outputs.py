"""The folder a job leaves behind. docs/output.md explains it to the people who read it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from parsers.errors import Code, LexisegError, OutputError
from parsers.files import canonical_json, output_error, pretty_json, sha256_bytes, write_atomic
from parsers.prepared import PreparedRow
from parsers.vocabulary import Vocabulary
from vision.types import LabelMap
from workers.drawing import Colour, draw_overlay, encode_confidence, encode_mask, encode_overlay, ignore_id
from workers.records import DONE, EMPTY, FAILED, ClassFound, Job, RegionFound, Result

FOLDERS = ("masks", "overlays", "confidence")
FILES = ("vocabulary.yaml", "classes.json", "results.jsonl", "timings.jsonl", "report.html")
ASK_FILE = "ask.json"
"""What `lexiseg ask` adds to a job; it may be there without one."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written for one picture."""

    result: Result
    """The line for results.jsonl."""
    files: tuple[tuple[str, str], ...]
    """Path below OUT and sha256 of each file."""


@dataclass(frozen=True, slots=True)
class PictureWriter:
    """Writes what belongs to one picture. Small and picklable: it travels to other processes."""

    out: Path
    names: Mapping[int, str]
    colours: Mapping[int, Colour]
    overlay: bool = False
    confidence: bool = False
    told: PreparedRow | None = None
    """In a job without candidates: what was said of the picture."""

    @classmethod
    def of(cls, out: Path, vocabulary: Vocabulary, *, overlay: bool, confidence: bool) -> Self:
        return cls(out, {}, {}, overlay, confidence).named_by(vocabulary)

    def named_by(self, vocabulary: Vocabulary) -> Self:
        """The same with the names and colours of a vocabulary."""
        return replace(self, names=vocabulary.names, colours={entry.id: entry.rgb for entry in vocabulary.classes})

    def write(self, name: str, image_HW3: np.ndarray, label_map: LabelMap, *, image_sha256: str) -> Written:
        """Writes masks/<name>.png and, on request, overlays/<name>.jpg and confidence/<name>.png, each whole or not at
        all. Pixels that are ignored belong to no class of the result. Raises OutputError."""
        files = {}
        if self.overlay:
            picture = draw_overlay(image_HW3, label_map, self.colours, self.names)
            files[f"overlays/{name}.jpg"] = encode_overlay(picture)
        if self.confidence and label_map.confidence_HW is not None:
            files[f"confidence/{name}.png"] = encode_confidence(label_map.confidence_HW)
        mask = files[f"masks/{name}.png"] = encode_mask(label_map.labels_HW, self.colours)
        for path, data in files.items():
            write_atomic(self.out / path, data)
        ignored = ignore_id(list(self.names))
        areas = np.bincount(label_map.labels_HW.ravel())
        classes = tuple(
            ClassFound(id=int(i), name=self.names[int(i)], area=int(areas[i]),
                       score=round(float(label_map.scores[int(i)]), 6))
            for i in np.flatnonzero(areas) if i not in (0, ignored))
        regions = tuple(RegionFound(id=region.id, class_id=region.class_id, box=region.box, area=region.area,
                                    score=round(float(region.score), 6))
                        for region in label_map.regions if region.class_id != ignored)
        height, width = label_map.labels_HW.shape
        digests = tuple((path, sha256_bytes(data)) for path, data in files.items())
        return Written(Result(name=name, state=DONE if classes else EMPTY, width=width, height=height, classes=classes,
                              regions=regions, mask=f"masks/{name}.png", image_sha256=image_sha256,
                              mask_sha256=sha256_bytes(mask), told=self.told), digests)

    def remove(self, name: str) -> None:
        """Takes away what was written for a picture that failed half way."""
        for folder, suffix in zip(FOLDERS, (".png", ".jpg", ".png"), strict=True):
            with contextlib.suppress(OSError):  # a name that is too long, or taken by a folder, was never written
                (self.out / folder / f"{name}{suffix}").unlink()


def failure(name: str, error: Exception) -> Result:
    """The line for a picture that failed. Only errors of the kind `LexisegError` explain themselves."""
    if isinstance(error, LexisegError):
        message = " ".join(part for part in (error.given, error.allowed) if part)
        return Result(name=name, state=FAILED, code=error.code, message=message, advice=error.next_step or None)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Result(name=name, state=FAILED, code=Code.OUT_OF_MEMORY, message="There was not enough memory for it.",
                      advice="Make the picture smaller, use tiles, or use a machine with more memory.")
    return Result(name=name, state=FAILED, code=Code.INTERNAL, message=f"{type(error).__name__}: {error}"[:500],
                  advice="Please report this with the picture, if you may share it.")


def prepare_out(out: Path) -> None:
    """Makes the folder, or clears it of the earlier job that it holds, so that everything in it is of one job.

    Raises OutputError: `output-collision` when names that a job uses are taken by something that is no job,
    `output-unwritable`.
    """
    taken = [name for name in (*FOLDERS, *FILES) if (out / name).exists()]
    if taken and not (out / "job.json").exists():
        raise OutputError(Code.OUTPUT_COLLISION, f"{out} already holds {', '.join(taken)}, but no job.json.",
                          "A new or empty folder, or the folder of an earlier job, which is replaced.",
                          "Choose another --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in FOLDERS:
            if (out / name).exists():
                shutil.rmtree(out / name)
        for name in (*FILES, ASK_FILE):
            (out / name).unlink(missing_ok=True)
        for leftover in out.glob(".*.part"):  # of a process that was killed
            leftover.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(out, error) from error


def free_mb(folder: Path) -> float:
    """Megabytes that are free where a folder is, or would be."""
    return shutil.disk_usage(_existing(folder)).free / 1e6


def require_room(folder: Path, min_free_mb: float) -> None:
    """Raises OutputError (`disk-full`) where less than so many megabytes are free."""
    free = free_mb(folder)
    if free < min_free_mb:
        raise OutputError(Code.DISK_FULL, f"Only {free:,.0f} MB are free on the disk of {folder}.",
                          f"LEXISEG_MIN_FREE_MB keeps {min_free_mb:,.0f} MB free, so that nothing breaks off.",
                          "Free space, or lower LEXISEG_MIN_FREE_MB for the workers; then: lexiseg jobs resume")


def ignores_case(out: Path) -> bool:
    """Whether the file system where a folder is, or would be, takes names that differ only in case for one, as those of
    Windows, of macOS and of most memory sticks do. False where nothing can be written, which shows soon enough."""
    try:
        with tempfile.NamedTemporaryFile(dir=_existing(out), prefix=".lexiseg-case-") as probe:
            path = Path(probe.name)
            return os.path.lexists(path.with_name(path.name.upper()))
    except OSError:
        return False


def refuse_equal_names(names: Iterable[str], out: Path) -> None:
    """Raises OutputError (`output-collision`) for two names that differ only in case, or in how their accents are
    written. Memory: 16 bytes and what a set needs for each name."""
    seen: dict[bytes, str] = {}
    for name in names:
        other = seen.setdefault(_digest(name), name)
        if other != name:
            raise OutputError(Code.OUTPUT_COLLISION, f"{other!r} and {name!r} differ only in case, which the file "
                              f"system of {out} does not tell apart.", "Names that differ in more, or a place that "
                              "tells them apart.", "Rename one of the pictures, or choose another --out.")


def _digest(name: str) -> bytes:
    return hashlib.blake2b(unicodedata.normalize("NFC", name).lower().encode(), digest_size=16).digest()


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.expanduser().absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def write_job(out: Path, job: Job) -> None:
    """Writes job.json."""
    write_atomic(out / "job.json", pretty_json(job.model_dump(mode="json")))


def write_classes(out: Path, vocabulary: Vocabulary) -> None:
    """Writes classes.json; with it OUT is a dataset folder."""
    classes = {"0": "background"} | {str(class_id): name for class_id, name in sorted(vocabulary.names.items())}
    write_atomic(out / "classes.json", pretty_json(classes | {"ignore_id": ignore_id(list(vocabulary.names))}))


def timing(name: str, decode_s: float, score_s: float, finish_s: float) -> dict[str, Any]:
    """A picture's line of timings.jsonl."""
    return {"name": name, "decode_s": round(decode_s, 6), "score_s": round(score_s, 6), "finish_s": round(finish_s, 6)}


def job_timing(seconds: float, images: int) -> dict[str, Any]:
    """The last line of timings.jsonl."""
    return {"job": {"seconds": round(seconds, 3), "images": images, "images_per_s": round(images / seconds, 3)}}


class LineFile:
    """A .jsonl file that grows line by line under a temporary name and appears whole, or not at all.

    Usage::

        with LineFile(out / "results.jsonl") as lines:
            lines.write({"name": "a.jpg"})
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary: str | None = None
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            handle, self._temporary = tempfile.mkstemp(dir=self._path.parent, prefix=".", suffix=".part")
            self._file = os.fdopen(handle, "wb", buffering=1 << 18)
        except OSError as error:
            raise output_error(self._path, error) from error
        return self

    def write(self, value: object) -> None:
        """Adds a value as one line of JSON. Raises OutputError."""
        self.write_line(canonical_json(value))

    def write_line(self, line: bytes) -> None:
        """Adds a line that is JSON already. Raises OutputError."""
        assert self._file is not None
        try:
            self._file.write(line + b"\n")
        except OSError as error:
            raise output_error(self._path, error) from error

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._file is not None and self._temporary is not None
        try:
            if kind is not None:
                return
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.chmod(self._temporary, 0o644)
            os.replace(self._temporary, self._path)
        except OSError as failed:
            raise output_error(self._path, failed) from failed
        finally:
            with contextlib.suppress(OSError):  # a full disk also fails the flush at closing
                self._file.close()
            Path(self._temporary).unlink(missing_ok=True)
