"""The options of the `llmformer` backend."""

from __future__ import annotations

from dataclasses import dataclass

from parsers.errors import Code, SettingError

PRIORS = ("given", "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class LlmformerSettings:
    """How pictures are shown to the model. Raises SettingError (`setting-invalid`) for a value that is not allowed."""

    priors: str = "given"
    """`given`: the description that comes with a picture is used; `none`: it is not."""
    descriptions: str | None = None
    """A file of prepared descriptions (`parsers.prepared`), for pictures that come without one."""
    descriptions_sha256: str | None = None
    """What the file has to have, in a job that other machines and later days go on with."""
    subclass_count: int | None = None
    """K: the first K subclasses of each class speak for it too; 0: none; None: all."""
    tile: int | None = None
    """Pixels of the original image that one window covers; None: the image's shorter side."""
    overlap: float = 0.5
    """Of neighbouring windows, as a fraction of a window, in [0, 0.9]."""
    batch_size: int = 8
    """Windows that go through the model at once."""

    def __post_init__(self) -> None:
        if self.priors not in PRIORS:
            raise _invalid("priors", self.priors, f"one of {', '.join(PRIORS)}")
        if self.subclass_count is not None and self.subclass_count < 0:
            raise _invalid("subclass_count", self.subclass_count, "0 or more")
        if self.tile is not None and self.tile < 16:
            raise _invalid("tile", self.tile, "16 pixels or more")
        if not 0 <= self.overlap <= 0.9:
            raise _invalid("overlap", self.overlap, "from 0 to 0.9, for example 0.5")
        if self.batch_size < 1:
            raise _invalid("batch_size", self.batch_size, "1 or more")


def _invalid(name: str, value: object, allowed: str) -> SettingError:
    return SettingError(Code.SETTING_INVALID, f"{name} is {value!r}.", f"Allowed: {allowed}.", "lexiseg segment --help")
