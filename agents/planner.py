"""A request in words becomes a plan: what to look for, and under which conditions."""

from __future__ import annotations

import re

from agents.calls import RawAnswer
from agents.prompt import quoted
from agents.records import Filter, Plan
from agents.schemas import plan_schema
from agents.source import Answer, KnowledgeSource, Question
from parsers.answer_text import clean_text
from parsers.answers import read_model
from parsers.errors import AnswerError, Code, SettingError
from parsers.names import name_key, name_problem, normalise_name, shorten
from parsers.nouns import singulars
from parsers.reader import SceneReader

MAX_REQUEST = 500
"""Characters."""
MAX_WORDS = 4
"""Of a target."""


def plan_request(source: KnowledgeSource, request: str, reader: SceneReader) -> Answer[Plan]:
    """The plan of a request, by one structured answer; by rules (`rules_plan`) where the model gives none that can be
    used. Raises SettingError for a request without words or that is too long, LlmError."""
    request = normalise_name(clean_text(request))
    if not any(char.isalpha() for char in request) or len(request) > MAX_REQUEST:
        raise SettingError(Code.SETTING_INVALID, f"The request is {shorten(request)}.",
                           f"A sentence of at most {MAX_REQUEST} characters.",
                           'For example: lexiseg ask "mask every dog next to a bench" pictures/ --out out')
    return source.answer(Question(
        task="plan", record=Plan, read=read_plan, fallback=lambda answers: rules_plan(request, reader),
        schema=plan_schema(), values={"request": quoted(request)}, max_tokens=256))


def read_plan(answer: RawAnswer) -> Plan:
    """The plan in an answer, with each target once and only filters that say something. Raises AnswerError: no plan,
    a target that is no name, a filter of something else, nothing to look for."""
    found = read_model(answer.text, Plan)
    targets: dict[str, str] = {}
    for target in found.targets:
        name = normalise_name(target)
        if problem := name_problem(name) or (len(name.split()) > MAX_WORDS and "is a sentence"):
            raise AnswerError(Code.ANSWER_UNFIT, f"The target {shorten(target)} {problem}.")
        targets.setdefault(name_key(name), name)
    filters = []
    for one in found.filters:
        if not (one.attribute.strip() or (one.relation.strip() and one.object.strip())):
            continue
        if one.target.strip() and name_key(one.target) not in targets:
            raise AnswerError(Code.ANSWER_UNFIT, f"There is a filter of {shorten(one.target)}, which is no target.")
        filters.append(Filter(target=targets.get(name_key(one.target), ""), attribute=normalise_name(one.attribute),
                              relation=normalise_name(one.relation), object=normalise_name(one.object)))
    if not targets and not found.candidate_free:
        raise AnswerError(Code.ANSWER_UNFIT, "The plan has nothing to look for.")
    return Plan(targets=tuple(targets.values()), subclasses=found.subclasses and bool(targets),
                candidate_free=found.candidate_free, filters=tuple(dict.fromkeys(filters)))


def rules_plan(request: str, reader: SceneReader) -> Plan:
    """A plan without a language model: what the scene parser reads in the request, and a few English words for "all
    kinds" and "whatever". The rules are ours; a request in which nothing is read means everything."""
    text = _VERB.sub("", request.strip(" .!?")).strip()
    free = _UNNAMED.search(text) is not None
    priors = reader.read([_UNNAMED.sub("thing", text)])[0]
    others = {relation.object for relation in priors.relations}
    named = [place not in others and name_key(thing.lemma) not in _NO_TARGETS
             for place, thing in enumerate(priors.objects)]
    names = ["" if name_key(thing.lemma) in _NO_TARGETS else thing.lemma for thing in priors.objects]
    targets = tuple(dict.fromkeys(names[place] for place, is_target in enumerate(named) if is_target))
    filters = [Filter(target=names[place], attribute=attribute) for place, thing in enumerate(priors.objects)
               if place not in others for attribute in thing.attributes if names[place] in (*targets, "")]
    filters += [Filter(target=names[one.subject], relation=one.predicate, object=names[one.object])
                for one in priors.relations if names[one.object] and names[one.subject] in (*targets, "")]
    return Plan(targets=targets[:32], subclasses=bool(targets) and _EVERY.search(text) is not None,
                candidate_free=free or not targets, filters=tuple(dict.fromkeys(filters))[:16])


def plan_lines(plan: Plan) -> list[str]:
    """The plan in words, one sentence a line."""
    what = ", ".join(plan.targets) or "nothing by name"
    lines = [f"look for: {what}{' and all kinds of it' if plan.subclasses else ''}"
             f"{'; also for what the request does not name' if plan.candidate_free else ''}"]
    for one in plan.filters:
        condition = " ".join(filter(None, (one.attribute, one.relation, one.object)))
        lines.append(f"only {one.target or 'things'} that are: {condition}")
    return lines


def same_thing(name: str, other: str) -> bool:
    """Whether two names stand for one thing, whatever their capitals and number."""
    first, second = ({key, *singulars(key)} for key in (name_key(name), name_key(other)))
    return bool(first & second)


_VERB = re.compile(
    r"\A(?:please |can you |could you |i (?:want|need) |give me |let me see )*(?:(?:mask(?: out)?|segment|find|"
    r"show(?: me)?|outline|mark|select|label|highlight|get|cut out|look for|detect|draw|locate|extract|"
    r"where (?:is|are))\s+)?", re.IGNORECASE)
_UNNAMED = re.compile(r"\b(?:everything|whatever|anything)(?: else)?(?: (?:that|which|you can see|you see))?",
                      re.IGNORECASE)
_EVERY = re.compile(r"\b(?:every|each|any|all)\b|\bkinds? of\b|\btypes? of\b", re.IGNORECASE)
_NO_TARGETS = frozenset(["thing", "kind", "type", "picture", "image", "photo", "object", "mask"])
