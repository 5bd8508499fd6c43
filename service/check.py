"""One question of `lexiseg doctor` and its answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

State = Literal["ok", "warning", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question and its answer. `missing` means that lexiseg does not work without it."""

    name: str
    state: State
    found: str
    next_step: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)
