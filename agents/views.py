"""Several views of one picture, and what enough of their descriptions say.

What a small model overlooks, or takes for something else, it often tells right when the picture lies differently on its
grid of patches; what it makes up it seldom makes up twice. So a picture can be described several times, moved by a
little and mirrored, and a name counts if enough of the descriptions have it. This is self-consistency (Wang et al.,
arXiv 2203.11171) with views of the picture in place of sampled answers; views and rules are ours.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agents.geometry import INVERSE, relation_of
from agents.picture import Picture
from parsers.names import name_key
from parsers.priors import ObjectPrior, RelationPrior, ScenePriors

TELLING = 0.5
"""Of the views that name a thing, more than this share have to give it an attribute."""
STEP = 1 / 32
"""How far a picture is moved, as a share of its shorter side: half a patch of the pocket model, three quarters of one
of 14 pixels in 336."""
OTHER_SIDE = {"right": "to the left of", "below": "above", "behind": "in front of"}
"""A place to the words for the other side of it."""
Statement = tuple[str, str, str]
"""Name, relation, name."""


@dataclass(frozen=True, slots=True)
class View:
    """A picture moved by steps to the right and down, edges filled by reflection, and then perhaps as in a mirror."""

    right: int = 0
    down: int = 0
    mirrored: bool = False

    def of(self, picture: Picture) -> Picture:
        """What it shows of a picture, in the same size."""
        image_HW3 = picture.image_HW3
        height, width = image_HW3.shape[:2]
        step = max(1, round(STEP * min(height, width)))
        x, y = step * self.right, step * self.down
        if x or y:
            wide = ((max(0, y), max(0, -y)), (max(0, x), max(0, -x)), (0, 0))
            image_HW3 = np.pad(image_HW3, wide, mode="reflect")
            image_HW3 = image_HW3[max(0, -y):, max(0, -x):][:height, :width]
        return Picture(np.ascontiguousarray(image_HW3[:, ::-1] if self.mirrored else image_HW3))


VIEWS = (View(), View(mirrored=True), View(-1, -1), View(1, 1, True), View(1, 1), View(-1, -1, True), View(1, -1),
         View(-1, 1, True), View(-1, 1), View(1, -1, True))
"""In the order in which they are taken: the first is the picture itself."""


def agreed(said: Sequence[ScenePriors]) -> ScenePriors:
    """What enough of the descriptions of one picture say. said: what was read in the descriptions of the first of
    `VIEWS`, in their order; the priors of a single one stay as they are.

    A name becomes one object, however often a description has it. Left and right in mirrored views are exchanged. Two
    names stand in one relation at most, that which most views state; in none if as many state its contrary.
    """
    if len(said) == 1:
        return said[0]
    named: Counter[str] = Counter()
    denied: Counter[str] = Counter()
    attributes: dict[str, Counter[str]] = defaultdict(Counter)
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    spelt: dict[str, ObjectPrior] = {}
    stated: dict[frozenset[str], Counter[Statement]] = defaultdict(Counter)
    told: dict[Statement, Statement] = {}
    for priors, view in zip(said, VIEWS, strict=False):
        things: dict[str, list[ObjectPrior]] = defaultdict(list)
        for thing in priors.objects:
            things[name_key(thing.lemma)].append(thing)
        for name, found in things.items():
            spelt.setdefault(name, found[0])
            named[name] += 1
            counts[name][sum(thing.count for thing in found)] += 1
            attributes[name].update({word for thing in found for word in thing.attributes})
        denied.update({name_key(name) for name in priors.absent} - things.keys())
        here = dict(_statement(priors, relation, view) for relation in priors.relations)
        for statement, words in here.items():
            stated[frozenset(statement[::2])][statement] += 1
            told.setdefault(statement, words)
    least = needed(len(said))
    place = {name: i for i, name in enumerate(name for name in spelt if named[name] >= least)}
    objects = tuple(spelt[name].model_copy(update={
        "attributes": tuple(word for word, times in attributes[name].items() if times > TELLING * named[name]),
        "count": counts[name].most_common(1)[0][0]}) for name in place)
    relations = []
    for names, statements in stated.items():
        statement, times = statements.most_common(1)[0]
        is_clear = 2 * times >= least and times > statements[statement[::-1]]
        if is_clear and len(names) == 2 and names <= place.keys():
            subject, predicate, other = told[statement]
            relations.append(RelationPrior(subject=place[subject], predicate=predicate, object=place[other]))
    return ScenePriors(
        text="\n".join(dict.fromkeys(priors.text for priors in said)), objects=objects, relations=tuple(relations),
        absent=tuple(name for name, times in denied.items() if times >= least and name not in place),
        reason=None if objects else said[0].reason or "no-objects")


def asked_for(detail: str, views: int) -> str:
    """What was asked, for `PreparedRow.prompt_id`."""
    return detail if views == 1 else f"{detail}, {views} views"


def needed(views: int) -> int:
    """How many of so many views have to name a thing: more than a third."""
    return views // 3 + 1


def _statement(priors: ScenePriors, relation: RelationPrior, view: View) -> tuple[Statement, Statement]:
    """A relation as it is in the picture itself, to be counted and to be told. Of the two sides of a place, such as
    left and right, one stands for both."""
    subject, other = (name_key(priors.objects[place].lemma) for place in (relation.subject, relation.object))
    predicate = relation.predicate
    if view.mirrored:
        predicate = re.sub(r"\b(left|right)\b", lambda side: "right" if side[0] == "left" else "left", predicate)
    kind = relation_of(predicate) or predicate
    if kind in OTHER_SIDE:
        return (other, INVERSE[kind], subject), (other, OTHER_SIDE[kind], subject)
    first, last = sorted((subject, other)) if kind == "near" else (subject, other)
    return (first, kind, last), (subject, predicate, other)
