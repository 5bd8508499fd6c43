"""Lists as people and language models write them without JSON: numbered, with bullets, with commas, line by line.

The rules are ours, made for the answers of small models: what surrounds a list is left out, an explanation behind a
name is cut off, and prose is no list, even if it has commas. Numbers, bullets, commas and quotes of many languages are
known; the words that give prose away are English. Every rule takes a time that grows with the length of the text.
"""

from __future__ import annotations

import re

MAX_WORDS = 6
"""Words that a name may have; what is longer is a sentence."""


def read_list(text: str) -> list[str]:
    """The items of the list in `text`, cleaned; empty if there is none. Numbers or bullets at the beginning of lines
    or numbers within a line go before commas, and these before one name per line."""
    return [item for item in _items(text) if any(char.isalnum() for char in item)]


def _items(text: str) -> list[str]:
    lines = [" ".join(line.split()) if not line[0].isspace() else line.rstrip()
             for line in text.splitlines() if line.strip()]
    marked = _marked(lines)
    if len(marked) < 2 and (numbered := _numbered_within(text)):
        return [clean_item(item) for item in numbered]
    if len(marked) == 1:
        return _split_commas(marked[0]) or [clean_item(marked[0])]
    if marked:
        return [clean_item(item) for item in marked]
    with_commas = [found for line in lines if (found := _split_commas(line))]
    if with_commas and (len(with_commas) == 1 or not any(_LEAD.match(line) for line in lines)):
        return [item for found in with_commas for item in found]
    names = [clean_item(line) for line in lines if not _is_sentence(line) and not line.endswith((":", "："))]
    return [] if len(lines) - len(names) > (2 if len(names) > 1 else 0) else names


def read_groups(text: str) -> dict[str, list[str]]:
    """Lists under headings: "**Animals**" or "Animals:" above its items, or "Animals: dog, cat" in one line. A heading
    that comes twice goes on with its list. Empty if there are none."""
    groups: dict[str, list[str]] = {}
    numbered: dict[str, str] = {}  # "Cluster 2: pizza" may be a heading or all of a group
    current: list[str] | None = None
    level: tuple[str | None, int] | None = None  # the marker and indent of headings whose items stand below them
    for line in text.splitlines():
        marker = _MARKER.match(line)
        here = (marker.lastgroup, len(marker["indent"])) if marker else (None, 0)
        body = " ".join(line[marker.end() if marker else 0:].split())
        if not body:
            continue
        is_item = current is not None and marker is not None and level is not None and here != level
        if not is_item and (heading := _heading(body)) is not None:
            name, rest, number = heading
            numbered.setdefault(name, number)
            current = groups.setdefault(name, [])
            level = None if rest else here
            if rest:
                current += _split_commas(rest) or [clean_item(rest)]
        elif current is not None and not _is_sentence(body):
            current += _split_commas(body) or [clean_item(body)]
    return {name if items else numbered[name]: items or [name] for name, items in groups.items()
            if items or numbered[name]}


def clean_item(text: str) -> str:
    """The name at the beginning of an item, without number, marks, quotes, article and the explanation behind it:
    "1. **Poodle** - a curly dog" gives "Poodle"."""
    text = " ".join(text.split())
    if marker := _MARKER.match(text):
        text = text[marker.end():]
    if emphasised := _EMPHASISED.match(text):
        text = emphasised["marked"] or emphasised["quoted"]
    text = _EXPLANATION.split(text, maxsplit=1)[0] or text
    return _ARTICLE.sub("", text.replace("_", " ").strip(_AROUND))


def is_prose(text: str) -> bool:
    """Whether `text` is a sentence or part of one, and no name."""
    words = text.split(maxsplit=MAX_WORDS)
    return len(words) > MAX_WORDS or not _PROSE_WORDS.isdisjoint(word.strip(_AROUND).lower() for word in words)


def _is_sentence(line: str) -> bool:
    """Whether a line is prose: by its words without the explanation behind a name, or by its full stop."""
    return is_prose(clean_item(line)) or (line.endswith((".", "!", "?")) and len(line.split(maxsplit=3)) > 3)


def _marked(lines: list[str]) -> list[str]:
    """What stands behind the numbers or bullets of a list; of lists within lists only the outer one."""
    found = [(marker, line[marker.end():]) for line in lines if (marker := _MARKER.match(line))]
    if not found:
        return []
    first = found[0][0]
    return [item for marker, item in found if item.strip() and marker.lastgroup == first.lastgroup
            and len(marker["indent"]) <= len(first["indent"]) + 1]


def _numbered_within(text: str) -> list[str]:
    """The items of "1. poodle 2. husky", if the numbers count from 1."""
    _, *parts = _NUMBER_WITHIN.split(text)
    numbers, items = parts[::2], parts[1::2]
    in_order = [int(number) for number in numbers] == [*range(1, len(numbers) + 1)]
    return items if len(items) > 1 and in_order else []


def _split_commas(line: str) -> list[str]:
    """The names between the commas of a line; empty if there are none or they are prose. What leads up to them is
    left out: "Breeds such as"."""
    line = " ".join(line.split())
    led = _LEAD.match(line)
    parts = [part for part in _COMMA.split(line[led.end():] if led else line) if part]
    if len(parts) < 2:
        return []
    parts[-1:] = _AND.split(_LEADING_AND.sub("", parts[-1]))
    return [] if any(is_prose(part) for part in parts) else [item for part in parts if (item := clean_item(part))]


def _heading(body: str) -> tuple[str, str, str] | None:
    """The name of a heading, what follows it in its line, and "Cluster 2" if it begins so and has a name besides;
    None if `body` is no heading."""
    number = ""
    if numbered := _NUMBERED_GROUP.match(body):
        number, body = numbered[1], body[numbered.end():]
        if not _COLON.search(body):
            return (number, body, "") if _COMMA.search(body) else (clean_item(body), "", number)
    found = next(filter(None, (kind.fullmatch(body) for kind in _HEADINGS)), None)
    if found is None or is_prose(found[1]) or not clean_item(found[1]):
        return None
    return clean_item(found[1]), found[2].strip(" *:："), number


_PROSE_WORDS = frozenset(
    ["am", "is", "are", "was", "were", "which", "who", "can", "could", "may", "might", "would", "should", "have", "has",
     "i", "i'm", "you", "we", "they", "it", "it's", "this", "these", "there", "here", "sure", "please", "let",
     "because", "if", "include", "includes", "come", "comes", "hope"])
_MARKER = re.compile(
    r"(?P<indent>[ \t]*)(?:"
    r"(?P<number>[(\[]?[0-9]{1,4} ?[.):\]-][ \t]+|[(\[]?[0-9]{1,4}[.)](?=[^\W0-9])|[0-9０-９]{1,4}[、．）][ \t]*"
    r"|[①-⑳][ \t]*|[a-z]\)[ \t]+)"
    r"|(?P<bullet>[-*+–—][ \t]+(?:\[[ xX]\][ \t]+)?|[•‣◦▪●○■□・·][ \t]*))")
_NUMBER_WITHIN = re.compile(r"(?:\A|(?<=[\s,;]))\(?([0-9]{1,3})[.)][ \t]+")
_NUMBERED_GROUP = re.compile(r"\**((?:cluster|group|category)\s?[0-9]{1,3})\**\s?[:.)-]\**\s(?=\S)", re.IGNORECASE)
_COLON = re.compile(r"[:：]")
_HASH_HEADING = re.compile(r"#{1,6} ?([^:：]{1,80}?) ?[:：]?()")
_BOLD_HEADING = re.compile(r"\*\*([^*]{1,80})\*\* ?[:：]?(.*)")
_COLON_HEADING = re.compile(r"([^:：]{1,80}?) ?[:：] ?(.*)")
_HEADINGS = (_HASH_HEADING, _BOLD_HEADING, _COLON_HEADING)
_EMPHASISED = re.compile(
    r"(?:(?P<mark>\*{1,3}|_{1,3}|`)(?P<marked>[^*_`]{1,200})(?P=mark)|"
    r"[\"“„«「『](?P<quoted>[^\"“”„«»「」『』]{1,200})[\"“”»」』])(?=\s*(?:$|[-–—:：,.;(（=]))")
_EXPLANATION = re.compile(
    r" [-–—]{1,2} | ?[—：] ?|: |:$| ?[(（\[]| (?:=|->|→) |(?<=\w{3})\. |, (?:an?|the|which|with) ")
_AROUND = " \t\r\n.,;:!?\"'`*_“”„‘’«»「」『』<>|。，、；：！？"
_ARTICLE = re.compile(r"\A(?:an?|the) +(?=\S)", re.IGNORECASE)
_LEAD = re.compile(r".*(?:[:：] ?|\b(?:such as|including|for example|namely|e\.g\.)[,:]? )", re.IGNORECASE)
_COMMA = re.compile(r" ?[,;、，；] ?")
_AND = re.compile(r" (?:and|or|&) ")
_LEADING_AND = re.compile(r"\A(?:and|or|&|und|oder|et|ou|y|o|e|и) ", re.IGNORECASE)
