"""Whatever a model writes, a reader gives a valid record or says what is wrong; nothing else."""

import json
from functools import partial

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agents.calls import RawAnswer
from agents.clusters import read_partition
from agents.description import _read_description, _read_presence
from agents.planner import read_plan
from agents.subclasses import _any_names, usable
from parsers import AnswerError
from parsers.names import name_problem

NAMES = ("dog", "cat", "t-shirt", "<image>")
WORDS = st.one_of(st.text(max_size=12), st.sampled_from([*NAMES, "animals", "names", "clusters", "targets", "</s>"]))
VALUES = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), WORDS),
                      lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
                      max_leaves=12)
ANSWERS = st.one_of(
    st.text(max_size=200), VALUES.map(json.dumps), VALUES.map(lambda value: "Sure! " + json.dumps(value)),
    st.fixed_dictionaries({name: WORDS for name in NAMES}).map(json.dumps),
    st.tuples(VALUES.map(json.dumps), st.integers(0, 40)).map(lambda pair: pair[0][:pair[1]]))


@given(ANSWERS)
@hypothesis_settings(max_examples=300)
def test_partitions_cover_exactly_or_are_refused(answer):
    try:
        found = read_partition(answer, NAMES)
    except AnswerError:
        return
    assert sorted(name for members in found.clusters.values() for name in members) == sorted(NAMES)
    assert not any(name_problem(cluster) for cluster in found.clusters)


@given(ANSWERS)
def test_subclasses_are_usable_names(answer):
    for name in usable(_any_names(RawAnswer(answer)).names, "dog", ["cat"]):
        assert not name_problem(name) and len(name.split()) <= 3 and not set(name) & set("<>{}[]\n\x00")
        assert name.lower() not in ("dog", "dogs", "cat")


@given(ANSWERS, st.booleans())
def test_descriptions_presence_and_plans(answer, is_cut):
    for read in (_read_description, _read_presence, partial(read_plan, request="mask every dog on the sand")):
        try:
            record = read(RawAnswer(answer, is_cut))
        except AnswerError:
            continue
        assert json.dumps(record.model_dump(mode="json"))
