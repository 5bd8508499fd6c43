"""Options are checked where they are made."""

import pytest

from parsers.errors import Code, SettingError
from vision.clip.settings import ClipSettings


@pytest.mark.parametrize(("name", "value"), [
    ("variant", "clip"), ("ensemble", "median"), ("subclass_filter", "all"), ("vote", "veto"), ("presence", "firm"),
    ("presence_evidence", "sub"), ("templates", "all"), ("rule", "crf"), ("overlap_rule", "area"),
    ("morphology", "opening"), ("subclass_count", -1), ("subclass_weight", 1.5), ("filter_cutoff", 2.0),
    ("presence_top", 0), ("presence_limit", 0), ("presence_sigma", float("inf")), ("temperature", 0.0),
    ("temperature", float("nan")), ("logit_scale", -1.0), ("background_threshold", 1.1), ("area_threshold", -0.1),
    ("short_side", 3), ("stride", -1), ("tile", 3), ("overlap", 1.0), ("overlap", -0.1), ("batch_size", 0),
    ("tile", "wide"), ("tile", 16.5), ("overlap", "half"), ("temperature", "warm"), ("feedback", "yes"),
    ("cross_scale", -1.0), ("cross_share", 1.1), ("feedback_scale", "2"), ("feedback_share", -0.1),
    ("feedback_threshold", 2.0),
    ("residual", 1), ("subclass_count", True), ("templates", 3)])
def test_refused(name, value):
    with pytest.raises(SettingError) as caught:
        ClipSettings(**{name: value})
    assert caught.value.code == Code.SETTING_INVALID
    assert name in caught.value.given and repr(value) in caught.value.given and "Allowed" in caught.value.allowed


def test_options_are_pinned():
    """A new option is a visible change."""
    assert ClipSettings.__slots__ == (
        "variant", "residual", "feedback", "cross_scale", "cross_share", "feedback_scale", "feedback_share",
        "feedback_threshold", "ensemble", "subclass_count", "superclass_in_list", "subclass_filter",
        "filter_cutoff", "subclass_weight", "vote", "temperature", "presence", "presence_evidence", "presence_top",
        "presence_sigma", "presence_limit", "templates", "rule", "overlap_rule", "morphology", "logit_scale",
        "background_threshold", "area_threshold", "short_side", "stride", "tile", "overlap", "draft", "precision",
        "batch_size")


@pytest.mark.parametrize("variant", ["loda", "resclip", "sc-clip"])
def test_a_switch_that_a_variant_has_not_is_refused(variant):
    with pytest.raises(SettingError):
        ClipSettings(variant=variant, residual=True)
    assert ClipSettings(variant="sclip", residual=False).residual is False


def test_a_sentence_of_ones_own_is_a_template():
    assert ClipSettings(templates="a drawing of a {}.").templates == "a drawing of a {}."
