"""Language becomes structure: captions to scene priors, model answers to typed objects, vocabulary files.

The lowest room: it imports none of ours, and knows neither torch nor images nor queues.
"""

from parsers.errors import (
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
from parsers.priors import ObjectPrior, RelationPrior, ScenePriors
from parsers.scene import parse_scene, parse_scenes
from parsers.scene_facts import priors_from_facts
from parsers.vocabulary import Provenance, Vocabulary, VocabularyClass

__all__ = [
    "Code",
    "DatasetError",
    "InputError",
    "LexisegError",
    "MissingPackageError",
    "ModelError",
    "ObjectPrior",
    "OutputError",
    "Provenance",
    "RelationPrior",
    "ScenePriors",
    "SettingError",
    "Vocabulary",
    "VocabularyClass",
    "VocabularyError",
    "parse_scene",
    "parse_scenes",
    "priors_from_facts",
]
