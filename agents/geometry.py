"""Relations between regions of a picture, as far as their boxes tell. Rules and thresholds are ours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from parsers.verbs import base_forms

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels; y grows downwards."""
Relation = Literal["left", "right", "above", "below", "on", "in", "near", "front", "behind"]
BOXES_BLIND: tuple[Relation, ...] = ("front", "behind")
"""What a flat picture does not show."""
INVERSE: dict[str, Relation] = {"left": "right", "right": "left", "above": "below", "below": "above",
                                "front": "behind", "behind": "front", "near": "near"}
"""What holds from the other side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRegion:
    """A connected part of one class in one picture, without its pixels."""

    id: int
    name: str
    box: Box
    area: int
    """Pixels."""
    score: float


def relation_of(words: str) -> Relation | None:
    """What the words of a relation mean: "stands next to" is near; None for what is no place ("holds")."""
    text = f" {' '.join(words.lower().split())} "
    return next((relation for pattern, relation in _WORDS if re.search(pattern, text)), None)


def same_relation(words: str, other: str) -> bool:
    """Whether two wordings mean one relation: the same place, or the same words with the verb in any of its forms."""
    known, also = relation_of(words), relation_of(other)
    if known is not None or also is not None:
        return known == also
    (verb, *rest), (form, *more) = (
        [word for word in text.lower().split() if word not in ("is", "are")] or [""] for text in (words, other))
    return rest == more and not {*base_forms(verb)}.isdisjoint(base_forms(form))


def holds(relation: Relation, subject: Box, other: Box) -> bool | None:
    """Whether the relation holds between two boxes; None where they cannot tell."""
    (x, y, w, h), (ox, oy, ow, oh) = subject, other
    across, down = x + w / 2 - (ox + ow / 2), y + h / 2 - (oy + oh / 2)
    overlap = min(x + w, ox + ow) - max(x, ox)
    if relation == "left":
        return across < 0 and abs(across) >= abs(down) / 2
    if relation == "right":
        return across > 0 and abs(across) >= abs(down) / 2
    if relation == "above":
        return down < 0 and abs(down) >= abs(across) / 2
    if relation == "below":
        return down > 0 and abs(down) >= abs(across) / 2
    if relation == "on":
        return overlap >= w / 2 and oy - h / 8 <= y + h <= oy + oh + h / 8
    if relation == "in":
        return overlap >= 0.8 * w and min(y + h, oy + oh) - max(y, oy) >= 0.8 * h
    if relation == "near":
        return gap(subject, other) <= (w + h + ow + oh) / 8
    return None


def gap(box: Box, other: Box) -> float:
    """Pixels between two boxes; 0 if they touch or overlap."""
    (x, y, w, h), (ox, oy, ow, oh) = box, other
    return float(max(0, max(x, ox) - min(x + w, ox + ow)) ** 2 + max(0, max(y, oy) - min(y + h, oy + oh)) ** 2) ** 0.5


_WORDS: tuple[tuple[str, Relation], ...] = (
    (r" in front of ", "front"),
    (r" behind ", "behind"),
    (r" left ", "left"),
    (r" right ", "right"),
    (r" on top of ", "on"),
    (r" (?:above|over|higher than) ", "above"),
    (r" (?:below|under|beneath|underneath|lower than) ", "below"),
    (r" (?:next to|near|beside|close to|by|at|with|alongside) ", "near"),
    (r" (?:in|inside|within) ", "in"),
    (r" (?:on|upon|onto) ", "on"),
)
