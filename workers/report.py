"""report.html: one page that shows what a job found, needs nothing beside it and loads nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
import heapq
import io
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from parsers.errors import InputError
from parsers.files import write_atomic
from parsers.vocabulary import Vocabulary, VocabularyClass
from vision.images import read_image
from workers.drawing import BACKGROUND, Colour, blend
from workers.records import FAILED, QUARANTINED, Job, Result, read_results

SHEET_PICTURES = 48
SAMPLED_CLASSES = 24
SAMPLES_PER_CLASS = 4
MAX_ROWS = 300
MAX_FAILURES = 200
MAX_WARNINGS = 30
THUMBNAIL_SIDE = 240
"""Pixels of the longer side; smaller pictures stay as they are."""
POCKET_NOTE = ("The model that made these masks is a pocket model, trained on pictogram scenes so that the product can "
               "be seen and tested offline. Your own photographs need a full-size model (--model DIR).")


@dataclass(slots=True)
class ClassTally:
    """One class over all pictures."""

    images: int = 0
    area: int = 0
    weighted_score: float = 0.0
    """Sum of score times area."""
    samples: list[tuple[int, str]] = field(default_factory=list)
    """A heap of (minus area, name): the pictures in which it is largest."""


@dataclass(slots=True)
class Tally:
    """What the page says about all pictures; its size depends on the vocabulary, not on the number of pictures."""

    classes: defaultdict[int, ClassTally] = field(default_factory=lambda: defaultdict(ClassTally))
    sheet: list[tuple[int, str, Result]] = field(default_factory=list)
    failures: list[Result] = field(default_factory=list)
    pixels: int = 0


def count(results: Iterable[Result]) -> Tally:
    """One pass over the results. The contact sheet takes the pictures with the smallest digests of their names: a
    random choice that is the same at each run."""
    tally = Tally()
    for result in results:
        if result.state in (FAILED, QUARANTINED):
            if len(tally.failures) < MAX_FAILURES:
                tally.failures.append(result)
            continue
        tally.pixels += (result.width or 0) * (result.height or 0)
        draw = int.from_bytes(hashlib.sha256(result.name.encode()).digest()[:8])
        _keep(tally.sheet, (-draw, result.name, result), SHEET_PICTURES)
        for found in result.classes:
            entry = tally.classes[found.id]
            entry.images += 1
            entry.area += found.area
            entry.weighted_score += found.score * found.area
            _keep(entry.samples, (found.area, result.name), SAMPLES_PER_CLASS)
    return tally


def write_report(out: Path, job: Job, vocabulary: Vocabulary, locate: Callable[[str], Path]) -> None:
    """Writes report.html from what the job has written so far; `locate` gives the picture file of a name.

    Pictures that have gone away since are left out. Raises OutputError.
    """
    tally = count(read_results(out))
    colours = {entry.id: entry.rgb for entry in vocabulary.classes}
    thumbnails = _Thumbnails(out, locate, colours)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(Path(__file__).with_name("report.html.j2").read_text("utf-8"))
    ranked = sorted(vocabulary.classes, key=lambda entry: (-tally.classes[entry.id].images, entry.id))
    warnings = ([POCKET_NOTE] if _is_pocket(job) else []) + list(job.warnings)
    page = template.render(
        job=job, title=f"Masks for {job.total:,} picture{'' if job.total == 1 else 's'}", subtitle=_subtitle(job),
        warnings=warnings[:MAX_WARNINGS], more_warnings=max(0, len(warnings) - MAX_WARNINGS),
        sheet=[shown for _, _, result in sorted(tally.sheet, key=lambda entry: entry[1])
               if (shown := _sheet_entry(result, thumbnails, colours))],
        rows=[_class_row(entry, tally) for entry in ranked[:MAX_ROWS]], more_rows=max(0, len(ranked) - MAX_ROWS),
        samples=[shown for entry in ranked[:SAMPLED_CLASSES]
                 if (shown := _class_samples(entry, tally.classes[entry.id], thumbnails))],
        failures=tally.failures,
        more_failures=job.counts["failed"] + job.counts.get("quarantined", 0) - len(tally.failures), facts=_facts(job))
    write_atomic(out / "report.html", page.encode("utf-8", "backslashreplace"))


def _keep(heap: list, entry: tuple, size: int) -> None:
    """Keeps the `size` largest entries."""
    if len(heap) < size:
        heapq.heappush(heap, entry)
    else:
        heapq.heappushpop(heap, entry)


class _Thumbnails:
    """Small pictures as data: URLs; each is made once."""

    def __init__(self, out: Path, locate: Callable[[str], Path], colours: dict[int, Colour]) -> None:
        self._out, self._locate, self._colours = out, locate, colours
        self._made: dict[str, tuple[str, str] | None] = {}

    def pair(self, name: str) -> tuple[str, str] | None:
        """The picture and its overlay; None if the picture or its mask has gone."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> tuple[str, str] | None:
        try:
            image = Image.fromarray(read_image(self._locate(name)))
            with Image.open(self._out / "masks" / f"{name}.png") as mask:
                labels_HW = np.array(mask)
        except (InputError, OSError):
            return None
        if labels_HW.shape != (image.height, image.width):
            return None
        scale = min(1.0, THUMBNAIL_SIDE / max(image.size))
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image_HW3 = np.array(image.resize(size, Image.Resampling.BOX))
        small_HW = np.array(Image.fromarray(labels_HW.astype(np.uint16)).resize(size, Image.Resampling.NEAREST))
        return _data_url(image_HW3), _data_url(blend(image_HW3, small_HW, self._colours))


def _data_url(image_HW3: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image_HW3).save(buffer, "JPEG", quality=85, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _sheet_entry(result: Result, thumbnails: _Thumbnails, colours: dict[int, Colour]) -> dict[str, Any] | None:
    pair = thumbnails.pair(result.name)
    if pair is None:
        return None
    pixels = (result.width or 1) * (result.height or 1)
    classes = sorted(result.classes, key=lambda found: (-found.area, found.id))
    return {"name": result.name, "image": pair[0], "overlay": pair[1], "more": max(0, len(classes) - 6), "classes": [
        {"name": found.name, "colour": _css(colours.get(found.id, BACKGROUND)), "share": _percent(found.area / pixels)}
        for found in classes[:6]]}


def _class_row(entry: VocabularyClass, tally: Tally) -> dict[str, Any]:
    counted = tally.classes[entry.id]
    most = max((other.images for other in tally.classes.values()), default=1) or 1
    words = ", ".join((*entry.synonyms, *entry.subclasses))
    return {"id": entry.id, "name": entry.name, "gloss": entry.gloss, "colour": _css(entry.rgb),
            "images": counted.images, "width": round(100 * counted.images / most, 1),
            "subclasses": words if len(words) <= 160 else words[:160] + " …",
            "share": _percent(counted.area / tally.pixels) if counted.area else "",
            "score": f"{counted.weighted_score / counted.area:.2f}" if counted.area else ""}


def _class_samples(entry: VocabularyClass, counted: ClassTally, thumbnails: _Thumbnails) -> dict[str, Any] | None:
    largest = sorted(counted.samples, key=lambda sample: (-sample[0], sample[1]))
    pictures = [(pair[1], name) for _, name in largest if (pair := thumbnails.pair(name))]
    return {"name": entry.name, "colour": _css(entry.rgb), "pictures": pictures} if pictures else None


def _subtitle(job: Job) -> str:
    model = job.model.name or Path(job.model.path).name
    return f"{job.vocabulary.classes:,} classes, model {model}, backend {job.spec['backend']}"


def _is_pocket(job: Job) -> bool:
    return job.model.known_words is not None


def _facts(job: Job) -> list[tuple[str, str]]:
    settings = ", ".join(f"{key} {value}" for key, value in sorted(job.spec["settings"].items())) or "defaults"
    words = job.model.known_words
    facts = [("Model", job.model.name or Path(job.model.path).name), ("Model digest", job.model.sha256),
             ("It knows", "any words" if words is None else f"a closed list of {words:,} words"),
             ("Licence", job.model.licence or "not stated"), ("Backend", job.spec["backend"]),
             ("Preset", job.spec["preset"] or "none"), ("Settings", settings), ("Refinement", job.spec["refine"]),
             ("Device", job.spec["device"]), ("Vocabulary digest", job.vocabulary.sha256),
             ("Inputs", ", ".join(job.spec["inputs"][:5]) + (" …" if len(job.spec["inputs"]) > 5 else "")),
             ("Versions", ", ".join(f"{name} {version}" for name, version in job.versions.items()))]
    return [(key, str(value)) for key, value in facts]


def _css(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}" if share >= 0.001 else "<0.1%"
