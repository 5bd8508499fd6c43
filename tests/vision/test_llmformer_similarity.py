"""How alike names and classes are."""

import json

import numpy as np
import pytest

from parsers.errors import Code, DatasetError, OutputError
from vision.llmformer.similarity import cosine_similarity, given_similarity, read_similarity, write_similarity

MATRIX = {"format_version": 1, "names": ["puppy", "Kitten"], "classes": ["cat", "dog"],
          "similarity": [[0.2, 0.9], [0.8, 0.1]]}


def test_cosines_have_a_floor():
    one = np.array([[1.0, 0], [0.8, 0.6]], np.float32)
    assert cosine_similarity(one, one) == pytest.approx(np.array([[1, 0.8], [0.8, 1]]))
    assert cosine_similarity(one, one, 0.6) == pytest.approx(np.array([[1, 0.5], [0.5, 1]]))
    assert cosine_similarity(one, -one).min() == 0
    with pytest.raises(ValueError, match="floor"):
        cosine_similarity(one, one, 1.0)


def test_a_given_matrix_is_put_in_order_and_filled_up(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(MATRIX))
    found, unknown = given_similarity(read_similarity(tmp_path / "s.json"), ["dog", "kitten", "", "Puppy"],
                                      ["dog", "Cat"], np.full((4, 2), 0.5))
    assert found.tolist() == [[0.5, 0.5], [0.1, 0.8], [0.5, 0.5], [0.9, 0.2]]
    assert unknown == ["dog"]


def test_a_written_matrix_is_read_again(tmp_path):
    values = np.array([[0.25, 1], [0, 0], [0.5, 0.12346]])
    write_similarity(tmp_path / "s.json", ["dog", "", "cat"], ["dog", "bus"], values)
    found, unknown = given_similarity(read_similarity(tmp_path / "s.json"), ["cat", "dog"], ["bus", "dog"],
                                      np.zeros((2, 2)))
    assert (found.tolist(), unknown) == ([[0.1235, 0.5], [1, 0.25]], [])
    with pytest.raises(OutputError):
        write_similarity(tmp_path / "s.json" / "s.json", [], [], values[:0])


def test_every_class_has_a_column(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(MATRIX))
    with pytest.raises(DatasetError, match="no class 'bus'"):
        given_similarity(read_similarity(tmp_path / "s.json"), ["dog"], ["dog", "bus"], np.zeros((1, 2)))


@pytest.mark.parametrize("content", [
    None, "[]", "{", json.dumps(MATRIX | {"similarity": [[0.2, 0.9]]}), json.dumps(MATRIX | {"similarity": [[1], [0]]}),
    json.dumps(MATRIX | {"similarity": [[0.2, 1.1], [0, 0]]}), json.dumps(MATRIX | {"similarity": [[0.2, -1], [0, 0]]}),
    json.dumps(MATRIX).replace("0.9", "NaN"), json.dumps(MATRIX | {"format_version": 2})])
def test_files_that_hold_no_matrix(tmp_path, content):
    if content is not None:
        (tmp_path / "s.json").write_text(content)
    with pytest.raises(DatasetError) as error:
        read_similarity(tmp_path / "s.json")
    assert error.value.code is Code.DATASET_INVALID and "s.json" in error.value.given
