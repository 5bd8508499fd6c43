"""`lexiseg models` over folders of models, whole and harmed."""

import json
import shutil

import pytest


@pytest.fixture
def own_models(saved_models, tmp_path, monkeypatch):
    """A copy that a test may harm."""
    root = tmp_path / "models"
    shutil.copytree(saved_models, root)
    monkeypatch.setenv("LEXISEG_MODELS", str(root))
    return root


def test_list(lexiseg, models):
    result = lexiseg("models", "list")
    assert result.exit_code == 0
    assert "pocket/clip" in result.stdout
    [row] = json.loads(lexiseg("models", "list", "--json").stdout)["models"]
    assert (row["name"], row["card"], row["window"], row["known_words"]) == ("pocket/clip", "tiny", 32, 8)


def test_list_of_nothing_says_what_to_do(lexiseg, tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_MODELS", str(tmp_path))
    result = lexiseg("models", "list")
    assert result.exit_code == 0
    assert "--model DIR" in result.stdout


@pytest.mark.parametrize("arguments", [[], ["pocket/clip"]])
def test_verify_a_whole_model(lexiseg, models, arguments):
    result = lexiseg("models", "verify", *arguments)
    assert result.exit_code == 0
    assert "open_clip_model.safetensors" in result.stdout


def test_verify_goes_on_after_a_harmed_model(lexiseg, own_models):
    shutil.copytree(own_models / "pocket" / "clip", own_models / "whole")
    weights = own_models / "pocket" / "clip" / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    result = lexiseg("models", "verify")
    assert result.exit_code == 1
    assert "error [model-corrupt]" in result.stderr
    assert result.stdout.startswith("whole: ")


def test_verify_a_model_that_lacks_a_file_or_is_not_there(lexiseg, own_models):
    (own_models / "pocket" / "clip" / "tokenizer.json").unlink()
    result = lexiseg("models", "verify", "pocket/clip", "missing")
    assert result.exit_code == 1
    assert "error [model-incomplete]" in result.stderr
    assert "error [model-missing]" in result.stderr


def test_convert_refuses_a_pickled_object(lexiseg, tmp_path):
    import torch

    torch.save({"state_dict": {"a": torch.zeros(1)}, "config": pytest.fixture}, tmp_path / "harm.pth")
    result = lexiseg("models", "convert-simseg", tmp_path / "harm.pth", "--tokenizer", tmp_path,
                     "--to", tmp_path / "out")
    assert result.exit_code == 2 and "error [model-unsupported]" in result.stderr and "pickled" in result.stderr
    assert not (tmp_path / "out").exists()


def test_convert_says_what_was_found_mapped_and_dropped(lexiseg, tmp_path):
    from tests import tiny_llava

    weights = tiny_llava.weights_of(tiny_llava.make_parts(), "zhu", "orig")
    del weights["lm_head.linear.bias"]
    source = tiny_llava.save_checkpoint(tmp_path / "source", weights, tiny_llava.config_of("zhu", "orig"))
    result = lexiseg("models", "convert-llava-phi2", source, tmp_path / "target")
    assert result.exit_code == 0, result.output
    said = result.stdout
    for line in (f"found    {len(weights)} weights in 1 files: layout zhu, Phi names orig", "mapped   92 weights",
                 "12 of them split", "dropped  1: transformer.h.0.mixer.rotary_emb.inv_freq",
                 "tower    from the checkpoint", "bias of zeros", "make serve MODEL="):
        assert line in said
    assert lexiseg("models", "verify", tmp_path / "target").exit_code == 0
    again = lexiseg("models", "convert-llava-phi2", source, tmp_path / "target", "--json")
    assert again.exit_code == 2 and json.loads(again.stdout)["error"]["code"] == "output-collision"
    report = json.loads(lexiseg("models", "convert-llava-phi2", source, tmp_path / "other", "--json").stdout)
    assert report["weights"] == {"text": 33, "projector": 4, "tower": 55} and report["head_bias"] == "zeros"
