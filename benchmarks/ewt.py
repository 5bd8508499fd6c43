"""Quality of a pipeline on the dev split of UD English EWT: `python -m benchmarks.ewt [--model DIR] [--ewt FOLDER]`.

sentences: each sentence as raw text, tokens found by the pipeline (a word that it cuts otherwise counts as wrong).
words: the treebank's own words. texts: runs of up to 8 sentences as raw text, so the ends of sentences are found too
(the sentence score of the other rows says how often one is not cut in two). captions: sentences in lower case without
their last mark. Scores are those of spaCy's Scorer, in per cent; punctuation does not count for UAS and LAS.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from parsers.pipeline import load_pipeline

if TYPE_CHECKING:
    from spacy.language import Language

    from parsers.train.conllu import Sentence

EWT = Path("../shared/data/ud_english_ewt")
SCORES = {"UPOS": "pos_acc", "XPOS": "tag_acc", "morph": "morph_acc", "lemma": "lemma_acc", "UAS": "dep_uas",
          "LAS": "dep_las", "sentences": "sents_f"}
LONGEST_CAPTION = 20


def row(nlp: Language, name: str, groups: Sequence[tuple[Sentence, ...]], treebank_words: bool = False) -> str:
    """One line of scores of `nlp` on groups of sentences."""
    from spacy.tokens import Doc
    from spacy.training import Example

    from parsers.train.conllu import to_doc

    examples = []
    for group in groups:
        gold = to_doc(nlp.vocab, group)
        words = [word.text for word in gold]
        spaces = [bool(word.whitespace_) for word in gold]
        found = Doc(nlp.vocab, words=words, spaces=spaces) if treebank_words else nlp.make_doc(gold.text)
        examples.append(Example(found, gold))
    scores = nlp.evaluate(examples, batch_size=256)
    return f"{name:10}" + "  ".join(f"{label} {100 * scores[key]:.2f}" for label, key in SCORES.items()
                                    if scores.get(key) is not None)


def speed(nlp: Language, sentences: Sequence[Sentence]) -> str:
    """Sentences in a second of processor time, batched, raw text in, parse out."""
    from parsers.train.conllu import to_doc

    texts = [to_doc(nlp.vocab, [sentence]).text for sentence in sentences]
    started = time.process_time()
    words = sum(len(doc) for doc in nlp.pipe(texts, batch_size=256))
    seconds = time.process_time() - started
    return f"speed: {len(texts) / seconds:.0f} sentences/s of {words / len(texts):.1f} words"


def main() -> None:
    """Reads the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ewt", description=__doc__)
    parser.add_argument("--model", type=Path, help="a pipeline directory (default: the pocket one)")
    parser.add_argument("--ewt", type=Path, default=EWT, help=f"the folder of the treebank (default {EWT})")
    given = parser.parse_args()
    load_pipeline(given.model)
    started = time.perf_counter()
    nlp = load_pipeline(given.model)
    print(f"load, spaCy imported: {time.perf_counter() - started:.2f} s; "
          f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    from parsers.train.conllu import as_caption, grouped, read_split  # after spaCy was imported without torch

    dev = read_split(given.ewt, "dev")
    captions = [as_caption(sentence) for sentence in dev]
    print(row(nlp, "sentences", [(sentence,) for sentence in dev]))
    print(row(nlp, "words", [(sentence,) for sentence in dev], treebank_words=True))
    print(row(nlp, "texts", list(grouped(dev, 8, 0))))
    print(row(nlp, "captions", [(sentence,) for sentence in captions]))
    print(speed(nlp, [sentence for sentence in captions if len(sentence.words) <= LONGEST_CAPTION]))


if __name__ == "__main__":
    main()
