"""How a language model is called."""

from __future__ import annotations

from dataclasses import dataclass

from parsers.errors import Code, SettingError


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettings:
    """What is the same for all calls of one model. Raises SettingError for values out of range."""

    temperature: float = 0.0
    """0: greedy, the likeliest answer."""
    repair_temperature: float = 0.5
    """Of the one repair; above 0, since the likeliest answer was not valid."""
    seed: int = 0
    max_tokens: int = 1024
    """Of one answer; a task may ask for fewer."""
    timeout_s: float = 120.0
    """Seconds that one attempt may take."""
    retries: int = 3
    """Further attempts after a lost connection, a server error (5xx) or "too many requests" (429)."""
    concurrency: int = 16
    """Calls in flight at once."""
    picture_side: int = 672
    """Pixels of the longer side of a picture that is sent; larger ones are scaled down."""

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:
                raise SettingError(Code.SETTING_INVALID, f"{name} is {value}.", f"From {low} to {high}.",
                                   "Leave it out for the default.")

    def sampling(self, max_tokens: int) -> dict[str, float | int]:
        """What an answer depends on besides model and prompt; part of its key in the store."""
        return {"temperature": self.temperature, "repair_temperature": self.repair_temperature, "seed": self.seed,
                "max_tokens": min(max_tokens, self.max_tokens), "picture_side": self.picture_side}


_RANGES = (("temperature", 0, 2), ("repair_temperature", 0, 2), ("max_tokens", 1, 32_768), ("timeout_s", 0.01, 3600),
           ("retries", 0, 10), ("concurrency", 1, 1024), ("picture_side", 16, 4096))
