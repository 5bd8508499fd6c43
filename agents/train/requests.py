"""Requests in words and the plans that they mean, drawn at random: what the pocket LLaVA learns to plan from.

The plan follows `agents.records.Plan`: targets in the singular, `subclasses` where a request means all kinds of a
target, `candidate_free` where it means things that it does not name, a filter for each condition.
"""

from __future__ import annotations

import re

from numpy.random import Generator

from agents.train.knowledge import COLOUR_NAMES, SIZES, WIDER, seen_names, superclasses
from vision.datasets.sprites import texture_names

Plan = dict[str, object]

VERBS = ("mask", "segment", "find", "show", "show me", "outline", "mark", "select", "label", "highlight", "get",
         "cut out", "please mask", "please find", "give me", "i want", "look for", "detect", "draw", "where is",
         "can you find", "i need masks of", "make masks for", "pick out", "i need", "just", "only", "masks for",
         "could you mark", "please segment", "locate", "extract", "isolate", "circle", "which pixels are", "mask out")
EVERY = ("every {}", "all {}s", "each {}", "any {}", "all kinds of {}", "every kind of {}", "all the {}s", "{}s",
         "every single {}", "all types of {}s")
KINDS = ("all kinds of {}", "every kind of {}", "all types of {}s")
ONE = ("the {}", "a {}", "{}", "the {}s", "{}s", "every {}", "all {}s", "each {}")
EVERYTHING = ("everything", "everything you can see", "everything you see", "all things", "whatever is there",
              "all objects", "the whole picture", "anything", "everything in the picture", "whatever you can find",
              "all that is there", "everything in the image", "all of it")
UNNAMED = ("whatever {}", "everything that {}", "anything that {}", "all things that {}", "everything {}", "what {}",
           "whatever thing {}", "the things that {}", "anything {}", "all things {}", "things {}", "all objects {}",
           "whatever else {}")
SHORT = ("everything {}", "anything {}", "all things {}", "things {}", "all objects {}")
"""Those that are followed by a place without a verb."""
QUALIFIED = ("every {} thing", "all {} things", "everything {}", "all {} objects", "{} things", "anything {}",
             "whatever is {}", "everything that is {}", "the {} things")
RELATIONS = {
    "on": ("is on", "stands on", "lies on", "sits on", "rests on", "is on top of"),
    "next to": ("is next to", "stands next to", "is near", "is beside", "stands beside", "is close to", "is by"),
    "to the left of": ("is to the left of", "is left of", "stands to the left of", "is on the left of"),
    "to the right of": ("is to the right of", "is right of", "stands to the right of", "is on the right of"),
    "above": ("is above", "hangs above", "is over", "flies above", "is higher than"),
    "below": ("is below", "is under", "lies below", "is beneath", "is underneath"),
    "in front of": ("is in front of", "stands in front of"),
    "behind": ("is behind", "stands behind", "hides behind"),
    "in": ("is in", "lies in", "swims in", "floats in"),
}
"""What a filter says, and how a request may put it."""
LINKS = (" and ", ", ", " and also ", " as well as ", " plus ", ", and ")
ENDS = ("", "", "", "", ".", " please", " in the pictures", " in these images", " in every picture", "!")
EVERYDAY = (
    "person", "man", "woman", "child", "car", "tree", "bench", "table", "road", "street", "wall", "floor", "shoe",
    "hat", "ball", "boat", "plane", "truck", "cup", "plate", "lamp", "desk", "sofa", "box", "bag", "shelf", "tool",
    "toy", "machine", "pipe", "valve", "cable", "screw", "helmet", "vest", "bottle", "glass", "knife", "fork",
    "screen", "phone", "sign", "light", "pole", "fence", "roof", "river", "sea", "field", "hill", "stone", "path",
    "garden", "kitchen", "patient", "nurse", "glove", "mask", "bandage", "crane", "container", "rope",
    "barrel", "furniture", "plant", "leaf", "cake", "apple", "book", "paper", "fire", "smoke", "cloud",
    "rain", "thing", "object",
)
"""Words of requests that are no names of the pictogram world."""
_SYLLABLES = ("ba", "ko", "tri", "mel", "son", "gra", "pi", "ter", "lo", "van", "shu", "der", "ly", "ne", "cro", "fal",
              "wi", "per", "ton", "zu", "hab", "ock", "ing", "er", "al", "est", "qui", "jo", "mar", "ble", "ni", "sta")
REQUEST_WORDS = tuple(sorted({
    word for text in (*VERBS, *EVERY, *KINDS, *ONE, *EVERYTHING, *UNNAMED, *QUALIFIED, *RELATIONS, *LINKS, *ENDS,
                      *EVERYDAY, *(text for texts in RELATIONS.values() for text in texts), "which with colour but not")
    for word in re.findall(r"[a-z]{2,}", text)} | set(RELATIONS)))


def spelt_word(rng: Generator) -> str:
    """A word that nobody knows, to be copied letter by letter."""
    return "".join(rng.choice(_SYLLABLES, size=int(rng.integers(2, 4))))


def draw_request(rng: Generator) -> tuple[str, Plan]:
    """A request and its plan."""
    draw = rng.random()
    if draw < 0.06:
        return _finish(EVERYTHING[rng.integers(len(EVERYTHING))], rng), _plan([], candidate_free=True)
    parts: list[str] = []
    targets: list[str] = []
    filters: list[dict[str, str]] = []
    kinds = free = False
    for _ in range(int(rng.choice((1, 2, 3), p=(0.6, 0.3, 0.1)))):
        if free or rng.random() > 0.15:
            text, name, wide, condition = _target(rng)
            if name not in targets:
                parts.append(text)
                targets.append(name)
                filters += condition
                kinds |= wide
        else:
            text, condition = _unnamed(rng)
            parts.append(text)
            filters += condition
            free = True
    text = parts[0]
    for part in parts[1:]:
        text += LINKS[rng.integers(len(LINKS))] + part
    return _finish(text, rng), _plan(targets, subclasses=kinds, candidate_free=free, filters=filters)


def _target(rng: Generator) -> tuple[str, str, bool, list[dict[str, str]]]:
    """A named target: its words, the name, whether all kinds of it are meant, its conditions."""
    name, is_wide = _name(rng)
    forms = EVERY if is_wide and rng.random() < 0.85 else KINDS if rng.random() < 0.05 else ONE
    form = forms[rng.integers(len(forms))]
    wide = (is_wide and form not in ("the {}", "a {}", "{}")) or form in KINDS
    filters = []
    attribute = ""
    if rng.random() < 0.25:
        words = (*SIZES, *COLOUR_NAMES)
        attribute = words[rng.integers(len(words))]
        filters.append(_filter(target=name, attribute=attribute))
    text = _formed(form, f"{attribute} {name}".strip())
    if rng.random() < 0.2:
        relation, words_of_it = _relation(rng)
        other = _other(rng)
        shown = words_of_it.removeprefix("is ") if rng.random() < 0.6 else f"that {words_of_it}"
        text += f" {shown} {_article(rng)}{other}"
        filters.append(_filter(target=name, relation=relation, object=other))
    return text, name, wide, filters


def _unnamed(rng: Generator) -> tuple[str, list[dict[str, str]]]:
    """Things that are not named: their words and the condition."""
    if rng.random() < 0.3:
        attribute = _pick((*SIZES, *COLOUR_NAMES), rng)
        return _pick(QUALIFIED, rng).format(attribute), [_filter(attribute=attribute)]
    form = _pick(UNNAMED, rng)
    relation, words = _relation(rng)
    other = _other(rng)
    if form in SHORT:
        words = words.removeprefix("is ")
    return form.format(f"{words} {_article(rng)}{other}"), [_filter(relation=relation, object=other)]


def _name(rng: Generator) -> tuple[str, bool]:
    """A name and whether it stands for many kinds."""
    draw = rng.random()
    if draw < 0.35:
        return _pick(seen_names(), rng), False
    if draw < 0.55:
        return _pick(tuple(superclasses()), rng), True
    if draw < 0.65:
        return _pick(tuple(WIDER), rng), True
    if draw < 0.8:
        return _pick(EVERYDAY, rng), False
    return spelt_word(rng), False


def _other(rng: Generator) -> str:
    return _pick(texture_names(), rng) if rng.random() < 0.4 else _name(rng)[0]


def _article(rng: Generator) -> str:
    return ("the ", "the ", "the ", "a ", "")[rng.integers(5)]


def _relation(rng: Generator) -> tuple[str, str]:
    relation = _pick(tuple(RELATIONS), rng)
    return relation, _pick(RELATIONS[relation], rng)


def _pick(options: tuple[str, ...], rng: Generator) -> str:
    return options[rng.integers(len(options))]


def _formed(form: str, name: str) -> str:
    """`form` with the name; a plural that the plain ending cannot make is left in the singular."""
    if form.endswith("{}s") and name[-1:] in "sxy":
        form = form[:-1]
    text = form.format(name)
    return f"an {text[2:]}" if text.startswith("a ") and text[2:3] in "aeiou" else text


def _filter(target: str = "", attribute: str = "", relation: str = "", object: str = "") -> dict[str, str]:
    return {"target": target, "attribute": attribute, "relation": relation, "object": object}


def _plan(targets: list[str], *, subclasses: bool = False, candidate_free: bool = False,
          filters: list[dict[str, str]] | None = None) -> Plan:
    return {"targets": targets, "subclasses": subclasses, "candidate_free": candidate_free, "filters": filters or []}


def _finish(text: str, rng: Generator) -> str:
    """The request with a verb in front and an end, sometimes with a capital."""
    if rng.random() < 0.85:
        text = f"{VERBS[rng.integers(len(VERBS))]} {text}"
    text += ENDS[rng.integers(len(ENDS))]
    return text[0].upper() + text[1:] if rng.random() < 0.3 else text
