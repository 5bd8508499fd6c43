"""Folders as a finished job leaves them, made from arrays, and the arrays, names and vocabularies worth trying."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import ndimage

from parsers.errors import Code
from parsers.vocabulary import Vocabulary, VocabularyClass
from vision.types import LabelMap, Region
from workers.outputs import LineFile, PictureWriter, write_classes, write_job
from workers.records import Job, ModelRecord, Result, VocabularyRecord


def label_map(labels_HW: np.ndarray, ignored: int) -> LabelMap:
    """The regions of an array, each with a score of its own, and for each class the mean over its pixels."""
    regions, scores = [], {}
    for class_id in sorted(set(np.unique(labels_HW).tolist()) - {0}):
        parts_HW, _ = ndimage.label(labels_HW == class_id, structure=np.ones((3, 3)))
        own = []
        for part, (y, x) in enumerate(ndimage.find_objects(parts_HW), start=1):
            own.append(Region(id=len(regions) + part, class_id=class_id, area=int((parts_HW == part).sum()),
                              box=(x.start, y.start, x.stop - x.start, y.stop - y.start),
                              score=(len(regions) + part) % 97 / 97))
        scores[class_id] = sum(r.score * r.area for r in own) / sum(r.area for r in own)
        regions += own if class_id != ignored else []
    return LabelMap(labels_HW=labels_HW.astype(np.uint16), scores=scores, regions=tuple(regions))


def write_out(out: Path, masks: Mapping[str, np.ndarray], vocabulary: Vocabulary | None = None, *,
              failed: tuple[str, ...] = (), state: str = "done") -> Path:
    """A job's folder: masks by name, and names of pictures that failed."""
    vocabulary = (vocabulary or Vocabulary.from_names("dog, cat, tree")).frozen()
    out.mkdir(parents=True)
    writer = PictureWriter.of(out, vocabulary, overlay=False, confidence=False)
    ignored = 255 if max(vocabulary.names) <= 254 else 65535
    results = [Result(name=name, state="failed", code=Code.FILE_EMPTY, message="It is empty.") for name in failed]
    for name, labels in masks.items():
        labels_HW = np.asarray(labels)
        image_HW3 = np.zeros((*labels_HW.shape, 3), np.uint8)
        results.append(writer.write(name, image_HW3, label_map(labels_HW, ignored), image_sha256="0" * 64).result)
    results.sort(key=lambda result: result.name)
    with LineFile(out / "results.jsonl") as lines:
        for result in results:
            lines.write(result.model_dump(mode="json"))
    counts = {name: sum(result.state == name for result in results) for name in ("done", "done-empty", "failed")}
    vocabulary.save(out / "vocabulary.yaml")
    write_classes(out, vocabulary)
    write_job(out, Job(state=state, spec={}, total=len(results), counts=counts, versions={},
                       vocabulary=VocabularyRecord(sha256=vocabulary.digest, classes=len(vocabulary.classes)),
                       model=ModelRecord(path="model", sha256="ab" * 32, name="tiny")))
    return out


def blobs(height: int, width: int, classes: int, seed: int) -> np.ndarray:
    """Smooth random areas with ids 0 to `classes`, with holes and parts that touch at corners."""
    noise = np.random.default_rng(seed).random((classes + 1, height, width))
    return ndimage.gaussian_filter(noise, (0, 1, 1)).argmax(0).astype(np.uint16)


DONUT = np.zeros((9, 11), np.uint16)
DONUT[1:8, 1:10] = 1
DONUT[3:6, 3:8] = 0
DONUT[4, 5] = 2
DONUT[2, 2] = 0
DONUT[3, 9] = 255

SHAPES: dict[str, np.ndarray] = {
    "empty": np.zeros((5, 7)), "full frame": np.full((6, 4), 3), "one pixel": np.pad([[2]], ((3, 2), (1, 5))),
    "one pixel picture": np.array([[1]]), "one row": np.array([[0, 1, 1, 0, 2]]),
    "one column": np.array([[1], [0], [2]]),
    "two parts": np.array([[1, 0, 1], [1, 0, 1]]), "corner neighbours": np.array([[1, 0], [0, 1]]),
    "checkerboard": np.indices((5, 6)).sum(0) % 2 + 1, "donut": DONUT, "only ignore": np.full((3, 3), 255),
    "not contiguous": np.arange(24).reshape(4, 6)[::-1, ::2] % 4, "blobs": blobs(31, 47, 3, 1),
}
"""Masks of the classes 1 to 3 with 255 for "ignore"."""

NAMES = ("a b.jpg", "a.jpg", "a.png", "deep/er/ä€😀.jpg", "deep/er/\"quoted\" & <tagged>'s.png", "deep/a.jpg",
         "new\nline\x01.png", "percent%20 #1?.webp", "back\\slash.bmp", "under/a.jpg/c.tar.gz.png", "no suffix",
         "名前.png", "-dash.jpg")
"""Names of pictures that break careless writers."""

TAXONOMY = Vocabulary(classes=(
    VocabularyClass(id=2, name="dog", maps_to="animal", color="#ff0000"),
    VocabularyClass(id=1, name="cat", maps_to="animal", color="#00ff00"),
    VocabularyClass(id=3, name="tree", parent="dog"), VocabularyClass(id=4, name="animal"),
    VocabularyClass(id=7, name="a \"b\" & <c>", maps_to="thing's")))
"""Two classes that map to one name, which is a third class's own; one that maps elsewhere; one that does not map."""

CATEGORY_OF = {"keep": {1: 1, 2: 1, 3: 3, 4: 1, 7: 7}, "drop": {1: 1, 2: 1, 7: 7}}
