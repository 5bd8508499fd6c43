"""Which clusters of a partition a picture shows, by a model that looks at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agents.calls import RawAnswer
from agents.picture import Picture
from agents.prompt import quoted
from agents.records import Assignment, Partition
from agents.schemas import choice_schema
from agents.source import Answer, KnowledgeSource, Question
from parsers.answers import read_names
from parsers.errors import Code, VocabularyError


def assign_clusters(source: KnowledgeSource, picture: Picture, partition: Partition | Mapping[str, Sequence[str]],
                    *, labels: Sequence[str] | None = None) -> Answer[Assignment]:
    """The clusters that the picture shows; none is an answer, too.

    labels: names that are known to be in the picture. They are the fallback: the clusters that hold them; without them
    it is no cluster. Follows the per-image judgement of PCC (its mode `mllm`); the prompt is ours.
    Raises VocabularyError for a partition without clusters, LlmError.
    """
    clusters = dict(partition.clusters if isinstance(partition, Partition) else partition)
    if not clusters:
        raise VocabularyError(Code.CLASS_NAME_INVALID, "There is no cluster to choose from.", "At least one.",
                              "lexiseg clusters NAMES")

    def read(answer: RawAnswer) -> Assignment:
        found = read_names(answer.text, at_least=0, allowed=list(clusters)).names
        return Assignment(clusters=tuple(cluster for cluster in clusters if cluster in found))

    def fallback(answers: Sequence[RawAnswer]) -> Assignment:
        return labelled_clusters(clusters, labels or ())

    return source.answer(Question(task="assign", record=Assignment, read=read, fallback=fallback,
                                  schema=choice_schema(list(clusters)), values={"clusters": quoted(clusters)},
                                  picture=picture, max_tokens=32 + 16 * len(clusters)))


def labelled_clusters(clusters: Mapping[str, Sequence[str]], labels: Sequence[str]) -> Assignment:
    """The clusters that hold one of the labels: the mode `labels` of PCC, which asks no model."""
    wanted = set(labels)
    return Assignment(clusters=tuple(cluster for cluster, members in clusters.items() if wanted & set(members)))
