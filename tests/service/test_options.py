"""Settings by preset, from a file, and by options."""

import json

import pytest

from parsers.errors import Code, SettingError
from service.options import PRESETS, settings_from
from vision.clip.settings import ClipSettings


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_allowed(preset):
    settings, method = settings_from(preset, "clip", None)
    assert ClipSettings(**settings) and method in ("none", "pydensecrf")


def test_the_default_changes_nothing():
    assert settings_from("lexiseg", "clip", None) == ({}, "pydensecrf") and next(iter(PRESETS)) == "lexiseg"


def test_published_presets_have_the_published_numbers():
    simseg, method = settings_from("simseg", "clip", None)
    assert method == "pydensecrf"
    assert simseg == {"rule": "simseg", "presence": "hard", "presence_evidence": "super", "presence_top": 10,
                      "presence_sigma": 1.0, "presence_limit": 5, "precision": "float32", "subclass_count": 0,
                      "templates": "imagenet"}
    sclip, method = settings_from("sclip", "clip", None)
    assert (method, sclip["rule"], sclip["variant"], sclip["logit_scale"]) == ("none", "sclip", "sclip", 40.0)
    supervised, _ = settings_from("llm-supervision", "clip", None)
    assert (supervised["ensemble"], supervised["superclass_in_list"], supervised["rule"]) == ("code", False, "simseg")


def test_refinement_is_the_card_s_choice_where_the_preset_leaves_it(monkeypatch, saved_models, capsys):
    assert settings_from("names-only", "clip", str(saved_models / "pocket" / "clip"))[1] == "none"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert settings_from("lexiseg", "clip", None)[1] == "none"
    assert "pydensecrf is not installed" in capsys.readouterr().err
    assert settings_from("lexiseg", "clip", None, refine="pydensecrf")[1] == "pydensecrf"


@pytest.mark.parametrize("preset", ["simseg", "llm-supervision", "sclip"])
def test_published_presets_compute_in_single_precision_everywhere(preset):
    assert settings_from(preset, "clip", None)[0]["precision"] == "float32"


@pytest.mark.parametrize(("preset", "refine", "said"), [
    ("sclip", "pydensecrf", "none, pamr"), ("simseg", "pamr", "torch-crf"),
    ("sclip", "pamr:iterations=5", "no options"), ("llm-supervision", "pydensecrf:stride=1", "no options")])
def test_a_refinement_that_a_rule_has_not_is_refused_before_a_model_is_loaded(preset, refine, said):
    with pytest.raises(SettingError) as caught:
        settings_from(preset, "clip", "no such model", refine=refine)
    assert said in caught.value.allowed and refine in caught.value.given


@pytest.mark.parametrize(("preset", "package", "expected"), [
    ("sclip", True, "none"), ("simseg", True, "pydensecrf"), ("simseg", False, "torch-crf")])
def test_auto_fits_the_rule(monkeypatch, preset, package, expected):
    """The card of the pocket CLIP names pydensecrf."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: package or None)
    assert settings_from(preset, "clip", None, refine="auto")[1] == expected


def test_an_option_wins_over_the_preset():
    settings, method = settings_from("simseg", "clip", None, subclass_count=3, variant=None, refine="none")
    assert settings["subclass_count"] == 3 and "variant" not in settings and method == "none"


def test_a_file_of_settings_builds_on_a_preset(tmp_path):
    path = tmp_path / "context.json"
    path.write_text(json.dumps({"preset": "simseg", "presence_top": 30, "refine": "none"}))
    settings, method = settings_from(str(path), "clip", None, ensemble="mean")
    assert (settings["presence_top"], settings["presence_limit"]) == (30, 5)
    assert (settings["ensemble"], method) == ("mean", "none")
    path.write_text(json.dumps({"presence": "off"}))
    assert settings_from(str(path), "clip", None) == ({"presence": "off"}, "pydensecrf")


@pytest.mark.parametrize(("content", "said"), [
    ("{", "JSON"), ("[1]", "no JSON object"), ('{"preset": "best"}', "none of ours"),
    ('{"preset": ["x"]}', "TypeError"),
    ('{"presense": "off"}', "presense"), ('{"presence": "firm"}', "firm"), ('{"tile": "wide"}', "tile"),
    ('{"refine": "magic"}', "magic")], ids=str)
def test_a_file_that_is_wrong_is_refused(tmp_path, content, said):
    path = tmp_path / "odd.json"
    path.write_text(content)
    with pytest.raises(SettingError) as caught:
        settings_from(str(path), "clip", None)
    assert caught.value.code == Code.SETTING_INVALID and said in str(caught.value)


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(SettingError) as caught:
        settings_from("best", "clip", None)
    assert "llm-supervision" in caught.value.allowed
