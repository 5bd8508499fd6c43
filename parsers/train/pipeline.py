"""Trains the pocket pipeline on UD English EWT with spaCy's own training, and writes it with its model card."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.training.initialize import init_nlp
from spacy.training.loop import DIR_MODEL_BEST, train
from spacy.util import compile_infix_regex, compile_prefix_regex, compile_suffix_regex, load_config
from spacy.util import load_model_from_config as fill_config
from spacy.vocab import Vocab

from parsers.errors import Code, ModelError
from parsers.files import output_error, pretty_json, sha256_bytes, sha256_file, write_atomic
from parsers.pipeline import CARD_FILE, FORMAT_VERSION
from parsers.train.conllu import Sentence, as_caption, grouped, noun_phrase, read_split, split_text, to_doc

CONFIG = Path(__file__).with_name("en_scene.cfg")
NAME = "en_scene"
LARGEST_GROUP = 4
CAPTION_SHARE = 0.3
PHRASE_SHARE = 0.3
"""Of the sentences, how many are seen once more as captions, and how many give a noun phrase that stands alone. Our
choice: captions are mostly phrases in lower case, and the treebank has few."""
SOURCE = {
    "name": "Universal Dependencies English EWT",
    "citation": "Silveira et al., A Gold Standard Dependency Corpus for English, LREC 2014",
    "url": "https://github.com/UniversalDependencies/UD_English-EWT",
    "licence": "CC BY-SA 4.0",
}


class TimeIsUpError(Exception):
    """The training has run for as long as it may."""


@spacy.registry.callbacks("lexiseg.stop_after.v1")
def stop_after(minutes: float) -> Callable[[Language, dict[str, Any]], None]:
    """A `before_update` that raises TimeIsUpError once `minutes` have passed since the training began."""
    end = time.monotonic() + minutes * 60

    def check(nlp: Language, step: dict[str, Any]) -> None:
        if time.monotonic() > end:
            raise TimeIsUpError

    return check


@spacy.registry.callbacks("lexiseg.marks_stay_together.v1")
def marks_stay_together() -> Callable[[Language], Language]:
    """A `before_init` after which runs of marks ("!!!", "?!", "=====") are one token, as UD writes them; spaCy's rules
    for English split most of them."""
    runs = [r"[!?]{2,}", r"([=_*~<>+#$-])\1+"]

    def change(nlp: Language) -> Language:
        # spaCy anchors each alternative, and \1 must keep its meaning, so the runs come first
        defaults = nlp.Defaults
        tokenizer: Any = nlp.tokenizer
        tokenizer.prefix_search = compile_prefix_regex([*runs, *(defaults.prefixes or ())]).search
        tokenizer.suffix_search = compile_suffix_regex([*runs, *(defaults.suffixes or ())]).search
        tokenizer.infix_finditer = compile_infix_regex([*runs, *(defaults.infixes or ())]).finditer
        return nlp

    return change


def training_texts(treebank: list[Sentence], seed: int) -> Iterator[tuple[Sentence, ...]]:
    """What is learnt from: neighbouring sentences together, sentences as captions, noun phrases alone."""
    yield from grouped(treebank, LARGEST_GROUP, seed)
    dice = random.Random(seed)
    for sentence in treebank:
        if dice.random() < CAPTION_SHARE:
            yield (as_caption(sentence),)
        if dice.random() < PHRASE_SHARE and (phrase := noun_phrase(sentence, dice)) is not None:
            yield (as_caption(phrase),)


def train_pipeline(ewt: Path, out: Path, work: Path, *, minutes: float, seed: int, config: Path = CONFIG,
                   overrides: dict[str, Any] | None = None) -> dict[str, float]:
    """Trains in `work` (corpora, checkpoints) and writes the model that was best on the dev split into `out`.

    ewt: a folder with the train and dev splits. minutes: stop after so long, with the best model so far; rates of
    learning fall to zero towards the last step of `config`, so a run that is cut short ends a little worse.
    overrides: values of `config` by dotted name.

    Returns the scores on dev, from 0 to 1. Raises DatasetError for the folder, ModelError (`model-incomplete`) when
    the time was too short for any model, OutputError.
    """
    splits = {split: read_split(ewt, split) for split in ("train", "dev")}
    texts: dict[str, list[tuple[Sentence, ...]]] = {"train": list(training_texts(splits["train"], seed)),
                                                    "dev": [(one,) for one in splits["dev"]]}
    paths = {split: work / f"{split}.spacy" for split in texts}
    vocab = Vocab()
    for split, groups in texts.items():
        write_atomic(paths[split], DocBin(docs=[to_doc(vocab, group) for group in groups]).to_bytes())
    values = {"paths.train": str(paths["train"]), "paths.dev": str(paths["dev"]), "system.seed": seed,
              "training.before_update.minutes": minutes, **(overrides or {})}
    nlp = init_nlp(fill_config(load_config(config, overrides=values), auto_fill=True).config)
    nlp.meta.update(name=NAME, version="1.0.0", license=SOURCE["licence"], description=f"Trained on {SOURCE['name']}.")
    try:
        train(nlp, work)
    except TimeIsUpError:
        print(f"Stopped after {minutes:g} minutes.", flush=True)
    return export_pipeline(work, out, ewt)


def export_pipeline(work: Path, out: Path, ewt: Path) -> dict[str, float]:
    """Writes the best model of `work` into `out`, with a model card and without paths of this machine; an older one
    there is replaced. `ewt` is what it was trained on. Returns its scores on dev, from 0 to 1.

    Raises ModelError (`model-incomplete`) when there is none, OutputError.
    """
    best = work / DIR_MODEL_BEST
    if not (best / "meta.json").is_file():
        raise ModelError(Code.MODEL_INCOMPLETE, f"{work} holds no trained model.", "A training of some minutes.",
                         "python -m parsers.train pipeline --minutes 60")
    nlp = spacy.load(best)
    config = nlp.config
    config["paths"] = dict.fromkeys(config["paths"])
    nlp.config = config
    scores = {name: round(float(nlp.meta["performance"][name]), 4) for name in
              ("pos_acc", "tag_acc", "morph_acc", "lemma_acc", "dep_uas", "dep_las")}
    nlp.meta["performance"] = scores
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".", suffix=".part") as folder:
            fresh = Path(folder) / out.name
            nlp.to_disk(fresh)
            files = sorted(path.relative_to(fresh).as_posix() for path in fresh.rglob("*") if path.is_file())
            card = {
                "format_version": FORMAT_VERSION, "name": f"pocket-{NAME.replace('_', '-')}", "kind": "spacy",
                "language": "en", "labels": "Universal Dependencies", "components": nlp.pipe_names,
                "spacy_version": nlp.meta["spacy_version"],
                "licence": f"{SOURCE['licence']}; derived from {SOURCE['name']}",
                "trained_on": {**SOURCE, "train_sha256": sha256_bytes(split_text(ewt, "train").encode())},
                "trained_by": "python -m parsers.train pipeline", "dev_scores": scores,
                "files": {name: sha256_file(fresh / name) for name in files},
            }
            write_atomic(fresh / CARD_FILE, pretty_json(card))
            if out.exists():
                shutil.rmtree(out)
            os.replace(fresh, out)
    except OSError as error:
        raise output_error(out, error) from error
    return scores

