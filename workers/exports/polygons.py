"""A mask becomes one polygon along the edges of its pixels.

Corners lie between pixels: the pixel in column x and row y is the square from (x, y) to (x + 1, y + 1), so the
polygon's area is the number of pixels, and testing the centres of pixels gives the mask back exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, int]
"""x, y."""
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Right, down, left, up: each is a turn to the right from the one before. The mask lies at the right hand."""


def mask_to_polygon(mask_hw: NDArray[np.bool_]) -> list[Point]:
    """The corners of the outline of one connected part (8-neighbourhood), clockwise as seen; the first is not
    repeated at the end.

    Holes are joined to the outline by bridges without width, each walked once in both directions: the way there, the
    hole, the way back. A bridge runs leftward from the upper end of a hole's left side, along the upper edge of pixels
    of the mask. Holes are joined from left to right, so a bridge ends at the outline or at a hole that is joined
    already. The choice of bridges is ours.
    """
    outline, *holes = _rings(mask_hw)
    points: list[Point] = []
    follow: list[int] = []
    """Index of a point to the index of the one after it."""
    place: dict[Point, int] = {}
    """A point of a ring that is joined, to its index."""
    for ring in (outline, *sorted(_from_upper_left(hole) for hole in holes)):
        first, (x, y) = len(points), ring[0]
        points += ring
        follow += [*range(first + 1, len(points)), first]
        if first:
            gaps = np.flatnonzero(~mask_hw[y, :x])
            _bridge(points, follow, place[int(gaps[-1]) + 1 if gaps.size else 0, y], first)
        place.update((point, first + offset) for offset, point in enumerate(ring))
    return _corners(points, follow)


def _rings(mask_hw: NDArray[np.bool_]) -> list[list[Point]]:
    """Closed ways along the pixel edges with the mask at the right hand, in steps of 1: the outline, then holes. Where
    two pixels of the mask touch at a corner only, the way turns left, to the other pixel, so that 8-neighbours have
    one outline."""
    padded = np.pad(mask_hw, 1)
    beyond = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    corner = ((0, 0), (1, 0), (1, 1), (0, 1))
    ways: dict[Point, int] = {}
    """Corner of a pixel to the steps that lead on from it, a bit for each direction."""
    for direction in range(4):  # along the upper, right, lower and left side of a pixel
        dx, dy = corner[direction]
        for y, x in np.argwhere(mask_hw & ~beyond[direction]).tolist():
            ways[x + dx, y + dy] = ways.get((x + dx, y + dy), 0) | 1 << direction
    rings, walked = [], set()
    for y, x in np.argwhere(mask_hw & ~beyond[0]).tolist():  # each ring has an upper side; the first is the outline's
        if (x, y) in walked:
            continue
        ring: list[tuple[int, int]] = []
        point, direction = (x, y), 0
        while not ring or (point, direction) != ((x, y), 0):
            ring.append(point)
            if direction == 0:
                walked.add(point)
            point = (point[0] + _STEPS[direction][0], point[1] + _STEPS[direction][1])
            on = ways[point]
            direction = (direction - 1) % 4 if on.bit_count() == 2 else on.bit_length() - 1
        rings.append(ring)
    return rings


def _from_upper_left(ring: list[Point]) -> list[Point]:
    """The same ring, begun at the upper end of its left side."""
    start = ring.index(min(ring))
    return ring[start:] + ring[:start]


def _bridge(points: list[Point], follow: list[int], outer: int, inner: int) -> None:
    """Joins the newest ring, which begins at index `inner`, to the point at index `outer`. Copies of both points lead
    back."""
    inner_copy, outer_copy = len(points), len(points) + 1
    follow[inner_copy - 1] = inner_copy
    follow += [outer_copy, follow[outer]]
    follow[outer] = inner
    points += [points[inner], points[outer]]


def _corners(points: list[Point], follow: list[int]) -> list[Point]:
    """The points in order from the first, without those that lie on a straight way."""
    way, index = [points[0]], follow[0]
    while index:
        way.append(points[index])
        index = follow[index]
    kept = []
    for before, here, after in zip([way[-1], *way], way, [*way[1:], way[0]], strict=False):
        ax, ay, bx, by = here[0] - before[0], here[1] - before[1], after[0] - here[0], after[1] - here[1]
        if ax * by != ay * bx or ax * bx + ay * by < 0:
            kept.append(here)
    return kept
