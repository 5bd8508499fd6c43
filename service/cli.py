"""`lexiseg`: the commands and their options. What they do is in the modules beside this one, imported when needed, so
that `lexiseg --help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service import options as o
from service.app import EXIT_CHECK_FAILED, EXIT_SOME_FAILED, LexisegGroup
from service.cli_jobs import ExportFormat, ExportTo, ImagePrefix, PerClass, Unmatched, jobs_app
from service.cli_site import site_app

app = typer.Typer(name="lexiseg", cls=LexisegGroup, no_args_is_help=True, add_completion=False,
                  pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="Pictures and names in, masks and a report out; on this machine only.")
vocabulary_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None,
                              help="Check, show, match, merge, compare and freeze vocabulary files.")
models_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, verify, pull and convert models.")
app.add_typer(vocabulary_app, name="vocabulary")
app.add_typer(models_app, name="models")
app.add_typer(jobs_app, name="jobs")
app.add_typer(site_app)
tokens_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Who may use the HTTP API, and how far.")
app.add_typer(tokens_app, name="tokens")

VocabularyPath = Annotated[Path, typer.Argument(metavar="FILE", help="A vocabulary file (.yaml or .json).")]


def print_version(wanted: bool) -> None:
    if wanted:
        from service.version import version_number

        typer.echo(f"lexiseg {version_number()}")
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", help="Say the version and stop.", is_eager=True,
                                               callback=print_version)] = False) -> None:
    from agents.offline import go_offline

    go_offline()


@app.command()
def segment(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUTS...", help="Pictures and folders of pictures.")],
    out: Annotated[Path, typer.Option("--out", help="The folder for masks and report.", metavar="DIR")],
    classes: o.Classes = None, vocabulary: o.VocabularyFile = None, model: o.Model = None, backend: o.Backend = "clip",
    variant: o.Variant = None, preset: o.Preset = "lexiseg", ensemble: o.Ensemble = None,
    subclasses: o.Subclasses = None, refine: o.Refine = None, tile: o.Tile = None, overlap: o.Overlap = None,
    precision: o.Precision = None, descriptions: o.Descriptions = None, candidate_free: o.CandidateFree = False,
    llm: o.Llm = None, llm_model: o.LlmModel = None, store: o.StorePlace = None, llm_timeout: o.LlmTimeout = None,
    llm_parallel: o.LlmParallel = None, llm_calls: o.LlmCalls = None, views: o.Views = None,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write the masks over the pictures.")] = False,
    confidence: Annotated[bool, typer.Option("--confidence", help="Also write the probability per pixel.")] = False,
    draft: o.Draft = False, batch: o.Batch = None,
    device: o.Device = "auto", max_failures: o.MaxFailures = None, json: o.AsJson = False,
) -> None:
    """Segment pictures with the names you give.

    Exit code 3: the job is done but some pictures failed; OUT/results.jsonl says which and why.
    """
    from service.segment import run_segment

    settings, refinement = o.settings_from(preset, backend, model, variant=variant, ensemble=ensemble, tile=tile,
                                           subclass_count=subclasses, overlap=overlap, refine=refine,
                                           precision=precision, draft=draft or None,
                                           descriptions=None if candidate_free else descriptions)
    names = o.read_vocabulary(classes, vocabulary, candidate_free)
    free = o.free_from(candidate_free, descriptions, o.llm_options(llm, llm_model, store, llm_timeout, llm_parallel,
                                                                   llm_calls, views))
    failed = run_segment(inputs, names, out, free=free, model=model, backend=backend,
                         settings=settings, preset=preset, refine=refinement, overlay=overlay, confidence=confidence,
                         device=device, as_json=json, max_failures=max_failures, batch=batch)
    if failed:
        raise typer.Exit(EXIT_SOME_FAILED)


@app.command()
def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a finished job.")],
    format: ExportFormat, to: ExportTo, per_class: PerClass = False, unmatched: Unmatched = "keep",
    image_prefix: ImagePrefix = None,
) -> None:
    """Write the masks of a job for another program."""
    from service.export import run_export

    run_export(out, format, to, per_class=per_class, unmatched=unmatched, image_prefix=image_prefix)


@app.command("eval")
def eval_command(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="pictograms[:count=N,seed=N,split=seen], "
                                           "camvid:PATH[,split=train], folder:PATH (a job's OUT is one, too), or a "
                                           "published protocol: voc21, voc20, context60, context59, coco-object, "
                                           "coco-stuff171, ade150, ade847, each :PATH[,split=val][,names=LIST].")],
    candidates: Annotated[str, typer.Option("--candidates", metavar="all|present|present+N",
                                            help="Names looked for in each picture: all; its own; "
                                            "its own and N absent ones.")] = "all",
    always: Annotated[str | None, typer.Option("--always", help='Names looked for everywhere: "sky, road".')] = None,
    super_: Annotated[bool, typer.Option("--super", help="Score super-classes in place of names.")] = False,
    super_classes: Annotated[Path | None, typer.Option("--super-classes", metavar="FILE", help=
                             'JSON {"name": "super-class"}; in place of the dataset\'s own. Implies --super.')] = None,
    vocabulary: Annotated[Path | None, typer.Option("--vocabulary", help="Subclasses and synonyms for the names; "
                          "scores plain names, these, and these exchanged between classes.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N pictures.", metavar="N")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out pictures whose files are missing or do not "
                                           "fit, and count them by reason.")] = False,
    model: o.Model = None, backend: o.Backend = "clip", variant: o.Variant = None, preset: o.Preset = "lexiseg",
    ensemble: o.Ensemble = None, subclasses: o.Subclasses = None, refine: o.Refine = None, tile: o.Tile = None,
    overlap: o.Overlap = None, precision: o.Precision = None, descriptions: o.Descriptions = None,
    candidate_free: o.CandidateFree = False, llm: o.Llm = None, llm_model: o.LlmModel = None,
    store: o.StorePlace = None, llm_timeout: o.LlmTimeout = None, llm_parallel: o.LlmParallel = None,
    views: o.Views = None,
    similarity: Annotated[Path | None, typer.Option("--similarity", metavar="FILE", help="With --candidate-free: how "
                          "alike names and classes are (JSON), in place of cosines of text vectors.")] = None,
    similarity_floor: Annotated[float, typer.Option("--similarity-floor", metavar="S", help="With --candidate-free: "
                                                    "cosines up to S count as 0.")] = 0.0,
    keep_similarity: Annotated[Path | None, typer.Option("--keep-similarity", metavar="FILE", help="With "
                               "--candidate-free: write the similarities here.")] = None,
    batch: o.Batch = None, device: o.Device = "auto", json: o.AsJson = False,
) -> None:
    """Score a model on pictures with ground truth.

    Every figure comes with its control: the same masks with the candidate names of each picture exchanged. With
    --candidate-free: Open mIoU of masks with the names that are said of each picture, beside that with names given.
    """
    from service.console import say_json
    from service.evaluate import run_eval, show_report

    options = {"variant": variant, "ensemble": ensemble, "subclass_count": subclasses, "tile": tile,
               "overlap": overlap, "refine": refine, "precision": precision,
               "descriptions": None if candidate_free else descriptions}
    settings, refinement = o.settings_from(preset, backend, model, **options)
    telling = o.llm_options(llm, llm_model, store, llm_timeout, llm_parallel, views=views)
    o.check_free_eval(candidate_free, {
        "--llm and its like": telling != o.llm_options(None, None, None, None, None), "--similarity": similarity,
        "--similarity-floor": similarity_floor, "--keep-similarity": keep_similarity}, {
        "--always": always, "--super": super_ or super_classes, "--vocabulary": vocabulary, "--skip-bad": skip_bad})
    if candidate_free:
        from service.evaluate_free import run_free_eval, show_free_report

        found = run_free_eval(dataset, candidates, descriptions=Path(descriptions) if descriptions else None,
                              llm=telling, similarity=similarity, floor=similarity_floor, keep=keep_similarity,
                              limit=limit, model=model, backend=backend, settings=settings, refine=refinement,
                              device=device, batch=batch, quiet=json)
        if json:
            say_json(found.model_dump(mode="json"))
        else:
            show_free_report(found)
        return
    base = o.read_preset(preset)
    given = base.given.union(name for name, value in options.items() if value is not None)
    report = run_eval(dataset, candidates, always=always, by_superclass=super_ or super_classes is not None,
                      superclass_file=super_classes, vocabulary_file=vocabulary, limit=limit, skip_bad=skip_bad,
                      model=model, backend=backend, preset=base.name, settings=settings, given=given,
                      refine=refinement, device=device, batch=batch, quiet=json)
    if json:
        say_json(report.model_dump(mode="json"))
    else:
        show_report(report)


@app.command()
def benchmark(
    model: o.Model = None, backend: o.Backend = "clip", variant: o.Variant = None, preset: o.Preset = "lexiseg",
    ensemble: o.Ensemble = None, refine: o.Refine = None, tile: o.Tile = None, overlap: o.Overlap = None,
    precision: o.Precision = None, draft: o.Draft = False, device: o.Device = "auto",
    size: Annotated[str, typer.Option("--size", metavar="WxH", help="Width and height of the pictures.")] = "500x375",
    images: Annotated[int, typer.Option("--images", min=1, max=10_000, metavar="N", help="Pictures.")] = 32,
    classes: Annotated[int, typer.Option("--classes", metavar="N", help="Classes, with the background.")] = 21,
    subclasses: Annotated[int, typer.Option("--subclasses", metavar="K", help="Invented subclasses of each.")] = 7,
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=100, help="Runs of the whole; the median counts.")] = 3,
    price: Annotated[float | None, typer.Option("--price", min=0, help="Of an hour of this machine, for the price of "
                                                "100,000 images.")] = None,
    json: o.AsJson = False,
) -> None:
    """Measure a model on this machine: images per second of each stage, end to end, and of the bare encoder; memory.

    Pictures and names are invented, so nothing but the model is needed.
    """
    from service.benchmark import run_benchmark, show_benchmark
    from service.console import say_json

    settings, refinement = o.settings_from(preset, backend, model, variant=variant, ensemble=ensemble, tile=tile,
                                           overlap=overlap, refine=refine,
                                           precision=precision, draft=draft or None)
    report = run_benchmark(model=model, backend=backend, size=size, images=images, classes=classes,
                           subclasses=subclasses, rounds=rounds, settings=settings, refine=refinement, device=device,
                           price=price, quiet=json)
    if json:
        say_json(report.model_dump(mode="json"))
    else:
        show_benchmark(report)


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
def describe(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUTS...", help="Pictures and folders of pictures.")],
    detailed: Annotated[bool, typer.Option("--detailed", help="Also attributes, counts and places.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Write one JSON object a picture, in order.")] = False,
    llm: o.Llm = None, llm_model: o.LlmModel = None, store: o.StorePlace = None, llm_timeout: o.LlmTimeout = None,
    llm_parallel: o.LlmParallel = None, views: o.Views = None,
) -> None:
    """Let a language model describe pictures, and show what the descriptions say.

    Exit code 3: some pictures could not be read."""
    from service import knowledge

    options = o.llm_options(llm, llm_model, store, llm_timeout, llm_parallel, views=views)
    if knowledge.describe(inputs, options, detailed=detailed, jsonl=jsonl):
        raise typer.Exit(EXIT_SOME_FAILED)


@app.command()
def ask(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help='What to mask: "every dog next to a bench".')],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUTS...", help="Pictures and folders of pictures.")],
    out: Annotated[Path, typer.Option("--out", help="The folder for masks and report.", metavar="DIR")],
    model: o.Model = None, device: o.Device = "auto", llm: o.Llm = None, llm_model: o.LlmModel = None,
    store: o.StorePlace = None, llm_timeout: o.LlmTimeout = None, llm_parallel: o.LlmParallel = None,
    json: o.AsJson = False,
) -> None:
    """Mask what a sentence asks for, and say how it was decided.

    Exit code 3: some pictures could not be read."""
    from service.ask import run_ask

    if run_ask(request, inputs, out, o.llm_options(llm, llm_model, store, llm_timeout, llm_parallel), model=model,
               device=device, as_json=json):
        raise typer.Exit(EXIT_SOME_FAILED)


@app.command()
def subclasses(
    names: Annotated[str, typer.Argument(metavar="NAMES", help='Class names: "dog, cat".')],
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=10, metavar="K", help="Subclasses of each.")] = 7,
    gloss: Annotated[str | None, typer.Option("--gloss", metavar="TEXT", help="Which sense of the one name is "
                                              'meant: "a machine that lifts loads".')] = None,
    llm: o.Llm = None, llm_model: o.LlmModel = None, store: o.StorePlace = None, llm_timeout: o.LlmTimeout = None,
    llm_parallel: o.LlmParallel = None, json: o.AsJson = False,
) -> None:
    """Let a language model list finer names of classes."""
    from service import knowledge

    knowledge.subclasses(names, count, o.llm_options(llm, llm_model, store, llm_timeout, llm_parallel), gloss=gloss,
                         as_json=json)


@app.command()
def clusters(
    names: Annotated[str, typer.Argument(metavar="NAMES", help='Class names: "dog, cat, bus".')],
    llm: o.Llm = None, llm_model: o.LlmModel = None, store: o.StorePlace = None, llm_timeout: o.LlmTimeout = None,
    llm_parallel: o.LlmParallel = None, json: o.AsJson = False,
) -> None:
    """Let a language model put class names into clusters."""
    from service import knowledge

    knowledge.clusters(names, o.llm_options(llm, llm_model, store, llm_timeout, llm_parallel), as_json=json)


@app.command()
def demo(
    model: o.Model = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for pictures, masks and reports.")]
    = Path("demo-out"),
) -> None:
    """Segment pictogram scenes, three ways."""
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


@vocabulary_app.command("build")
def vocabulary_build(
    names: Annotated[str, typer.Argument(metavar="NAMES|FILE", help='Class names ("dog, cat"), or a vocabulary file, '
                                         "whose glosses say which senses are meant.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The file to write.")],
    subclasses: Annotated[int, typer.Option("--subclasses", min=0, max=10, metavar="K", help="Subclasses for each "
                                            "class that has none.")] = 0,
    clusters: Annotated[bool, typer.Option("--clusters", help="A cluster for each class.")] = False,
    llm: o.Llm = None, llm_model: o.LlmModel = None, store: o.StorePlace = None, llm_timeout: o.LlmTimeout = None,
    llm_parallel: o.LlmParallel = None,
) -> None:
    """Let a language model write a vocabulary for a person to look through."""
    from service import knowledge

    knowledge.build(names, out, o.llm_options(llm, llm_model, store, llm_timeout, llm_parallel),
                    subclass_count=subclasses, with_clusters=clusters)


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


@models_app.command("pull")
def models_pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="clip-vit-b-16, clip-vit-l-14, llava-phi2.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The model directory to write: new or empty.")],
    repository: Annotated[str | None, typer.Option("--from", metavar="REPOSITORY", help="Another repository with the "
                                                   "same kind of model.")] = None,
    revision: Annotated[str, typer.Option("--revision", help="A branch, tag or commit of it.")] = "main",
    tower_revision: Annotated[str | None, typer.Option("--tower-revision", help="The same of the image tower of "
                                                       "llava-phi2, which has a repository of its own. [default: main]",
                                                       show_default=False)] = None,
    endpoint: Annotated[str, typer.Option("--endpoint", metavar="URL", help="The hub, or a mirror of it.")]
    = "https://huggingface.co",
) -> None:
    """Download a model, on a host with internet; the only command that needs one."""
    from service.pull import pull

    pull(name, to, repository=repository, revision=revision, tower_revision=tower_revision, endpoint=endpoint)


@models_app.command("convert-simseg")
def models_convert_simseg(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="simseg.vit-s.pth or simseg.vit-b.pth.")],
    tokenizer: Annotated[Path, typer.Option("--tokenizer", metavar="DIR", help="A folder with the tokenizer files of "
                                            "bert-base-uncased (vocab.txt or tokenizer.json).")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The model directory to write.")],
    half: Annotated[bool, typer.Option("--half", help="Store in half precision, half as large.")] = False,
) -> None:
    """Turn a SimSeg checkpoint into a model directory of safetensors. Pickled objects are refused."""
    from service.models import convert_simseg

    convert_simseg(checkpoint, tokenizer, to, half)


@models_app.command("convert-llava-phi2")
def models_convert_llava_phi2(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The directory of a LLaVA-Phi2 checkpoint.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The directory to write: new or empty.")],
    vision_tower: Annotated[Path | None, typer.Option("--vision-tower", metavar="DIR", help="The CLIP or SigLIP, as "
                            "transformers saves it, for a checkpoint that comes without one.")] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="bfloat16, float32.")] = "bfloat16",
    json: o.AsJson = False,
) -> None:
    """Make a LLaVA-Phi2 checkpoint, of any published layout, ready for vLLM and transformers."""
    from service.models import convert_llava_phi2

    convert_llava_phi2(source, target, vision_tower, dtype, json)


@app.command()
def up(
    workers: Annotated[int | None, typer.Option("--workers", min=1, max=64, metavar="N", help="Processes for "
                                                "pictures; one per GPU, or one, if left out.")] = None,
    until_done: Annotated[bool, typer.Option("--until-done", help="Stop when no job is active.")] = False,
) -> None:
    """Start workers, and the embedded queue, on this machine; Ctrl-C stops them."""
    from service.up import run

    run(workers, until_done)


@app.command()
def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on; others than loopback need tokens.")]
    = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 8420,
) -> None:
    """Serve the HTTP API. LEXISEG_API_ROOTS names the folders that jobs may read; docs/api.md lists all settings."""
    from service import serve as command

    command.serve(host, port)


@tokens_app.command("add")
def tokens_add(
    name: Annotated[str, typer.Argument(help="Who it is for.")],
    scope: Annotated[str, typer.Option("--scope", help="read, submit, or admin; each holds those before it.")]
    = "submit",
) -> None:
    """Make a token and show it once."""
    from service import serve as command

    command.add_token(name, scope)


@tokens_app.command("list")
def tokens_list() -> None:
    """Names and scopes of the tokens."""
    from service import serve as command

    command.list_tokens()


@tokens_app.command("remove")
def tokens_remove(name: Annotated[str, typer.Argument()]) -> None:
    """End a token at once."""
    from service import serve as command

    command.remove_token(name)


def main() -> None:
    """The `lexiseg` command."""
    from agents.offline import latch

    latch()
    app()
