"""The pocket CLIP's tokenizer: one token per known word, in Hugging Face's file format.

Ids: 0 padding, 1 unknown, 2 start, then the words, last the end mark. open_clip pools text at the highest id of a
sequence (`pool_type` argmax), so the end mark must be the largest.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from parsers.files import pretty_json, write_atomic
from vision.datasets.captions import OPENINGS, PLACES
from vision.datasets.pictograms import COLOURS
from vision.datasets.sprites import concepts, texture_names

CONTEXT_LENGTH = 48
PADDING, UNKNOWN, START, END = "<pad>", "<unk>", "<start>", "<end>"
GRAMMAR = (
    "a an the and with of in on to left right front behind above below small large big little picture photo drawing "
    "image there is are we see shows many some next near two three four five kind"
)


def words_of(text: str) -> list[str]:
    """Lower-case words, split at anything that is not a letter or digit."""
    return re.findall(r"\w+", text.lower())


def known_words() -> list[str]:
    """Every word that training texts can hold, sorted: seen names, super-classes, textures, colours, grammar."""
    texts = [concept.name for concept in concepts() if concept.seen]
    texts += [concept.superclass for concept in concepts()] + list(texture_names()) + list(COLOURS)
    texts += [GRAMMAR, *OPENINGS] + [place for places in PLACES.values() for place in places]
    return sorted({word for text in texts for word in words_of(text)})


def make_tokenizer() -> Tokenizer:
    """The tokenizer over `known_words`."""
    words = [PADDING, UNKNOWN, START, *known_words(), END]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\W+"), behavior="removed")
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, start), (END, end)])
    return tokenizer


def save_tokenizer(folder: Path) -> None:
    """Writes `tokenizer.json` and `tokenizer_config.json`, which open_clip's Hugging Face path reads."""
    tokenizer = make_tokenizer()
    write_atomic(folder / "tokenizer.json", pretty_json(json.loads(tokenizer.to_str())))
    write_atomic(folder / "tokenizer_config.json", pretty_json({
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT_LENGTH, "pad_token": PADDING,
        "unk_token": UNKNOWN, "bos_token": START, "eos_token": END, "clean_up_tokenization_spaces": False,
    }))
