"""Questions and answers: about a scene, and about names alone. All answers are true of the scene's table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator

from agents.prompt import load_prompt, quoted
from agents.train.knowledge import (
    TEXTURE_GROUP,
    UNKNOWN_GROUP,
    WIDER,
    kinds_of,
    seen_names,
    superclass_of,
    superclasses,
)
from agents.train.requests import EVERYDAY, draw_request, spelt_word
from agents.train.tokenizer import COLUMNS, GROUNDS, ROWS
from vision.datasets.captions import with_article
from vision.datasets.scene import Scene, SceneObject
from vision.datasets.sprites import texture_names

PRESENCES, WHERES, BETWEENS = 3, 1, 2
"""Questions about a scene whether a thing is there, where it is, and how two things lie to each other."""
THERE = 0.7
"""Share of the questions of presence in training whose answer is yes. They are asked of names that a description gave;
most of these are there, and a "no" takes a true name away."""
WHERE = "Where is {}?"
"""Asked in training alone, of one thing or of two. The answers say what a question of presence has to find and what
leads to the relations of a description, so that finding and comparing are learnt."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a word makes one look at."""

    at: int
    """A character of that word, counted in question and answer together."""
    things: tuple[int, ...]
    """Objects of the scene by index, the texture as one more; none where there is nothing to be found."""


@dataclass(frozen=True, slots=True)
class Example:
    """One question and the answer that is to be learnt."""

    question: str
    answer: str
    looks: tuple[Look, ...] = ()


def question(task: str, **values: str) -> str:
    """The text of a short prompt."""
    content = load_prompt(task, "short").render(values)[-1]["content"]
    return str(content)


def describe(scene: Scene, *, detailed: bool) -> str:
    """The description that the model learns: what the ground is, then each thing, row by row, after where it lies; if
    `detailed` also its size and colour, and a sentence for each relation to a thing named before."""
    return description(scene, detailed=detailed).answer


def description(scene: Scene, *, detailed: bool) -> Example:
    """`describe` as an example. The words of a place look at the thing that is to be named next, and so does the end of
    the sentence before; names look at their things, and so does what stands before a name in a relation."""
    asked = question("describe-detailed" if detailed else "describe-simple")
    relations = {(one.subject, one.object): one.predicate for one in scene.relations}
    text = GROUNDS[scene.texture]
    looks: list[Look] = []
    told: list[int] = []

    def add(part: str, *things: int) -> None:
        nonlocal text
        if things:
            looks.append(Look(len(asked) + len(text), things))
        text += part

    for i in reading_order(scene):
        thing = scene.objects[i]
        row, column = place(thing, len(scene.image_HW3))
        looks.append(Look(len(asked) + len(text) - 1, (i,)))
        add(ROWS[row], i)
        add(COLUMNS[column], i)
        add(" " + with_article(" ".join([*(thing.attributes if detailed else ()), thing.name]), "a")
            .removesuffix(thing.name))
        add(thing.name, i)
        add(".")
        for other in told if detailed else ():
            if (other, i) in relations:
                add(" The ", other)
                add(scene.objects[other].name, other)
                add(f" is {relations[other, i]} the ", i)
                add(thing.name, i)
                add(".")
        told.append(i)
    looks.append(Look(len(asked) + len(text) - 1, ()))
    return Example(asked, text, tuple(looks))


def place(thing: SceneObject, side: int) -> tuple[int, int]:
    """In which row and which column of ROWS and COLUMNS the middle of a thing's visible part lies."""
    x, y, width, height = thing.box
    return (2 * y + height) * len(ROWS) // (2 * side), (2 * x + width) * len(COLUMNS) // (2 * side)


def reading_order(scene: Scene) -> list[int]:
    """The things of a scene as their places are read: row by row, from left to right."""
    return sorted(range(len(scene.objects)),
                  key=lambda i: (place(scene.objects[i], len(scene.image_HW3)), scene.objects[i].box))


def picture_examples(scene: Scene, rng: Generator) -> list[Example]:
    """What is asked about one scene: the detailed description, and in random order the simple one, presences, places,
    and sometimes a choice among clusters."""
    examples = [description(scene, detailed=False), *(presence(scene, rng, THERE) for _ in range(PRESENCES)),
                *(where(scene, rng) for _ in range(WHERES)), *(between(scene, rng) for _ in range(BETWEENS)),
                assignment(scene, rng)]
    return [description(scene, detailed=True), *(examples[i] for i in rng.permutation(len(examples)))]


def presence(scene: Scene, rng: Generator, there: float = 0.5) -> Example:
    """A share of `there` is there; of the others, half are like something that is there."""
    thing = scene.objects[rng.integers(len(scene.objects))]
    wider = [group for group, parts in WIDER.items() if thing.superclass in parts]
    draw = rng.random()
    if draw < there:
        name = _pick([thing.name, thing.name, thing.name, thing.superclass, scene.texture, *wider], rng)
    elif draw < (1 + there) / 2:
        name = _pick(superclasses()[thing.superclass], rng)
    else:
        pools = [seen_names(), seen_names(), tuple(superclasses()), texture_names(), tuple(WIDER)]
        name = _pick(_pick(pools, rng), rng)
    asked, things = question("presence", name=quoted(name)), named_by(name, scene)
    return Example(asked, _json({"answer": "yes" if things else "no"}), (_look(asked, name, things),))


def where(scene: Scene, rng: Generator) -> Example:
    """Two of three things asked for are there; of a super-class the first in reading order is meant."""
    thing = scene.objects[rng.integers(len(scene.objects))]
    draw = rng.random()
    if draw < 0.67:
        name = thing.name if draw < 0.5 else thing.superclass
    else:
        name = _pick(superclasses()[thing.superclass] if draw < 0.8 else seen_names(), rng)
    asked, things = WHERE.format(quoted(name)), named_by(name, scene)
    if not things:
        return Example(asked, "no", (_look(asked, name, ()),))
    first = next(i for i in reading_order(scene) if i in things)
    row, column = place(scene.objects[first], len(scene.image_HW3))
    return Example(asked, ROWS[row] + COLUMNS[column], (_look(asked, name, (first,)),))


def between(scene: Scene, rng: Generator) -> Example:
    """How one thing lies to another, as a description says it; "no" where it says nothing. Of a single thing: where."""
    if len(scene.objects) < 2:
        return where(scene, rng)
    relations = {(one.subject, one.object): one.predicate for one in scene.relations}
    one, other = map(int, rng.choice(len(scene.objects), 2, replace=False))
    if relations and rng.random() < 0.6:
        one, other = _pick(list(relations), rng)
    names = [scene.objects[i].name for i in (one, other)]
    asked = WHERE.format(", ".join(map(quoted, names)))
    predicate = relations.get((one, other))
    return Example(asked, f" is {predicate} the " if predicate else "no",
                   (_look(asked, names[0], (one,)), _look(asked, names[1], (other,))))


def named_by(name: str, scene: Scene) -> tuple[int, ...]:
    """The things of a scene that a name, a super-class or a wider word stands for, as `Look` counts them."""
    found = tuple(i for i, thing in enumerate(scene.objects)
                  if name in (thing.name, thing.superclass) or thing.superclass in WIDER.get(name, ()))
    return (*found, len(scene.objects)) if name == scene.texture else found


def _look(asked: str, name: str, things: tuple[int, ...]) -> Look:
    """At the name in quotes."""
    return Look(asked.index(quoted(name)) + 1, things)


def assignment(scene: Scene, rng: Generator) -> Example:
    """Some clusters that the picture shows and some that it does not; the answer has all that it shows, in order."""
    groups = list(dict.fromkeys(thing.superclass for thing in scene.objects if rng.random() < 0.7))
    groups += [group for group in rng.choice(list(superclasses()), size=int(rng.integers(1, 4)), replace=False)
               if group not in {thing.superclass for thing in scene.objects}]
    with_textures = rng.random() < 0.25
    members: dict[str, list[str]] = {}
    for group in (*groups, *((TEXTURE_GROUP,) if with_textures else ())):
        pool = texture_names() if group == TEXTURE_GROUP else superclasses()[group]
        names = list(rng.choice(pool, size=min(len(pool), int(rng.integers(1, 5))), replace=False))
        names += [name for name in scene.names if name in pool and name not in names]
        members[group] = [names[i] for i in rng.permutation(len(names))]
    order = [list(members)[i] for i in rng.permutation(len(members))]
    clusters = {group: members[group] for group in order}
    shown = [group for group in order if set(clusters[group]) & set(scene.names)]
    return Example(question("assign", clusters=quoted(clusters)), _json({"clusters": shown}))


def text_example(rng: Generator) -> Example:
    """A question about names alone."""
    draw = rng.random()
    if draw < 0.4:
        return subclasses(rng)
    if draw < 0.7:
        return clusters(rng)
    request, plan = draw_request(rng)
    return Example(question("plan", request=quoted(request)), _json(plan))


def subclasses(rng: Generator) -> Example:
    """The kinds of a class, best known first; a few classes are words that nobody knows."""
    draw = rng.random()
    name = spelt_word(rng) if draw < 0.08 else _pick(
        list(superclasses() if draw < 0.7 else WIDER if draw < 0.78 else EVERYDAY if draw < 0.84 else superclass_of()),
        rng)
    count = int(rng.choice((7, 10, int(rng.integers(1, 11)))))
    return Example(question("subclasses", name=quoted(name), count=str(count)),
                   _json({"names": list(kinds_of(name, count))}))


def clusters(rng: Generator) -> Example:
    """A cluster for each of some names; sometimes after a first answer that is partly wrong."""
    many = rng.random() < 0.15
    groups = rng.choice(list(superclasses()), size=int(rng.integers(1, 11 if many else 6)), replace=False)
    pool = [name for group in groups for name in superclasses()[group]]
    pool += texture_names() if rng.random() < 0.3 else ()
    names = [str(name) for name in rng.permutation(pool)[: int(rng.integers(2, 36 if many else 14))]]
    if rng.random() < 0.2:
        names.insert(int(rng.integers(len(names) + 1)), spelt_word(rng))
    answer = {name: superclass_of().get(name, UNKNOWN_GROUP) for name in names}
    if rng.random() < 0.3:
        first: dict[str, list[str]] = {}
        for name, group in answer.items():
            moved = rng.random() < 0.2
            first.setdefault(_pick(list(answer.values()), rng) if moved else group, []).append(name)
        return Example(question("clusters-refine", names=quoted(names), clusters=quoted(first)), _json(answer))
    return Example(question("clusters", names=quoted(names)), _json(answer))


def _pick(options: Sequence[Any], rng: Generator) -> Any:
    return options[int(rng.integers(len(options)))]


def _json(value: object) -> str:
    """As the grammar of the answers writes it."""
    return json.dumps(value, ensure_ascii=False)
