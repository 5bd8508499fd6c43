"""A request in words, step by step: plan, knowledge, segment, check, at most two refinements, result.

The steps are a LangGraph machine whose state holds names and counts, never pictures, masks or lists of regions: those
stay with the job, which lends functions to segment and to look at regions by the picture's id. The machine has no loop
of its own making: after the plan it asks only questions that have schemas, and every decision is a line of the trace.
"""

from __future__ import annotations

import agents.offline  # isort: skip  # noqa: F401  # before the libraries below

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from agents.description import check_presence, extract_priors
from agents.geometry import SeenRegion, gap, holds, relation_of
from agents.parallel import in_order
from agents.picture import Picture
from agents.planner import plan_lines, plan_request, same_thing
from agents.records import Filter, Plan
from agents.source import KnowledgeSource
from agents.subclasses import generate_subclasses
from parsers.errors import Code, MissingPackageError
from parsers.names import name_problem
from parsers.priors import ScenePriors
from parsers.reader import SceneReader

try:
    from langgraph.graph import END, START, StateGraph
except ImportError as error:
    raise MissingPackageError(Code.PACKAGE_MISSING, f"lexiseg ask needs a package that is not installed: {error}.", "",
                              "pip install 'lexiseg[agents]'") from error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_REFINEMENTS = 2
MAX_STEPS = 20
"""Of the machine; it needs at most nine."""
LOOKED_AT = 6
"""Pictures that the check looks at, spread over all."""
MAX_NAMES = 40
"""That are looked for at once, those from descriptions included."""
SUBCLASSES = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFunctions:
    """What the job lends. Pictures are called by their ids."""

    read_picture: Callable[[str], NDArray[np.uint8]]
    """Upright RGB pixels, height x width x 3."""
    segment: Callable[[Mapping[str, Sequence[str]]], None]
    """Segments all pictures anew, with these names and their subclasses."""
    regions: Callable[[str], Sequence[SeenRegion]]
    """What the last segmentation found in a picture; empty for one that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskResult:
    """What came of a request."""

    plan: Plan
    names: dict[str, tuple[str, ...]]
    """Names that were looked for and are part of the result, with their subclasses."""
    kept: dict[str, tuple[int, ...]]
    """Picture to the ids of the regions that the request means."""
    trace: tuple[str, ...]
    """Every decision, one sentence each."""


class State(TypedDict):
    """Of the machine. `helpers` are looked for only because a condition names them."""

    plan: dict[str, Any]
    names: dict[str, list[str]]
    helpers: list[str]
    given: list[str]
    """Names that the request itself says; no check takes them away."""
    round: int
    changed: bool
    trace: Annotated[list[str], operator.add]


class _Machine:
    """The steps, with what they need. One is made for one request."""

    def __init__(self, source: KnowledgeSource, request: str, pictures: Sequence[str], reader: SceneReader,
                 job: JobFunctions) -> None:
        self.source, self.request, self.pictures, self.reader, self.job = source, request, pictures, reader, job
        self._priors: dict[str, ScenePriors] = {}

    def plan(self, state: State) -> dict[str, Any]:
        answer = plan_request(self.source, self.request, self.reader)
        return {"plan": answer.record.model_dump(), "round": 0,
                "trace": [f"plan ({answer.outcome}): {'; '.join(plan_lines(answer.record))}"]}

    def knowledge(self, state: State) -> dict[str, Any]:
        plan = Plan.model_validate(state["plan"])
        names: dict[str, list[str]] = {target: [] for target in plan.targets}
        trace = []
        for target in plan.targets if plan.subclasses else ():
            answer = generate_subclasses(self.source, target, SUBCLASSES, others=plan.targets)
            names[target] = list(answer.record.subclasses)
            trace.append(f"kinds of {target} ({answer.outcome}): {', '.join(names[target]) or 'none'}")
        if plan.candidate_free:
            said = Counter(name for found in in_order(lambda picture: self._unnamed(plan, picture), self.pictures,
                                                      self.source.model.settings.concurrency) for name in found)
            new = [name for name, _ in said.most_common() if not any(same_thing(name, known) for known in names)]
            new = new[:MAX_NAMES - len(names)]
            names |= {name: [] for name in new}
            trace.append(f"names from descriptions of {len(self.pictures)} pictures: {', '.join(new) or 'none'}")
        helpers = [one.object for one in plan.filters if one.object]
        helpers = [name for name in dict.fromkeys(helpers) if not any(same_thing(name, known) for known in names)]
        if helpers:
            trace.append(f"looked for only because a condition names it: {', '.join(helpers)}")
        return {"names": names, "helpers": helpers, "given": list(plan.targets), "trace": trace}

    def segment(self, state: State) -> dict[str, Any]:
        wanted: dict[str, Sequence[str]] = {**state["names"], **{name: () for name in state["helpers"]}}
        if not state["names"]:
            return {"trace": ["there is nothing to look for"]}
        self.job.segment(wanted)
        counts = Counter(name for picture in self.pictures for name in {one.name for one in self.job.regions(picture)})
        found = ", ".join(f"{name} in {counts[name]}" for name in wanted)
        return {"trace": [f"segmented {len(self.pictures)} pictures: {found}"]}

    def check(self, state: State) -> dict[str, Any]:
        """Compares descriptions with masks in a few pictures, and asks about names that only the masks have."""
        names = {name: list(kinds) for name, kinds in state["names"].items()}
        if state["round"] >= MAX_REFINEMENTS or not names:
            return {"changed": False}
        trace: list[str] = []
        doubts: dict[str, list[bool | None]] = {}
        step = max(1, len(self.pictures) // LOOKED_AT)
        for picture in self.pictures[::step][:LOOKED_AT]:
            priors = self._described(picture)
            found = {one.name for one in self.job.regions(picture)}
            for name in names:
                mentions = [thing for thing in priors.objects if _means(thing.name, thing.lemma, name, names[name])]
                if mentions and name not in found:
                    trace.append(f"{picture}: {name} is described, but not found")
                    word = mentions[0].lemma
                    if not same_thing(word, name) and word not in names[name]:
                        names[name].append(word)
                        trace.append(f"{word!r} becomes another word for {name}")
                elif name in found and not mentions:
                    doubts.setdefault(name, []).append(
                        check_presence(self.source, self._picture(picture), name).record.present)
                elif name in found:
                    doubts.setdefault(name, []).append(True)
        for name, answers in doubts.items():
            if name not in state["given"] and False in answers and True not in answers:
                del names[name]
                trace.append(f"{name} is left out: found in pictures, but the model sees none there")
            elif False in answers:
                trace.append(f"{name}: in {answers.count(False)} of {len(answers)} pictures that were looked at the "
                             "model sees none")
        changed = names != state["names"]
        return {"names": names, "changed": changed, "round": state["round"] + changed,
                "trace": trace or ["check: descriptions and masks agree"]}

    def _unnamed(self, plan: Plan, picture: str) -> list[str]:
        """Names from a picture's description that fit the conditions on things that the request does not name."""
        priors = self._described(picture)
        conditions = [one for one in plan.filters if not one.target]
        kept = []
        for place, thing in enumerate(priors.objects):
            fits = all(_described_as(priors, place, one) for one in conditions)
            if fits and not name_problem(thing.lemma):
                kept.append(thing.lemma)
        return list(dict.fromkeys(kept))

    def kept(self, plan: Plan, names: Mapping[str, Sequence[str]], picture: str) -> tuple[tuple[int, ...], list[str]]:
        """The regions of a picture that the request means, and why others are not among them."""
        regions = [one for one in self.job.regions(picture)]
        kept = [one for one in regions if one.name in names]
        trace = []
        for condition in plan.filters:
            concerned = [one for one in kept if (condition.target and same_thing(one.name, condition.target))
                         or (not condition.target and one.name not in plan.targets)]
            if not concerned:
                continue
            stay = self._fitting(condition, concerned, regions, picture)
            if len(stay) < len(concerned):
                what = " ".join(filter(None, (condition.attribute, condition.relation, condition.object)))
                trace.append(f"{picture}: {len(stay)} of {len(concerned)} regions of "
                             f"{condition.target or 'things'} are {what}")
            kept = [one for one in kept if one not in concerned or one in stay]
        return tuple(one.id for one in kept), trace

    def _fitting(self, condition: Filter, concerned: Sequence[SeenRegion], regions: Sequence[SeenRegion],
                 picture: str) -> list[SeenRegion]:
        """Those regions that fit a condition: by the boxes where they can tell, else by the description; where neither
        can, an attribute is asked about, and a relation keeps all."""
        priors = self._described(picture)
        said = any(_described_as(priors, place, condition) for place, thing in enumerate(priors.objects)
                   if any(same_thing(thing.lemma, one.name) for one in concerned))
        if condition.attribute and not said:
            name = f"{condition.attribute} {condition.target or concerned[0].name}"
            said = check_presence(self.source, self._picture(picture), name).record.present is True
        if condition.attribute and not said:
            return []
        if not condition.relation:
            return list(concerned)
        others = [one for one in regions if same_thing(one.name, condition.object)]
        relation = relation_of(condition.relation)
        if not others:
            return list(concerned) if said else []
        if relation is None or relation == "depth":
            return list(concerned)
        fits = [one for one in concerned if any(holds(relation, one.box, other.box)
                                                for other in others if other.id != one.id)]
        if not fits and said:  # the description says that there is one: the closest
            return [min(concerned, key=lambda one: min(gap(one.box, other.box) for other in others))]
        return fits

    def _described(self, picture: str) -> ScenePriors:
        if picture not in self._priors:
            self._priors[picture] = extract_priors(self.source, self._picture(picture), self.reader).priors
        return self._priors[picture]

    def _picture(self, picture: str) -> Picture:
        return Picture(self.job.read_picture(picture))


def ask(source: KnowledgeSource, request: str, pictures: Sequence[str], *, reader: SceneReader,
        job: JobFunctions) -> AskResult:
    """Does what a request says with the pictures of a job. Raises SettingError for a request without words, LlmError,
    and what the functions of the job raise."""
    machine = _Machine(source, request, pictures, reader, job)
    graph = StateGraph(State)
    graph.add_node("plan", machine.plan)
    graph.add_node("knowledge", machine.knowledge)
    graph.add_node("segment", machine.segment)
    graph.add_node("check", machine.check)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "knowledge")
    graph.add_edge("knowledge", "segment")
    graph.add_edge("segment", "check")
    graph.add_conditional_edges("check", lambda state: "segment" if state["changed"] else END)
    state = graph.compile().invoke({"trace": []}, {"recursion_limit": MAX_STEPS})
    plan, names, trace = Plan.model_validate(state["plan"]), state["names"], list(state["trace"])
    kept = {}
    for picture in pictures:
        kept[picture], decisions = machine.kept(plan, names, picture) if names else ((), [])
        trace += decisions
    trace.append(f"result: {sum(map(len, kept.values()))} regions in {sum(map(bool, kept.values()))} of "
                 f"{len(pictures)} pictures")
    return AskResult(plan=plan, names={name: tuple(kinds) for name, kinds in names.items()}, kept=kept,
                     trace=tuple(trace))


def _means(name: str, lemma: str, target: str, kinds: Sequence[str]) -> bool:
    """Whether an object of a description is the target or one of its kinds; "puppy dog" is a dog."""
    return any(same_thing(word, other) for word in (name, lemma, name.split()[-1]) for other in (target, *kinds))


def _described_as(priors: ScenePriors, place: int, condition: Filter) -> bool:
    """Whether a description says of its object number `place` what a condition asks for."""
    if condition.attribute and condition.attribute.lower() not in map(str.lower, priors.objects[place].attributes):
        return False
    if not condition.relation:
        return True
    wanted = relation_of(condition.relation)
    return any(one.subject == place and same_thing(priors.objects[one.object].lemma, condition.object)
               and (one.predicate == condition.relation or relation_of(one.predicate) == wanted)
               for one in priors.relations)
