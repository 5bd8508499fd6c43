"""`lexiseg ask`: a sentence and pictures in, masks and the reasons for them out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.ask import JobFunctions, ask
from agents.geometry import SeenRegion
from agents.offline import require_offline
from agents.records import AskResult
from parsers.errors import InputError
from parsers.files import pretty_json, write_atomic
from parsers.reader import SceneReader
from parsers.vocabulary import Vocabulary
from service.console import progress, say, say_json, warn
from service.knowledge import LlmOptions, knowledge_source
from service.options import usual_refinement
from vision import load_segmenter
from vision.images import read_image
from vision.models import resolve_model
from workers import JobSpec, find_inputs, run_job
from workers.outputs import ASK_FILE, prepare_out
from workers.records import read_results
from workers.selection import keep_regions


def run_ask(request: str, inputs: list[str], out: Path, options: LlmOptions, *, model: str | None = None,
            device: str = "auto", as_json: bool = False) -> int:
    """`ask_pictures`, and shows the trace; the number of pictures that could not be read. Raises LexisegError."""
    result = ask_pictures(request, inputs, out, options, model=model, device=device)
    if as_json:
        say_json(result.model_dump(mode="json"))
    else:
        for line in result.trace:
            say(line)
        if (out / "job.json").exists():
            say(f"masks:  {out / 'masks'}\nreport: {out / 'report.html'}")
        say(f"trace:  {out / ASK_FILE}")
    unread = len(result.unread)
    if unread:
        warn([f"{unread} of {unread + len(result.kept)} pictures could not be read; {out / ASK_FILE} says which."])
    return unread


def ask_pictures(request: str, inputs: Sequence[str], out: Path, options: LlmOptions, *, model: str | None = None,
                 device: str = "auto") -> AskResult:
    """Does what the request says, and writes the job and ask.json into `out`; ask.json alone, in place of an earlier
    job, where there is nothing to look for.

    model: a directory, or None for the pocket CLIP. Raises LexisegError.
    """
    items = {item.name: item for item in find_inputs(inputs, out=out).items}
    directory = resolve_model(model, "clip")
    require_offline()
    segmenter = load_segmenter("clip", directory, device=device)
    found: dict[str, tuple[SeenRegion, ...]] = {}

    def read(picture: str) -> NDArray[np.uint8]:
        return read_image(items[picture].path)

    def segment(vocabulary: Vocabulary) -> None:
        spec = JobSpec(inputs=tuple(inputs), vocabulary=vocabulary, out=str(out), model=str(directory),
                       refine=usual_refinement(directory), device=device)
        with progress(f"segmenting into {out}") as update:
            run_job(spec, segmenter=segmenter, on_progress=lambda now: update(now.done + now.failed, now.total))
        found.clear()
        found.update({result.name: tuple(
            SeenRegion(id=one.id, name=vocabulary.names[one.class_id], box=one.box, area=one.area, score=one.score)
            for one in result.regions) for result in read_results(out)})

    readable = [name for name in items if is_readable(items[name].path)]
    with knowledge_source(options) as source:
        result = ask(source, request, readable, reader=SceneReader(), job=JobFunctions(
            read_picture=read, segment=segment, regions=lambda picture: found.get(picture, ())))
    if found:
        keep_regions(out, result.kept, lambda name: items[name].path)
    else:
        prepare_out(out)
        (out / "job.json").unlink(missing_ok=True)
    result = result.model_copy(update={"unread": tuple(name for name in items if name not in result.kept)})
    write_atomic(out / ASK_FILE, pretty_json(result.model_dump(mode="json")))
    return result


def is_readable(path: Path) -> bool:
    """Whether a picture can be decoded; the job itself says why one cannot."""
    try:
        read_image(path)
    except InputError:
        return False
    return True
