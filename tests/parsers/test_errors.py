import pickle
import re
from pathlib import Path

from parsers import Code, LexisegError, VocabularyError

REASONS = Path(__file__).resolve().parents[2] / "docs" / "reasons.md"


def test_message_joins_the_parts_that_there_are():
    error = VocabularyError(Code.VOCABULARY_INVALID, "Given.", "", "Next.")
    assert str(error) == "Given. Next."


def test_errors_cross_process_borders_whole():
    error = pickle.loads(pickle.dumps(VocabularyError(Code.DISK_FULL, "a", "b", "c")))
    assert (type(error), error.code, error.given, error.allowed, error.next_step) == (
        VocabularyError, Code.DISK_FULL, "a", "b", "c")


def test_one_tree():
    assert {cls.__name__ for cls in LexisegError.__subclasses__()} == {
        "InputError", "VocabularyError", "AnswerError", "ModelError", "DatasetError", "SettingError", "OutputError",
        "LlmError", "JobError", "MissingPackageError"}


def test_every_code_is_explained_once_and_nothing_else_is():
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \| (.+?) \|$", REASONS.read_text(), flags=re.MULTILINE)
    assert [code for code, _, _ in rows] == [code.value for code in Code]
    assert all(len(meaning) > 10 and len(advice) > 10 for _, meaning, advice in rows)
