"""`lexiseg jobs`: its commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service import options as o
from service.app import EXIT_CHECK_FAILED, EXIT_SOME_FAILED

if TYPE_CHECKING:
    from workers.spec import JobSpec

jobs_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None,
                       help="Large jobs: submit them, watch, steer and verify. Workers are started by lexiseg up.")

JobName = Annotated[str, typer.Argument(metavar="JOB", help="The id of a job, its beginning, or its --out.")]
Inputs = Annotated[list[str], typer.Argument(metavar="INPUTS...", help="Pictures, folders, patterns, and manifests "
                                             "(.jsonl, .csv).")]
Out = Annotated[Path, typer.Option("--out", help="The folder for masks and report.", metavar="DIR")]
ExportFormat = Annotated[str, typer.Option("--format", help="coco, panoptic, png, yolo, label-studio, cvat.")]
ExportTo = Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder to write; an earlier export of the "
                                                                    "same format in it is replaced.")]
PerClass = Annotated[bool, typer.Option("--per-class", help="One segment per class and picture, not one per connected "
                                                            "part.")]
Unmatched = Annotated[str, typer.Option("--unmatched", help="Classes without maps_to: keep, drop, error.")]
ImagePrefix = Annotated[str | None, typer.Option("--image-prefix", metavar="TEXT", help="Label Studio: what stands "
                                                 "before a picture's name in its address. "
                                                 "[default: /data/local-files/?d=]")]
Priority = Annotated[str, typer.Option("--priority", help="batch, or interactive: before all batch jobs.")]


def _spec(*, inputs: list[str], out: Path, classes: str | None, vocabulary: Path | None, model: str | None,
          backend: str, preset: str, descriptions: str | None, candidate_free: bool, llm: str | None,
          llm_model: str | None, store: str | None, llm_timeout: float | None, llm_parallel: int | None,
          llm_calls: int | None, views: int | None, subclasses: int | None, draft: bool, overlay: bool,
          confidence: bool, device: str, variant: str | None, ensemble: str | None, refine: str | None,
          tile: int | None, overlap: float | None, precision: str | None, batch: int | None,
          max_failures: int | None = None, **_: object) -> JobSpec:
    """The job that the options of a command describe. Raises LexisegError."""
    from service import jobs

    settings, refinement = o.settings_from(preset, backend, model, variant=variant, ensemble=ensemble, tile=tile,
                                           subclass_count=subclasses, overlap=overlap, refine=refine,
                                           precision=precision, draft=draft or None,
                                           descriptions=None if candidate_free else descriptions)
    names = o.read_vocabulary(classes, vocabulary, candidate_free)
    free = o.free_from(candidate_free, descriptions, o.llm_options(llm, llm_model, store, llm_timeout, llm_parallel,
                                                                   llm_calls, views))
    return jobs.make_spec(inputs, names, out, free=free, model=model, backend=backend, settings=settings,
                          preset=preset, refine=refinement, overlay=overlay, confidence=confidence, device=device,
                          max_failures=max_failures, batch=batch)


@jobs_app.command("submit")
def jobs_submit(
    inputs: Inputs, out: Out, classes: o.Classes = None, vocabulary: o.VocabularyFile = None, model: o.Model = None,
    backend: o.Backend = "clip", variant: o.Variant = None, preset: o.Preset = "lexiseg", ensemble: o.Ensemble = None,
    subclasses: o.Subclasses = None, refine: o.Refine = None, tile: o.Tile = None, overlap: o.Overlap = None,
    precision: o.Precision = None, descriptions: o.Descriptions = None, candidate_free: o.CandidateFree = False,
    llm: o.Llm = None, llm_model: o.LlmModel = None, store: o.StorePlace = None, llm_timeout: o.LlmTimeout = None,
    llm_parallel: o.LlmParallel = None, llm_calls: o.LlmCalls = None, views: o.Views = None,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write the masks over the pictures.")] = False,
    confidence: Annotated[bool, typer.Option("--confidence", help="Also write the probability per pixel.")] = False,
    draft: o.Draft = False, batch: o.Batch = None,
    device: o.Device = "auto", max_failures: o.MaxFailures = None, priority: Priority = "batch", json: o.AsJson = False,
) -> None:
    """Enter a job, or more pictures for the job that --out has already."""
    spec = _spec(**locals())
    from service import jobs

    jobs.submit(spec, priority=priority, as_json=json)


@jobs_app.command("sample")
def jobs_sample(
    inputs: Inputs, out: Out,
    count: Annotated[int, typer.Option("-n", "--count", min=1, metavar="N", help="Pictures to begin with.")] = 50,
    classes: o.Classes = None, vocabulary: o.VocabularyFile = None, model: o.Model = None,
    backend: o.Backend = "clip", variant: o.Variant = None, preset: o.Preset = "lexiseg", ensemble: o.Ensemble = None,
    subclasses: o.Subclasses = None, refine: o.Refine = None, tile: o.Tile = None, overlap: o.Overlap = None,
    precision: o.Precision = None, descriptions: o.Descriptions = None, candidate_free: o.CandidateFree = False,
    llm: o.Llm = None, llm_model: o.LlmModel = None, store: o.StorePlace = None, llm_timeout: o.LlmTimeout = None,
    llm_parallel: o.LlmParallel = None, llm_calls: o.LlmCalls = None, views: o.Views = None,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write the masks over the pictures.")] = False,
    confidence: Annotated[bool, typer.Option("--confidence", help="Also write the probability per pixel.")] = False,
    draft: o.Draft = False, batch: o.Batch = None,
    device: o.Device = "auto", max_failures: o.MaxFailures = None, json: o.AsJson = False,
) -> None:
    """Enter a job of which N pictures are done first; look at them, then: lexiseg jobs resume."""
    spec = _spec(**locals())
    from service import jobs

    jobs.submit(spec, priority="interactive", sample=count, as_json=json)


@jobs_app.command("estimate")
def jobs_estimate(
    inputs: Inputs, out: Out, classes: o.Classes = None, vocabulary: o.VocabularyFile = None, model: o.Model = None,
    backend: o.Backend = "clip", variant: o.Variant = None, preset: o.Preset = "lexiseg", ensemble: o.Ensemble = None,
    subclasses: o.Subclasses = None, refine: o.Refine = None, tile: o.Tile = None, overlap: o.Overlap = None,
    precision: o.Precision = None, descriptions: o.Descriptions = None, candidate_free: o.CandidateFree = False,
    llm: o.Llm = None, llm_model: o.LlmModel = None, store: o.StorePlace = None, llm_timeout: o.LlmTimeout = None,
    llm_parallel: o.LlmParallel = None, llm_calls: o.LlmCalls = None, views: o.Views = None,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write the masks over the pictures.")] = False,
    confidence: Annotated[bool, typer.Option("--confidence", help="Also write the probability per pixel.")] = False,
    draft: o.Draft = False, batch: o.Batch = None,
    device: o.Device = "auto",
    measure: Annotated[int, typer.Option("--measure", min=1, max=1000, metavar="N",
                                         help="Pictures to measure the time on.")] = 32,
    json: o.AsJson = False,
) -> None:
    """Count pictures and unreadable files, and say what time and room a job would take. Nothing is written."""
    spec = _spec(**locals())
    from service import jobs

    jobs.estimate(spec, measure, json)


@jobs_app.command("list")
def jobs_list(json: o.AsJson = False) -> None:
    """Show all jobs."""
    from service import jobs

    jobs.show_list(json)


@jobs_app.command("show")
def jobs_show(job: JobName, json: o.AsJson = False) -> None:
    """Show one job: states, rate, what went wrong and what to do."""
    from service import jobs

    jobs.show(job, json)


@jobs_app.command("watch")
def jobs_watch(job: JobName) -> None:
    """Follow a job until it is over.

    Exit code 3 if some pictures failed or the job was ended early."""
    from service import jobs

    if not jobs.watch(job):
        raise typer.Exit(EXIT_SOME_FAILED)


@jobs_app.command("pause")
def jobs_pause(job: JobName) -> None:
    """Begin no further pictures of a job."""
    from service import jobs

    jobs.steer(job, "pause")


@jobs_app.command("resume")
def jobs_resume(job: JobName) -> None:
    """Go on with a job that was paused or stopped, or whose sample is done."""
    from service import jobs

    jobs.steer(job, "resume")


@jobs_app.command("cancel")
def jobs_cancel(job: JobName) -> None:
    """End a job; what is finished stays."""
    from service import jobs

    jobs.steer(job, "cancel")


@jobs_app.command("retry")
def jobs_retry(
    job: JobName,
    failed: Annotated[bool, typer.Option("--failed", help="Pictures that failed or were quarantined.")] = False,
) -> None:
    """Try failed pictures again."""
    from parsers.errors import Code, SettingError
    from service import jobs

    if not failed:
        raise SettingError(Code.SETTING_INVALID, "Nothing was said to be tried again.", "--failed",
                           f"lexiseg jobs retry {job} --failed")
    jobs.retry(job)


@jobs_app.command("export")
def jobs_export(
    job: JobName, format: ExportFormat, to: ExportTo, per_class: PerClass = False, unmatched: Unmatched = "keep",
    image_prefix: ImagePrefix = None,
) -> None:
    """Write the masks of a job that is done, or of its sample, for another program; at once, without a worker."""
    from service import jobs

    jobs.export(job, format, to, per_class=per_class, unmatched=unmatched, image_prefix=image_prefix)


@jobs_app.command("verify")
def jobs_verify(job: JobName, json: o.AsJson = False) -> None:
    """Compute the digest of everything a job wrote again and compare.

    Exit code 1 if a file is not as it was written or a picture is not finished."""
    from service import jobs

    if not jobs.verify(job, json):
        raise typer.Exit(EXIT_CHECK_FAILED)
