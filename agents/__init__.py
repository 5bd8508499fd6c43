"""The language model becomes knowledge: subclasses, clusters, descriptions, each checked, stored and counted.

The names below are the public ones. They are imported when they are first used, so `import agents` stays quick; what
needs LangChain is imported when a model is opened. Importing makes no connection.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import agents.offline  # noqa: F401  # before any library of this room

if TYPE_CHECKING:
    from agents.assignment import assign_clusters
    from agents.clusters import Clustering, cluster_categories
    from agents.description import check_presence, describe_image, extract_priors
    from agents.model import LanguageModel, open_model
    from agents.picture import Picture
    from agents.records import Assignment, Description, Partition, PicturePriors, Plan, Presence, Subclasses
    from agents.settings import CallSettings
    from agents.source import Answer, KnowledgeSource
    from agents.store import Store, open_store
    from agents.subclasses import generate_subclasses
    from agents.telling import tell_picture
    from agents.tools import make_tools

_MODULES = {
    "Answer": "source",
    "Assignment": "records",
    "CallSettings": "settings",
    "Clustering": "clusters",
    "Description": "records",
    "KnowledgeSource": "source",
    "LanguageModel": "model",
    "Partition": "records",
    "Picture": "picture",
    "PicturePriors": "records",
    "Plan": "records",
    "Presence": "records",
    "Store": "store",
    "Subclasses": "records",
    "assign_clusters": "assignment",
    "check_presence": "description",
    "cluster_categories": "clusters",
    "describe_image": "description",
    "extract_priors": "description",
    "generate_subclasses": "subclasses",
    "make_tools": "tools",
    "open_model": "model",
    "open_store": "store",
    "tell_picture": "telling",
}

__all__ = [
    "Answer", "Assignment", "CallSettings", "Clustering", "Description", "KnowledgeSource", "LanguageModel",
    "Partition", "Picture", "PicturePriors", "Plan", "Presence", "Store", "Subclasses", "assign_clusters",
    "check_presence", "cluster_categories", "describe_image", "extract_priors", "generate_subclasses", "make_tools",
    "open_model", "open_store", "tell_picture",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'agents' has no attribute {name!r}")
    return getattr(importlib.import_module(f"agents.{_MODULES[name]}"), name)
