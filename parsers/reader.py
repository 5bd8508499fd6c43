"""Texts to scene priors, by the learned head where it answers best and by the rules elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from parsers.errors import Code, ModelError, SettingError
from parsers.terms import hide_terms, show_terms

if TYPE_CHECKING:
    from spacy.language import Language

    from parsers.head import Head
    from parsers.priors import ScenePriors


class SceneReader:
    """Reads batches of texts. Models are loaded when the first text needs them, and once. Threads take turns.

    use_head: True, the head alone; False, the rules alone; None, the head for the texts that it covers (captions of
    one sentence) if its model is there, and the rules for all others. pipeline: the directory of the spaCy pipeline
    below the rules, the pocket one if None; the rules read every text then, unless `use_head` says otherwise.
    Raises SettingError if `pipeline` is given with the head alone, which reads without one.
    """

    def __init__(self, pipeline: Path | None = None, use_head: bool | None = None) -> None:
        if use_head and pipeline is not None:
            raise SettingError(Code.SETTING_INVALID, "A spaCy pipeline for the learned head (--pipeline, --head).",
                               "The head reads without a pipeline.", "Leave one of the two out.")
        self._use_head = False if use_head is None and pipeline is not None else use_head
        self._pipeline = pipeline
        self._turn = threading.Lock()

    def read(self, texts: Sequence[str], terms: Sequence[str] = ()) -> list[ScenePriors]:
        """What each text says, in order. terms: names that the texts use as one word (`parsers.terms`).

        Raises ModelError or MissingPackageError where a model is missing, does not load, or needs a package that is
        not installed.
        """
        if terms:
            hidden = [hide_terms(text, terms) for text in texts]
            return [show_terms(priors, text, standing) for priors, text, (_, standing)
                    in zip(self.read([text for text, _ in hidden]), texts, hidden, strict=True)]
        with self._turn:  # neither the pipeline nor the head is made for several threads
            return self._read(texts)

    def _read(self, texts: Sequence[str]) -> list[ScenePriors]:
        head = None if self._use_head is False else self._head
        by_head = [place for place, text in enumerate(texts) if head and (self._use_head or head.covers(text))]
        found: dict[int, ScenePriors] = {}
        if head and by_head:
            found.update(zip(by_head, head.parse([texts[place] for place in by_head]), strict=True))
        if by_rules := [place for place in range(len(texts)) if place not in found]:
            from parsers.scene import parse_scenes

            found.update(zip(by_rules, parse_scenes([texts[place] for place in by_rules], self._nlp),
                             strict=True))
        return [found[place] for place in range(len(texts))]

    @cached_property
    def _nlp(self) -> Language:
        from parsers.pipeline import load_pipeline

        return load_pipeline(self._pipeline)

    @cached_property
    def _head(self) -> Head | None:
        from parsers.head import load_head

        try:
            return load_head()
        except ModelError as error:
            if self._use_head or error.code is not Code.MODEL_MISSING:
                raise
            return None
