"""The options of the `clip` backend."""

from __future__ import annotations

from dataclasses import dataclass
from types import UnionType

from parsers.errors import Code, SettingError

VARIANTS = ("auto", "vanilla", "loda", "maskclip", "sclip", "clearclip", "naclip", "resclip", "sc-clip")
ENSEMBLES = ("auto", "softmax", "code", "mean", "max", "map-mean", "mask-vote", "super+lambda")
FILTERS = ("none", "published", "published-names", "own")
PRESENCES = ("off", "soft", "hard")
EVIDENCES = ("super", "super_or_sub")
PRECISIONS = ("auto", "float32", "bfloat16")
TEMPLATES = ("card", "plain", "imagenet", "voc", "context", "coco")
RULES = ("softmax", "simseg", "sclip")
VOTES = ("majority", "union")
MORPHOLOGIES = ("closing", "dilate5-erode3", "none")
OVERLAPS = ("image", "pixel")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSettings:
    """How names and image are compared. Raises SettingError (`setting-invalid`) for a value that is not allowed."""

    variant: str = "auto"
    """Dense features: `auto` (the model card's), `vanilla` and `loda` (tokens of the ordinary forward), `maskclip`,
    `sclip`, `clearclip`, `naclip`, `resclip`, `sc-clip`."""
    residual: bool | None = None
    """The residual connection and the MLP of the last block; None: as the variant has it."""
    feedback: bool = True
    """`resclip`: the second pass, in which patches of one provisional class attend to each other."""
    cross_scale: float = 2.0
    """`resclip`: factor of the last attention, in [0, 100]; these numbers are for PASCAL VOC with background."""
    cross_share: float = 0.3
    """`resclip`: of the middle blocks in it, in [0, 1]."""
    feedback_scale: float = 2.2
    """`resclip`: factor of the attention's logits in the second pass, in [0, 100]."""
    feedback_share: float = 0.7
    """`resclip`: of the provisional classes in them, in [0, 1]."""
    feedback_threshold: float = 0.5
    """`resclip`: a pixel whose most probable name is below it counts for the first name, in [0, 1]."""
    ensemble: str = "auto"
    """How the names of one class become one map: `auto` (the model card's), `softmax`, `code`, `mean`, `max`,
    `map-mean`, `mask-vote` or `super+lambda`."""
    subclass_count: int | None = None
    """K: the first K subclasses of each class; 0: none; None: all."""
    superclass_in_list: bool = True
    """The class name and its synonyms stay in the list of a class that has subclasses."""
    subclass_filter: str = "none"
    """Subclasses that are left out: `none`; `published` (unlike all others); `published-names` (too like a class
    name); `own` (duplicates in a class, and names nearer to another class)."""
    filter_cutoff: float | None = None
    """Cosine of the filter; None: 0.46 for `published`, else 0.95."""
    subclass_weight: float = 0.5
    """Lambda of `super+lambda`, in [0, 1]."""
    vote: str = "majority"
    """`mask-vote` under the rule `simseg`: `majority` of the masks by weight, or their `union`."""
    temperature: float | None = None
    """Of the `softmax` ensemble, in units of cosine; None: the model card's."""
    presence: str = "soft"
    """`soft` lowers the logits of classes with little evidence in the whole image; `hard` leaves them out; `off` does
    neither. The rule `simseg` always leaves them out."""
    presence_evidence: str = "super_or_sub"
    """`super`: the class name alone gives evidence; `super_or_sub`: any of its names."""
    presence_top: int | None = None
    """`hard`: mean and standard deviation are taken of the M best scores; None: of all."""
    presence_sigma: float = 1.0
    """`hard`: a class needs the mean plus this many standard deviations."""
    presence_limit: int | None = None
    """`hard`: only the first of the ranking can be present; a background among them uses a place. None: no limit."""
    templates: str = "card"
    """`card`: the sentences of the model card; `plain`: "a photo of a {}."; `imagenet`: 80; `voc`, `context`, `coco`:
    those that LLM-Supervision chose on these datasets; or one sentence with `{}`."""
    rule: str = "softmax"
    """From maps to labels: `softmax`, the most probable class of each pixel; `simseg` and `sclip`, the steps of these
    methods as published."""
    overlap_rule: str = "image"
    """`simseg`: where masks overlap, the class with the higher score of the `image`, or of the `pixel`."""
    morphology: str = "closing"
    """`simseg`: after the CRF `closing` with 7 x 7 pixels, `dilate5-erode3` (as many times), or `none`."""
    logit_scale: float | None = None
    """From cosine to logit; None: the model card's, else 40."""
    background_threshold: float = 0.0
    """`sclip`, where the vocabulary has background words: a pixel whose best probability is below it is background,
    in [0, 1]."""
    area_threshold: float | None = None
    """`sclip`, where the vocabulary has background words: a class with no more than this share of the pixels that are
    not background is left out; None: all stay."""
    short_side: int | None = None
    """`sclip`: pixels to which the shorter side is brought; None: one and a half windows."""
    stride: int | None = None
    """`sclip`: pixels from window to window; None: half a window; 0: no windows, the whole picture at once."""
    tile: int | None = None
    """Pixels of the original image that one window covers; None: the image's shorter side."""
    overlap: float = 0.5
    """Of neighbouring windows, as a fraction of a window, in [0, 0.9]."""
    draft: bool = False
    """Large JPEGs are decoded no larger than the model needs (`ClipSegmenter.draft_side`); masks keep their size."""
    precision: str = "auto"
    """Of the image tower: `float32`; `bfloat16` (softmax and norms add up in float32); `auto`: bfloat16 on a GPU that
    computes in it, else float32."""
    batch_size: int = 16
    """Windows that go through the model at once."""

    def __post_init__(self) -> None:
        for name, allowed in (("variant", VARIANTS), ("ensemble", ENSEMBLES), ("subclass_filter", FILTERS),
                              ("vote", VOTES), ("presence", PRESENCES), ("presence_evidence", EVIDENCES),
                              ("precision", PRECISIONS), ("rule", RULES), ("overlap_rule", OVERLAPS),
                              ("morphology", MORPHOLOGIES)):
            if getattr(self, name) not in allowed:
                raise _invalid(name, getattr(self, name), f"one of {', '.join(allowed)}")
        if self.templates not in TEMPLATES and "{}" not in str(self.templates):
            raise _invalid("templates", self.templates, f"one of {', '.join(TEMPLATES)}, or a sentence with {{}}")
        for name in ("feedback", "superclass_in_list"):
            if not isinstance(getattr(self, name), bool):
                raise _invalid(name, getattr(self, name), "true or false")
        if self.residual is not None and not isinstance(self.residual, bool):
            raise _invalid("residual", self.residual, "true, false, or no value")
        for name, least, unit in (("subclass_count", 0, ""), ("presence_top", 1, ""), ("presence_limit", 1, ""),
                                  ("tile", 16, " pixels"), ("short_side", 16, " pixels"), ("stride", 0, " pixels"),
                                  ("batch_size", 1, "")):
            value = getattr(self, name)
            if value is not None and not (_is_number(value, int) and value >= least):
                raise _invalid(name, value, f"{least}{unit} or more")
        for name, low, high in (("subclass_weight", 0, 1), ("filter_cutoff", -1, 1), ("background_threshold", 0, 1),
                                ("area_threshold", 0, 1), ("overlap", 0, 0.9), ("presence_sigma", -1e6, 1e6),
                                ("cross_scale", 0, 100), ("cross_share", 0, 1), ("feedback_scale", 0, 100),
                                ("feedback_share", 0, 1), ("feedback_threshold", 0, 1)):
            value = getattr(self, name)
            if value is not None and not (_is_number(value, int | float) and low <= value <= high):
                raise _invalid(name, value, f"from {low} to {high}")
        for name, example in (("temperature", "0.02"), ("logit_scale", "40")):
            value = getattr(self, name)
            if value is not None and not (_is_number(value, int | float) and 0 < value < float("inf")):
                raise _invalid(name, value, f"above 0, for example {example}")
        if self.variant in ("loda", "resclip", "sc-clip") and self.residual is not None:
            raise _invalid("residual", self.residual, f"no value with the variant {self.variant}")


def _is_number(value: object, kind: type | UnionType) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _invalid(name: str, value: object, allowed: str) -> SettingError:
    return SettingError(Code.SETTING_INVALID, f"{name} is {value!r}.", f"Allowed: {allowed}.", "lexiseg segment --help")
