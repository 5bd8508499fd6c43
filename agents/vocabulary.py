"""What a language model knows of the classes of a vocabulary, written into it for a person to look through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agents.clusters import Clustering, checked_names, cluster_categories
from agents.parallel import in_order
from agents.prompt import load_prompt
from agents.records import Subclasses
from agents.source import Answer, KnowledgeSource
from agents.subclasses import generate_subclasses
from parsers.matching import spelling_key
from parsers.vocabulary import Provenance, Vocabulary, VocabularyClass


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltVocabulary:
    """A vocabulary with what was added to it."""

    vocabulary: Vocabulary
    notes: tuple[str, ...]
    """What a person should look at: classes without subclasses, names that two classes claimed."""


def build_vocabulary(source: KnowledgeSource, vocabulary: Vocabulary, *, subclasses: int = 0, clusters: bool = False,
                     on_progress: Callable[[int, int], None] = lambda done, total: None) -> BuiltVocabulary:
    """`vocabulary` with up to `subclasses` (0: none) subclasses for each class, and with a cluster for each if
    `clusters`. What it says already stays: a class with subclasses is not asked about, and clusters are made only where
    a class has none, for all of them. A subclass that two classes claim stays with the first.

    The provenance of a class that gets something names the model, the digests of the prompts, and the day on which the
    model answered first. Raises VocabularyError (more classes than can be clustered at once, too), LlmError.
    """
    needs_clusters = clusters and any(entry.cluster is None for entry in vocabulary.classes)
    if needs_clusters:
        checked_names([entry.name for entry in vocabulary.classes])  # before the subclasses, which take long
    notes: list[str] = []
    found: dict[int, Answer[Subclasses]] = {}
    wanted = [entry for entry in vocabulary.classes if subclasses > 0 and not entry.subclasses]
    for entry, answer in zip(wanted, in_order(
            lambda entry: generate_subclasses(source, entry.name, subclasses, gloss=entry.gloss,
                                              others=_other_names(vocabulary, entry)),
            wanted, source.model.settings.concurrency), strict=True):
        found[entry.id] = answer
        on_progress(len(found), len(wanted))
    kept = _once(vocabulary, found, notes)
    clustering: Clustering | None = None
    if needs_clusters:
        default: dict[str, list[str]] = {}
        for entry in vocabulary.classes:
            if entry.cluster is not None:
                default.setdefault(entry.cluster, []).append(entry.name)
        clustering = cluster_categories(source, [entry.name for entry in vocabulary.classes], default=default)
    if clustering is not None and not clustering.settled:
        notes.append("The clusters had not settled when the refinement was stopped.")
    labels = {} if clustering is None else {name: cluster for cluster, members in clustering.partition.clusters.items()
                                            for name in members}
    classes = tuple(_extended(source, entry, kept.get(entry.id, ()), found.get(entry.id), labels, clustering)
                    for entry in vocabulary.classes)
    built = vocabulary.model_copy(update={"frozen_digest": None})
    return BuiltVocabulary(vocabulary=Vocabulary.model_validate(built.model_dump() | {"classes": [
        entry.model_dump() for entry in classes]}), notes=tuple(notes))


def _once(vocabulary: Vocabulary, found: Mapping[int, Answer[Subclasses]],
          notes: list[str]) -> dict[int, tuple[str, ...]]:
    """The subclasses of each class that no other class has."""
    owners: dict[str, VocabularyClass] = {}
    for entry in vocabulary.classes:
        for name in entry.subclasses:
            owners.setdefault(spelling_key(name), entry)
    kept: dict[int, tuple[str, ...]] = {}
    for entry in vocabulary.classes:
        if entry.id not in found:
            continue
        names = []
        for name in found[entry.id].record.subclasses:
            owner = owners.setdefault(spelling_key(name), entry)
            if owner is entry:
                names.append(name)
            else:
                notes.append(f"{name!r} was given for {entry.name!r}, too; it stays with {owner.name!r}.")
        if not names:
            notes.append(f"No subclass of {entry.name!r} could be used.")
        kept[entry.id] = tuple(names)
    return kept


def _extended(source: KnowledgeSource, entry: VocabularyClass, subclasses: tuple[str, ...],
              answer: Answer[Subclasses] | None, labels: Mapping[str, str], clustering: Clustering | None,
              ) -> VocabularyClass:
    cluster = entry.cluster or labels.get(entry.name)
    prompts, dates = [], []
    if subclasses and answer is not None:
        prompts.append(f"subclasses {load_prompt('subclasses', source.model.style).digest}")
        dates.append(answer.made_at[:10])
    if cluster != entry.cluster and clustering is not None and clustering.outcome != "fallback":
        prompts.append(f"clusters {load_prompt('clusters', source.model.style).digest}")
        dates.append(clustering.made_at[:10])
    if not prompts and cluster == entry.cluster:
        return entry
    provenance = Provenance(source="llm", model=source.model.name, prompt=", ".join(prompts), date=max(dates)
                            ) if prompts else entry.provenance
    return entry.model_copy(update={"subclasses": subclasses or entry.subclasses, "cluster": cluster,
                                    "provenance": provenance})


def _other_names(vocabulary: Vocabulary, entry: VocabularyClass) -> list[str]:
    return [name for other in vocabulary.classes if other.id != entry.id for name in (other.name, *other.synonyms)]
