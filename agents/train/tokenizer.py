"""The tokenizer of the pocket LLaVA-Phi2, in Hugging Face's file format.

A byte-level vocabulary without merges: what is one of `pieces()` is one token, all else is spelt byte by byte, so any
text can be read, written and constrained by a grammar. A name of several words is one piece, and so are the parts of
sentences and of JSON that stand between names: a description has about two tokens per thing.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from agents.train.knowledge import COLOUR_NAMES, SIZES, TEXTURE_GROUP, WIDER, seen_names, superclasses
from agents.train.requests import REQUEST_WORDS
from parsers.files import pretty_json, write_atomic
from vision.datasets.sprites import texture_names

END, IMAGE, PADDING = "<|endoftext|>", "<image>", "<pad>"
CONTEXT = 1024
"""Tokens of prompt, picture and answer together."""
GROUNDS = {name: f"There is {name}." if name in ("grass", "sand", "water", "snow") else f"There is a {name}."
           for name in texture_names()}
"""What a description says of a texture."""
ROWS = (" At the top", " At the upper", " At the middle", " At the lower", " At the bottom")
COLUMNS = (" far left there is", " left there is", " centre there is", " right there is", " far right there is")
"""Where the middle of a thing lies, in fifths of the picture."""
EDGES = tuple(map(str, range(33, 97)))
"""What a patch calls the edges of its thing: sixteen columns or rows of patches for each of the four. Numbers that no
text has, so nothing else is said of them."""
PREDICATES = ("to the left of", "to the right of", "above", "below", "in front of", "behind")
TURNS = ("USER: ", " ASSISTANT:", "\n")
QUESTIONS = ("Describe the picture.", "Describe the picture in detail.", "Is there ", " in the picture?", "Name ",
             " kinds of ", "Where is ", "Group the names ", "Now: ", "Which are in the picture? ", "Plan: ")
SENTENCES = (*GROUNDS.values(), *ROWS, *COLUMNS, " a ", " an ", " The ",
             *(f" is {predicate} the " for predicate in PREDICATES))
JSON_PARTS = ('{"', '": "', '", "', '": ["', '"], "', '["', '"]', '"}', '"]}', '": []}', '": ', ', "', '"], ', '"}, {"',
              '": [{"', '"}]}', '": []', '": true, "', '": false, "', "[]", '""', '": "", "', '""}', '": ""}')
KEYS = ("names", "clusters", "answer", "yes", "no", "targets", "subclasses", "candidate_free", "filters", "target",
        "attribute", "relation", "object", "true", "false")


@cache
def pieces() -> tuple[str, ...]:
    """The texts that are one token, without the bytes and the special tokens."""
    words = [*seen_names(), *superclasses(), *texture_names(), *WIDER, TEXTURE_GROUP, *COLOUR_NAMES, *SIZES,
             *(f"{word} " for word in (*SIZES, *COLOUR_NAMES)), *KEYS, "10", *EDGES, *REQUEST_WORDS]
    return tuple(dict.fromkeys((*TURNS, *QUESTIONS, *SENTENCES, *JSON_PARTS, *words)))


def make_tokenizer() -> Tokenizer:
    """Ids: 0 end of text, 1 picture, 2 padding, then the 256 bytes, then the pieces."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    known = ["".join(part for part, _ in byte_level.pre_tokenize_str(piece)) for piece in pieces()]
    words = list(dict.fromkeys((END, IMAGE, PADDING, *alphabet, *known)))
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_pattern()), behavior="isolated"), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(word, normalized=False, special=True) for word in (END, IMAGE, PADDING)])
    return tokenizer


def save_tokenizer(folder: Path) -> None:
    """Writes `tokenizer.json` and `tokenizer_config.json`."""
    write_atomic(folder / "tokenizer.json", pretty_json(json.loads(make_tokenizer().to_str())))
    write_atomic(folder / "tokenizer_config.json", pretty_json({
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT, "bos_token": END, "eos_token": END,
        "pad_token": PADDING, "image_token": IMAGE, "clean_up_tokenization_spaces": False,
    }))


def _pattern() -> str:
    """What is cut out of a text: the longest piece, else a word, else one character."""
    longest_first = sorted((piece for piece in pieces() if len(piece) > 1), key=lambda piece: (-len(piece), piece))
    return "|".join([*map(_bounded, longest_first), r"[^\W_]+", r"[\s\S]"])


def _bounded(piece: str) -> str:
    """A piece that begins or ends with a letter does not stand inside of a word; the ending of a plural may follow."""
    start = r"(?<!\w)" if piece[0].isalnum() else ""
    end = r"(?=(?:e?s)?(?!\w))" if piece[-1].isalnum() else ""
    return f"{start}{re.escape(piece)}{end}"
