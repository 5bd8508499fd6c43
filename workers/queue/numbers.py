"""From the ids of single pictures to those of the job, at the end of a job without candidates.

While such a job runs nobody knows all its names, so each picture has ids of its own: 1, 2, ... in the order of its
names. At the end the names of all pictures, sorted, get the ids of the job. Ids keep their order in each picture, so
only the numbers in masks and lines change. Doing it again changes nothing, after further pictures it makes the ids
fit; and whoever is killed in the middle is followed by another one, who goes on.

A mask is first written beside its place, then the ledger takes its digest and the line, then it moves: at every moment
the ledger has the digest of a file that is there.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sqlalchemy import Row, and_, select, update

from parsers.files import canonical_json, sha256_bytes, sha256_file, write_atomic
from parsers.free import merged_vocabulary
from parsers.prepared import PreparedRow
from parsers.vocabulary import IGNORE_ID, MAX_ID, Vocabulary
from workers.drawing import encode_mask, ignore_id
from workers.failpoints import reach
from workers.ledger import JobState, Ledger
from workers.ledger.claims import line_of
from workers.ledger.jobs import finished_rows, told_rows
from workers.ledger.schema import items, jobs, results
from workers.records import Result

ASIDE = ".numbered"
"""Folder below OUT for masks that are about to move."""
CHUNK = 64
"""Pictures whose lines are changed in one transaction."""


def job_vocabulary(ledger: Ledger, job_id: str) -> Vocabulary:
    """All names of a job without candidates, as far as its pictures are finished, sorted."""
    return merged_vocabulary(PreparedRow.model_validate_json(line) for line in told_rows(ledger, job_id))


def number_masks(ledger: Ledger, job_id: str, out: Path, vocabulary: Vocabulary, alive: Callable[[], None]) -> None:
    """Gives the masks and lines of a job that is being finalised the ids of its vocabulary. alive: is called again and
    again. A mask that is damaged stays as it is, to be found by who compares digests next."""
    chunk: list[Row] = []
    for row in finished_rows(ledger, job_id):
        alive()
        chunk.append(row)
        if len(chunk) == CHUNK:
            _number_chunk(ledger, job_id, out, vocabulary, chunk)
            chunk = []
    _number_chunk(ledger, job_id, out, vocabulary, chunk)
    shutil.rmtree(out / ASIDE, ignore_errors=True)


def _number_chunk(ledger: Ledger, job_id: str, out: Path, vocabulary: Vocabulary, rows: Sequence[Row]) -> None:
    changed: list[tuple[Row, str, str, str]] = []
    for row in rows:
        result = Result.model_validate_json(row.line)
        if result.mask is None or not _is_there(out, result):
            continue
        numbered, mask = renumber(result, (out / result.mask).read_bytes(), vocabulary)
        if numbered == result:
            continue
        write_atomic(out / ASIDE / result.mask, mask)
        files = json.loads(row.files) | {result.mask: numbered.mask_sha256}
        changed.append((row, line_of(numbered), canonical_json(files).decode(), result.mask))
    if not changed:
        return
    reach("numbering")
    held = select(jobs.c.id).join(items, items.c.job_id == jobs.c.id).where(
        items.c.id == results.c.item_id, jobs.c.id == job_id, jobs.c.state == JobState.FINALISING).exists()
    with ledger.write() as connection:
        moved = [mask for row, line, files, mask in changed
                 if connection.execute(update(results).where(and_(
                     results.c.item_id == row.item_id, results.c.line == row.line, held))
                     .values(line=line, files=files)).rowcount]
    reach("numbered")
    for path in moved:
        os.replace(out / ASIDE / path, out / path)


def renumber(result: Result, mask: bytes, vocabulary: Vocabulary) -> tuple[Result, bytes]:
    """A picture's line and mask with the ids that the vocabulary has for the same names."""
    ids = {entry.name: entry.id for entry in vocabulary.classes}
    to = {found.id: ids[found.name] for found in result.classes}
    with Image.open(io.BytesIO(mask)) as image:
        labels_HW = np.asarray(image).astype(np.uint16)
        ignored = IGNORE_ID if image.mode == "P" else MAX_ID + 1
    colours = {entry.id: entry.rgb for entry in vocabulary.classes}
    table = np.zeros(MAX_ID + 2, np.uint16)
    for before, after in ((ignored, ignore_id(list(colours))), *to.items()):
        table[before] = after
    written = encode_mask(table[labels_HW], colours)
    classes = tuple(found.model_copy(update={"id": to[found.id]}) for found in result.classes)
    regions = tuple(region.model_copy(update={"class_id": to[region.class_id]}) for region in result.regions)
    return result.model_copy(update={"classes": classes, "regions": regions,
                                     "mask_sha256": sha256_bytes(written)}), written


def _is_there(out: Path, result: Result) -> bool:
    """Whether the mask is the one of the line; one that a killed process left beside its place is moved there."""
    assert result.mask is not None
    for path in (out / result.mask, out / ASIDE / result.mask):
        try:
            if sha256_file(path) == result.mask_sha256:
                os.replace(path, out / result.mask)
                return True
        except OSError:
            continue
    return False
