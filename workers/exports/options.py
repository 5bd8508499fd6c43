"""What the writers of all formats are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from workers.exports.categories import Category
from workers.exports.source import Picture, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How an export is made."""

    categories: tuple[Category, ...]
    """By id."""
    per_class: bool
    """One segment per category and picture instead of one per connected part."""
    image_prefix: str
    """Label Studio: what stands before the name of a picture in its address."""
    on_picture: Callable[[int], None] | None
    """Gets the number of pictures that are dealt with."""

    def pictures(self, source: Source) -> Iterator[Picture]:
        """The pictures of `source` in these categories, counted."""
        return source.pictures(self.categories, self.on_picture)
