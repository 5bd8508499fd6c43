"""Pictogram scenes: composed pictures with exact ground truth, from a seed.

Label ids of this dataset: 1..8 the textures, 9..794 the concepts, in the order of `concepts.json`; every pixel has
one. Shapes: S side of the scene in pixels, w side of a sprite.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from parsers import Code, DatasetError
from vision.datasets.captions import write_caption
from vision.datasets.restyle import restyle
from vision.datasets.scene import Scene, SceneObject, SceneRelation
from vision.datasets.sprites import CELL, SpriteSheet, concepts, load_sheet, texture_names
from vision.datasets.textures import background

SIDE = 128
FIRST_CONCEPT_ID = 9
MIN_VISIBLE = 0.45
"""An object that later ones would hide further than this is placed elsewhere."""
COLOURS = {
    "red": (220, 40, 40), "orange": (245, 140, 30), "yellow": (245, 215, 40), "green": (60, 170, 70),
    "blue": (50, 100, 220), "purple": (140, 70, 190), "pink": (245, 130, 180), "brown": (130, 85, 50),
    "gray": (140, 140, 140), "black": (45, 45, 50),
}
SPLITS = {"all": (True, False), "seen": (True,), "unseen": (False,)}
LUMA = np.array((0.299, 0.587, 0.114), np.float32)


def make_scene(
    seed: int | list[int],
    sheet: SpriteSheet,
    *,
    pool: NDArray[np.intp] | None = None,
    side: int = SIDE,
    counts: tuple[int, int] = (1, 5),
    sizes: tuple[int, int] = (28, 68),
    bank: int = 0,
    loose: bool = False,
    dyed: float = 0.15,
) -> Scene:
    """The scene that belongs to a seed.

    pool: concept indices to draw from (default: all of the sheet). counts: fewest and most objects. sizes: smallest
    and largest side of a sprite in pixels. bank: which set of background drawings to use. loose: vary pose and
    drawing style more than validation scenes do (training). dyed: share of the objects in shades of one colour.
    """
    rng = np.random.default_rng(seed)
    texture = texture_names()[rng.integers(8)]
    image_HW3 = background(texture, side, rng, bank)
    instances_HW = np.zeros((side, side), np.uint8)
    pool = sheet.available if pool is None else pool
    count = int(rng.integers(counts[0], counts[1] + 1))
    chosen = rng.choice(pool, size=min(count, len(pool)), replace=False)
    drawn: list[tuple[int, int, str | None]] = []
    for index in chosen:
        size = int(rng.integers(sizes[0], sizes[1] + 1))
        colour = list(COLOURS)[rng.integers(len(COLOURS))] if rng.random() < dyed else None
        sprite_ww4 = _posed(sheet, int(index), size, rng, loose)
        if loose:
            sprite_ww4 = restyle(sprite_ww4, rng)
        if colour:
            sprite_ww4 = _dyed(sprite_ww4, COLOURS[colour])
        else:
            sprite_ww4 = _toned(sprite_ww4, rng)
        if _place(image_HW3, instances_HW, sprite_ww4, len(drawn) + 1, rng):
            drawn.append((int(index), size, colour))
    labels_HW = np.full((side, side), texture_names().index(texture) + 1, np.uint16)
    objects = []
    for k, (index, size, colour) in enumerate(drawn, start=1):
        visible = instances_HW == k
        ys, xs = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
        labels_HW[visible] = FIRST_CONCEPT_ID + index
        scale = size * SIDE / side if side != SIDE else size
        word = "small" if scale < 38 else "large" if scale > 58 else None
        objects.append(SceneObject(
            name=concepts()[index].name, superclass=concepts()[index].superclass, label=FIRST_CONCEPT_ID + index,
            attributes=tuple(attribute for attribute in (word, colour) if attribute),
            box=(int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)), area=int(visible.sum()),
        ))
    relations = _relations(objects, rng)
    caption = write_caption(tuple(objects), relations, texture, rng)
    return Scene(image_HW3=image_HW3, labels_HW=labels_HW, instances_HW=instances_HW, texture=texture,
                 objects=tuple(objects), relations=relations, caption=caption)


def _posed(sheet: SpriteSheet, index: int, size: int, rng: Generator, loose: bool) -> NDArray[np.uint8]:
    """The sprite at `size`, turned a little, perhaps mirrored (loose: also stretched): (w, w, 4), premultiplied."""
    level = min((side for side in sheet.pyramid if side >= size), default=CELL)
    angle = rng.normal(0, 0.2 if loose else 0.14)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    wide = round(size * 1.15)
    stretch_x, stretch_y = rng.uniform(1, 1.3, 2) if loose else (1.0, 1.0)
    cos, sin, half = np.cos(angle) * level / size, np.sin(angle) * level / size, wide / 2
    a, b, c, d = mirror * cos * stretch_x, mirror * sin * stretch_y, -sin * stretch_x, cos * stretch_y
    matrix = (a, b, level / 2 - (a + b) * half, c, d, level / 2 - (c + d) * half)
    posed = sheet.pyramid[level][index].transform(
        (wide, wide), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(posed)


def _dyed(sprite_ww4: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The drawing in shades of one colour; alpha unchanged."""
    luma_ww1 = (sprite_ww4[..., :3] @ LUMA)[..., None]
    alpha_ww1 = sprite_ww4[..., 3:].astype(np.float32)
    shade_ww1 = 0.35 * alpha_ww1 / 255 + 0.9 * luma_ww1 / 255
    out = sprite_ww4.copy()
    out[..., :3] = np.minimum(shade_ww1 * np.array(colour, np.float32), alpha_ww1)
    return out


def _toned(sprite_ww4: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
    """Slightly brighter or darker, channels apart; alpha unchanged."""
    gain_3 = (rng.uniform(0.85, 1.12) * rng.uniform(0.94, 1.06, 3)).astype(np.float32)
    out = sprite_ww4.copy()
    out[..., :3] = np.minimum(sprite_ww4[..., :3] * gain_3, sprite_ww4[..., 3:])
    return out


def _place(image_HW3: NDArray[np.uint8], instances_HW: NDArray[np.uint8], sprite_ww4: NDArray[np.uint8],
           label: int, rng: Generator) -> bool:
    """Draws the sprite where every earlier object stays visible enough; False if no such place was found."""
    side, wide = instances_HW.shape[0], sprite_ww4.shape[0]
    shape_ww = sprite_ww4[..., 3] > min(127, sprite_ww4[..., 3].max() // 2)  # fog is drawn faintly
    margin = wide // 8
    areas = np.bincount(instances_HW.ravel(), minlength=label)
    for _ in range(12):
        y, x = (int(v) for v in rng.integers(-margin, max(side - wide + margin, 1 - margin), 2))
        top, left, bottom, right = max(y, 0), max(x, 0), min(y + wide, side), min(x + wide, side)
        cut = (slice(top - y, bottom - y), slice(left - x, right - x))
        under = instances_HW[top:bottom, left:right]
        hidden = np.bincount(under[shape_ww[cut]], minlength=label)
        if all(hidden[k] <= (1 - MIN_VISIBLE) * areas[k] * (1 if label - k < 2 else 0.6) for k in range(1, label)):
            break
    else:
        return False
    sprite = sprite_ww4[cut]
    region = image_HW3[top:bottom, left:right]
    keep = 255 - sprite[..., 3:].astype(np.uint16)
    region[...] = (sprite[..., :3] + (region * keep + 127) // 255).clip(0, 255)
    under[shape_ww[cut]] = label
    return True


def _relations(objects: list[SceneObject], rng: Generator) -> tuple[SceneRelation, ...]:
    """Relations of neighbours in a random order, each true by the boxes and the drawing order."""
    found = []
    centres = [(thing.box[0] + thing.box[2] / 2, thing.box[1] + thing.box[3] / 2) for thing in objects]
    for i in range(len(objects)):
        for j in range(len(objects)):
            if i == j:
                continue
            dx, dy = centres[i][0] - centres[j][0], centres[i][1] - centres[j][1]
            reach = (objects[i].box[2] + objects[j].box[2]) / 2, (objects[i].box[3] + objects[j].box[3]) / 2
            if abs(dx) < reach[0] and abs(dy) < reach[1]:
                if i > j and abs(dx) < reach[0] * 0.8 and abs(dy) < reach[1] * 0.8:
                    found.append(SceneRelation(subject=i, predicate="in front of", object=j))
                    found.append(SceneRelation(subject=j, predicate="behind", object=i))
            elif dx < -reach[0] and abs(dy) < reach[1]:
                found.append(SceneRelation(subject=i, predicate="to the left of", object=j))
                found.append(SceneRelation(subject=j, predicate="to the right of", object=i))
            elif dy < -reach[1] and abs(dx) < reach[0]:
                found.append(SceneRelation(subject=i, predicate="above", object=j))
                found.append(SceneRelation(subject=j, predicate="below", object=i))
    return tuple(found[k] for k in rng.permutation(len(found)))


class PictogramDataset:
    """Validation scenes with names; satisfies `vision.datasets.base.EvalDataset`.

    Scene i depends on (seed, i) alone. Seeds below 10,000 belong to validation and demos, training uses others.
    split: "all", "seen" or "unseen" names may be drawn. sprites: a sheet or a folder of drawings of another
    illustrator (`vision.datasets.sprites.load_sheet`). Raises DatasetError.
    """

    name = "pictograms"
    ignore_id: int | None = None

    def __init__(self, count: int = 2000, seed: int = 1, split: str = "all", sprites: str | None = None) -> None:
        if split not in SPLITS or count < 1 or not 0 <= seed < 10_000:
            raise DatasetError(Code.DATASET_INVALID, f"count={count}, seed={seed}, split={split}.",
                               f"count from 1, seed from 0 to 9999, split one of {', '.join(SPLITS)}.",
                               "Example: pictograms:count=200,seed=3,split=seen")
        self.count, self.seed, self.sprites = count, seed, sprites
        self.sheet = load_sheet(Path(sprites) if sprites else None)
        wanted = SPLITS[split]
        self.pool = np.array([i for i in self.sheet.available if concepts()[i].seen in wanted])
        textures = {i + 1: name for i, name in enumerate(texture_names())}
        self.classes = textures | {FIRST_CONCEPT_ID + i: concept.name for i, concept in enumerate(concepts())}
        self.always = texture_names()

    @cached_property
    def groups(self) -> dict[str, frozenset[str]]:
        """Names by how well a model can know them; results are given for each."""
        return {
            "seen": frozenset(concept.name for concept in concepts() if concept.seen),
            "unseen": frozenset(concept.name for concept in concepts() if not concept.seen),
            "texture": frozenset(texture_names()),
        }

    @cached_property
    def superclasses(self) -> dict[str, str]:
        """Name to super-class; a texture is its own."""
        return {concept.name: concept.superclass for concept in concepts()} | {name: name for name in texture_names()}

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> str:
        """The scene's file name."""
        return f"scene_{self.seed:04d}_{index:05d}.png"

    def scene(self, index: int) -> Scene:
        """Everything about one scene."""
        return make_scene([self.seed, index], self.sheet, pool=self.pool, bank=1)

    def load(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        """(image_HW3, labels_HW)."""
        scene = self.scene(index)
        return scene.image_HW3, scene.labels_HW
