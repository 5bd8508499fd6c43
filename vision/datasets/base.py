"""What a dataset with ground truth offers to an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from parsers.vocabulary import Vocabulary


class EvalDataset(Protocol):
    """Pictures with a class id for every pixel.

    A dataset may also have `groups: dict[str, frozenset[str]]` (names whose figures are given apart),
    `superclasses: dict[str, str]` (name to the name of a wider class), `knowledge: Vocabulary` (further names of its
    classes, background words) and `warnings: tuple[str, ...]`; see `groups_of` and its neighbours.
    """

    @property
    def name(self) -> str: ...

    @property
    def classes(self) -> dict[int, str]:
        """Class id (0..65535) to name; ids of one name are one class."""
        ...

    @property
    def ignore_id(self) -> int | None:
        """Label of the pixels that do not count."""
        ...

    @property
    def always(self) -> tuple[str, ...]:
        """Names that are candidates for every picture."""
        ...

    def __len__(self) -> int: ...

    def key(self, i: int) -> str:
        """A name of picture `i` that does not depend on its place in the dataset."""
        ...

    def load(self, i: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        """image_HW3 (RGB) and labels_HW (class ids) of picture `i`."""
        ...


def groups_of(dataset: EvalDataset) -> dict[str, frozenset[str]]:
    """Groups of names whose figures are given apart; empty if the dataset has none."""
    return getattr(dataset, "groups", {})


def superclasses_of(dataset: EvalDataset) -> dict[str, str]:
    """Name to super-class; empty if the dataset has none."""
    return getattr(dataset, "superclasses", {})


def knowledge_of(dataset: EvalDataset) -> Vocabulary | None:
    """What the dataset's protocol calls its classes and the background; None if it has nothing but names."""
    return getattr(dataset, "knowledge", None)


def warnings_of(dataset: EvalDataset) -> tuple[str, ...]:
    """What a person should know before trusting the figures."""
    return getattr(dataset, "warnings", ())


def check_files(dataset: EvalDataset) -> None:
    """Raises DatasetError if the dataset can tell that files are missing, before the first picture is read."""
    check = getattr(dataset, "check_files", None)
    if check is not None:
        check()
