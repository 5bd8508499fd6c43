"""Some regions of a finished job, and nothing else: masks, results and report without the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from parsers.files import sha256_bytes, write_atomic
from parsers.vocabulary import Vocabulary
from workers.drawing import encode_mask
from workers.outputs import LineFile, write_job
from workers.records import DONE, EMPTY, ClassFound, RegionFound, Result, read_job, read_results
from workers.report import write_report


def keep_regions(out: Path, kept: Mapping[str, Collection[int]], locate: Callable[[str], Path]) -> None:
    """Takes all regions out of the job in `out` whose ids are not among those that `kept` gives for their picture;
    pictures that it does not name lose all. Class ids and region ids stay as they are.

    locate: the picture file of a name, for the report. Raises OutputError. Overlays and confidence maps are not made
    again, so the job should have none.
    """
    vocabulary = Vocabulary.load(out / "vocabulary.yaml")
    colours = {entry.id: entry.rgb for entry in vocabulary.classes}
    results = [_reduced(out, result, kept.get(result.name, ()), colours) for result in read_results(out)]
    with LineFile(out / "results.jsonl") as lines:
        for result in results:
            lines.write(result.model_dump(mode="json"))
    job = read_job(out)
    counts = Counter(result.state for result in results)
    job = job.model_copy(update={"counts": {state: counts[state] for state in job.counts}})
    write_report(out, job, vocabulary, locate)
    write_job(out, job)


def _reduced(out: Path, result: Result, kept: Collection[int], colours: Mapping[int, tuple[int, int, int]]) -> Result:
    """The result of one picture with the regions that stay; its mask is written anew."""
    gone = [region for region in result.regions if region.id not in kept]
    if result.mask is None or not gone:
        return result
    with Image.open(out / result.mask) as image:
        labels_HW = np.array(image).astype(np.uint16)
    for class_id in {region.class_id for region in gone}:
        parts_HW, _ = ndimage.label(labels_HW == class_id, structure=np.ones((3, 3), int))
        for part, extent in enumerate(ndimage.find_objects(parts_HW), start=1):
            rows, columns = extent
            here = parts_HW == part
            box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
            if any(region.class_id == class_id and region.box == box and region.area == np.count_nonzero(here)
                   for region in gone):
                labels_HW[here] = 0
    data = encode_mask(labels_HW, colours)
    write_atomic(out / result.mask, data)
    regions = tuple(region for region in result.regions if region.id in kept)
    classes = tuple(_class_found(found, [one for one in regions if one.class_id == found.id])
                    for found in result.classes if any(one.class_id == found.id for one in regions))
    return result.model_copy(update={"state": DONE if regions else EMPTY, "regions": regions, "classes": classes,
                                     "mask_sha256": sha256_bytes(data)})


def _class_found(found: ClassFound, regions: list[RegionFound]) -> ClassFound:
    """A class with what is left of it; the score is the mean over the pixels, as before."""
    area = sum(one.area for one in regions)
    score = sum(one.score * one.area for one in regions) / area
    return found.model_copy(update={"area": area, "score": round(min(1.0, score), 6)})
