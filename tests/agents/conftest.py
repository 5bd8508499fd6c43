"""A language model behind a real server on loopback that does what a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from agents.model import LanguageModel, open_model
from agents.picture import Picture
from agents.settings import CallSettings
from agents.source import KnowledgeSource
from agents.store import open_store
from tests.llm_server import LlmServer, llm_server

QUICK = CallSettings(timeout_s=20, retries=1)


@pytest.fixture
def llm() -> Iterator[LlmServer]:
    with llm_server() as server:
        yield server


@pytest.fixture
def model(llm) -> Iterator[LanguageModel]:
    found = open_model(llm.url, settings=QUICK)
    yield found
    found.close()


@pytest.fixture
def make_source(model) -> Iterator[Callable[..., KnowledgeSource]]:
    """`make_source(path)` -> a source with the store in that file, or without one."""
    stores = []

    def make(path: Path | None = None) -> KnowledgeSource:
        if path is None:
            return KnowledgeSource(model)
        stores.append(open_store(path))
        return KnowledgeSource(model, stores[-1])

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def source(make_source) -> KnowledgeSource:
    return make_source()


@pytest.fixture
def picture() -> Picture:
    return Picture(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
