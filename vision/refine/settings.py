"""What the refinement methods can be told, and what they are unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from parsers.errors import Code, SettingError

METHODS = ("none", "pydensecrf", "pamr", "torch-crf")
RULE_METHODS = {"softmax": METHODS, "simseg": ("none", "pydensecrf", "torch-crf"), "sclip": ("none", "pamr")}
"""What can be done under each rule from maps to labels (`ClipSettings.rule`); options belong to `softmax` alone."""

# The dense CRF of SimSeg and LLM-Supervision: deviations sxy in pixels of the image, srgb in steps of 0..255; compat is
# what it costs two pixels that are alike to differ.
SPATIAL = {"sxy": 3.0, "compat": 3.0}
BILATERAL = {"sxy": 40.0, "srgb": 13.0, "compat": 10.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineSettings:
    """Options of `refine`. Raises SettingError for values that are not allowed."""

    stride: int | None = None
    """The image is made smaller by this factor before it is refined; None: for a CRF 3, or 4 where the longer side has
    more than 256 pixels; for PAMR 1."""
    largest_side: int = 1000
    """Pixels of the longer side, at most, after that."""
    floor: float = 0.2
    """A class that is nowhere the most probable and nowhere reaches this takes no part; 0: all do."""
    iterations: int | None = None
    """Of the mean field (None: 2), or of PAMR (None: 10)."""
    binary: bool = False
    """CRF: each class against all others in a field of its own, as SimSeg does, instead of one field for all."""

    def __post_init__(self) -> None:
        limits = {"stride": (1, 64), "largest_side": (16, 100_000), "floor": (0, 1), "iterations": (0, 1000)}
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise SettingError(Code.SETTING_INVALID, f"{name} of the refinement is {value}.",
                                   f"Allowed: {least} to {most}.", "Leave it out for the default.")


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


OPTIONS: dict[str, Callable[[str], float]] = {"stride": int, "largest_side": int, "floor": float, "iterations": int,
                                              "binary": _flag}


@lru_cache(maxsize=64)
def parse_refinement(text: str) -> tuple[str, RefineSettings]:
    """`torch-crf` or `torch-crf:stride=1,iterations=5` to the method and its settings. Raises SettingError."""
    method, colon, rest = text.partition(":")
    if method not in METHODS:
        raise SettingError(Code.SETTING_INVALID, f"refine is {text!r}.", f"Allowed: {', '.join(METHODS)}.",
                           "lexiseg segment --help")
    if colon and method == "none":
        raise SettingError(Code.SETTING_INVALID, f"refine is {text!r}.", "none has no options.", "Use none alone.")
    values = {}
    for option in rest.split(",") if colon else ():
        name, _, value = option.partition("=")
        try:
            values[name] = OPTIONS[name](value)
        except (KeyError, ValueError):
            raise SettingError(Code.SETTING_INVALID, f"refine is {text!r}; {option!r} is not understood.",
                               f"Options: {', '.join(OPTIONS)}, as name=value; binary is true or false.",
                               f"For example: {method}:stride=1,iterations=5") from None
    return method, RefineSettings(**values)  # type: ignore[arg-type]


def method_of_rule(rule: str, text: str) -> str:
    """The method of a refinement under a rule. Raises SettingError where the rule has no such method, and for options
    where it does as was published."""
    method, colon, _ = text.partition(":")
    parse_refinement(text)
    if method not in RULE_METHODS[rule]:
        raise SettingError(Code.SETTING_INVALID, f"refine is {text!r} with the rule {rule}.",
                           f"Allowed: {', '.join(RULE_METHODS[rule])}.", "lexiseg segment --help")
    if colon and rule != "softmax":
        raise SettingError(Code.SETTING_INVALID, f"refine is {text!r} with the rule {rule}.",
                           f"The rule {rule} has no options of the refinement: it is done as was published.",
                           f"Try: --refine {method}")
    return method
