"""`lexiseg subclasses`, `clusters`, `describe`, `vocabulary build`: what a language model knows, for a person."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents import (
    CallSettings,
    KnowledgeSource,
    Picture,
    cluster_categories,
    extract_priors,
    generate_subclasses,
    open_model,
    open_store,
)
from agents.parallel import in_order
from agents.records import Detail
from agents.store import NO_STORE
from agents.views import asked_for
from agents.vocabulary import build_vocabulary
from parsers.errors import Code, LexisegError, SettingError
from parsers.files import output_error
from parsers.priors import ScenePriors
from parsers.reader import SceneReader
from parsers.vocabulary import Vocabulary
from service.app import cache_dir
from service.console import console, progress, say, say_json, show_error, warn
from service.parse import scene_tree
from service.vocabulary import summary
from vision.images import read_image
from workers.inputs import InputItem, find_inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmOptions:
    """Which language model, and how it is called. None: the default."""

    llm: str | None = None
    name: str | None = None
    store: str | None = None
    timeout_s: float | None = None
    parallel: int | None = None
    calls: int | None = None
    """In all; only of jobs without candidates."""
    views: int | None = None
    """How often a picture is described."""


def place_of_llm(options: LlmOptions) -> str:
    """`pocket`, a model directory or a URL: the option, else LEXISEG_LLM, else the first."""
    return options.llm or os.environ.get("LEXISEG_LLM") or "pocket"


def name_of_llm(options: LlmOptions) -> str | None:
    """Which model of a server that serves several: the option, else LEXISEG_LLM_MODEL."""
    return options.name or os.environ.get("LEXISEG_LLM_MODEL") or None


def place_of_store(options: LlmOptions | None = None) -> str:
    """Where answers are kept: the option, else LEXISEG_STORE, else a file in the cache."""
    given = options.store if options is not None else None
    return given or os.environ.get("LEXISEG_STORE") or str(cache_dir() / "knowledge.sqlite")


@contextmanager
def knowledge_source(options: LlmOptions) -> Iterator[KnowledgeSource]:
    """The language model of the options with its store. At the end it is said how often it had to be replaced. Raises
    LlmError, ModelError, SettingError, MissingPackageError."""
    given: dict[str, Any] = {"timeout_s": options.timeout_s, "concurrency": options.parallel}
    settings = CallSettings(**{name: value for name, value in given.items() if value is not None})
    where = place_of_store(options)
    with ExitStack() as stack:
        store = None if where == NO_STORE else open_store(where)
        if store is not None:
            stack.callback(store.close)
        model = open_model(place_of_llm(options), name=name_of_llm(options),
                           api_key=os.environ.get("LEXISEG_LLM_KEY"), settings=settings)
        stack.callback(model.close)
        source = KnowledgeSource(model, store)
        stack.callback(lambda: warn(source.tally.warnings()))
        yield source


def subclasses(names: str, count: int, options: LlmOptions, *, gloss: str | None = None, as_json: bool = False) -> None:
    """Lists the subclasses of each name."""
    vocabulary = Vocabulary.from_names(names)
    listed = [entry.name for entry in vocabulary.classes]
    if gloss is not None and len(listed) > 1:
        raise SettingError(Code.SETTING_INVALID, f"--gloss for {len(listed)} names.", "--gloss is of one name.",
                           "Write a vocabulary file with a gloss for each, then: lexiseg vocabulary build FILE")
    with knowledge_source(options) as source:
        answers = list(in_order(
            lambda name: generate_subclasses(source, name, count, gloss=gloss, others=[
                other for other in listed if other != name]), listed, source.model.settings.concurrency))
        if as_json:
            say_json({"format_version": 1, "model": source.model.name, "classes": [
                {"name": name, "subclasses": list(answer.record.subclasses), "outcome": answer.outcome,
                 "stored": answer.stored} for name, answer in zip(listed, answers, strict=True)]})
            return
        for name, answer in zip(listed, answers, strict=True):
            say(f"{name}: {', '.join(answer.record.subclasses) or '(none)'}")


def clusters(names: str, options: LlmOptions, *, as_json: bool = False) -> None:
    """Shows the names in clusters."""
    vocabulary = Vocabulary.from_names(names)
    with knowledge_source(options) as source:
        found = cluster_categories(source, [entry.name for entry in vocabulary.classes])
        if as_json:
            say_json({"format_version": 1, "model": source.model.name, "clusters": found.partition.clusters,
                      "rounds": found.rounds, "settled": found.settled, "outcome": found.outcome,
                      "stored": found.stored})
            return
        for cluster, members in found.partition.clusters.items():
            say(f"{cluster}: {', '.join(members)}")


def describe(inputs: list[str], options: LlmOptions, *, detailed: bool = False, jsonl: bool = False) -> int:
    """Describes pictures, and shows what the scene parser reads in the descriptions. Returns how many pictures could
    not be read; the others are not stopped by them."""
    detail: Detail = "detailed" if detailed else "simple"
    found = find_inputs(inputs)
    failed = 0
    with knowledge_source(options) as source:
        reader = SceneReader()

        def one(item: InputItem) -> tuple[InputItem, ScenePriors | LexisegError]:
            try:
                image_HW3 = read_image(item.path)
            except LexisegError as error:
                return item, error
            return item, extract_priors(source, Picture(image_HW3), reader, detail, options.views).priors

        with progress("describing", hidden=sys.stdout.isatty()) as update:
            for done, (item, said) in enumerate(in_order(one, found.items, source.model.settings.concurrency), start=1):
                if isinstance(said, LexisegError):
                    failed += 1
                    if jsonl:
                        write_line({"picture": item.name, "state": "failed", "code": str(said.code),
                                    "message": said.given})
                    else:
                        show_error(said)
                else:
                    if jsonl:
                        write_line({"picture": item.name, "state": "done",
                                    "prompt": asked_for(detail, options.views or source.model.views),
                                    "model": source.model.name, "description": said.text,
                                    "priors": said.model_dump(mode="json")})
                    else:
                        say(item.name, "bold")
                        console().print(scene_tree(said), soft_wrap=False)
                update(done, len(found.items))
    return failed


def build(names_or_file: str, out: Path, options: LlmOptions, *, subclass_count: int, with_clusters: bool) -> None:
    """Writes a vocabulary of names, or the one in a file, with what the language model adds."""
    is_file = Path(names_or_file).suffix.lower() in (".yaml", ".yml", ".json")
    vocabulary = Vocabulary.load(names_or_file) if is_file else Vocabulary.from_names(names_or_file)
    if not out.parent.is_dir():
        raise output_error(out, NotADirectoryError(20, f"{out.parent} is not a folder"))
    if subclass_count == 0 and not with_clusters:
        raise SettingError(Code.SETTING_INVALID, "Neither --subclasses nor --clusters was given.", "One or both.",
                           'For example: lexiseg vocabulary build "dog, cat" --subclasses 7 -o vocab.yaml')
    with knowledge_source(options) as source, progress("asking", "classes") as update:
        built = build_vocabulary(source, vocabulary, subclasses=subclass_count, clusters=with_clusters,
                                 on_progress=update)
    built.vocabulary.save(out)
    warn([*built.notes, *built.vocabulary.warnings()])
    say(f"{out}: {summary(built.vocabulary)}; sha256 {built.vocabulary.digest}\n"
        f"Look through it, then: lexiseg vocabulary freeze {out}")


def write_line(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()
