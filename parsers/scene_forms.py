"""Forms of English words: singular of a noun, base and -ing form of a verb. Rules of spelling and short tables, ours.

They serve where a pipeline's lemma is missing or odd, and make one lemma of a name whoever found it.
"""

from __future__ import annotations

import re

from parsers.scene_words import word_set

_NOUNS = {
    "people": "person", "children": "child", "men": "man", "women": "woman", "feet": "foot", "teeth": "tooth",
    "geese": "goose", "mice": "mouse", "oxen": "ox", "knives": "knife", "leaves": "leaf", "shelves": "shelf",
    "wives": "wife", "loaves": "loaf", "calves": "calf", "halves": "half", "hooves": "hoof", "scarves": "scarf",
    "wolves": "wolf", "thieves": "thief", "lives": "life", "elves": "elf", "buses": "bus", "busses": "bus",
    "gases": "gas", "lenses": "lens", "cacti": "cactus", "ties": "tie", "pies": "pie", "movies": "movie",
    "cookies": "cookie", "zombies": "zombie", "selfies": "selfie", "hoodies": "hoodie", "brownies": "brownie",
    "smoothies": "smoothie", "veggies": "veggie", "shoes": "shoe", "canoes": "canoe", "toes": "toe", "axes": "axe",
    "horseshoes": "horseshoe", "caches": "cache", "headaches": "headache", "dice": "die", "quizzes": "quiz",
    "birdies": "birdie", "doggies": "doggie", "goalies": "goalie", "pixies": "pixie", "genies": "genie",
    "skis": "ski", "taxis": "taxi", "kiwis": "kiwi", "menus": "menu", "tvs": "tv", "cds": "cd", "dvds": "dvd",
    "canvases": "canvas", "neckties": "necktie", "jet-skis": "jet-ski", "pcs": "pc", "suvs": "suv",
}
_SAME = word_set("glasses sunglasses eyeglasses scissors pants jeans shorts trousers clothes goggles binoculars "
                 "headphones pajamas tights leggings overalls sheep fish deer series species bus gas lens canvas "
                 "atlas cactus octopus walrus iris chess grass dress tennis news stairs mathematics outdoors indoors "
                 "christmas his this is was has its us yes plus campus circus virus bias debris ibis asparagus "
                 "hummus citrus hibiscus platypus tongs pliers thus surroundings belongings headquarters")
_STEMS = {  # irregular verb forms of captions
    "lying": "lie", "tying": "tie", "dying": "die", "held": "hold", "worn": "wear", "wore": "wear", "sat": "sit",
    "stood": "stand", "ridden": "ride", "rode": "ride", "eaten": "eat", "ate": "eat", "hung": "hang", "stuck": "stick",
    "made": "make", "built": "build", "seen": "see", "saw": "see", "taken": "take", "took": "take", "given": "give",
    "gave": "give", "drawn": "draw", "driven": "drive", "drove": "drive", "written": "write", "wrote": "write",
    "thrown": "throw", "threw": "throw", "flown": "fly", "flew": "fly", "laid": "lay", "left": "leave", "cut": "cut",
    "put": "put", "hit": "hit", "set": "set", "shown": "show", "torn": "tear", "caught": "catch", "bent": "bend",
    "lit": "light", "bound": "bind", "wound": "wind", "grown": "grow", "fed": "feed", "led": "lead", "kept": "keep",
    "cast": "cast", "split": "split", "spread": "spread", "shut": "shut", "ran": "run", "got": "get", "went": "go",
    "came": "come", "fell": "fall", "fallen": "fall", "broken": "break", "frozen": "freeze", "chosen": "choose",
    "sewn": "sew", "woven": "weave", "swung": "swing", "has": "have", "had": "have", "having": "have", "is": "be",
    "are": "be", "was": "be", "were": "be", "been": "be", "being": "be", "does": "do", "did": "do", "done": "do",
    "brought": "bring", "bought": "buy", "felt": "feel", "met": "meet", "sold": "sell", "slept": "sleep",
    "swept": "sweep", "drunk": "drink", "sunk": "sink", "spun": "spin", "strung": "string", "struck": "strike",
    "gone": "go", "known": "know", "blown": "blow", "beaten": "beat", "hidden": "hide", "bitten": "bite",
}
_NOUNS_TOO = word_set("left saw felt cast bound wound fell lit met spun cut found")
_SILENT_E = word_set("chang arrang exchang rang lung loung plung past tast wast bath breath cloth sooth typ creat "
                     "prepar squeez")
"""Stems of verbs with a final e that the rules of `_base` would not give back."""
_LIGHT_ENDINGS = ("er", "en", "on", "or", "et", "it", "el", "ol", "ar", "op", "om", "ip", "im", "in", "il", "an", "al",
                  "ap", "ow", "ic", "ot", "ock", "up", "ad")
"""Ends of stems of two and more syllables that take no e: "cover", "open", "gallop"."""
_SILENT_CLUSTERS = ("bl", "cl", "dl", "fl", "gl", "kl", "pl", "tl", "zl", "sl", "nc", "rc", "rg", "lg", "dg", "ns",
                    "rs", "ls", "ps", "rv", "lv", "u", "eas", "ais", "ous", "oos", "eiv", "iev", "eav", "eac")
"""Ends of stems that take an e: "handle", "bounce", "serve", "raise"."""
_LONG = word_set("combin examin imagin determin lin min din shin recogniz escap shap erod abid decid provid divid "
                 "invad pil til smil fil reclin")

def noun_lemma(word: str) -> str:
    """The singular of a noun in small letters; what looks singular, and words like "scissors", stay as they are."""
    if word in _NOUNS:
        return _NOUNS[word]
    if word in _SAME or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return "person" if word == "persons" else _men(word)
    for ending, singular in (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("zzes", "zz"),
                             ("oes", "o")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word.removesuffix(ending) + singular
    return word[:-1]


def _men(word: str) -> str:
    return word[:-2] + "an" if word.endswith("men") and word not in ("specimen", "abdomen", "omen", "ramen") else word


def is_plural(word: str) -> bool:
    """Whether a noun in small letters is a plural by its form."""
    return noun_lemma(word) != word


def is_participle(word: str) -> bool:
    """Whether a word in small letters can only be an irregular past form of a verb: "ridden", "held"."""
    return word in _STEMS and not word.endswith("ing") and _STEMS[word] != word and word not in _NOUNS_TOO


def verb_lemma(word: str) -> str:
    """The base of a verb form in small letters: "wearing", "wears" and "worn" give "wear"."""
    if word in _STEMS:
        return _STEMS[word]
    if word.endswith("ing") and len(word) > 4 and re.search("[aeiouy]", word[:-3]):
        return _base(word[:-3])
    if word.endswith("ied") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("ed") and len(word) > 4:
        return _base(word[:-2])
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zzes", "oes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        return word[:-1]
    return word


def _base(stem: str) -> str:
    """The verb whose -ing or -ed form leaves `stem`: "rid" gives "ride", "runn" gives "run", "look" stays."""
    if len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in "aeiouflsz":
        return stem[:-1]
    if stem.endswith("ell") and len(re.findall("[aeiouy]+", stem)) > 1:
        return stem[:-1]  # "travelling", unlike "smelling"
    if stem in _SILENT_E or stem in _LONG or stem.endswith(_SILENT_CLUSTERS):
        return stem + "e"
    one_vowel = len(stem) > 1 and stem[-1] not in "aeiouwxy" and stem[-2] in "aeiou"
    one_vowel = one_vowel and stem[-3:-2] not in ("a", "e", "o")
    syllables = len(re.findall("[aeiouy]+", stem))
    if one_vowel and (syllables == 1 or not stem.endswith(_LIGHT_ENDINGS)):
        return stem + "e"
    return stem


def ing_form(verb: str) -> str:
    """The -ing form of a base in small letters: "sit" gives "sitting"."""
    if verb in ("lie", "tie", "die"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and verb != "be":
        return verb[:-1] + "ing"
    short = len(re.findall("[aeiou]+", verb)) == 1
    if (short and len(verb) > 2 and verb[-1] not in "aeiouwxy" and verb[-2] in "aeiou"
            and verb[-3] not in "aeiou"):
        return verb + verb[-1] + "ing"
    return verb + "ing"
