"""Which regions of a picture a request means: its conditions, by boxes, by the description, and by questions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from agents.evidence import Evidence
from agents.geometry import BOXES_BLIND, INVERSE, SeenRegion, gap, holds, relation_of, same_relation
from agents.planner import same_thing
from agents.records import Filter, Plan
from parsers.priors import ScenePriors

MAX_CROPS = 12
"""Regions of one name in one picture that are looked at one by one, the largest."""


def meant_regions(plan: Plan, names: Collection[str], picture: str, regions: Sequence[SeenRegion],
                  evidence: Evidence) -> tuple[tuple[int, ...], list[str]]:
    """The ids of the regions that a request means, and how that was decided. names: the names of the result; regions:
    all that was found in the picture, with what only conditions name."""
    kept = [one for one in regions if one.name in names]
    trace = []
    for condition in plan.filters:
        concerned = dict.fromkeys(one.name for one in kept if (
            same_thing(one.name, condition.target) if condition.target else one.name not in plan.targets))
        for name in concerned:
            before = [one for one in kept if one.name == name]
            stay, why = _fitting(condition, before, regions, picture, evidence)
            trace += [f"{picture}: {line}" for line in why]
            if len(stay) < len(before):
                what = " ".join(filter(None, (condition.attribute, condition.relation, condition.object)))
                trace.append(f"{picture}: {len(stay)} of {len(before)} regions of {name} are {what}")
            kept = [one for one in kept if one.name != name or one in stay]
    return tuple(one.id for one in kept), trace


def described_as(priors: ScenePriors, place: int, condition: Filter) -> bool:
    """Whether a description says of its object number `place` what a condition asks for."""
    return (not condition.attribute or _has(priors, place, condition.attribute)) and (
        not condition.relation or _stands(priors, place, condition) is True)


def _fitting(condition: Filter, concerned: list[SeenRegion], regions: Sequence[SeenRegion], picture: str,
             evidence: Evidence) -> tuple[list[SeenRegion], list[str]]:
    """Those regions, of one name, that fit a condition, and how that was decided where it is not plain."""
    trace: list[str] = []
    if condition.attribute:
        concerned, trace = _with_attribute(condition.attribute, concerned, picture, evidence)
    if condition.relation and concerned:
        concerned, why = _in_relation(condition, concerned, regions, evidence.priors(picture))
        trace += why
    return concerned, trace


def _with_attribute(attribute: str, concerned: list[SeenRegion], picture: str,
                    evidence: Evidence) -> tuple[list[SeenRegion], list[str]]:
    """A single region has an attribute if the description or the model says so; of several each is looked at."""
    name = concerned[0].name
    priors, asked = evidence.priors(picture), f"{attribute} {name}"
    said = any(_has(priors, place, attribute) for place in _places(priors, name))
    if len(concerned) == 1:
        return (concerned if said or evidence.shows(picture, asked) else []), []
    looked = sorted(concerned, key=lambda one: -one.area)[:MAX_CROPS]
    shown = {one.id for one in looked if evidence.shows(picture, asked, one.box)}
    trace = [f"{len(looked)} of {len(concerned)} regions of {name} are looked at for {asked!r}: "
             f"{', '.join(map(str, sorted(shown))) or 'none'}"]
    if said and not shown:
        return concerned, [*trace, f"the description has {asked!r}, but which region it is cannot be told; all stay"]
    return [one for one in concerned if one.id in shown], trace


def _in_relation(condition: Filter, concerned: list[SeenRegion], regions: Sequence[SeenRegion],
                 priors: ScenePriors) -> tuple[list[SeenRegion], list[str]]:
    """Regions in a relation: by their boxes where these can tell, else by the description; all where neither can."""
    name, relation = concerned[0].name, relation_of(condition.relation)
    said = [_stands(priors, place, condition) for place in _places(priors, name)]
    others = [one for one in regions if same_thing(one.name, condition.object)]
    if not others:
        return (concerned if True in said else []), []
    if relation is None or relation in BOXES_BLIND:
        what = f"{name} {condition.relation} {condition.object}"
        if True in said and (len(concerned) == 1 or all(said)):
            return concerned, [f"{what}: the description says so"]
        if said and all(one is False for one in said):
            return [], [f"{what}: the description says the opposite"]
        return concerned, [f"{what}: neither boxes nor the description can tell which; all {len(concerned)} stay"]
    fits = [one for one in concerned if any(holds(relation, one.box, other.box)
                                            for other in others if other.id != one.id)]
    if not fits and True in said:  # the description says that there is one: the closest
        return [min(concerned, key=lambda one: min(gap(one.box, other.box) for other in others))], []
    return fits, []


def _places(priors: ScenePriors, name: str) -> list[int]:
    """The numbers of the objects of a description that a name stands for."""
    return [place for place, thing in enumerate(priors.objects) if same_thing(thing.lemma, name)]


def _has(priors: ScenePriors, place: int, attribute: str) -> bool:
    return attribute.lower() in map(str.lower, priors.objects[place].attributes)


def _stands(priors: ScenePriors, place: int, condition: Filter) -> bool | None:
    """Whether object number `place` of a description stands in the relation of a condition to the other side of it:
    True where the description says so, from either side ("a bench in front of a dog" has a dog behind a bench); False
    where it says the opposite; None where it says neither."""
    inverse = INVERSE.get(relation_of(condition.relation) or "")
    found = None
    for one in priors.relations:
        is_same = same_relation(one.predicate, condition.relation)
        is_inverse = inverse is not None and relation_of(one.predicate) == inverse
        if place == one.subject:
            other, holds_here, holds_not = one.object, is_same, is_inverse
        elif place == one.object:
            other, holds_here, holds_not = one.subject, is_inverse, is_same and inverse is not None
        else:
            continue
        if same_thing(priors.objects[other].lemma, condition.object):
            if holds_here:
                return True
            if holds_not:
                found = False
    return found
