"""Batches of pictures with questions, and of questions about names alone; batch n depends on (seed, n) alone.

Shapes: B rows, S side, P patches, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import IterableDataset

from agents.train.knowledge import COLOUR_NAMES, SIZES
from agents.train.network import GRID, PATCH, window
from agents.train.tasks import Example, picture_examples, place, text_example
from agents.train.tokenizer import COLUMNS, EDGES, END, ROWS, make_tokenizer
from vision.datasets.pictograms import FIRST_CONCEPT_ID, make_scene
from vision.datasets.scene import Scene
from vision.datasets.sprites import concepts, load_sheet, texture_names

TRAINING_SEED = 2_000_000
"""Seeds from here on belong to this training; the pocket CLIP's begin at 1,000,000, validation ends at 9,999."""
SMALL_SIDE = 64
"""Pixels of the small pictures of one or two things: a thing in one costs half of what it costs in a scene."""
DYED = 0.4
"""Share of the things in shades of one colour, 0.15 in validation scenes: only their shape tells what they are, and
they are learnt last."""
ROW, TEXT_ROW, TEXT_ROWS = 176, 384, 1
"""Tokens of a row of questions about a picture and of one without, and how many of the latter: CPU kernels are
prepared once per shape, so all steps have the same. Questions that do not fit are left out."""

CHOICES = {"far": COLUMNS, "high": ROWS,
           **{edge: EDGES[GRID * i:GRID * (i + 1)] for i, edge in enumerate(("left", "right", "top", "bottom"))},
           "size": (*(f"{word} " for word in SIZES), END),
           "colour": (*(f"{word} " for word in COLOUR_NAMES), END)}
"""What a patch of a thing is asked for beside its name: where the thing's middle lies, in the words of a description,
in which columns and rows of patches it begins and ends, how large it is and of what colour; the end of text stands for
nothing to be said."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Questions and answers, several to a row."""

    tokens_BT: Tensor
    segments_BT: Tensor
    """Number of the question within its row; -1 is padding."""
    positions_BT: Tensor
    learn_BT: Tensor
    """How much the next token counts: one over the root of the length of its answer, 0 outside of answers. Otherwise
    the yes or no of a short answer would hardly count beside descriptions (ours)."""
    looks_BT: Tensor
    """What a word makes one look at: an index of `shown_BGN`, -1 for nothing in particular."""
    shown_BGN: Tensor
    """Whether it is to be seen there, bool; N counts the token that opens the turn, which stands for what is not to be
    found, and the patches."""


@dataclass(frozen=True, kw_only=True)
class Marks:
    """A choice that each patch of a thing makes."""

    choices_BP: Tensor
    """Index of what is right; -1 where no thing fills more than half of a patch."""
    tokens_W: Tensor
    """Ids of the tokens to choose among."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one step learns from."""

    images_B3SS: Tensor
    """uint8, RGB."""
    names_BP: Tensor
    """For each patch the token of the name of what fills it, -1 where nothing does; most textures are left out."""
    marks: dict[str, Marks]
    """What else each patch is asked for: a choice for each of CHOICES."""
    questions: Rows
    """A row for each picture."""
    single_B3SS: Tensor
    """Small pictures of one or two things, uint8, RGB; they are asked for names only."""
    single_BP: Tensor
    """As names_BP."""
    places_P: Tensor
    """Where in the grid the patches of the small pictures lie."""
    texts: Rows
    """Questions without a picture."""


class Questions(IterableDataset):
    """Endless batches. loose: share of the pictures whose poses and drawing styles vary more than in validation. own:
    share of those that the first sheet draws whoever's turn it is."""

    def __init__(self, sheets: Sequence[Path], *, pictures: int, singles: int, texts: int, loose: float, seed: int,
                 own: float = 0.0, start: int = 0) -> None:
        self.sheets, self.pictures, self.singles, self.texts = list(sheets), pictures, singles, texts
        self.loose, self.own, self.seed, self.start = loose, own, seed, start

    def __iter__(self) -> Iterator[Batch]:
        sheets = [load_sheet(path) for path in self.sheets]
        pools = [np.array([i for i in sheet.available if concepts()[i].seen]) for sheet in sheets]
        tokenizer = make_tokenizer()
        labels = name_tokens(tokenizer)
        words = {name: torch.tensor([tokenizer.encode(word).ids[0] for word in choices])
                 for name, choices in CHOICES.items()}
        number = self.start
        while True:
            seed = [TRAINING_SEED + self.seed, number]

            def draw(row: int, rng: np.random.Generator, part: int, seed: list[int] = seed, **options: Any) -> Scene:
                choice = 0 if rng.random() < self.own else (seed[1] * 7 + row) % len(sheets)
                return make_scene([*seed, row, part], sheets[choice], pool=pools[choice], bank=2,
                                  loose=bool(rng.random() < self.loose), dyed=DYED, **options)

            images, names, marks, rows, shown = [], [], [], [], []
            for row in range(self.pictures):
                rng = np.random.default_rng([*seed, row, 1])
                scene = draw(row, rng, 2, sizes=(26, 70))
                images.append(scene.image_HW3)
                names.append(patch_names(scene, labels, rng))
                marks.append(patch_marks(scene))
                rows.append(picture_examples(scene, rng))
                shown.append(patch_things(scene))
            small, small_names = [], []
            for row in range(self.singles):
                rng = np.random.default_rng([*seed, row, 3])
                scene = draw(row, rng, 4, side=SMALL_SIDE, counts=(1, 2), sizes=(26, SMALL_SIDE))
                small.append(scene.image_HW3)
                small_names.append(patch_names(scene, labels, rng))
            rng = np.random.default_rng([*seed, 0, 5])
            texts = [text_example(rng) for _ in range(self.texts)]
            rows_of_window = SMALL_SIDE // PATCH
            top, left = (int(v) for v in rng.integers(0, GRID - rows_of_window + 1, 2))
            yield Batch(
                images_B3SS=pixels(images), names_BP=torch.from_numpy(np.stack(names)),
                marks={name: Marks(choices_BP=torch.from_numpy(np.stack([mark[name] for mark in marks])),
                                   tokens_W=tokens_W) for name, tokens_W in words.items()},
                questions=pack(rows, tokenizer, ROW, shown), single_B3SS=pixels(small),
                single_BP=torch.from_numpy(np.stack(small_names)), places_P=window(rows_of_window, top, left),
                texts=pack(shared_out(texts, tokenizer), tokenizer, TEXT_ROW))
            number += 1


def pixels(images: list[NDArray[np.uint8]]) -> Tensor:
    """(S, S, 3) each to (B, 3, S, S)."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def name_tokens(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Label id of a scene to the token of its name; every name is one piece."""
    names = ["", *texture_names(), *(concept.name if concept.seen else "" for concept in concepts())]
    return np.array([tokenizer.encode(name).ids[0] if name else -1 for name in names])


def patch_names(scene: Scene, labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """(P,) the name's token where one thing fills more than half of a patch; a tenth of the pure background."""
    cells_NP = cells(scene.labels_HW)
    result = np.full(len(cells_NP), -1, np.int64)
    for label in np.unique(cells_NP):
        share_N = (cells_NP == label).mean(1)
        if label >= FIRST_CONCEPT_ID:
            result[share_N > 0.5] = labels[label]
        else:
            result[(share_N > 0.95) & (rng.random(len(share_N)) < 0.1)] = labels[label]
    return result


def patch_marks(scene: Scene) -> dict[str, NDArray[np.int64]]:
    """(P,) for each of CHOICES, -1 where no thing fills more than half of a patch."""
    cells_NP = cells(scene.instances_HW)
    result = {name: np.full(len(cells_NP), -1, np.int64) for name in CHOICES}
    for index, thing in enumerate(scene.objects):
        mine_N = (cells_NP == index + 1).mean(1) > 0.5
        result["high"][mine_N], result["far"][mine_N] = place(thing, len(scene.image_HW3))
        x, y, width, height = thing.box
        for name, edge in (("left", x), ("right", x + width - 1), ("top", y), ("bottom", y + height - 1)):
            result[name][mine_N] = edge // PATCH
        for name in ("size", "colour"):
            words = CHOICES[name]
            said = [words.index(f"{word} ") for word in thing.attributes if f"{word} " in words]
            result[name][mine_N] = said[0] if said else len(words) - 1
    return result


def patch_things(scene: Scene) -> NDArray[np.bool_]:
    """(things + 1, P) the patches that a thing fills more than half, or as much as any if there are none; then, for the
    texture, those that nothing else touches."""
    shares_XP = np.stack([(cells(scene.instances_HW) == index).mean(1)
                          for index in (*range(1, len(scene.objects) + 1), 0)])
    most_X1 = shares_XP.max(1, keepdims=True)
    least_X1 = np.minimum(most_X1, np.array([[0.5 + 1e-9]] * len(scene.objects) + [[1.0]]))
    return shares_XP >= least_X1


def cells(map_HW: NDArray) -> NDArray:
    """(P, pixels of a patch), patches row by row."""
    grid = len(map_HW) // PATCH
    return map_HW.reshape(grid, PATCH, grid, PATCH).swapaxes(1, 2).reshape(grid * grid, PATCH * PATCH)


def pack(rows: Sequence[Sequence[Example]], tokenizer: Tokenizer, length: int,
         shown: Sequence[NDArray[np.bool_]] | None = None) -> Rows:
    """Rows of examples as tensors of `length` tokens; examples that do not fit are left out. shown: for questions about
    pictures, whose opening of the turn and patches are elsewhere, `patch_things` of each row's picture."""
    end = tokenizer.token_to_id(END)
    first = 0 if shown is None else 1 + GRID * GRID
    lines, groups = [], []
    for number, row in enumerate(rows):
        line: list[tuple[int, int, int, int, int]] = []
        things: dict[tuple[int, ...], int] = {}
        for segment, example in enumerate(row):
            before, after, looks = _tokens(example, tokenizer, shown is not None)
            if len(line) + len(before) + len(after) <= length:
                line += [(token, segment, first + i, len(after) if i >= len(before) - 1 else 0,
                          things.setdefault(looks[i], len(things)) if i in looks else -1)
                         for i, token in enumerate([*before, *after[:-1]])]
                line.append((after[-1], segment, first + len(before) + len(after) - 1, 0, -1))
        lines.append(line + [(end, -1, 0, 0, -1)] * (length - len(line)))
        groups.append([_shown(look, shown[number]) for look in things] if shown is not None else [])
    tokens, segments, positions, lengths, seen = torch.from_numpy(np.array(lines, np.int64)).unbind(-1)
    learn = torch.where(lengths > 0, lengths.clamp(min=1) ** -0.5, 0.0)
    shown_BGN = torch.zeros(len(rows), max(map(len, groups)), first, dtype=torch.bool)
    for number, group in enumerate(groups):
        for index, shown_N in enumerate(group):
            shown_BGN[number, index] = torch.from_numpy(shown_N)
    return Rows(tokens_BT=tokens, segments_BT=segments, positions_BT=positions, learn_BT=learn, looks_BT=seen,
                shown_BGN=shown_BGN)


def _shown(things: tuple[int, ...], patches_XP: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(1 + P,) the patches of any of the things; the token before them if there are no things."""
    return np.concatenate([[not things], patches_XP[list(things)].any(0)])


def shared_out(examples: Sequence[Example], tokenizer: Tokenizer) -> list[list[Example]]:
    """Examples in TEXT_ROWS rows of TEXT_ROW tokens, each in the first that has room."""
    rows: list[list[Example]] = [[] for _ in range(TEXT_ROWS)]
    room = [TEXT_ROW] * TEXT_ROWS
    for example in examples:
        size = sum(map(len, _tokens(example, tokenizer, False)[:2]))
        for row, left in enumerate(room):
            if left >= size:
                rows[row].append(example)
                room[row] -= size
                break
    return rows


def _tokens(example: Example, tokenizer: Tokenizer,
            after_picture: bool) -> tuple[list[int], list[int], dict[int, tuple[int, ...]]]:
    """Question and answer as ids, and what their tokens look at; the question ends where the answer begins, the answer
    with the end of text."""
    asked = prompt_text(example.question, with_picture=after_picture)
    if after_picture:
        asked = asked.removeprefix("USER: <image>")
    before, after = tokenizer.encode(asked), tokenizer.encode(example.answer + END)
    ahead = asked.index(example.question)
    spans = [(start - ahead, end - ahead) for start, end in before.offsets]
    spans += [(start + len(example.question), end + len(example.question)) for start, end in after.offsets]
    answered = len(before.ids)
    looks = {}
    for look in example.looks:
        inside = range(answered, len(spans)) if look.at >= len(example.question) else range(answered)
        looks[next(i for i in inside if spans[i][0] <= look.at < spans[i][1])] = look.things
    return before.ids, after.ids, looks


def prompt_text(question: str, *, with_picture: bool) -> str:
    """A question as the chat template writes it."""
    return f"USER: {'<image>' + chr(10) if with_picture else ''}{question} ASSISTANT:"
