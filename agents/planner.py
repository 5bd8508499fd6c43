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
    """The plan of a request, by one structured answer that can name only what the request says, completed by what rules
    read in it (`completed`); by rules alone (`rules_plan`) where the model gives none that can be used. Raises
    SettingError for a request without words or that is too long, LlmError."""
    request = normalise_name(clean_text(request))
    if not any(char.isalpha() for char in request) or len(request) > MAX_REQUEST:
        raise SettingError(Code.SETTING_INVALID, f"The request is {shorten(request)}.",
                           f"A sentence of at most {MAX_REQUEST} characters.",
                           'For example: lexiseg ask "mask every dog next to a bench" pictures/ --out out')
    said = names_said(request)
    targets = [name for name in said if not _COLOURED.search(name)]  # "white swan" is a swan, and a filter
    return source.answer(Question(
        task="plan", record=Plan,
        read=lambda answer: completed(read_plan(answer, request), rules_plan(request, reader)),
        fallback=lambda answers: rules_plan(request, reader),
        schema=plan_schema(targets, said), values={"request": quoted(request)}, max_tokens=256))


def names_said(request: str) -> list[str]:
    """What a plan can name: each run of up to MAX_WORDS words of the request, its last word also in the singular. With
    these in the schema a small model, which misspells what it copies, can only choose among them."""
    words = [name_key(word) for word in _WORD.findall(request)]
    found: dict[str, None] = {}
    for start in range(len(words)):
        for end in range(start + 1, min(start + MAX_WORDS, len(words)) + 1):
            *before, last = words[start:end]
            found |= dict.fromkeys(" ".join((*before, form)) for form in (last, *singulars(last)))
    return list(found)


def read_plan(answer: RawAnswer, request: str) -> Plan:
    """The plan in an answer, with each target once and only filters that say something. Raises AnswerError: no plan,
    a target that is no name, a filter of something else (but one of its own relation is of the only target), nothing
    to look for, or names that the request does not say (a small model may misspell what it copies)."""
    found = read_model(answer.text, Plan)
    spoken = _WORD.findall(request)
    targets: dict[str, str] = {}
    for target in found.targets:
        name = normalise_name(target)
        if problem := name_problem(name) or (len(name.split()) > MAX_WORDS and "is a sentence"):
            raise AnswerError(Code.ANSWER_UNFIT, f"The target {shorten(target)} {problem}.")
        _require_said(name, spoken)
        targets.setdefault(name_key(name), name)
    filters = []
    for one in found.filters:
        if not (one.attribute.strip() or (one.relation.strip() and one.object.strip())):
            continue
        of = name_key(one.target)
        if one.target.strip() and of not in targets:
            if len(targets) != 1 or of != name_key(one.relation):  # "on", on, "grass"
                raise AnswerError(Code.ANSWER_UNFIT, f"There is a filter of {shorten(one.target)}, which is no target.")
            of = next(iter(targets))
        _require_said(f"{one.attribute} {one.object}", spoken)
        filters.append(Filter(target=targets.get(of, ""), attribute=normalise_name(one.attribute),
                              relation=normalise_name(one.relation), object=normalise_name(one.object)))
    if not targets and not found.candidate_free:
        raise AnswerError(Code.ANSWER_UNFIT, "The plan has nothing to look for.")
    return Plan(targets=tuple(targets.values()), subclasses=found.subclasses and bool(targets),
                candidate_free=found.candidate_free, filters=tuple(dict.fromkeys(filters)))


def completed(plan: Plan, rules: Plan) -> Plan:
    """The plan with what the rules read in the request and it leaves out: parts of a list, that all kinds are meant,
    and attributes of its targets. Of "the small blue umbrella" a small model often keeps one. What it says itself
    stays; ours."""
    if not plan.candidate_free and not rules.candidate_free:
        left = [name for name in rules.targets if not any(_overlap(name, own) for own in plan.targets)]
        plan = plan.model_copy(update={"targets": (*plan.targets, *left)[:32],
                                       "subclasses": plan.subclasses or rules.subclasses})
    known = {(name_key(one.target), name_key(one.attribute)) for one in plan.filters}
    targets = {name_key(name): name for name in plan.targets}
    left_out = [Filter(target=targets[key], attribute=one.attribute) for one in rules.filters if one.attribute
                and (key := name_key(one.target)) in targets and (key, name_key(one.attribute)) not in known]
    return plan.model_copy(update={"filters": (*plan.filters, *left_out)[:16]})


def _overlap(name: str, other: str) -> bool:
    return any(same_thing(one, two) for one in name.split() for two in other.split())


def _require_said(name: str, spoken: list[str]) -> None:
    """Raises AnswerError for a name with a word that is not among the spoken ones, in either number."""
    for word in name.split():
        if not any(same_thing(word, one) for one in spoken):
            raise AnswerError(Code.ANSWER_UNFIT, f"{shorten(word)} is in the plan, but not in the request.")


def rules_plan(request: str, reader: SceneReader) -> Plan:
    """A plan without a language model: the parts of a list, each a thing with its attributes as the scene parser reads
    them, perhaps followed by where it is; and a few English words for "all kinds" and "whatever". The rules are ours;
    a request in which nothing is read means everything."""
    targets: dict[str, str] = {}
    filters: list[Filter] = []
    kinds = free = False
    text = _TWO_COLOURS.sub(r"\1 \2", _ASIDE.sub("", _VERB.sub("", request.strip(" .!?"))))
    for part in filter(None, map(str.strip, _LIST.split(text))):
        place = _PLACE.search(part)
        unnamed = _UNNAMED.search(part)
        thing = part[:place.start()] if place else part
        name, attributes = _thing(_UNNAMED.sub("thing", thing), reader)
        name = "" if unnamed or name_key(name) in _NO_TARGETS else name
        free |= not name
        if name:
            targets.setdefault(name_key(name), name)
            kinds |= _EVERY.search(thing) is not None
        filters += [Filter(target=name, attribute=attribute) for attribute in attributes]
        if place and (other := _object(place["object"], [*targets.values()], reader)):
            filters.append(Filter(target=name, relation=place["relation"].lower(), object=other))
    return Plan(targets=tuple(targets.values())[:32], subclasses=kinds, candidate_free=free or not targets,
                filters=tuple(dict.fromkeys(filters))[:16])


def _thing(text: str, reader: SceneReader) -> tuple[str, tuple[str, ...]]:
    """Name and attributes of what "the small red cars" stands for; an empty name where nothing is read."""
    found = reader.read([_ARTICLE.sub("", text)])[0].objects
    return (found[0].lemma, found[0].attributes) if found else ("", ())


def _object(text: str, targets: list[str], reader: SceneReader) -> str:
    """The name in "the wooden floor", attributes included; "it" is what was named last."""
    if text.lower() in ("it", "them"):
        return targets[-1] if targets else ""
    *before, _ = normalise_name(_ARTICLE.sub("", text)).split() or [""]
    return " ".join([*before, (_thing(text, reader)[0].split() or [text])[-1]])


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


_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_VERB = re.compile(
    r"\A\s*(?:(?:please|just|only|can you|could you|i (?:want|need)|give me|let me see)\s+)*"
    r"(?:(?:mask(?: out)?|segment|find|show(?: me)?|outline|mark|select|label|highlight|get|cut out|look for|detect|"
    r"draw|locate|extract|isolate|circle|pick out|make|where (?:is|are))\s+)?(?:masks?\s+(?:of|for)\s+)?",
    re.IGNORECASE)
_ASIDE = re.compile(r",?\s*\b(?:please|thanks|thank you)\b|"
                    r"\s+in (?:the|these|all|every|my) (?:picture|image|photo)s?\b", re.IGNORECASE)
_LIST = re.compile(r"\s*,\s*(?:and\s+)?(?:also\s+)?|\s+(?:and(?: also)?|as well as|plus)\s+", re.IGNORECASE)
_COLOUR = r"(?:black|white|gr[ae]y|red|orange|yellow|green|blue|purple|pink|brown)"
_COLOURED = re.compile(rf"\b(?!orange\b){_COLOUR}\b")
_TWO_COLOURS = re.compile(rf"\b({_COLOUR}) and ({_COLOUR})\b", re.IGNORECASE)
_UNNAMED = re.compile(r"\b(?:everything|whatever|anything)(?: else)?\b(?: (?:that|which|you can see|you see)\b)?",
                      re.IGNORECASE)
_EVERY = re.compile(r"\b(?:every|each|any|all)\b|\bkinds? of\b|\btypes? of\b", re.IGNORECASE)
_PLACE = re.compile(
    r"\s*\b(?:(?:that|which)\s+)?(?:(?:is|are|stands?|standing|lies?|lying|sits?|sitting|rests?|hangs?|hanging)\s+)?"
    r"(?P<relation>(?:to|on) the (?:left|right) of|left of|right of|next to|close to|on top of|in front of|beside|near|"
    r"above|over|below|under|underneath|beneath|behind|inside|in|on)\s+(?P<object>\S.*)\Z", re.IGNORECASE)
_ARTICLE = re.compile(r"\A(?:(?:the|an?|this|that|these|those|some|any|all|every|each|single|"
                      r"(?:kinds?|types?) of)\s+)+", re.IGNORECASE)
_NO_TARGETS = frozenset(["thing", "kind", "type", "picture", "image", "photo", "object", "mask"])
