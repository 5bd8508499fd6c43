"""Sentences that are true of a pictogram scene."""

from __future__ import annotations

from numpy.random import Generator

from vision.datasets.scene import Caption, Mention, SceneObject, SceneRelation

SUPERCLASS_RATE = 0.25
"""Share of the mentions that name an object by its super-class (the world asks for at least 0.20)."""

OPENINGS = ("a picture of {}", "a drawing of {}", "there is {}", "we see {}", "an image with {}", "{}", "{}", "{}")
PLACES = {
    "grass": ("on grass", "on the grass", "on green grass"),
    "sand": ("on sand", "on the sand", "in the sand"),
    "water": ("in water", "on the water", "in the water"),
    "sky": ("in the sky", "against the sky", "in front of the sky"),
    "snow": ("in snow", "on the snow", "in the snow"),
    "brick wall": ("in front of a brick wall", "against a brick wall", "before a brick wall"),
    "wooden floor": ("on a wooden floor", "on the wooden floor", "lying on a wooden floor"),
    "night sky": ("in the night sky", "against the night sky", "under a night sky"),
}


def with_article(phrase: str, article: str) -> str:
    """`a` becomes `an` before a vowel; plural names get an article too."""
    if article == "a" and phrase[0] in "aeiou":
        return f"an {phrase}"
    return f"{article} {phrase}"


def write_caption(
    objects: tuple[SceneObject, ...],
    relations: tuple[SceneRelation, ...],
    texture: str,
    rng: Generator,
    superclass_rate: float = SUPERCLASS_RATE,
) -> Caption:
    """One of many ways to describe the scene, drawn with `rng`."""
    mentions = []
    for index, thing in enumerate(objects):
        by_superclass = bool(rng.random() < superclass_rate)
        noun = thing.superclass if by_superclass else thing.name
        told = [word for word in thing.attributes if rng.random() < 0.6]
        mentions.append(Mention(phrase=" ".join([*told, noun]), noun=noun, object=index, by_superclass=by_superclass))
    order = list(rng.permutation(len(mentions)))
    spoken = {i: with_article(mentions[i].phrase, "a" if rng.random() < 0.8 else "the") for i in order}
    parts = []
    left = list(order)
    usable = [relation for relation in relations if rng.random() < 0.7]
    for relation in usable:
        if relation.subject in left and relation.object in left:
            parts.append(f"{spoken[relation.subject]} {relation.predicate} {spoken[relation.object]}")
            left.remove(relation.subject)
            left.remove(relation.object)
    parts.extend(spoken[i] for i in left)
    body = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    place = PLACES[texture][rng.integers(len(PLACES[texture]))]
    text = OPENINGS[rng.integers(len(OPENINGS))].format(body) + f" {place}"
    return Caption(text=text, mentions=tuple(mentions), texture=texture)
