"""Model directories: cards, digests, and what is wrong with a directory."""

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from parsers.errors import Code, ModelError
from parsers.files import sha256_file
from vision.models import (
    Manifest,
    ModelCard,
    list_models,
    load_card,
    model_digest,
    resolve_model,
    verify_model,
    weights_file,
)

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "model.json"


@pytest.fixture
def copy(tiny_clip, tmp_path):
    return Path(shutil.copytree(tiny_clip, tmp_path / "copy"))


def edit_card(directory: Path, **changes) -> Path:
    path = directory / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return directory


def failure(function, *arguments) -> ModelError:
    with pytest.raises(ModelError) as caught:
        function(*arguments)
    return caught.value


def test_card_is_read(tiny_clip):
    card = load_card(tiny_clip)
    assert (card.name, card.window, card.patch, card.variant) == ("tiny", 32, 8, "loda")
    assert card.templates == ("a photo of a {}", "many {}") and card.directory == tiny_clip


def test_card_is_derived_from_the_configuration(bare_clip):
    card = load_card(bare_clip)
    assert (card.name, card.window, card.patch) == ("bare", 32, 8)
    assert card.mean == (0.5, 0.5, 0.5) and card.std == (0.25, 0.25, 0.25) and card.interpolation == "bilinear"
    assert card.templates == () and card.known_words is None and card.files == {}
    assert card.variant == "naclip"


def test_verify_names_every_file(tiny_clip, bare_clip):
    expected = {"open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert expected <= set(verify_model(tiny_clip))
    assert expected <= set(verify_model(bare_clip))


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "tokenizer.json"])
def test_missing_file(copy, name):
    (copy / name).unlink()
    error = failure(verify_model, copy)
    assert error.code == Code.MODEL_INCOMPLETE and name in str(error)
    assert f"lexiseg models verify {copy}" in str(error)


def test_one_changed_byte(copy):
    path = copy / "open_clip_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    error = failure(verify_model, copy)
    assert error.code == Code.MODEL_CORRUPT and "sha256" in str(error) and str(path) in str(error)
    assert f"lexiseg models verify {copy}" in str(error)


@pytest.mark.parametrize("version", [2, "1", None])
def test_unknown_format_version(copy, version):
    error = failure(load_card, edit_card(copy, format_version=version))
    assert error.code == Code.MODEL_UNSUPPORTED and "format_version" in str(error)


@pytest.mark.parametrize("changes", [
    {"window": 0}, {"kind": "magic"}, {"templates": ["no place"]}, {"std": [1, 0, 1]}, {"unknown_key": 1},
    {"files": {"../outside": "00"}}, {"files": {"/etc/passwd": "00"}}], ids=str)
def test_invalid_card(copy, changes):
    error = failure(load_card, edit_card(copy, **changes))
    assert error.code == Code.MODEL_UNSUPPORTED and next(iter(changes)) in str(error)


@pytest.mark.parametrize(("content", "code"), [("{", Code.MODEL_CORRUPT), ("[]", Code.MODEL_CORRUPT)])
def test_damaged_card(copy, content, code):
    (copy / "model.json").write_text(content)
    assert failure(load_card, copy).code == code


@pytest.mark.parametrize("config", [
    "{}", '{"model_cfg": {"vision_cfg": {"timm_model_name": "resnet50"}}}',
    '{"model_cfg": {"vision_cfg": {"patch_size": 8, "image_size": [32, 64]}}}', '{"model_cfg": []}'])
def test_configuration_of_something_else(tmp_path, config):
    (tmp_path / "open_clip_config.json").write_text(config)
    assert failure(load_card, tmp_path).code == Code.MODEL_UNSUPPORTED


def test_a_card_that_lists_files_lists_the_weights(copy):
    error = failure(verify_model, edit_card(copy, files={"tokenizer.json": "00"}))
    assert error.code == Code.MODEL_UNSUPPORTED and "open_clip_model.safetensors" in str(error)


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_refused(copy, name):
    (copy / "model.json").unlink()
    (copy / "open_clip_model.safetensors").rename(copy / name)
    error = failure(verify_model, copy)
    assert error.code == Code.MODEL_UNSUPPORTED and name in str(error) and "safetensors" in str(error)


def test_no_weights(copy):
    (copy / "model.json").unlink()
    (copy / "open_clip_model.safetensors").unlink()
    assert failure(verify_model, copy).code == Code.MODEL_INCOMPLETE


def test_other_name_of_the_weights(copy):
    (copy / "open_clip_model.safetensors").rename(copy / "model.safetensors")
    assert weights_file(copy).name == "model.safetensors"


def test_no_directory_and_empty_directory(tmp_path):
    assert failure(load_card, tmp_path / "none").code == Code.MODEL_MISSING
    assert failure(load_card, tmp_path).code == Code.MODEL_INCOMPLETE


def test_digest_follows_content_and_settings(tiny_clip, copy):
    digest = model_digest(load_card(tiny_clip))
    assert digest == model_digest(load_card(copy)) and len(digest) == 64
    assert model_digest(load_card(edit_card(copy, templates=["{}"]))) != digest


def test_digest_of_a_directory_without_card(bare_clip, tmp_path):
    copy = Path(shutil.copytree(bare_clip, tmp_path / "bare"))
    digest = model_digest(load_card(bare_clip))
    assert digest == model_digest(load_card(copy))
    (copy / "tokenizer.json").write_text((copy / "tokenizer.json").read_text() + " ")
    assert digest != model_digest(load_card(copy))


def test_list_and_resolve(tiny_clip, bare_clip, tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_MODELS", str(tmp_path))
    assert list_models() == []
    shutil.copytree(tiny_clip, tmp_path / "pocket" / "clip")
    shutil.copytree(bare_clip, tmp_path / "full")
    assert [card.directory for card in list_models()] == [tmp_path / "full", tmp_path / "pocket" / "clip"]
    assert resolve_model(None) == resolve_model("pocket/clip") == tmp_path / "pocket" / "clip"
    assert resolve_model(str(bare_clip)) == bare_clip and resolve_model(bare_clip) == bare_clip
    error = failure(resolve_model, "unheard-of")
    assert error.code == Code.MODEL_MISSING and "pocket/clip" in str(error) and "lexiseg models list" in str(error)


def test_models_of_other_rooms_are_listed_and_verified(tiny_clip, tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_MODELS", str(tmp_path))
    shutil.copytree(tiny_clip, tmp_path / "pocket" / "clip")
    parser = tmp_path / "pocket" / "en_scene"
    parser.mkdir()
    (parser / "tagger").write_bytes(b"weights")
    card = {"format_version": 1, "name": "a parser", "kind": "spacy", "language": "en",
            "files": {"tagger": sha256_file(parser / "tagger")}}
    (parser / "model.json").write_text(json.dumps(card))
    assert [(card.kind, type(card)) for card in list_models()] == [("clip", ModelCard), ("spacy", Manifest)]
    assert verify_model(parser) == ["tagger"]
    assert "en_scene" not in str(failure(resolve_model, "unheard-of"))  # no model for masks
    (parser / "tagger").write_bytes(b"damage")
    assert failure(verify_model, parser).code == Code.MODEL_CORRUPT
    (parser / "model.json").write_text(json.dumps(card | {"files": {}}))
    assert failure(verify_model, parser).code == Code.MODEL_UNSUPPORTED
    (parser / "model.json").write_text("{")
    with pytest.raises(ModelError):
        list_models()


def test_the_models_that_ship_are_whole():
    for card in list_models():
        assert verify_model(card.directory)
        assert card.licence


def test_card_cannot_be_changed(tiny_clip):
    with pytest.raises(ValidationError):
        load_card(tiny_clip).name = "other"


def test_schema_is_the_one_in_the_documents(tiny_clip):
    published = json.loads(SCHEMA.read_text())
    assert published == ModelCard.model_json_schema()
    jsonschema.validate(json.loads((tiny_clip / "model.json").read_text()), published)
