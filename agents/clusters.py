"""Clusters of class names that share looks and surroundings, by a prompt that refines its own answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from agents.calls import RawAnswer
from agents.prompt import quoted
from agents.records import Outcome, Partition
from agents.schemas import labels_schema
from agents.source import KnowledgeSource, Question
from agents.subclasses import checked_name
from parsers.answers import read_clusters
from parsers.errors import AnswerError, Code, VocabularyError
from parsers.lenient_json import find_values
from parsers.matching import spelling_key
from parsers.names import name_problem, normalise_name, shorten
from parsers.written_lists import is_prose

MAX_ROUNDS = 5
"""Of refinement, after the initial answer."""
MAX_NAMES = 80
"""Class names in one question. Prompt and answer for more do not fit into the 2,048 tokens of small models."""

SHORT_NAME = 16
"""Characters of a name that, with its cluster, fits into 12 tokens of an answer; each further one may take a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustering:
    """A partition and how it came about."""

    partition: Partition
    rounds: int
    """Answers that led to it: the initial one and the refinements."""
    settled: bool
    """The last refinement changed nothing."""
    outcome: Outcome
    """The worst of all rounds. "fallback" for the initial one: the partition is `default`, or each name by itself; for
    a refinement: what the round before it gave."""
    stored: bool
    """No model was asked."""
    made_at: str = ""
    """When the model gave the last of the answers, ISO 8601 in UTC."""


def cluster_categories(source: KnowledgeSource, names: Sequence[str], *, default: Mapping[str, Iterable[str]] | None
                       = None, max_rounds: int = MAX_ROUNDS) -> Clustering:
    """The names in clusters: an initial prompt, then a refinement prompt until the partition stays as it is.

    default: the partition to fall back to. Follows the self-refining prompt of PCC; the wording, the stop after
    `max_rounds` and the validation are ours. Partitions are compared as sets of sets, so neither the order nor what a
    cluster is called counts. A greedy model answers an unchanged question as before, so one round without a change is
    enough; at a temperature above 0 it takes two in a row. A model that goes in circles is stopped when a partition
    comes back.

    Raises VocabularyError for names that are none, are given twice, or are more than MAX_NAMES; LlmError.
    """
    names = checked_names(names)
    if len(names) == 1:
        return Clustering(partition=Partition(clusters={names[0]: (names[0],)}), rounds=0, settled=True,
                          outcome="first", stored=False)
    start = source.answer(_question(names, None, _default_partition(names, default)))
    partition, outcome, stored, made_at = start.record, start.outcome, start.stored, start.made_at
    needed = 1 if source.model.settings.temperature == 0 else 2
    unchanged, rounds = 0, 1
    seen = {as_sets(partition)}
    while unchanged < needed and rounds <= max_rounds:
        answer = source.answer(_question(names, partition, partition))
        rounds += 1
        outcome, stored = max(outcome, answer.outcome, key=_ORDER.index), stored and answer.stored
        made_at = max(made_at, answer.made_at)
        if as_sets(answer.record) == as_sets(partition):
            unchanged += 1
        elif as_sets(answer.record) in seen:
            break
        else:
            unchanged = 0
            seen.add(as_sets(answer.record))
        partition = answer.record
    if unchanged < needed:
        source.tally.add("clusters", "unsettled")
    return Clustering(partition=partition, rounds=rounds, settled=unchanged >= needed, outcome=outcome, stored=stored,
                      made_at=made_at)


def as_sets(partition: Partition) -> frozenset[frozenset[str]]:
    """What two partitions share when they group alike."""
    return frozenset(frozenset(members) for members in partition.clusters.values())


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names in their one spelling. Raises VocabularyError (`class-name-invalid`)."""
    checked = tuple(checked_name(name) for name in names)
    if not checked or len(checked) > MAX_NAMES:
        raise VocabularyError(Code.CLASS_NAME_INVALID, f"{len(checked)} names are to be put into clusters.",
                              f"From 1 to {MAX_NAMES}.", "Cluster the most important ones.")
    if len({spelling_key(name) for name in checked}) < len(checked):
        twice = [name for place, name in enumerate(checked)
                 if spelling_key(name) in map(spelling_key, checked[:place])]
        raise VocabularyError(Code.CLASS_NAME_INVALID, f"The name {shorten(twice[0])} is given twice.", "Each once.",
                              "Leave one of them out.")
    return checked


def read_partition(answer: str, names: Sequence[str]) -> Partition:
    """The partition in an answer: {"dog": "animals"} with every name as a key, or any writing of groups. A name whose
    cluster is called nothing stands by itself. Clusters are in the order of their first names, and members in the order
    of `names`. Raises AnswerError."""
    groups = _labelled(answer, names)
    if groups is None:
        places = {member: cluster for cluster, members in read_clusters(answer, names=names).items()
                  for member in members}
        groups = [(name, places[name]) for name in names]
    clusters: dict[str, tuple[str, ...]] = {}
    spellings: dict[str, str] = {}
    for name, label in groups:
        label = normalise_name(label) or name
        if label != name and (name_problem(label) or is_prose(label)):
            raise AnswerError(Code.ANSWER_UNFIT, f"{shorten(label)} cannot be what the cluster of {shorten(name)} is "
                              "called.")
        label = spellings.setdefault(spelling_key(label), label)
        clusters[label] = (*clusters.get(label, ()), name)
    return Partition(clusters=clusters)


def _labelled(answer: str, names: Sequence[str]) -> list[tuple[str, str]] | None:
    """(name, cluster) from an object with exactly `names` as its keys; None for any other answer."""
    for found in find_values(answer):
        value = found.value
        if found.complete and isinstance(value, dict) and value.keys() == set(names):
            labels = [(name, value[name]) for name in names]
            if all(isinstance(label, str) for _, label in labels):
                return labels
    return None


def _question(names: tuple[str, ...], current: Partition | None, otherwise: Partition) -> Question[Partition]:
    values = {"names": quoted(names)}
    if current is not None:
        values["clusters"] = quoted(current.clusters)
    return Question(task="clusters" if current is None else "clusters-refine", record=Partition,
                    read=lambda answer: read_partition(answer.text, names), fallback=_fallback(otherwise),
                    schema=labels_schema(names), values=values,
                    max_tokens=32 + sum(12 + max(0, len(name) - SHORT_NAME) for name in names))


def _fallback(otherwise: Partition) -> Callable[[Sequence[RawAnswer]], Partition]:
    def fallback(answers: Sequence[RawAnswer]) -> Partition:
        return otherwise

    return fallback


def _default_partition(names: tuple[str, ...], default: Mapping[str, Iterable[str]] | None) -> Partition:
    """`default` if it covers exactly the names, else each name by itself, which claims nothing."""
    clusters = {cluster: tuple(members) for cluster, members in (default or {}).items()}
    members = [name for group in clusters.values() for name in group]
    if sorted(members) == sorted(names):
        return Partition(clusters=clusters)
    return Partition(clusters={name: (name,) for name in names})


_ORDER: tuple[Outcome, ...] = ("first", "repaired", "fallback")
