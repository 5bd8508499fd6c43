"""`lexiseg`: the commands and their options. What they do is in the modules beside this one, imported when needed, so
that `lexiseg --help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service import options as o
from service.app import EXIT_CHECK_FAILED, EXIT_SOME_FAILED, LexisegGroup
from service.offline import go_offline

app = typer.Typer(name="lexiseg", cls=LexisegGroup, no_args_is_help=True, add_completion=False,
                  pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="Pictures and names in, masks and a report out; on this machine only.")
vocabulary_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None,
                              help="Check, show, match, merge, compare and freeze vocabulary files.")
models_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List and verify models.")
app.add_typer(vocabulary_app, name="vocabulary")
jobs_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None,
                       help="Large jobs: submit them, watch, steer and verify. Workers are started by lexiseg up.")
app.add_typer(models_app, name="models")
app.add_typer(jobs_app, name="jobs")

VocabularyPath = Annotated[Path, typer.Argument(metavar="FILE", help="A vocabulary file (.yaml or .json).")]

JobName = Annotated[str, typer.Argument(metavar="JOB", help="The id of a job, its beginning, or its --out.")]
Inputs = Annotated[list[str], typer.Argument(metavar="INPUTS...", help="Pictures, folders, patterns, and manifests "
                                             "(.jsonl, .csv).")]
Out = Annotated[Path, typer.Option("--out", help="The folder for masks and report.", metavar="DIR")]
Priority = Annotated[str, typer.Option("--priority", help="batch, or interactive: before all batch jobs.")]


def print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("lexiseg")
        except PackageNotFoundError:
            number = "(not installed: run from a checkout)"
        typer.echo(f"lexiseg {number}")
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", help="Say the version and stop.", is_eager=True,
                                               callback=print_version)] = False) -> None:
    go_offline()


@app.command()
def segment(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUTS...", help="Pictures and folders of pictures.")],
    out: Annotated[Path, typer.Option("--out", help="The folder for masks and report.", metavar="DIR")],
    classes: o.Classes = None, vocabulary: o.VocabularyFile = None, model: o.Model = None, backend: o.Backend = "clip",
    variant: o.Variant = None, preset: o.Preset = "default", ensemble: o.Ensemble = None,
    subclasses: o.Subclasses = None, refine: o.Refine = None, tile: o.Tile = None, overlap: o.Overlap = None,
    descriptions: o.Descriptions = None, free: o.Free = False,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write the masks over the pictures.")] = False,
    confidence: Annotated[bool, typer.Option("--confidence", help="Also write the probability per pixel.")] = False,
    device: o.Device = "auto",
) -> None:
    """Segment pictures with the names you give.

    Exit code 3: the job is done but some pictures failed; OUT/results.jsonl says which and why.
    """
    from service.segment import run_segment

    settings, refinement = o.settings_from(preset, backend, variant=variant, ensemble=ensemble, free=free, tile=tile,
                                           subclass_count=subclasses, overlap=overlap, refine=refine,
                                           descriptions=descriptions)
    names = o.read_vocabulary(classes, vocabulary, free=free, descriptions=descriptions)
    failed = run_segment(inputs, names, out, model=model, backend=backend,
                         settings=settings, preset=preset, refine=refinement, overlay=overlay, confidence=confidence,
                         device=device)
    if failed:
        raise typer.Exit(EXIT_SOME_FAILED)


@app.command()
def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a finished job.")],
    format: Annotated[str, typer.Option("--format", help="coco, panoptic, png, yolo, label-studio, cvat.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder to write; an earlier export of the same "
                                                                 "format in it is replaced.")],
    per_class: Annotated[bool, typer.Option("--per-class", help="One segment per class and picture, not one per "
                                                                "connected part.")] = False,
    unmatched: Annotated[str, typer.Option("--unmatched", help="Classes without maps_to: keep, drop, error.")]
    = "keep",
    image_prefix: Annotated[str | None, typer.Option("--image-prefix", metavar="TEXT", help="Label Studio: what stands "
                                                     "before a picture's name in its address. "
                                                     "[default: /data/local-files/?d=]")] = None,
) -> None:
    """Write the masks of a job for another program."""
    from service.export import run_export

    run_export(out, format, to, per_class=per_class, unmatched=unmatched, image_prefix=image_prefix)


@app.command("eval")
def eval_command(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="pictograms[:count=N,seed=N,split=seen], "
                                           "camvid:PATH[,split=train], folder:PATH (a job's OUT is one, too).")],
    candidates: Annotated[str, typer.Option("--candidates", metavar="all|present|present+N",
                                            help="Names looked for in each picture: all; its own; "
                                            "its own and N absent ones.")],
    always: Annotated[str | None, typer.Option("--always", help='Names looked for everywhere: "sky, road".')] = None,
    super_: Annotated[bool, typer.Option("--super", help="Score super-classes in place of names.")] = False,
    super_classes: Annotated[Path | None, typer.Option("--super-classes", metavar="FILE", help=
                             'JSON {"name": "super-class"}; in place of the dataset\'s own. Implies --super.')] = None,
    vocabulary: Annotated[Path | None, typer.Option("--vocabulary", help="Subclasses and synonyms for the names; "
                          "scores plain names, these, and these exchanged between classes.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N pictures.", metavar="N")] = None,
    model: o.Model = None, backend: o.Backend = "clip", variant: o.Variant = None, preset: o.Preset = "default",
    ensemble: o.Ensemble = None, subclasses: o.Subclasses = None, refine: o.Refine = None, tile: o.Tile = None,
    overlap: o.Overlap = None, descriptions: o.Descriptions = None, device: o.Device = "auto", json: o.AsJson = False,
) -> None:
    """Score a model on pictures with ground truth.

    Every figure comes with its control: the same masks with the candidate names of each picture exchanged.
    """
    from service.console import say_json
    from service.evaluate import run_eval, show_report

    settings, refinement = o.settings_from(preset, backend, variant=variant, ensemble=ensemble, tile=tile,
                                           subclass_count=subclasses, overlap=overlap, refine=refine,
                                           descriptions=descriptions)
    report = run_eval(dataset, candidates, always=always, by_superclass=super_ or super_classes is not None,
                      superclass_file=super_classes, vocabulary_file=vocabulary, limit=limit, model=model,
                      backend=backend, settings=settings, refine=refinement, device=device)
    if json:
        say_json(report.model_dump(mode="json"))
    else:
        show_report(report)


@app.command()
def parse(
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="A description of a picture.")] = None,
    file: Annotated[str | None, typer.Option("--file", metavar="FILE", help="A text file with one description a line; "
                                             "- reads standard input.")] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Write one JSON object a line, in order.")] = False,
    pipeline: Annotated[Path | None, typer.Option("--pipeline", metavar="DIR", help="A spaCy pipeline for the rules; "
                                                  "the pocket one if left out.")] = None,
    head: Annotated[bool | None, typer.Option("--head/--rules", help="The learned head or the rules for every text. "
                                              "[default: the head for single sentences]", show_default=False)] = None,
    json: o.AsJson = False,
) -> None:
    """Show what a description says: objects, attributes, counts, relations, denials."""
    from service.parse import run_parse

    run_parse(text, file, as_json=json, jsonl=jsonl, pipeline=pipeline, use_head=head)


@app.command()
def demo(
    model: o.Model = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for pictures, masks and reports.")]
    = Path("demo-out"),
) -> None:
    """Segment pictogram scenes, several ways."""
    from service import demo as demo_module

    demo_module.run(out, model)


@app.command()
def doctor(json: o.AsJson = False) -> None:
    """Say whether all that is needed is here.

    Exit code 1 if something is missing."""
    from service.console import say_json
    from service.doctor import is_healthy, run_checks, show_checks

    checks = run_checks()
    if json:
        say_json({"format_version": 1, "healthy": is_healthy(checks), "checks": [check.as_dict() for check in checks]})
    else:
        show_checks(checks)
    if not is_healthy(checks):
        raise typer.Exit(EXIT_CHECK_FAILED)


@vocabulary_app.command("check")
def vocabulary_check(file: VocabularyPath) -> None:
    """Say whether a file can be used."""
    from service.vocabulary import check

    check(file)


@vocabulary_app.command("show")
def vocabulary_show(file: VocabularyPath) -> None:
    """Show the classes of a vocabulary file."""
    from service.vocabulary import show

    show(file)


@vocabulary_app.command("match")
def vocabulary_match(
    file: VocabularyPath,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help='Names as people write them: "two puppies".')],
    json: o.AsJson = False,
) -> None:
    """Say which class each name stands for.

    Exit code 1 if a name stands for none, or for more than one."""
    from service.vocabulary import match

    if not match(file, names, json):
        raise typer.Exit(EXIT_CHECK_FAILED)


@vocabulary_app.command("merge")
def vocabulary_merge(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Vocabulary files; what the first says of a "
                                                "class stays, the others add to it.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write.")],
) -> None:
    """Write several vocabularies as one.

    Ids stay as they are; files that contradict each other are refused."""
    from service.vocabulary import merge

    merge(files, out)


@vocabulary_app.command("diff")
def vocabulary_diff(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="A vocabulary file.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="Another one.")],
    json: o.AsJson = False,
) -> None:
    """Show how two vocabularies differ.

    Exit code 1 if they do."""
    from service.vocabulary import diff

    if not diff(before, after, json):
        raise typer.Exit(EXIT_CHECK_FAILED)


@vocabulary_app.command("freeze")
def vocabulary_freeze(
    file: VocabularyPath,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write here instead of into FILE.")] = None,
) -> None:
    """Write a vocabulary's digest into its file."""
    from service.vocabulary import freeze

    freeze(file, out)


@models_app.command("list")
def models_list(json: o.AsJson = False) -> None:
    """Show the models that can be given by name."""
    from service.models import list_all

    list_all(json)


@models_app.command("verify")
def models_verify(
    models: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Names or directories; all listed "
                                                       "models if left out.")] = None,
) -> None:
    """Compare models with their sha256.

    Exit code 1 if one is not whole."""
    from service.models import verify

    if not verify(models or []):
        raise typer.Exit(EXIT_CHECK_FAILED)


@app.command()
def up(
    workers: Annotated[int | None, typer.Option("--workers", min=1, max=64, metavar="N", help="Processes for "
                                                "pictures; one per GPU, or one, if left out.")] = None,
    until_done: Annotated[bool, typer.Option("--until-done", help="Stop when no job is active.")] = False,
) -> None:
    """Start workers, and the embedded queue, on this machine; Ctrl-C stops them."""
    from service.up import run

    run(workers, until_done)


@jobs_app.command("submit")
def jobs_submit(
    inputs: Inputs, out: Out, classes: o.Classes = None, vocabulary: o.VocabularyFile = None, model: o.Model = None,
    backend: o.Backend = "clip", variant: o.Variant = None, preset: o.Preset = "default", ensemble: o.Ensemble = None,
    subclasses: o.Subclasses = None, refine: o.Refine = None, tile: o.Tile = None, overlap: o.Overlap = None,
    descriptions: o.Descriptions = None, free: o.Free = False,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write the masks over the pictures.")] = False,
    confidence: Annotated[bool, typer.Option("--confidence", help="Also write the probability per pixel.")] = False,
    device: o.Device = "auto", priority: Priority = "batch", json: o.AsJson = False,
) -> None:
    """Enter a job, or more pictures for the job that --out has already."""
    from service import jobs

    settings, refinement = o.settings_from(preset, backend, variant=variant, ensemble=ensemble, free=free, tile=tile,
                                           subclass_count=subclasses, overlap=overlap, refine=refine,
                                           descriptions=descriptions)
    names = o.read_vocabulary(classes, vocabulary, free=free, descriptions=descriptions)
    jobs.submit(jobs.make_spec(inputs, names, out, model=model, backend=backend,
                               settings=settings, preset=preset, refine=refinement, overlay=overlay,
                               confidence=confidence, device=device), priority=priority, as_json=json)


@jobs_app.command("sample")
def jobs_sample(
    inputs: Inputs, out: Out,
    count: Annotated[int, typer.Option("-n", "--count", min=1, metavar="N", help="Pictures to begin with.")] = 50,
    classes: o.Classes = None, vocabulary: o.VocabularyFile = None, model: o.Model = None,
    backend: o.Backend = "clip", variant: o.Variant = None, preset: o.Preset = "default", ensemble: o.Ensemble = None,
    subclasses: o.Subclasses = None, refine: o.Refine = None, tile: o.Tile = None, overlap: o.Overlap = None,
    descriptions: o.Descriptions = None, free: o.Free = False,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write the masks over the pictures.")] = False,
    confidence: Annotated[bool, typer.Option("--confidence", help="Also write the probability per pixel.")] = False,
    device: o.Device = "auto", json: o.AsJson = False,
) -> None:
    """Enter a job of which N pictures are done first; look at them, then: lexiseg jobs resume."""
    from service import jobs

    settings, refinement = o.settings_from(preset, backend, variant=variant, ensemble=ensemble, free=free, tile=tile,
                                           subclass_count=subclasses, overlap=overlap, refine=refine,
                                           descriptions=descriptions)
    names = o.read_vocabulary(classes, vocabulary, free=free, descriptions=descriptions)
    jobs.submit(jobs.make_spec(inputs, names, out, model=model, backend=backend,
                               settings=settings, preset=preset, refine=refinement, overlay=overlay,
                               confidence=confidence, device=device), priority="interactive", sample=count,
                as_json=json)


@jobs_app.command("estimate")
def jobs_estimate(
    inputs: Inputs, out: Out, classes: o.Classes = None, vocabulary: o.VocabularyFile = None, model: o.Model = None,
    backend: o.Backend = "clip", variant: o.Variant = None, preset: o.Preset = "default", ensemble: o.Ensemble = None,
    subclasses: o.Subclasses = None, refine: o.Refine = None, tile: o.Tile = None, overlap: o.Overlap = None,
    descriptions: o.Descriptions = None, free: o.Free = False,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write the masks over the pictures.")] = False,
    confidence: Annotated[bool, typer.Option("--confidence", help="Also write the probability per pixel.")] = False,
    device: o.Device = "auto",
    measure: Annotated[int, typer.Option("--measure", min=1, max=1000, metavar="N",
                                         help="Pictures to measure the time on.")] = 32,
    json: o.AsJson = False,
) -> None:
    """Count pictures and unreadable files, and say what time and room a job would take. Nothing is written."""
    from service import jobs

    settings, refinement = o.settings_from(preset, backend, variant=variant, ensemble=ensemble, free=free, tile=tile,
                                           subclass_count=subclasses, overlap=overlap, refine=refine,
                                           descriptions=descriptions)
    names = o.read_vocabulary(classes, vocabulary, free=free, descriptions=descriptions)
    jobs.estimate(jobs.make_spec(inputs, names, out, model=model, backend=backend,
                                 settings=settings, preset=preset, refine=refinement, overlay=overlay,
                                 confidence=confidence, device=device), measure, json)


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


@jobs_app.command("verify")
def jobs_verify(job: JobName, json: o.AsJson = False) -> None:
    """Compute the digest of everything a job wrote again and compare.

    Exit code 1 if a file is not as it was written or a picture is not finished."""
    from service import jobs

    if not jobs.verify(job, json):
        raise typer.Exit(EXIT_CHECK_FAILED)


def main() -> None:
    """The `lexiseg` command."""
    app()
