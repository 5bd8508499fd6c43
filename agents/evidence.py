"""What the language model says of the pictures of a request, each thing asked once, and kept for the record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from agents.description import check_presence, extract_priors
from agents.geometry import Box
from agents.parallel import in_order
from agents.picture import Picture
from agents.records import PictureSaid, PresenceSaid
from agents.source import KnowledgeSource
from parsers.priors import ScenePriors
from parsers.reader import SceneReader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Evidence:
    """Descriptions of pictures and answers by yes or no. Different pictures may be asked about in different threads."""

    def __init__(self, source: KnowledgeSource, reader: SceneReader,
                 read_picture: Callable[[str], NDArray[np.uint8]]) -> None:
        self._source, self._reader, self._read = source, reader, read_picture
        self._priors: dict[str, ScenePriors] = {}
        self._answers: dict[str, dict[tuple[str, Box | None], bool | None]] = {}

    def describe(self, pictures: Iterable[str]) -> None:
        """Describes pictures side by side, before `priors` asks for one after the other."""
        for _ in in_order(self.priors, pictures, self._source.model.settings.concurrency):
            pass

    def priors(self, picture: str) -> ScenePriors:
        """What the description of a picture says."""
        if picture not in self._priors:
            self._priors[picture] = extract_priors(self._source, Picture(self._read(picture)), self._reader).priors
        return self._priors[picture]

    def shows(self, picture: str, name: str, box: Box | None = None) -> bool | None:
        """Whether a picture, or the part of it around a box, shows `name`; None where the model does not say."""
        answers = self._answers.setdefault(picture, {})
        if (name, box) not in answers:
            image_HW3 = self._read(picture)
            part = Picture(image_HW3 if box is None else around(image_HW3, box))
            answers[name, box] = check_presence(self._source, part, name).record.present
        return answers[name, box]

    def record(self) -> dict[str, PictureSaid]:
        """All of it, by picture."""
        return {picture: PictureSaid(priors=self._priors.get(picture), presence=tuple(
            PresenceSaid(name=name, box=box, present=present)
            for (name, box), present in self._answers.get(picture, {}).items()))
            for picture in sorted({*self._priors, *self._answers})}


def around(image_HW3: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """The part of a picture inside a box and an eighth of its sides around it, so that a thing is seen against
    something."""
    x, y, w, h = box
    return image_HW3[max(0, y - h // 8):y + h + h // 8, max(0, x - w // 8):x + w + w // 8]
