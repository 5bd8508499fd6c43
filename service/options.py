"""Options that several commands share, and what they mean for the backend."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from parsers.vocabulary import Vocabulary
    from service.knowledge import LlmOptions
    from workers.spec import CandidateFree as CandidateFreeSource

SIMSEG: dict[str, Any] = {
    "rule": "simseg", "presence": "hard", "presence_evidence": "super", "presence_top": 10, "presence_sigma": 1.0,
    "presence_limit": 5, "precision": "float32", "refine": "pydensecrf"}
PRESETS: dict[str, dict[str, Any]] = {
    "lexiseg": {"refine": "auto"},
    "names-only": {"subclass_count": 0, "presence": "off", "refine": "auto"},
    "simseg": SIMSEG | {"subclass_count": 0, "templates": "imagenet"},
    "llm-supervision": SIMSEG | {"ensemble": "code", "superclass_in_list": False, "templates": "voc"},
    "sclip": {"rule": "sclip", "variant": "sclip", "templates": "imagenet", "logit_scale": 40.0,
              "background_threshold": 0.1, "area_threshold": 0.1, "precision": "float32"},
}
"""Settings by preset; an option that is given wins over the preset. `simseg`, `llm-supervision` and `sclip` are the
published methods, step by step (docs/clip.md)."""

Classes = Annotated[str | None, typer.Option("--classes", help='Names to look for: "dog, cat".')]
VocabularyFile = Annotated[Path | None, typer.Option("--vocabulary", help="A vocabulary file (.yaml or .json).")]
Model = Annotated[str | None, typer.Option("--model", help="A model directory or the name of a listed model; the "
                                                           "pocket model if left out.")]
Backend = Annotated[str, typer.Option("--backend", help="The method: clip, llmformer.")]
Variant = Annotated[str | None, typer.Option("--variant", help="Dense features: auto, vanilla, loda, maskclip, "
                                                                   "sclip, clearclip, naclip, resclip, sc-clip.")]
Preset = Annotated[str, typer.Option("--preset", help="Settings under one name, or a JSON file of settings: "
                                              f"{', '.join(PRESETS)}.")]
Ensemble = Annotated[str | None, typer.Option("--ensemble", help="How the subclasses of a class become one map: "
                                                                 "softmax, code, mean, max, map-mean, "
                                                                 "mask-vote, super+lambda.")]
Subclasses = Annotated[int | None, typer.Option("--subclasses", help="Use the first K subclasses of each class; 0: "
                                                                     "none. All if left out.", metavar="K")]
Refine = Annotated[str | None, typer.Option("--refine", help="Edges of the masks: none, pydensecrf, pamr, "
                                                             "torch-crf; auto: what the model's card names. "
                                                             "[default: the preset's]", metavar="METHOD[:OPTIONS]")]
Tile = Annotated[int | None, typer.Option("--tile", help="Pixels that one window covers; the picture's shorter side "
                                                         "if left out.", metavar="PX")]
Overlap = Annotated[float | None, typer.Option("--overlap", help="Of neighbouring windows, as a fraction of a window."
                                                                 " [default: 0.5]", metavar="FRACTION")]
Descriptions = Annotated[str | None, typer.Option("--descriptions", metavar="FILE", help="Prepared descriptions of the "
                                                  "pictures (JSON Lines, or the results.jsonl of a job without "
                                                  "candidates): for llmformer, and for --candidate-free.")]
CandidateFree = Annotated[bool, typer.Option("--candidate-free", help="No names: each picture is searched for what a "
                                             "language model (--llm), or --descriptions, says of it.")]
Precision = Annotated[str | None, typer.Option("--precision", help="Of the image encoder: auto, float32, bfloat16. "
                                               "auto: bfloat16 on a GPU that computes in it.")]
Draft = Annotated[bool, typer.Option("--draft", help="Decode large JPEGs no larger than the model needs: faster; masks "
                                     "keep their size, their borders may differ slightly.")]
MaxFailures = Annotated[int | None, typer.Option("--max-failures", min=0, metavar="N", help="Stop when more than N "
                                                 "pictures failed. Never if left out.")]
Batch = Annotated[int | None, typer.Option("--batch", min=1, max=1024, metavar="N", help="Pictures given to the model "
                                          "at once; results do not depend on it. [default: 16]")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1.")]
Llm = Annotated[str | None, typer.Option("--llm", help="The language model: pocket, a model directory, or the URL of a "
                                         "server (several with commas). [default: LEXISEG_LLM, else pocket]")]
LlmModel = Annotated[str | None, typer.Option("--llm-model", metavar="NAME", help="Which model of the server; may be "
                                              "left out where it serves one. [default: LEXISEG_LLM_MODEL]")]
StorePlace = Annotated[str | None, typer.Option("--store", metavar="FILE|URL", help="Where answers are kept, so that "
                                                "none is asked for twice; none: nowhere. [default: LEXISEG_STORE, "
                                                "else knowledge.sqlite in the cache]")]
LlmTimeout = Annotated[float | None, typer.Option("--llm-timeout", metavar="SECONDS", help="For one answer. "
                                                  "[default: 120]")]
LlmParallel = Annotated[int | None, typer.Option("--llm-parallel", metavar="N", help="Questions at once. "
                                                 "[default: 16]")]
LlmCalls = Annotated[int | None, typer.Option("--llm-calls", min=1, metavar="N", help="Stop after so many calls of the "
                                              "language model in all. [default: 100 for each picture]")]
Views = Annotated[int | None, typer.Option("--views", min=1, max=10, metavar="N", help="Describe each picture N times "
                                          "(1 to 10), moved a little or mirrored, and take what more than a third of "
                                          "the descriptions say. [default: what the model's card says]")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, errors included.")]


def settings_from(preset: str, backend: str, model: str | None, /, **given: Any) -> tuple[dict[str, Any], str]:
    """Backend settings and the refinement method: the preset's, then every option that is not None.

    Raises SettingError for an unknown preset, backend, option value or refinement method, for a method that the rule
    from maps to labels has not, and for an option that the backend has not; ModelError where the method is the model's
    to choose and there is no such model.
    """
    from vision import make_settings, resolve_model
    from vision.refine.settings import method_of_rule

    settings = read_preset(preset).settings | {name: value for name, value in given.items() if value is not None}
    refinement = settings.pop("refine", "none")
    make_settings(backend, settings)  # says now, before a model is loaded, which value is not allowed
    rule = settings.get("rule", "softmax")
    if refinement == "auto":
        refinement = (usual_refinement(resolve_model(model, backend)) if rule == "softmax"
                      else published_refinement(rule))
    method_of_rule(rule, refinement)
    return settings, refinement


def published_refinement(rule: str) -> str:
    """What `--refine auto` stands for under the rule of a published method: what belongs to it."""
    from importlib.util import find_spec

    return "none" if rule == "sclip" else "torch-crf" if find_spec("pydensecrf") is None else "pydensecrf"


def usual_refinement(directory: Path) -> str:
    """What `--refine auto` stands for else: the method that the model's card names; none, with a warning, where its
    package is missing. Raises ModelError."""
    from importlib.util import find_spec

    from service.console import warn
    from vision.models import load_card

    method = load_card(directory).refine
    if method.partition(":")[0] == "pydensecrf" and find_spec("pydensecrf") is None:
        warn(["pydensecrf is not installed, so the edges of the masks stay coarse (pip install pydensecrf2)"])
        return "none"
    return method


class Chosen(NamedTuple):
    """Settings under one name."""

    settings: dict[str, Any]
    name: str
    """Of ours, which a file may build on."""
    given: frozenset[str]
    """The settings that a file names itself."""


def read_preset(preset: str) -> Chosen:
    """One of ours by its name, or that of a JSON file, which may build on one of ours
    (`{"preset": "simseg", "presence_top": 30}`). Raises SettingError."""
    import json

    from parsers.errors import Code, SettingError

    if preset in PRESETS:
        return Chosen(PRESETS[preset], preset, frozenset())
    try:
        content = json.loads(Path(preset).read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("preset", "lexiseg") not in PRESETS:
            raise ValueError('no JSON object, or its "preset" is none of ours')
    except (OSError, ValueError, TypeError) as error:
        raise SettingError(Code.SETTING_INVALID, f"--preset {preset!r}: {type(error).__name__}: {error}.",
                           f"One of: {', '.join(PRESETS)}; or a JSON file of settings.",
                           "Leave it out for the default.") from error
    name = content.pop("preset", "lexiseg")
    return Chosen(PRESETS[name] | content, name, frozenset(content))


def read_vocabulary(classes: str | None, file: Path | None, candidate_free: bool = False) -> Vocabulary:
    """The vocabulary of --classes, --vocabulary or --candidate-free, of which there must be one; of the last it has
    only words for the background. Raises SettingError, VocabularyError."""
    from parsers.errors import Code, SettingError
    from parsers.free import PLACES
    from parsers.vocabulary import Vocabulary

    if candidate_free and classes is None and file is None:
        return Vocabulary(classes=(), background=PLACES)
    if candidate_free:
        raise SettingError(Code.SETTING_INVALID, "--candidate-free and names.",
                           "Without candidates there are no names.", "Leave one of the two out.")
    if classes is not None and file is None:
        return Vocabulary.from_names(classes)
    if file is not None and classes is None:
        return Vocabulary.load(file)
    given = "Neither --classes nor --vocabulary was given." if file is None else "--classes and --vocabulary."
    raise SettingError(Code.SETTING_INVALID, given, "One of the two, or --candidate-free.",
                       'For example: --classes "dog, cat"')


def free_from(candidate_free: bool, descriptions: str | None, options: LlmOptions) -> CandidateFreeSource | None:
    """Whose words name the classes where no names are given: those of --descriptions, else of the language model,
    which is asked whether it is there and sees. None: names are given. Raises SettingError, LlmError, ModelError,
    DatasetError, MissingPackageError."""
    from parsers.errors import Code, SettingError
    from service.knowledge import LlmOptions, name_of_llm, place_of_llm, place_of_store
    from workers.spec import CandidateFree
    from workers.telling import check_free

    if options != LlmOptions() and (not candidate_free or descriptions is not None):
        raise SettingError(Code.SETTING_INVALID, "A language model, and nothing that it is asked.",
                           "--llm, --llm-model, --store, --llm-timeout, --llm-parallel, --llm-calls and --views belong "
                           "to --candidate-free without --descriptions.", "Leave them out.")
    if not candidate_free:
        return None
    if descriptions is not None:
        return check_free(CandidateFree(descriptions=descriptions))
    return check_free(CandidateFree(llm=place_of_llm(options), llm_model=name_of_llm(options),
                                    store=place_of_store(options),
                                    timeout_s=options.timeout_s, parallel=options.parallel,
                                    max_calls=options.calls, views=options.views))


def check_free_eval(candidate_free: bool, belonging: Mapping[str, object], others: Mapping[str, object]) -> None:
    """Raises SettingError where an option that belongs to --candidate-free is given without it, or one that does not
    with it. Options to their values."""
    from parsers.errors import Code, SettingError

    wrong = [name for name, value in (others if candidate_free else belonging).items() if value]
    if wrong:
        raise SettingError(Code.SETTING_INVALID, f"{', '.join(wrong)} {'with' if candidate_free else 'without'} "
                           "--candidate-free.", f"With --candidate-free: {', '.join(belonging)}.",
                           "lexiseg eval --help")


def llm_options(llm: str | None, name: str | None, store: str | None, timeout_s: float | None,
                parallel: int | None, calls: int | None = None, views: int | None = None) -> LlmOptions:
    """The options of the language model as one value."""
    from service.knowledge import LlmOptions

    return LlmOptions(llm=llm, name=name, store=store, timeout_s=timeout_s, parallel=parallel, calls=calls,
                      views=views)
