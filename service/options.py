"""Options that several commands share, and what they mean for the backend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from parsers.vocabulary import Vocabulary

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "names-only": {"subclass_count": 0, "presence": "off"},
    "llm-supervision": {"ensemble": "code", "presence_evidence": "super", "refine": "pydensecrf"},
}
"""Settings by preset; an option that is given wins over the preset. `llm-supervision` follows the published method."""

Classes = Annotated[str | None, typer.Option("--classes", help='Names to look for: "dog, cat".')]
VocabularyFile = Annotated[Path | None, typer.Option("--vocabulary", help="A vocabulary file (.yaml or .json).")]
Model = Annotated[str | None, typer.Option("--model", help="A model directory or the name of a listed model; the "
                                                           "pocket model if left out.")]
Backend = Annotated[str, typer.Option("--backend", help="The method: clip, llmformer.")]
Variant = Annotated[str | None, typer.Option("--variant", help="Dense features: auto, loda, maskclip, naclip.")]
Preset = Annotated[str, typer.Option("--preset", help=f"Settings under one name: {', '.join(PRESETS)}.")]
Ensemble = Annotated[str | None, typer.Option("--ensemble", help="How the subclasses of a class become one map: "
                                                                 "softmax, code, max, map-mean.")]
Subclasses = Annotated[int | None, typer.Option("--subclasses", help="Use the first K subclasses of each class; 0: "
                                                                     "none. All if left out.", metavar="K")]
Refine = Annotated[str | None, typer.Option("--refine", help="Edges of the masks: none, pydensecrf. [default: none]")]
Tile = Annotated[int | None, typer.Option("--tile", help="Pixels that one window covers; the picture's shorter side "
                                                         "if left out.", metavar="PX")]
Overlap = Annotated[float | None, typer.Option("--overlap", help="Of neighbouring windows, as a fraction of a window."
                                                                 " [default: 0.5]", metavar="FRACTION")]
Descriptions = Annotated[str | None, typer.Option("--descriptions", metavar="FILE", help="Prepared descriptions of the "
                                                  "pictures (JSON Lines), for llmformer.")]
Free = Annotated[bool, typer.Option("--free", help="No names: each picture is searched for what its description names. "
                                                   "Needs --descriptions.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, errors included.")]


def settings_from(preset: str, backend: str = "clip", **given: Any) -> tuple[dict[str, Any], str]:
    """Backend settings and the refinement method: the preset's, then every option that is neither None nor False.

    Raises SettingError for an unknown preset, backend, option value or refinement method, and for an option that the
    backend has not.
    """
    from parsers.errors import Code, SettingError
    from vision import make_settings
    from vision.refine import METHODS

    if preset not in PRESETS:
        raise SettingError(Code.SETTING_INVALID, f"--preset {preset!r}.", f"One of: {', '.join(PRESETS)}.",
                           "Leave it out for the default.")
    settings = PRESETS[preset] | {name: value for name, value in given.items()
                                  if value is not None and value is not False}
    method = settings.pop("refine", "none")
    if method not in METHODS:
        raise SettingError(Code.SETTING_INVALID, f"--refine {method!r}.", f"One of: {', '.join(METHODS)}.",
                           "Leave it out for none.")
    make_settings(backend, settings)  # says now, before a model is loaded, which value is not allowed
    return settings, method


def read_vocabulary(classes: str | None, file: Path | None, *, free: bool = False,
                    descriptions: str | None = None) -> Vocabulary:
    """The vocabulary of --classes or --vocabulary, of which there must be one; with --free and neither, the names of
    all descriptions. Raises SettingError, VocabularyError, DatasetError."""
    from parsers.errors import Code, SettingError
    from parsers.vocabulary import Vocabulary

    if free and descriptions and classes is None and file is None:
        from vision.llmformer.free import merged_vocabulary
        from vision.llmformer.prepared import PreparedPriors

        return merged_vocabulary(row.priors for row in PreparedPriors.read(Path(descriptions)).rows.values())
    if classes is not None and file is None:
        return Vocabulary.from_names(classes)
    if file is not None and classes is None:
        return Vocabulary.load(file)
    given = "Neither --classes nor --vocabulary was given." if file is None else "--classes and --vocabulary."
    raise SettingError(Code.SETTING_INVALID, given, "One of the two.", 'For example: --classes "dog, cat"')
