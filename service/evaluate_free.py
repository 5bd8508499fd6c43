"""`lexiseg eval --candidate-free`: masks with the names that are said of a picture, beside those with names given."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from agents import Picture, tell_picture
from agents.offline import require_offline
from agents.parallel import in_order
from parsers.errors import AnswerError, Code, SettingError
from parsers.files import sha256_file
from parsers.prepared import PreparedPriors, PreparedRow, recall
from parsers.priors import ScenePriors
from parsers.reader import SceneReader
from service.console import console, progress, say, warn
from service.evaluate import EvalModel, percent
from service.knowledge import LlmOptions, knowledge_source
from vision import load_segmenter, make_settings, open_dataset, resolve_model
from vision.datasets.base import EvalDataset, check_files, superclasses_of, warnings_of
from vision.evaluate import BACKGROUND, NameTable, parse_candidates
from vision.llmformer.evaluate_free import open_tally, text_vectors
from vision.llmformer.open_miou import OpenScores, OpenTally
from vision.llmformer.similarity import (
    Similarity,
    given_similarity,
    read_similarity,
    text_similarity,
    write_similarity,
)
from vision.llmformer.words import Words


class FreeReport(BaseModel):
    """What `lexiseg eval --candidate-free --json` writes. Shares are from 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    dataset: str
    images: int
    candidates: str
    """The names that were given in the pass with names."""
    model: EvalModel
    settings: dict[str, Any]
    refine: str
    described_by: str
    """The language model, or the file of descriptions."""
    similarity: str
    """`text`: cosines of the model's text vectors; else the file that was given."""
    similarity_sha256: str | None
    similarity_floor: float
    recall: float
    """Share of the ground-truth classes of the pictures that their descriptions name."""
    given: OpenScores
    free: OpenScores
    warnings: tuple[str, ...]


def run_free_eval(dataset_spec: str, candidates: str = "all", *, descriptions: Path | None = None,
                  llm: LlmOptions | None = None, similarity: Path | None = None, floor: float = 0.0,
                  keep: Path | None = None, limit: int | None = None, model: str | None = None, backend: str = "clip",
                  settings: dict[str, Any] | None = None, refine: str = "none", device: str = "auto",
                  batch: int | None = None, quiet: bool = False) -> FreeReport:
    """Open mIoU and plain mIoU of one dataset with the names of descriptions, and with candidate names given.

    descriptions: prepared ones, a row for every picture; else the language model describes the pictures. similarity: a
    file (`vision.llmformer.similarity`) in place of cosines of text vectors above `floor`. keep: where the similarities
    are written. quiet: no bar. Raises LexisegError.
    """
    if not 0 <= floor < 1:
        raise SettingError(Code.SETTING_INVALID, f"--similarity-floor {floor}.", "From 0 to below 1.", "Try 0.5.")
    absent = parse_candidates(candidates)
    matrix = read_similarity(similarity) if similarity else None
    dataset = open_dataset(dataset_spec)
    check_files(dataset)
    total = len(dataset) if limit is None else min(limit, len(dataset))
    backend_settings = make_settings(backend, settings or {})
    require_offline()
    directory = resolve_model(model, backend)
    segmenter = load_segmenter(backend, directory, device=device, settings=backend_settings)
    rows, teller = told_of(dataset, total, descriptions, llm or LlmOptions(), quiet)
    warnings = (*warnings_of(dataset), *segmenter.warnings(NameTable(dataset, (), None).vocabulary))
    tallies = {}
    for free, name in ((False, "names given"), (True, "candidate-free")):
        with progress(f"{dataset.name}, {name}", hidden=quiet) as update:
            tallies[free] = open_tally(dataset, segmenter, rows.__getitem__, free=free, absent=absent, limit=limit,
                                       refine=refine, device=device, on_progress=update,
                                       batch_size=batch or backend_settings.batch_size)
    words = text_vectors(backend, directory)
    given_PG, _ = alike(words, matrix, floor, tallies[False])
    found_PG, unknown = alike(words, matrix, floor, tallies[True])
    if unknown:
        warnings = (*warnings, f"{similarity} lacks {len(unknown)} of the predicted names ({', '.join(unknown[:5])}); "
                    "cosines of text vectors stand in for them.")
    if keep is not None:
        write_similarity(keep, tallies[True].names, tallies[True].classes, found_PG)
    warn(warnings)
    shown = ((row.priors, present - {BACKGROUND})
             for row, present in zip(rows.values(), tallies[True].present, strict=True))
    return FreeReport(
        dataset=dataset.name, images=total, candidates=candidates, settings=settings or {}, refine=refine,
        model=EvalModel(backend=backend, name=segmenter.card.name, digest=segmenter.digest,
                        device=getattr(segmenter, "device", None), precision=getattr(segmenter, "precision", None)),
        described_by=teller, similarity=str(similarity) if similarity else "text",
        similarity_sha256=sha256_file(similarity) if similarity else None, similarity_floor=floor,
        recall=recall(shown, superclasses_of(dataset)), warnings=warnings,
        given=tallies[False].scores(given_PG), free=tallies[True].scores(found_PG))


def alike(words: Words, matrix: Similarity | None, floor: float,
          tally: OpenTally) -> tuple[NDArray[np.float64], list[str]]:
    """S of a tally, and the names that the given matrix has not."""
    text_PG = text_similarity(words, tally.names, tally.classes, floor)
    return (text_PG, []) if matrix is None else given_similarity(matrix, tally.names, tally.classes, text_PG)


def told_of(dataset: EvalDataset, total: int, descriptions: Path | None, options: LlmOptions,
            quiet: bool) -> tuple[dict[str, PreparedRow], str]:
    """What is said of the first `total` pictures, by their keys in order, and who says it."""
    keys = [dataset.key(i) for i in range(total)]
    if descriptions is not None:
        prepared = PreparedPriors.read(descriptions)
        return {key: prepared.row(key) for key in keys}, str(descriptions)
    rows: dict[str, PreparedRow] = {}
    with knowledge_source(options) as source, progress("describing", hidden=quiet) as update:
        reader = SceneReader()

        def tell(i: int) -> PreparedRow:
            try:
                return tell_picture(source, keys[i], Picture(dataset.load(i)[0]), reader, views=options.views)
            except AnswerError:  # counted by the source; a picture of misses
                nothing = ScenePriors(text="", reason="empty-text")
                return PreparedRow(image_id=keys[i], prompt_id="detailed", model_id=source.model.name, priors=nothing)

        for row in in_order(tell, range(total), source.model.settings.concurrency):
            rows[row.image_id] = row
            update(len(rows), total)
        return rows, source.model.name


def show_free_report(report: FreeReport) -> None:
    """A table for a terminal."""
    from rich.table import Table

    say(f"{report.dataset}: {report.images} images, model {report.model.name} ({report.model.digest[:12]}), refine "
        f"{report.refine}; described by {report.described_by}")
    table = Table("", "Open mIoU", "plain mIoU", "names predicted")
    for name, scores in ((f"names given ({report.candidates})", report.given), ("candidate-free", report.free)):
        table.add_row(name, percent(scores.open_miou), percent(scores.mapped_miou), str(scores.names))
    console().print(table)
    if report.given.open_miou:
        share = (report.free.open_miou or 0.0) / report.given.open_miou
        say(f"Open mIoU without names is {share:.2f} of that with names; "
            f"{100 * report.recall:.1f} % of the classes in the pictures are named in their descriptions")
    floor = f" above {report.similarity_floor:g}" if report.similarity_floor else ""
    how = "cosines of text vectors" + floor if report.similarity == "text" else report.similarity
    say(f"similarity: {how}; plain: a name counts as the class that it is most like, and as nothing else", "dim")
