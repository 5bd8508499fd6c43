"""What decoding large JPEGs as drafts changes and saves: `python -m benchmarks.drafts [FOLDER]`.

Without a folder: pictogram scenes enlarged to 1,200 pixels a side, with their own names. With one: its JPEGs that are
large enough, searched for a few everyday names; they should be pictures of a kind that the model knows.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from parsers.vocabulary import Vocabulary
from vision import ClipSettings, load_segmenter, resolve_model
from vision.datasets.pictograms import PictogramDataset
from vision.images import decode_draft, decode_image
from vision.refine import refine
from vision.types import Sample
from workers.pipeline import whole

NAMES = "person, car, road, tree, grass, sky, building, wall"


def scenes(count: int) -> Iterator[tuple[bytes, Vocabulary]]:
    """JPEG files and the names to look for."""
    dataset = PictogramDataset(count=count, seed=9)
    for i in range(count):
        image_HW3, labels_HW = dataset.load(i)
        file = io.BytesIO()
        Image.fromarray(image_HW3).resize((1200, 1200), Image.Resampling.BICUBIC).save(file, "JPEG", quality=92)
        yield file.getvalue(), Vocabulary.from_names([dataset.classes[id] for id in np.unique(labels_HW)])


def photos(folder: Path) -> Iterator[tuple[bytes, Vocabulary]]:
    for path in sorted(folder.rglob("*.jpg")):
        yield path.read_bytes(), Vocabulary.from_names(NAMES)


def main() -> None:
    """Reads the command line and prints JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drafts", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--count", type=int, default=20)
    given = parser.parse_args()
    settings = ClipSettings(templates="plain", draft=True)
    segmenter = load_segmenter("clip", resolve_model(given.model, "clip"), settings=settings)
    assert segmenter.draft_side is not None
    changed, seconds = [], {"whole": 0.0, "draft": 0.0}
    for data, vocabulary in photos(given.folder) if given.folder else scenes(given.count):
        started = time.perf_counter()
        image_HW3 = decode_image(data, name="picture")
        decoded = time.perf_counter()
        draft_HW3, size = decode_draft(data, name="picture", shortest=segmenter.draft_side)
        seconds["whole"] += decoded - started
        seconds["draft"] += time.perf_counter() - decoded
        if draft_HW3.shape == image_HW3.shape:
            continue
        labels = [refine(whole(picture_HW3, size), score_map).labels_HW for picture_HW3, score_map in zip(
            (image_HW3, draft_HW3), segmenter.score([Sample(image_HW3=image_HW3, vocabulary=vocabulary),
                                                     Sample(image_HW3=draft_HW3, vocabulary=vocabulary)]), strict=True)]
        changed.append(float((labels[0] != labels[1]).mean()))
    print(json.dumps({"pictures": len(changed), "labels changed %": round(100 * float(np.mean(changed or [0])), 2),
                      "most %": round(100 * max(changed, default=0), 2),
                      "decode s": {name: round(value, 3) for name, value in seconds.items()}}))


if __name__ == "__main__":
    main()
