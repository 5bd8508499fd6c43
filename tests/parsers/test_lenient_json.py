import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.lenient_json import MAX_DEPTH, MAX_STARTS, find_values


def values(text):
    return [found.value for found in find_values(text)]


@pytest.mark.parametrize(("text", "value"), [
    pytest.param('{"a": ["x", "y",], "b": 2,}', {"a": ["x", "y"], "b": 2}, id="trailing commas"),
    pytest.param('["a" "b"\n"c"]', ["a", "b", "c"], id="missing commas"),
    pytest.param('["a",,, "b"]', ["a", "b"], id="doubled commas"),
    pytest.param("['a', 'b']", ["a", "b"], id="single quotes"),
    pytest.param("{'it's': ['a dog's bed', 'rock 'n' roll']}", {"it's": ["a dog's bed", "rock 'n' roll"]},
                 id="apostrophes"),
    pytest.param("{“a”: [„x“, «y», 「z」, `w`]}", {"a": ["x", "y", "z", "w"]}, id="typographic quotes"),
    pytest.param("{a: [x y, z]}", {"a": ["x y", "z"]}, id="no quotes"),
    pytest.param('["a\nb", "c\td", "e\x01f"]', ["a\nb", "c\td", "e\x01f"], id="raw control characters"),
    pytest.param('{"a": "he said "hi" to me"}', {"a": 'he said "hi" to me'}, id="quotes inside"),
    pytest.param(r'["\u00e9\n\t\"\\\/", "\ud83d\ude00", "a\_b", "c\'d"]', ['é\n\t"\\/', "😀", "a_b", "c'd"],
                 id="escapes"),
    pytest.param(r'["\ud800x"]', ["\ufffdx"], id="lone surrogate"),
    pytest.param('[ // one\n"a", # two\n/* three */ "b" /* four', ["a", "b"], id="comments"),
    pytest.param('["http://x", "a # b", "c /* d */"]', ["http://x", "a # b", "c /* d */"], id="no comments in texts"),
    pytest.param('["a", ..., …]', ["a"], id="ellipsis"),
    pytest.param("[True, False, None, null, 1, -2, 1.5, 2e3, NaN]",
                 [True, False, None, None, 1, -2, 1.5, 2000.0, "NaN"], id="constants"),
    pytest.param('{"a": ["x"}', {"a": ["x"]}, id="the inner bracket is missing"),
    pytest.param('["a"}', ["a"], id="a bracket of the other kind"),
    pytest.param('{"a": [1], "a": [2]}', {"a": [1, 2]}, id="a key twice, lists"),
    pytest.param('{"a": 1, "a": 2}', {"a": 2}, id="a key twice, others"),
    pytest.param('{"a": , "b": 1}', {"a": None, "b": 1}, id="a value is missing"),
    pytest.param('{"a", "b"}', {"a": None, "b": None}, id="a set"),
    pytest.param("[]", [], id="empty list"), pytest.param("{}", {}, id="empty mapping"),
    pytest.param("[" + "9" * 30 + "]", ["9" * 30], id="a number that is none"),
])
def test_what_is_put_right(text, value):
    assert values(text) == [value]
    assert values(f"Sure! Here it is:\n```json\n{text}") == [value]


@pytest.mark.parametrize(("text", "value"), [
    ('["a", "b", "c', ["a", "b"]), ('["a", "b", "c"', ["a", "b", "c"]), ('{"a": ["x"], "b": ["y', {"a": ["x"],
                                                                                                   "b": []}),
    ('{"a": 1, "b', {"a": 1}), ('{"a": 1, "b":', {"a": 1}), ("[1, 23", [1]), ("[true, fal", [True]), ("{", {}),
    ('["a", "b\\', ["a"]), ('["a" // so', ["a"]), ('["a"\nThese are', ["a"]),
])
def test_an_end_in_the_middle_keeps_what_is_whole(text, value):
    found, = find_values(text)
    assert (found.value, found.complete) == (value, False)


def test_places_and_kinds():
    text = 'See [1], or {"a": ["b"]} and ["c"] (x)'
    found = [*find_values(text)]
    assert [text[one.start:one.end] for one in found] == ["[1]", '{"a": ["b"]}', '["c"]']
    assert [one.is_quoted for one in found] == [False, True, True] and all(one.complete for one in found)
    assert values("no brackets") == values("") == values("]}") == []


def test_too_deep_is_nothing_and_too_many_are_not_looked_at():
    assert len(values("[" * MAX_DEPTH + "]" * MAX_DEPTH)) == 1
    assert values("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)) == []
    assert len(values("[1]" * 1000)) == MAX_STARTS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10**15, 10**15) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])),
                                                                inner,
                                                                max_size=4), max_leaves=12)


@given(JSON.filter(lambda value: isinstance(value, list | dict)), st.booleans(), st.sampled_from([None, 2]))
def test_strict_json_is_read_as_it_is(value, ascii_only, indent):
    assert values(json.dumps(value, ensure_ascii=ascii_only, indent=indent)) == [value]


@given(st.text(st.sampled_from("[]{}\"',:\\/*#a1 \n.tu\ud800"), max_size=60))
def test_any_text_is_read_to_its_end(text):
    for found in find_values(text):
        assert 0 <= found.start < found.end <= len(text)
        json.dumps(found.value)


@given(JSON.filter(lambda value: isinstance(value, list | dict)), st.integers(1, 200))
def test_any_beginning_of_json_is_read(value, end):
    text = json.dumps(value)
    found, = find_values(text[:end])
    assert found.complete == (end >= len(text))


@pytest.mark.parametrize("piece", ["[", "{", '["', "'a\"", '"word, "x" ', '["\\', "[/*", "{a:", "[x] ", '{"a":',
                                   '" \n ', "\\u12",
                                   "[,,,", "//\n", "]", " ", "a", '"', "“", "*/",
                                   '"a": [1], ', '"a": 1, '])
def test_the_time_grows_with_the_length(piece):
    """A fraction of a second of one core; were it quadratic it would be an hour, so a minute is no near miss."""
    text = ("{" if piece.startswith('"a":') else "[") + piece * (2**18 // len(piece))
    started = time.process_time()
    assert len(values(text)) <= MAX_STARTS
    assert time.process_time() - started < 60
