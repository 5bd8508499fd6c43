"""Class names: their one spelling, what is refused, and which of them look like another."""

from __future__ import annotations

import re
import unicodedata

MAX_NAME_LENGTH = 200
"""Characters. A text encoder reads some 70 word pieces; a longer "name" is a pasted paragraph."""
LONG_NAME_LENGTH = 60
"""Characters. Longer names are allowed with a warning, since encoders cut what they cannot read."""
ALLOWED = f"A name has 1 to {MAX_NAME_LENGTH} characters, at least one letter or digit and no control characters."

_JOINERS = "\u200c\u200d"
"""Zero-width joiners: invisible, but part of the spelling of Persian, Hindi and others."""
_SPACES = "\t\n\r"

# Letters of other scripts that are drawn like a Latin letter. Capitals stand here beside small letters because
# capital look-alikes (Cyrillic En, Greek Eta) are not look-alikes when small.
_LOOK_ALIKES = str.maketrans(dict(zip(
    "асԁеһіјӏорԛѕԝхуѵ" "АВСЕНІЈӀКМОРЅТХУ" "αινορυγκ" "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "acdehijlopqswxyv" "abcehijlkmopstxy" "aivopuyk" "abezhikmnoptyx", strict=True)))


def normalise_name(text: str) -> str:
    """The spelling that lexiseg keeps: Unicode NFC, one space where there was white space, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def name_key(text: str) -> str:
    """What two names share when they are the same name: "Dog", " dog" and a full-width "dog" have one key."""
    folded = unicodedata.normalize("NFKC", text.translate({ord(joiner): None for joiner in _JOINERS}))
    return normalise_name(unicodedata.normalize("NFKC", folded.casefold()))


def shape_key(text: str) -> str:
    """What two names share when a person cannot tell them apart on a screen: Cyrillic and Greek letters that are
    drawn like Latin ones count as Latin."""
    compatible = unicodedata.normalize("NFKC", text)
    return name_key(compatible.translate(_LOOK_ALIKES))


def plain_key(text: str) -> str:
    """What two names share when they differ only in punctuation: "t-shirt" and "T shirt"."""
    return normalise_name(re.sub(r"[^\w]|_", " ", name_key(text)))


def name_problem(text: str) -> str | None:
    """Why `text` cannot be a name, or None if it can. The answer continues the sentence "the name ..."."""
    for char in text:
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co") and char not in _SPACES + _JOINERS:
            return f"has the control character U+{ord(char):04X}"
    name = normalise_name(text)
    if not name:
        return "is empty"
    if len(name) > MAX_NAME_LENGTH:
        return f"is {len(name):,} characters long"
    if not any(char.isalnum() for char in name):
        return "has no letter or digit"
    return None


def scripts(text: str) -> set[str]:
    """The scripts of the letters of `text`, by their Unicode names: {"LATIN"}, {"CJK"}, {"CYRILLIC", "LATIN"}."""
    letters = (char for char in unicodedata.normalize("NFKD", text) if char.isalpha())
    return {unicodedata.name(char, "UNKNOWN").split()[0] for char in letters}


def mixed_words(text: str) -> list[str]:
    """The words of `text` that mix Latin with Cyrillic or Greek letters, which no language does in one word."""
    return [word for word in re.findall(r"\w+", text)
            if "LATIN" in (found := scripts(word)) and found & {"CYRILLIC", "GREEK"}]


def shorten(text: str, width: int = 40) -> str:
    """`text` for a message: quoted, control characters escaped, cut to about `width` characters."""
    return repr(text if len(text) <= width else text[:width - 3] + "...")
