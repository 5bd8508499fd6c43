"""`lexiseg ask`: a sentence and pictures in, masks and the reasons for them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.ask import AskResult, JobFunctions, ask
from agents.geometry import SeenRegion
from agents.offline import require_offline
from parsers.files import pretty_json, write_atomic
from parsers.free import PLACES
from parsers.reader import SceneReader
from parsers.vocabulary import Vocabulary, VocabularyClass
from service.console import progress, say, say_json, warn
from service.knowledge import LlmOptions, knowledge_source
from service.options import usual_refinement
from vision import load_segmenter
from vision.images import read_image
from vision.models import resolve_model
from workers import JobSpec, find_inputs, run_job
from workers.records import read_results
from workers.selection import keep_regions


def run_ask(request: str, inputs: list[str], out: Path, options: LlmOptions, *, model: str | None = None,
            device: str = "auto", as_json: bool = False) -> int:
    """Does what the request says, writes the job and ask.json, and shows the trace; the number of pictures that could
    not be read. Raises LexisegError."""
    items = {item.name: item for item in find_inputs(inputs, out=out).items}
    directory = resolve_model(model, "clip")
    require_offline()
    segmenter = load_segmenter("clip", directory, device=device)
    found: dict[str, tuple[SeenRegion, ...]] = {}

    def read(picture: str) -> NDArray[np.uint8]:
        return read_image(items[picture].path)

    def segment(names: Mapping[str, Sequence[str]]) -> None:
        vocabulary = Vocabulary(classes=tuple(
            VocabularyClass(id=number + (number > 254), name=name, subclasses=tuple(kinds))
            for number, (name, kinds) in enumerate(names.items(), start=1)), background=PLACES)
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
        tool = source.model.name
    if found:
        keep_regions(out, result.kept, lambda name: items[name].path)
    record = answer_record(request, tool, result)
    write_atomic(out / "ask.json", pretty_json(record))
    if as_json:
        say_json(record)
    else:
        for line in result.trace:
            say(line)
        say(f"masks:  {out / 'masks'}\nreport: {out / 'report.html'}\ntrace:  {out / 'ask.json'}")
    unread = len(items) - len(readable)
    if unread:
        warn([f"{unread} of {len(items)} pictures could not be read; {out / 'results.jsonl'} says which and why."])
    return unread


def is_readable(path: Path) -> bool:
    """Whether a picture can be decoded; the job itself says why one cannot."""
    from parsers.errors import InputError

    try:
        read_image(path)
    except InputError:
        return False
    return True


def answer_record(request: str, model: str, result: AskResult) -> dict[str, object]:
    """ask.json."""
    return {"format_version": 1, "request": request, "model": model, "plan": result.plan.model_dump(mode="json"),
            "names": {name: list(kinds) for name, kinds in result.names.items()},
            "kept": {name: list(ids) for name, ids in result.kept.items()}, "trace": list(result.trace)}


