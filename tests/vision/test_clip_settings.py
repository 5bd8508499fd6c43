"""Options are checked where they are made."""

import pytest

from parsers.errors import Code, SettingError
from vision.clip.settings import ClipSettings


@pytest.mark.parametrize(("name", "value"), [
    ("variant", "vanilla"), ("ensemble", "mean"), ("presence", "hard"), ("presence_evidence", "sub"),
    ("templates", "all"), ("subclass_count", -1), ("temperature", 0.0), ("temperature", float("nan")), ("tile", 3),
    ("overlap", 1.0), ("overlap", -0.1), ("batch_size", 0)])
def test_refused(name, value):
    with pytest.raises(SettingError) as caught:
        ClipSettings(**{name: value})
    assert caught.value.code == Code.SETTING_INVALID
    assert name in caught.value.given and repr(value) in caught.value.given and "Allowed" in caught.value.allowed


def test_options_are_pinned():
    """A new option is a visible change."""
    assert ClipSettings.__slots__ == (
        "variant", "ensemble", "subclass_count", "superclass_in_list", "temperature", "presence", "presence_evidence",
        "templates", "tile", "overlap", "batch_size")
