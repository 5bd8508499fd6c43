"""How alike predicted names and classes are: cosines of text vectors, or a matrix that somebody gives.

A matrix is a JSON file:

    {"format_version": 1, "names": ["puppy"], "classes": ["dog", "cat"], "similarity": [[0.9, 0.4]]}

Names are rows, in any spelling of the same words; rows and classes that nobody asks for are no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from parsers.errors import Code, DatasetError
from parsers.files import pretty_json, write_atomic
from parsers.names import name_key
from vision.llmformer.words import Words

Share = Annotated[float, Field(ge=0, le=1)]


class Similarity(BaseModel):
    """A matrix as a file holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    names: tuple[str, ...]
    classes: tuple[str, ...]
    similarity: tuple[tuple[Share, ...], ...]
    """A row for each of `names`, a value for each of `classes`."""

    @model_validator(mode="after")
    def _is_a_matrix(self) -> Self:
        if len(self.similarity) != len(self.names) or any(len(row) != len(self.classes) for row in self.similarity):
            raise ValueError("a row for each name with a value for each class")
        return self


def read_similarity(path: Path) -> Similarity:
    """Raises DatasetError."""
    try:
        return Similarity.model_validate_json(path.read_bytes())
    except OSError as error:
        problem = error.strerror
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()
    raise DatasetError(Code.DATASET_INVALID, f"{path} holds no similarities: {problem}.",
                       'JSON with "names", "classes" and "similarity": rows of values from 0 to 1.',
                       "lexiseg eval ... --candidate-free --keep-similarity FILE writes one to begin with.")


def write_similarity(path: Path, names: Sequence[str], classes: Sequence[str],
                     similarity_PG: NDArray[np.float64]) -> None:
    """S with four decimals, without the row of what has no name. Raises OutputError."""
    named = [place for place, name in enumerate(names) if name]
    matrix = Similarity(names=tuple(names[place] for place in named), classes=tuple(classes),
                        similarity=tuple(map(tuple, similarity_PG[named].round(4).tolist())))
    write_atomic(path, pretty_json(matrix.model_dump(mode="json")))


def given_similarity(matrix: Similarity, names: Sequence[str], classes: Sequence[str],
                     others_PG: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[str]]:
    """S in the order of `names` and `classes`, and the names that the matrix has not, whose rows are those of `others`.
    Raises DatasetError for a class that it has not."""
    column = {name_key(name): place for place, name in enumerate(matrix.classes)}
    row = {name_key(name): place for place, name in enumerate(matrix.names)}
    if missing := [name for name in classes if name_key(name) not in column]:
        raise DatasetError(Code.DATASET_INVALID, f"The similarities have no class {', '.join(map(repr, missing[:5]))}.",
                           "A column for every class of the dataset.", "Add the columns to the file of --similarity.")
    columns = [column[name_key(name)] for name in classes]
    found_PG, unknown = others_PG.copy(), []
    for place, name in enumerate(names):
        if name_key(name) in row:
            found_PG[place] = np.array(matrix.similarity[row[name_key(name)]])[columns]
        elif name:
            unknown.append(name)
    return found_PG, unknown


def text_similarity(words: Words, names: Sequence[str], classes: Sequence[str],
                    floor: float = 0.0) -> NDArray[np.float64]:
    """S from cosines of text vectors; what is below `floor` becomes 0, the rest is stretched to [0, 1]. A name that the
    text encoder does not know is like nothing.

    CLIP's cosines between unrelated names are high; a floor near their mean keeps S honest.
    """
    return cosine_similarity(words.names([name or "nothing" for name in names]).numpy(),
                             words.names(list(classes)).numpy(), floor)


def cosine_similarity(names_Pc: NDArray[np.float32], classes_Gc: NDArray[np.float32],
                      floor: float = 0.0) -> NDArray[np.float64]:
    """The same from vectors of length 1. Raises ValueError for a floor outside of [0, 1)."""
    if not 0 <= floor < 1:
        raise ValueError("a floor is from 0 to below 1")
    cosine_PG = np.clip(names_Pc.astype(np.float64) @ classes_Gc.T.astype(np.float64), floor, 1.0)
    return (cosine_PG - floor) / (1 - floor)
