"""The options of the `clip` backend."""

from __future__ import annotations

from dataclasses import dataclass

from parsers.errors import Code, SettingError

VARIANTS = ("auto", "loda", "maskclip", "naclip")
ENSEMBLES = ("auto", "softmax", "code", "max", "map-mean")
PRESENCES = ("off", "soft")
EVIDENCES = ("super", "super_or_sub")
TEMPLATES = ("card", "plain")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSettings:
    """How names and image are compared. Raises SettingError (`setting-invalid`) for a value that is not allowed."""

    variant: str = "auto"
    """Dense features: `auto` (the model card's), `loda` (tokens of the ordinary forward), `maskclip`, `naclip`."""
    ensemble: str = "auto"
    """How the names of one class become one map: `auto` (the model card's), `softmax`, `code`, `max` or `map-mean`."""
    subclass_count: int | None = None
    """K: the first K subclasses of each class; 0: none; None: all."""
    superclass_in_list: bool = True
    """The class name and its synonyms stay in the list of a class that has subclasses."""
    temperature: float | None = None
    """Of the `softmax` ensemble, in units of cosine; None: the model card's."""
    presence: str = "soft"
    """`soft` lowers the logits of classes with little evidence in the whole image; `off` does not."""
    presence_evidence: str = "super_or_sub"
    """`super`: the class name alone gives evidence; `super_or_sub`: any of its names."""
    templates: str = "card"
    """`card`: the sentences of the model card; `plain`: "a photo of a {}."."""
    tile: int | None = None
    """Pixels of the original image that one window covers; None: the image's shorter side."""
    overlap: float = 0.5
    """Of neighbouring windows, as a fraction of a window, in [0, 0.9]."""
    draft: bool = False
    """Large JPEGs are decoded no larger than the model needs (`ClipSegmenter.draft_side`); masks keep their size."""
    batch_size: int = 16
    """Windows that go through the model at once."""

    def __post_init__(self) -> None:
        for name, allowed in (("variant", VARIANTS), ("ensemble", ENSEMBLES), ("presence", PRESENCES),
                              ("presence_evidence", EVIDENCES), ("templates", TEMPLATES)):
            if getattr(self, name) not in allowed:
                raise _invalid(name, getattr(self, name), f"one of {', '.join(allowed)}")
        if self.subclass_count is not None and self.subclass_count < 0:
            raise _invalid("subclass_count", self.subclass_count, "0 or more")
        if self.temperature is not None and not 0 < self.temperature < float("inf"):
            raise _invalid("temperature", self.temperature, "above 0, for example 0.02")
        if self.tile is not None and self.tile < 16:
            raise _invalid("tile", self.tile, "16 pixels or more")
        if not 0 <= self.overlap <= 0.9:
            raise _invalid("overlap", self.overlap, "from 0 to 0.9, for example 0.5")
        if self.batch_size < 1:
            raise _invalid("batch_size", self.batch_size, "1 or more")


def _invalid(name: str, value: object, allowed: str) -> SettingError:
    return SettingError(Code.SETTING_INVALID, f"{name} is {value!r}.", f"Allowed: {allowed}.", "lexiseg segment --help")
