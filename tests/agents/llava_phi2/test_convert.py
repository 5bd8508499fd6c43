"""Conversion of synthetic checkpoints of every layout: nothing lost, nothing added, and the same answers."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoProcessor, LlavaConfig, LlavaForConditionalGeneration

from agents.llava_phi2.config import CLIP_LARGE, SIGLIP_SO400M, llava_config, text_config, vision_config, weight_shapes
from agents.llava_phi2.convert import ConversionReport, convert_llava_phi2
from agents.llava_phi2.layouts import map_names
from agents.pocket.network import load_network
from parsers.errors import Code, LexisegError
from tests import tiny_llava as tiny

BIAS = "language_model.lm_head.bias"


@pytest.fixture(scope="module")
def parts():
    return tiny.make_parts()


@pytest.fixture(scope="module")
def siglip_parts():
    return tiny.make_parts(siglip=True)


@pytest.fixture
def save(tmp_path, parts):
    """save(wrapper, generation, ...) -> the directory of a checkpoint."""

    def make(wrapper="zhu", generation="fused", *, of=parts, edit=None, config=None, **how) -> Path:
        weights = tiny.weights_of(of, wrapper, generation)
        if edit:
            edit(weights)
        values = tiny.config_of(wrapper, generation, siglip=of.siglip) | (config or {})
        return tiny.save_checkpoint(tmp_path / "source", weights, values, **how)

    return make


def differences(parts: tiny.Parts, folder: Path, image_token: int, picture_tokens: int) -> tuple[float, float]:
    """Largest difference of logits between the parts and the converted model: text alone, and with a picture."""
    model = load_network(folder)
    text = torch.tensor([5, 9, 33, 70, 12])
    pixels = torch.randn(1, 3, 28, 28)
    mixed = torch.cat([text, torch.full((picture_tokens,), image_token), text])
    with torch.no_grad():
        alone = model(input_ids=text[None]).logits[0]
        seen = model(input_ids=mixed[None], pixel_values=pixels).logits[0]
    return (float((alone - parts.logits(text, image_token)).abs().max()),
            float((seen - parts.logits(mixed, image_token, pixels)).abs().max()))


def failure(code: Code, *arguments, **options) -> str:
    with pytest.raises(LexisegError) as caught:
        convert_llava_phi2(*arguments, **options)
    assert caught.value.code == code
    return str(caught.value)


@pytest.mark.parametrize("generation", tiny.GENERATIONS)
@pytest.mark.parametrize("wrapper", tiny.WRAPPERS)
def test_every_layout_gives_the_same_answers(save, parts, tmp_path, wrapper, generation):
    target = tmp_path / "target"
    report = convert_llava_phi2(save(wrapper, generation), target, dtype="float32")
    assert (report.wrapper, report.generation) == (wrapper, generation)
    assert report.head_bias == "source" and report.tower == "checkpoint" and report.image_tokens == tiny.PATCHES
    assert report.split == (0 if generation == "new" else 3 * 2 * tiny.LAYERS)
    text, picture = differences(parts, target, report.image_token, tiny.PATCHES)
    assert text < 1e-5 and picture < 1e-5


@pytest.mark.parametrize(("pickled", "shards"), [(True, 1), (True, 3), (False, 3)])
def test_other_kinds_of_files_give_the_same_bytes(save, tmp_path, pickled, shards):
    one = convert_llava_phi2(save(), tmp_path / "one", dtype="float32")
    shutil.rmtree(tmp_path / "source")
    other = convert_llava_phi2(save(pickled=pickled, shards=shards), tmp_path / "other", dtype="float32")
    assert len(other.source_files) == shards and other.source_weights == one.source_weights
    assert other.files == one.files


def test_siglip_of_tinyllava(save, siglip_parts, tmp_path):
    target = tmp_path / "target"

    def add_head(weights):
        weights["vision_tower._vision_tower.vision_model.head.probe"] = torch.ones(1, 1, 24)

    report = convert_llava_phi2(save("tiny", "new", of=siglip_parts, edit=add_head), target, dtype="float32")
    assert report.image_tokens == tiny.PATCHES - 1
    assert report.dropped == ("vision_tower._vision_tower.vision_model.head.probe",)
    assert max(differences(siglip_parts, target, report.image_token, tiny.PATCHES - 1)) < 1e-5
    assert AutoProcessor.from_pretrained(target).num_additional_image_tokens == 0


def test_nothing_is_lost_and_nothing_added(save, tmp_path):
    report = convert_llava_phi2(save("zhu", "orig"), tmp_path / "target")
    config = json.loads((tmp_path / "target" / "config.json").read_text())
    expected = weight_shapes(config)
    with safe_open(tmp_path / "target" / "model.safetensors", framework="pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        assert {file.get_tensor(name).dtype for name in found} == {torch.bfloat16}
    assert found == expected and BIAS in found
    assert report.weights == {"text": 14 * tiny.LAYERS + 5, "projector": 4, "tower": 16 * 3 + 7}
    assert report.dropped == ("transformer.h.0.mixer.rotary_emb.inv_freq",)
    written = ConversionReport.model_validate_json((tmp_path / "target" / "conversion.json").read_bytes())
    assert written == report
    assert set(report.files) | {"conversion.json", "model.json"} == {
        path.name for path in (tmp_path / "target").iterdir()}


@pytest.mark.parametrize(("tower", "number"), [(CLIP_LARGE, 391), (SIGLIP_SO400M, 437)], ids=["clip", "siglip"])
def test_full_size_has_the_weights_that_transformers_has_and_the_bias(tower, number):
    names = frozenset({"vision_tower.vision_model.embeddings.class_embedding"} if number == 391 else ())
    config = llava_config({}, text_config({}), vision_config({}, names, None), image_token=50295, end_token=50256,
                          dtype="bfloat16")
    assert (config["text_config"]["partial_rotary_factor"], config["image_seq_length"]) == (
        0.4, 576 if number == 391 else 728)
    shapes = weight_shapes(config)
    assert len(shapes) == 453 + 4 + number
    with torch.device("meta"):
        weights = LlavaForConditionalGeneration(LlavaConfig(**config)).state_dict()
    pieces = map_names(weights).pieces
    assert {name: tuple(weights[piece.source].shape) for name, piece in pieces.items()} == {
        name: shape for name, shape in shapes.items() if name != BIAS}
    if number == 391:
        assert sum(torch.Size(shape).numel() for shape in shapes.values()) == pytest.approx(3.09e9, rel=0.01)


def test_a_head_without_bias_gets_zeros(save, tmp_path):
    report = convert_llava_phi2(save(edit=lambda weights: weights.pop("lm_head.bias")), tmp_path / "target")
    assert report.head_bias == "zeros"
    with safe_open(tmp_path / "target" / "model.safetensors", framework="pt") as file:
        assert not file.get_tensor(BIAS).any()


def test_tower_from_its_own_directory(save, parts, tmp_path):
    tower = tmp_path / "tower"
    parts.tower.save_pretrained(tower)
    (tower / "config.json").write_text(json.dumps({"vision_config": tiny.VISION}))

    def without_tower(weights):
        for name in [name for name in weights if "vision_tower" in name]:
            del weights[name]

    source = save("llava", "new", edit=without_tower, config={"vision_config": None, "mm_vision_tower": "openai/clip"})
    assert "openai/clip" in failure(Code.MODEL_INCOMPLETE, source, tmp_path / "target")
    report = convert_llava_phi2(source, tmp_path / "target", tower=tower, dtype="float32")
    assert report.tower == "given"
    assert max(differences(parts, tmp_path / "target", report.image_token, tiny.PATCHES)) < 1e-5


@pytest.mark.parametrize("changed", [False, True])
def test_the_checkpoints_own_tower_wins_and_a_difference_is_told(save, parts, tmp_path, changed):
    def tune(weights):
        if changed:
            weights["model.vision_tower.vision_model.post_layernorm.bias"] += 1

    parts.tower.save_pretrained(tmp_path / "tower")
    report = convert_llava_phi2(save(edit=tune), tmp_path / "target", tower=tmp_path / "tower")
    assert (report.tower, report.tower_differs) == ("checkpoint", changed)


def test_tokenizer_processor_and_template(save, tmp_path):
    target = tmp_path / "target"
    report = convert_llava_phi2(save(), target)
    processor = AutoProcessor.from_pretrained(target, local_files_only=True)
    tokenizer = processor.tokenizer
    assert tokenizer.convert_tokens_to_ids("<image>") == report.image_token == len(tokenizer) - 1 == 257
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, report.end_token) == (0, 0, 0)
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image"}]},
                {"role": "assistant", "content": "A dog."}, {"role": "user", "content": "And now?"}]
    assert processor.apply_chat_template(messages, add_generation_prompt=True) == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: <image>\nWhat is this? "
        "ASSISTANT: A dog.<|endoftext|>USER: And now? ASSISTANT:")
    config = json.loads((target / "config.json").read_text())
    assert config["image_token_index"] == 257 and config["text_config"]["eos_token_id"] == 0


def test_pictures_are_padded_not_cut(save, tmp_path):
    convert_llava_phi2(save(), tmp_path / "target")
    processor = AutoProcessor.from_pretrained(tmp_path / "target", local_files_only=True).image_processor
    import numpy as np

    wide = np.zeros((20, 80, 3), np.uint8)
    wide[:, :10] = 255  # a white border, which a cut from the middle would lose
    [pixels] = processor(wide, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (3, 28, 28) and pixels[0].max() > 1.5
    shutil.rmtree(tmp_path / "source")
    report = convert_llava_phi2(save("llava", config={"image_aspect_ratio": "square"}), tmp_path / "other")
    assert any("image_aspect_ratio" in note for note in report.notes)


def test_what_the_source_does_not_say_is_phi_2s_and_is_noted(save, tmp_path):
    source = save("llava", "new")
    config = json.loads((source / "config.json").read_text())
    del config["partial_rotary_factor"]
    (source / "config.json").write_text(json.dumps(config))
    report = convert_llava_phi2(source, tmp_path / "target")
    assert any("0.4" in note for note in report.notes)


@pytest.mark.parametrize(("wrapper", "name", "code"), [
    ("zhu", "model.layers.0.self_attn.q_norm.weight", Code.MODEL_UNSUPPORTED),
    ("zhu", "model.image_newline", Code.MODEL_UNSUPPORTED),
    ("llava", "model.mm_projector.weight", Code.MODEL_UNSUPPORTED),
    ("zhu", "model.layers.7.mlp.fc1.bias", Code.MODEL_UNSUPPORTED),
    ("zhu", "model.vision_tower.vision_tower.vision_model.post_layernorm.bias", Code.MODEL_CORRUPT),
])
def test_a_weight_without_a_place_is_never_dropped(save, tmp_path, wrapper, name, code):
    source = save(wrapper, edit=lambda weights: weights.update({name: torch.ones(2)}))
    message = failure(code, source, tmp_path / "target")
    assert name in message or name.replace("model.layers", "language_model.model.layers") in message or (
        "post_layernorm.bias" in message)
    assert not (tmp_path / "target").exists()


def test_a_weight_that_is_missing_has_another_shape_or_is_no_number(save, tmp_path):
    message = failure(Code.MODEL_INCOMPLETE, save(edit=lambda weights: weights.pop("model.mm_projector.2.bias")),
                      tmp_path / "target")
    assert "multi_modal_projector.linear_2.bias" in message
    shutil.rmtree(tmp_path / "source")
    message = failure(Code.MODEL_UNSUPPORTED, save("llava", "new", config={"vocab_size": 301}), tmp_path / "target")
    assert "config.json" in message
    shutil.rmtree(tmp_path / "source")
    failure(Code.MODEL_CORRUPT, save(edit=lambda weights: weights["lm_head.bias"].fill_(float("nan"))),
            tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_files_that_could_run_code_are_refused(save, tmp_path):
    source = save(pickled=True)
    torch.save({"a": Path("/")}, source / "pytorch_model.bin")
    assert "could run code" in failure(Code.MODEL_UNSUPPORTED, source, tmp_path / "target")


def test_files_that_are_not_whole(save, tmp_path):
    source = save(shards=2)
    (source / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002" in failure(Code.MODEL_INCOMPLETE, source, tmp_path / "target")
    (source / "model-00002-of-00002.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid")
    assert "Git LFS" in failure(Code.MODEL_CORRUPT, source, tmp_path / "target")
    for path in source.glob("model*"):
        path.unlink()
    (source / "mm_projector.bin").write_bytes(b"")
    assert "only a part" in failure(Code.MODEL_INCOMPLETE, source, tmp_path / "target")
    failure(Code.MODEL_MISSING, tmp_path / "none", tmp_path / "target")


def test_no_tokenizer_or_no_configuration(save, tmp_path):
    source = save()
    (source / "tokenizer.json").unlink()
    assert "tokenizer.json" in failure(Code.MODEL_INCOMPLETE, source, tmp_path / "target")
    (source / "config.json").write_text("{")
    failure(Code.MODEL_CORRUPT, source, tmp_path / "target")
    (source / "config.json").unlink()
    failure(Code.MODEL_INCOMPLETE, source, tmp_path / "target")


def test_a_target_in_use_stays_as_it_is(save, tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "precious").touch()
    failure(Code.OUTPUT_COLLISION, save(), tmp_path / "target")
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["precious"]


def test_other_projectors_features_and_types_are_refused(save, tmp_path):
    source = save("llava", config={"mm_projector_type": "linear"})
    assert "linear" in failure(Code.MODEL_UNSUPPORTED, source, tmp_path / "target")
    failure(Code.SETTING_INVALID, source, tmp_path / "target", dtype="float16")
