"""Which of the two reads a text. Both are stood in for by modules that say who was asked; the real ones have tests of
their own."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest

from parsers import Code, ModelError, ScenePriors, SettingError
from parsers.reader import SceneReader


class StandIn:
    """The head, the rules and the pipeline, and what was loaded."""

    def __init__(self, monkeypatch):
        self.loaded = []
        self.head_error = None
        for name, function in (("pipeline", self.load_pipeline), ("head", self.load_head), ("scene",
                                                                                            self.parse_scenes)):
            module = ModuleType(f"parsers.{name}")
            setattr(module, function.__name__, function)
            monkeypatch.setitem(sys.modules, f"parsers.{name}", module)

    def load_pipeline(self, path=None):
        self.loaded.append(("pipeline", path))
        return f"nlp {path}"

    def load_head(self, path=None):
        if self.head_error is not None:
            raise self.head_error
        self.loaded.append(("head", path))
        return self

    def covers(self, text):
        return "." not in text

    def parse(self, texts):
        return [ScenePriors(text=text, absent=("head",)) for text in texts]

    def parse_scenes(self, texts, nlp):
        return (ScenePriors(text=text, absent=(nlp,)) for text in texts)


@pytest.fixture
def models(monkeypatch):
    return StandIn(monkeypatch)


def readers_of(reader, texts):
    priors = reader.read(texts)
    assert [prior.text for prior in priors] == texts
    return [prior.absent[0] for prior in priors]


def test_captions_go_to_the_head_and_the_rest_to_the_rules_in_order(models):
    assert readers_of(SceneReader(), ["a", "b. c", "d", "e. f"]) == ["head", "nlp None", "head", "nlp None"]
    assert models.loaded == [("head", None), ("pipeline", None)]


def test_models_are_loaded_when_they_are_needed_and_once(models):
    reader = SceneReader()
    assert models.loaded == []
    readers_of(reader, ["a"])
    readers_of(reader, ["b"])
    assert models.loaded == [("head", None)]
    assert reader.read([]) == []


def test_the_rules_read_all_where_they_are_asked_to(models, tmp_path):
    assert readers_of(SceneReader(use_head=False), ["a", "b. c"]) == ["nlp None"] * 2
    assert readers_of(SceneReader(tmp_path), ["a", "b. c"]) == [f"nlp {tmp_path}"] * 2
    assert ("head", None) not in models.loaded


def test_the_head_reads_all_where_it_is_asked_to(models):
    assert readers_of(SceneReader(use_head=True), ["a", "b. c"]) == ["head"] * 2
    assert models.loaded == [("head", None)]


def test_without_its_model_the_head_is_done_without_unless_it_was_asked_for(models):
    models.head_error = ModelError(Code.MODEL_MISSING, "There is none.")
    assert readers_of(SceneReader(), ["a"]) == ["nlp None"]
    with pytest.raises(ModelError):
        SceneReader(use_head=True).read(["a"])
    models.head_error = ModelError(Code.MODEL_CORRUPT, "It is damaged.")
    with pytest.raises(ModelError, match="damaged"):
        SceneReader().read(["a"])


def test_a_pipeline_for_the_head_is_refused(tmp_path):
    with pytest.raises(SettingError, match="--pipeline, --head"):
        SceneReader(tmp_path, use_head=True)


def test_threads_take_turns(models, monkeypatch):
    """Neither of the two is made for several threads."""
    inside, most = [], []

    def parse(texts):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.01)
        inside.pop()
        return [ScenePriors(text=text) for text in texts]

    monkeypatch.setattr(models, "parse", parse)
    reader = SceneReader()
    with ThreadPoolExecutor(4) as pool:
        assert [found[0].text for found in pool.map(lambda n: reader.read([str(n)], terms=["x y"]), range(8))] == list(
            map(str, range(8)))
    assert max(most) == 1 and models.loaded == [("head", None)]
