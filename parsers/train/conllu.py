"""UD English EWT: sentences of CoNLL-U files as spaCy documents."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from spacy.tokens import Doc
from spacy.vocab import Vocab

from parsers.errors import Code, DatasetError

ALLOWED = "A folder with {split}.conllu or {split}.conllu.gz (also as en_ewt-ud-{split}.conllu), as in UD English EWT."
TIES = ("case", "cc", "mark", "punct")
NEXT_STEP = "Download UD_English-EWT of Universal Dependencies and name its folder with --ewt."


@dataclass(frozen=True, slots=True)
class Word:
    """One syntactic word of a sentence. `head` counts from 0; a root is its own head and its relation is `ROOT`."""

    form: str
    lemma: str
    upos: str
    tag: str
    feats: str
    head: int
    deprel: str
    space_after: bool


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence; `starts_text` where a new document of the treebank begins."""

    words: tuple[Word, ...]
    starts_text: bool = False


def split_text(folder: Path, split: str) -> str:
    """The CoNLL-U text of `train` or `dev` in `folder`. Raises DatasetError (`dataset-invalid`)."""
    for name in (f"{split}.conllu.gz", f"{split}.conllu", f"en_ewt-ud-{split}.conllu", f"en_ewt-ud-{split}.conllu.gz"):
        path = folder / name
        try:
            if path.is_file():
                data = path.read_bytes()
                return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise DatasetError(Code.DATASET_INVALID, f"{path} cannot be read: {error}.",
                               ALLOWED.format(split=split), NEXT_STEP) from error
    raise DatasetError(Code.DATASET_INVALID, f"{folder} holds no {split} split.", ALLOWED.format(split=split),
                       NEXT_STEP)


def read_split(folder: Path, split: str) -> list[Sentence]:
    """The sentences of `train` or `dev` in `folder`, in order. Multiword tokens ("don't") become their words without
    a space between them; empty nodes of the enhanced graph are left out.

    Raises DatasetError (`dataset-invalid`) when the file is missing or a line is not CoNLL-U.
    """
    return list(sentences(split_text(folder, split).split("\n"), f"{split} of {folder}"))


def sentences(lines: Iterable[str], source: str) -> Iterator[Sentence]:
    """The sentences of a CoNLL-U text; `source` names it in errors. Raises DatasetError (`dataset-invalid`)."""
    rows: list[list[str]] = []
    starts_text = False
    first = 1
    number = 0
    for number, line in enumerate([*lines, ""], start=1):
        line = line.rstrip("\r\n")
        if line.startswith("#"):
            starts_text |= line.startswith("# newdoc")
        elif line:
            rows.append(line.split("\t"))
        elif rows:
            try:
                yield Sentence(_words(rows), starts_text)
            except (ValueError, KeyError, IndexError) as error:
                raise DatasetError(Code.DATASET_INVALID, f"{source}, lines {first} to {number}: no CoNLL-U sentence.",
                                   "Ten columns with tabs, heads within the sentence.", NEXT_STEP) from error
            rows, starts_text, first = [], False, number + 1


def _words(rows: list[list[str]]) -> tuple[Word, ...]:
    """Rows of one sentence to words; spaces of a multiword token count for its last word alone."""
    if any(len(row) != 10 for row in rows):
        raise ValueError("ten columns")
    spans = {}
    for row in rows:
        if "-" in row[0]:
            first, last = map(int, row[0].split("-"))
            spans.update(dict.fromkeys(range(first, last), False))
            spans[last] = "SpaceAfter=No" not in row[9]
    kept = [row for row in rows if row[0].isdigit()]
    places = {row[0]: index for index, row in enumerate(kept)}
    words = []
    for index, row in enumerate(kept):
        root = row[6] == "0"
        words.append(Word(
            form=row[1], lemma=row[2], upos=row[3], tag=row[4], feats="" if row[5] == "_" else row[5],
            head=index if root else places[row[6]], deprel="ROOT" if root else row[7],
            space_after=spans.get(int(row[0]), "SpaceAfter=No" not in row[9]),
        ))
    return tuple(words)


def as_caption(sentence: Sentence) -> Sentence:
    """The sentence as people type captions: lower case, no mark at the end. Its lemmas are lower case too."""
    words = list(sentence.words)
    last = len(words) - 1
    if last > 0 and words[last].upos == "PUNCT" and all(word.head != last for word in words):
        del words[last]
    words = [replace(word, form=word.form.lower(), lemma=word.lemma.lower()) for word in words]
    return replace(sentence, words=tuple(words))


def noun_phrase(sentence: Sentence, dice: random.Random) -> Sentence | None:
    """One noun of the sentence with all that depends on it, as a sentence of its own; None where there is none of
    three words or more in one piece. The preposition, conjunction and punctuation that tie it to the rest stay
    behind."""
    found = []
    for place, word in enumerate(sentence.words):
        if word.upos not in ("NOUN", "PROPN"):
            continue
        tied = {index for index, other in enumerate(sentence.words)
                if other.head == place != index and other.deprel in TIES}
        inside = sorted(_below(sentence.words, place, tied))
        while inside and sentence.words[inside[-1]].deprel == "punct":
            inside.pop()
        while inside and sentence.words[inside[0]].deprel == "punct":
            del inside[0]
        whole = all(index == place or sentence.words[index].head in inside for index in inside)
        if whole and len(inside) >= 3 and inside[-1] - inside[0] == len(inside) - 1:
            found.append((place, inside))
    if not found:
        return None
    root, inside = dice.choice(found)
    words = [replace(sentence.words[index], head=sentence.words[index].head - inside[0]) for index in inside]
    words[root - inside[0]] = replace(words[root - inside[0]], head=root - inside[0], deprel="ROOT")
    return Sentence(tuple(words))


def _below(words: tuple[Word, ...], place: int, without: set[int]) -> set[int]:
    """Places of the word at `place` and of everything that depends on it, except what hangs on a place in
    `without`."""
    found = {place}
    grown = True
    while grown:
        more = {index for index, word in enumerate(words) if word.head in found and index not in found | without}
        found |= more
        grown = bool(more)
    return found


def to_doc(vocab: Vocab, group: Iterable[Sentence]) -> Doc:
    """Sentences as one annotated document: tags, morphology, lemmas, heads and sentence starts."""
    words: list[Word] = []
    heads = []
    starts = []
    for sentence in group:
        heads += [word.head + len(words) for word in sentence.words]
        starts += [index == 0 for index in range(len(sentence.words))]
        words += sentence.words
    return Doc(
        vocab, words=[word.form for word in words], spaces=[word.space_after for word in words],
        tags=[word.tag for word in words], pos=[word.upos for word in words], morphs=[word.feats for word in words],
        lemmas=[word.lemma for word in words], heads=heads, deps=[word.deprel for word in words],
        sent_starts=starts,  # type: ignore[arg-type]  # spaCy takes bools, its stub wants them optional
    )


def grouped(treebank: list[Sentence], largest: int, seed: int) -> Iterator[tuple[Sentence, ...]]:
    """Neighbouring sentences of one text in groups of 1 to `largest`, sizes drawn evenly: a parser that saw single
    sentences alone would never learn where the next one begins."""
    dice = random.Random(seed)
    group: list[Sentence] = []
    size = dice.randint(1, largest)
    for sentence in treebank:
        if group and (len(group) == size or sentence.starts_text):
            yield tuple(group)
            group, size = [], dice.randint(1, largest)
        group.append(sentence)
    if group:
        yield tuple(group)
