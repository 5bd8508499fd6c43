"""Language becomes structure: captions to scene priors, model answers to typed objects, vocabulary files.

The lowest room: it imports none of ours, and knows neither torch nor images nor queues.
"""

from parsers.answers import NameList, read_clusters, read_model, read_names, read_text
from parsers.errors import (
    AnswerError,
    Code,
    DatasetError,
    InputError,
    LexisegError,
    MissingPackageError,
    ModelError,
    OutputError,
    SettingError,
    VocabularyError,
)
from parsers.matching import MatchResult
from parsers.priors import ObjectPrior, RelationPrior, ScenePriors
from parsers.scene import parse_scene, parse_scenes
from parsers.scene_facts import priors_from_facts
from parsers.vocabulary import Provenance, Vocabulary, VocabularyClass
from parsers.vocabulary_merge import VocabularyDiff

__all__ = [
    "AnswerError",
    "Code",
    "DatasetError",
    "InputError",
    "LexisegError",
    "MatchResult",
    "MissingPackageError",
    "ModelError",
    "NameList",
    "ObjectPrior",
    "OutputError",
    "Provenance",
    "RelationPrior",
    "ScenePriors",
    "SettingError",
    "Vocabulary",
    "VocabularyClass",
    "VocabularyDiff",
    "VocabularyError",
    "parse_scene",
    "parse_scenes",
    "priors_from_facts",
    "read_clusters",
    "read_model",
    "read_names",
    "read_text",
]
