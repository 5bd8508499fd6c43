"""A request in words, step by step: plan, knowledge, segment, check, at most two refinements, result.

The steps are a LangGraph machine whose state holds names and counts, never pictures, masks or lists of regions: those
stay with the job, which lends functions to segment and to look at regions by the picture's id. The machine has no loop
of its own making: after the plan it asks only questions that have schemas, and every decision is a line of the trace.
"""

from __future__ import annotations

import agents.offline  # isort: skip  # noqa: F401  # before the libraries below

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from agents.conditions import described_as, meant_regions
from agents.evidence import Evidence
from agents.geometry import SeenRegion
from agents.parallel import in_order
from agents.planner import plan_lines, plan_request, same_thing
from agents.prompt import load_prompt
from agents.records import AskResult, Plan
from agents.source import KnowledgeSource
from agents.subclasses import generate_subclasses
from parsers.errors import Code, MissingPackageError
from parsers.free import PLACES, can_be_class
from parsers.names import name_key
from parsers.reader import SceneReader
from parsers.vocabulary import IGNORE_ID, Provenance, Vocabulary, VocabularyClass

try:
    from langgraph.graph import END, START, StateGraph
except ImportError as error:
    raise MissingPackageError(Code.PACKAGE_MISSING, f"lexiseg ask needs a package that is not installed: {error}.", "",
                              "pip install 'lexiseg[agents]'") from error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_REFINEMENTS = 2
MAX_STEPS = 2 + 2 * (1 + MAX_REFINEMENTS) + 1
"""Of the machine: plan and knowledge, segment and check once and for each refinement, and the end."""
LOOKED_AT = 6
"""Pictures that the check looks at, spread over all."""
MAX_NAMES = 40
"""That are looked for at once, those from descriptions included."""
SUBCLASSES = 7
TASKS = ("plan", "subclasses", "describe-simple", "presence")
"""Prompts that a request may need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFunctions:
    """What the job lends. Pictures are called by their ids."""

    read_picture: Callable[[str], NDArray[np.uint8]]
    """Upright RGB pixels, height x width x 3. Called in several threads."""
    segment: Callable[[Vocabulary], None]
    """Segments all pictures anew, with this vocabulary."""
    regions: Callable[[str], Sequence[SeenRegion]]
    """What the last segmentation found in a picture; empty for one that failed."""


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
        self.evidence = Evidence(source, reader, job.read_picture)
        self.prompts = {task: load_prompt(task, source.model.style).digest for task in TASKS}
        self._provenance: dict[str, Provenance] = {}

    def plan(self, state: State) -> dict[str, Any]:
        answer = plan_request(self.source, self.request, self.reader)
        return {"plan": answer.record.model_dump(), "round": 0,
                "trace": [f"plan ({answer.outcome}): {'; '.join(plan_lines(answer.record))}"]}

    def knowledge(self, state: State) -> dict[str, Any]:
        plan = Plan.model_validate(state["plan"])
        helpers: list[str] = []
        for name in (one.object for one in plan.filters):
            if name and name_key(name) != "background" and not _is_among(name, (*plan.targets, *helpers)):
                helpers.append(name)
        names: dict[str, list[str]] = {target: [] for target in plan.targets}
        trace = []
        for target in plan.targets if plan.subclasses else ():
            answer = generate_subclasses(self.source, target, SUBCLASSES, others=(*plan.targets, *helpers))
            names[target] = list(answer.record.subclasses)
            if names[target]:
                self._wrote(target, "subclasses", answer.made_at)
            trace.append(f"kinds of {target} ({answer.outcome}): {', '.join(names[target]) or 'none'}")
        if plan.candidate_free:
            new = self._new_names(plan, names)
            names |= {name: [] for name in new}
            helpers = [name for name in helpers if not _is_among(name, new)]
            trace.append(f"names from descriptions of {len(self.pictures)} pictures: {', '.join(new) or 'none'}")
        if helpers:
            trace.append(f"looked for only because a condition names it: {', '.join(helpers)}")
        return {"names": names, "helpers": helpers, "given": list(plan.targets), "trace": trace}

    def segment(self, state: State) -> dict[str, Any]:
        if not state["names"]:
            return {"trace": ["there is nothing to look for"]}
        wanted = state["names"] | {name: [] for name in state["helpers"]}
        self.job.segment(Vocabulary(background=PLACES, classes=tuple(
            VocabularyClass(id=number + (number >= IGNORE_ID), name=name, subclasses=tuple(kinds),
                            provenance=self._provenance.get(name))
            for number, (name, kinds) in enumerate(wanted.items(), start=1))))
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
        looked = self.pictures[::step][:LOOKED_AT]
        self.evidence.describe(looked)
        for picture in looked:
            priors = self.evidence.priors(picture)
            found = {one.name for one in self.job.regions(picture)}
            for name in names:
                mentions = [thing for thing in priors.objects if _means(thing.name, thing.lemma, name, names[name])]
                if mentions and name not in found:
                    trace.append(f"{picture}: {name} is described, but not found")
                    word = mentions[0].lemma
                    if can_be_class(name_key(word)) and not _is_among(word, (*_words(names), *state["helpers"])):
                        names[name].append(word)
                        self._wrote(name, "describe-simple")
                        trace.append(f"{word!r} becomes another word for {name}")
                elif name in found:
                    doubts.setdefault(name, []).append(bool(mentions) or self.evidence.shows(picture, name))
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

    def _new_names(self, plan: Plan, names: Mapping[str, Sequence[str]]) -> list[str]:
        """Names from the descriptions of all pictures, the most frequent first, that fit the conditions on things that
        the request does not name, and are neither a class already nor a kind of one."""
        conditions = [one for one in plan.filters if not one.target]
        self.evidence.describe(self.pictures)
        said: Counter[str] = Counter()
        for picture in self.pictures:
            priors = self.evidence.priors(picture)
            said.update({*(name_key(thing.lemma) for place, thing in enumerate(priors.objects)
                           if all(described_as(priors, place, one) for one in conditions))})
        new: list[str] = []
        for name, _ in sorted(said.items(), key=lambda one: (-one[1], one[0])):
            if len(names) + len(new) < MAX_NAMES and can_be_class(name) and not _is_among(name, (*_words(names), *new)):
                new.append(name)
                self._wrote(name, "describe-simple")
        return new

    def _wrote(self, name: str, task: str, made_at: str = "") -> None:
        """Notes that the language model wrote a name, or words of it."""
        before = self._provenance.get(name) or Provenance(source="llm")
        prompts = dict.fromkeys(filter(None, (before.prompt, f"{task} {self.prompts[task]}")))
        self._provenance[name] = Provenance(source="llm", model=self.source.model.name, prompt=", ".join(prompts),
                                            date=made_at[:10] or before.date)


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
    decided = in_order(lambda picture: meant_regions(plan, names, picture, job.regions(picture), machine.evidence),
                       pictures, source.model.settings.concurrency)
    kept = {}
    for picture, (ids, decisions) in zip(pictures, decided, strict=True):
        kept[picture] = ids
        trace += decisions
    trace.append(f"result: {sum(map(len, kept.values()))} regions in {sum(map(bool, kept.values()))} of "
                 f"{len(pictures)} pictures")
    return AskResult(request=request, model=source.model.name, model_digest=source.model.digest,
                     prompts=machine.prompts, plan=plan, names={name: tuple(kinds) for name, kinds in names.items()},
                     kept=kept, pictures=machine.evidence.record(), trace=tuple(trace))


def _means(name: str, lemma: str, target: str, kinds: Sequence[str]) -> bool:
    """Whether an object of a description is the target or one of its kinds; "puppy dog" is a dog."""
    return any(same_thing(word, other) for word in (name, lemma, name.split()[-1]) for other in (target, *kinds))


def _words(names: Mapping[str, Sequence[str]]) -> list[str]:
    """Names and their kinds."""
    return [word for name, kinds in names.items() for word in (name, *kinds)]


def _is_among(name: str, others: Iterable[str]) -> bool:
    return any(same_thing(name, other) for other in others)
