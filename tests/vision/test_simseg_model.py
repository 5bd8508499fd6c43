"""SimSeg: the checkpoint of its authors becomes a model directory that computes the same."""

import json
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import BertConfig, BertModel

from parsers.errors import Code, ModelError
from parsers.vocabulary import Vocabulary
from vision import ClipSettings, Sample, load_segmenter
from vision.clip.encoder import ClipEncoder
from vision.models import load_card, verify_model
from vision.refine import refine
from vision.simseg.convert import convert_checkpoint, read_state_dict, simseg_weights
from vision.simseg.objective import contrast

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "the", "dog", "cat", "sky", "##s", ".")


def published_towers(image_size=64):
    """The towers as the authors' libraries have them, with small random weights."""
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(5)
    image = VisionTransformer(img_size=image_size, patch_size=16, embed_dim=64, depth=2, num_heads=1, num_classes=0,
                              norm_layer=partial(nn.LayerNorm, eps=1e-6)).eval()
    nn.init.normal_(image.patch_embed.proj.bias)
    text = BertModel(BertConfig(vocab_size=len(WORDS), hidden_size=64, num_hidden_layers=2, num_attention_heads=1,
                                intermediate_size=96, max_position_embeddings=30), add_pooling_layer=False).eval()
    return image, text, nn.Linear(64, 24, bias=False), nn.Linear(64, 24, bias=False)


def published_weights(towers) -> dict[str, torch.Tensor]:
    image, text, image_projection, text_projection = towers
    return ({f"image_encoder.model.model.{name}": value for name, value in image.state_dict().items()}
            | {f"text_encoder.model.{name}": value for name, value in text.state_dict().items()}
            | {"text_encoder.model.embeddings.position_ids": torch.arange(30)[None],
               "image_projection.linear.weight": image_projection.weight.data,
               "text_projection.linear.weight": text_projection.weight.data, "loss.temperature": torch.tensor(0.025)})


@pytest.fixture(scope="module")
def towers():
    return published_towers()


@pytest.fixture
def bert(tmp_path):
    """A folder with the wordpieces."""
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer",
                                                              "do_lower_case": True}))
    return folder


@pytest.fixture
def converted(towers, bert, tmp_path):
    torch.save({"state_dict": published_weights(towers), "epoch": 3}, tmp_path / "simseg.pth")
    return convert_checkpoint(tmp_path / "simseg.pth", bert, tmp_path / "model", image_size=64)


@torch.inference_mode()
def test_a_converted_model_computes_what_the_published_one_does(towers, converted):
    image, text, image_projection, text_projection = towers
    encoder = ClipEncoder(load_card(converted), device="cpu", batch_size=2)
    pictures = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8) for seed in (1, 2)]
    patches, pooled = encoder.encode_windows(pictures)
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
    images = (images - torch.tensor(encoder.card.mean)[:, None, None]) / torch.tensor(encoder.card.std)[:, None, None]
    tokens = image_projection(image.forward_features(images)[:, 1:])
    assert torch.allclose(patches, nn.functional.normalize(tokens, dim=-1), atol=1e-5)
    assert torch.allclose(pooled, nn.functional.normalize(tokens.topk(5, dim=1).values.mean(dim=1), dim=-1), atol=1e-5)
    ids = torch.tensor([[2, 5, 6, 7, 5, 9, 13, 3], [2, 10, 3, 0, 0, 0, 0, 0]])
    words = text_projection(text(input_ids=ids, attention_mask=(ids > 0).long()).last_hidden_state)
    expected = nn.functional.normalize(words.masked_fill((ids == 0)[..., None], -1e4).amax(dim=1), dim=-1)
    assert torch.allclose(encoder.encode_prompts(["a photo of a dog.", "cat"]), expected, atol=1e-5)


def test_its_card_and_files(converted):
    card = load_card(converted)
    assert (card.kind, card.window, card.patch, card.variant, card.pooling, card.ensemble) == (
        "simseg", 64, 16, "loda", "loda", "code")
    assert card.thresholds == {"logit_scale": 40.0, "temperature": 0.025}
    assert {"model.safetensors", "simseg_config.json", "vocab.txt"} <= set(verify_model(converted))


def test_positions_are_resized_as_published(towers, bert, tmp_path):
    torch.save(published_weights(towers), tmp_path / "bare.pth")
    model = convert_checkpoint(tmp_path / "bare.pth", bert, tmp_path / "large", image_size=96)
    found = load_file(model / "model.safetensors")["visual.positional_embedding"]
    table = towers[0].pos_embed.data[0]
    grid = nn.functional.interpolate(table[1:].T.reshape(1, 64, 4, 4), size=(6, 6), mode="bicubic")
    expected = torch.cat([table[:1], grid[0].flatten(1).T + towers[0].patch_embed.proj.bias.data])
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("variant", ["loda", "sclip", "naclip", "sc-clip", "resclip"])
def test_every_variant_reads_it(converted, variant):
    segmenter = load_segmenter("clip", converted, device="cpu", settings=ClipSettings(
        variant=variant, feedback=False, templates="plain", batch_size=2))
    image = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    (scores,) = segmenter.score([Sample(image_HW3=image, vocabulary=Vocabulary.from_names("dog, cat"))])
    assert np.isfinite(scores.scores_CHW).all() and scores.scores_CHW.shape[1:] == (4, 9)


@pytest.mark.parametrize("half", [False, True])
def test_the_published_way_from_checkpoint_to_labels(towers, bert, tmp_path, half):
    torch.save({"state_dict": published_weights(towers)}, tmp_path / "simseg.pth")
    model = convert_checkpoint(tmp_path / "simseg.pth", bert, tmp_path / "model", image_size=64, half=half)
    segmenter = load_segmenter("clip", model, device="cpu", settings=ClipSettings(
        rule="simseg", presence="hard", presence_sigma=-3.0, presence_limit=5, subclass_count=0, templates="plain",
        batch_size=2))
    image = np.random.default_rng(3).integers(0, 256, (50, 77, 3), dtype=np.uint8)
    (scores,) = segmenter.score([Sample(image_HW3=image, vocabulary=Vocabulary.from_names("dog, cat, sky"))])
    assert scores.names == ("background", "dog", "cat", "sky") and scores.rule is not None
    label_map = refine(image, scores, "none")
    assert label_map.labels_HW.shape == (50, 77) and set(np.unique(label_map.labels_HW)) <= {0, 1, 2, 3}


class Harm:
    """What a harmful checkpoint would hold."""

    def __reduce__(self):
        return print, ("run",)


def failure(function, *arguments, **options) -> ModelError:
    with pytest.raises(ModelError) as caught:
        function(*arguments, **options)
    return caught.value


def test_a_pickled_object_is_refused_and_not_run(tmp_path, capsys):
    path = tmp_path / "harm.pth"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "config": Harm()}, path)
    error = failure(read_state_dict, path)
    assert error.code == Code.MODEL_UNSUPPORTED and "pickled object" in error.given and "print" in error.given
    assert "torch.save" in error.next_step and capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", pickle.dumps({"a": 1}), b"PK\x03\x04half"],
                         ids=["empty", "text", "pickle", "cut"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "odd.pth"
    path.write_bytes(content)
    assert failure(read_state_dict, path).code in (Code.MODEL_CORRUPT, Code.MODEL_UNSUPPORTED)


def test_a_missing_file_and_a_file_without_tensors(tmp_path):
    assert failure(read_state_dict, tmp_path / "none.pth").code == Code.MODEL_MISSING
    torch.save({"state_dict": {"a": 3}}, tmp_path / "numbers.pth")
    assert failure(read_state_dict, tmp_path / "numbers.pth").code == Code.MODEL_UNSUPPORTED


def test_bert_may_be_wrapped_once_more(towers):
    plain = published_weights(towers)
    wrapped = {key.replace("text_encoder.model.", "text_encoder.model.model."): value for key, value in plain.items()}
    found, expected = (simseg_weights(weights, 64, "here") for weights in (wrapped, plain))
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def test_data_parallel_names_are_read(towers, tmp_path):
    torch.save({"state_dict": {f"module.{k}": v for k, v in published_weights(towers).items()}}, tmp_path / "p.pth")
    assert read_state_dict(tmp_path / "p.pth").keys() == published_weights(towers).keys()


@pytest.mark.parametrize(("change", "said"), [
    (lambda w: w.pop("loss.temperature"), "loss.temperature"),
    (lambda w: w.pop("image_encoder.model.model.blocks.1.attn.qkv.weight"), "resblocks.1.attn.in_proj_weight"),
    (lambda w: w.update({"visual.conv1.weight": torch.zeros(2)}), "visual.conv1.weight"),
    (lambda w: w.update({"text_projection.linear.weight": torch.zeros(3, 3)}), "text_projection.linear.weight")],
    ids=["missing", "missing in a block", "extra", "shape"])
def test_missing_and_extra_names_are_said(towers, bert, tmp_path, change, said):
    weights = published_weights(towers)
    change(weights)
    torch.save({"state_dict": weights}, tmp_path / "odd.pth")
    error = failure(convert_checkpoint, tmp_path / "odd.pth", bert, tmp_path / "out", image_size=64)
    assert error.code in (Code.MODEL_UNSUPPORTED, Code.MODEL_CORRUPT) and said in error.given
    assert not (tmp_path / "out").exists()


def test_weights_of_another_architecture_are_refused(bert, tmp_path):
    torch.save({"conv1.weight": torch.zeros(3), "fc.bias": torch.zeros(3)}, tmp_path / "resnet.pth")
    error = failure(convert_checkpoint, tmp_path / "resnet.pth", bert, tmp_path / "out")
    assert error.code == Code.MODEL_UNSUPPORTED and "conv1.weight" in error.given and "cls_token" in error.given


def test_values_that_half_precision_cannot_hold(towers, bert, tmp_path):
    weights = {key: value.clone() for key, value in published_weights(towers).items()}
    weights["image_projection.linear.weight"][0, 0] = 1e6
    torch.save(weights, tmp_path / "high.pth")
    error = failure(convert_checkpoint, tmp_path / "high.pth", bert, tmp_path / "out", image_size=64, half=True)
    assert error.code == Code.MODEL_UNSUPPORTED and "65504" in error.given


@pytest.mark.parametrize(("key", "shape"), [
    ("image_encoder.model.model.pos_embed", (17, 64)), ("image_encoder.model.model.pos_embed", (1, 16, 64)),
    ("image_encoder.model.model.pos_embed", (1, 17, 32)), ("image_encoder.model.model.pos_embed", (1, 1, 64)),
    ("image_encoder.model.model.patch_embed.proj.weight", (64, 768)),
    ("image_encoder.model.model.patch_embed.proj.weight", (64, 3, 16, 8)),
    ("image_encoder.model.model.patch_embed.proj.weight", (64, 1, 16, 16)),
    ("image_encoder.model.model.patch_embed.proj.weight", (65, 3, 16, 16)),
    ("image_encoder.model.model.patch_embed.proj.bias", (32,)), ("image_encoder.model.model.cls_token", (64,)),
    ("loss.temperature", (2,)), ("image_projection.linear.weight", (64,)),
    ("image_projection.linear.weight", (24, 32)), ("text_projection.linear.weight", (24, 32)),
    ("text_encoder.model.embeddings.word_embeddings.weight", (14,)),
    ("text_encoder.model.embeddings.word_embeddings.weight", (14, 200)),
    ("text_encoder.model.embeddings.word_embeddings.weight", (0, 64))], ids=str)
def test_a_weight_of_another_shape_is_refused_by_name(towers, bert, tmp_path, key, shape):
    torch.save(published_weights(towers) | {key: torch.zeros(shape)}, tmp_path / "odd.pth")
    error = failure(convert_checkpoint, tmp_path / "odd.pth", bert, tmp_path / "out", image_size=64)
    assert error.code == Code.MODEL_UNSUPPORTED and f"{key} of" in error.given and str(shape) in error.given
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(towers, bert, tmp_path, value):
    weights = published_weights(towers)
    weights["text_projection.linear.weight"] = torch.full((24, 64), value)
    torch.save(weights, tmp_path / "odd.pth")
    error = failure(convert_checkpoint, tmp_path / "odd.pth", bert, tmp_path / "out", image_size=64)
    assert error.code == Code.MODEL_CORRUPT and "text_projection.linear.weight" in error.given


@pytest.mark.parametrize(("values", "refused"), [
    ([1e-8], True), ([0.0, 1e-8], True), ([1.0, 1e-8], False), ([0.0], False), ([1e-6], False)], ids=str)
def test_a_weight_that_half_precision_would_make_zero_is_refused(towers, bert, tmp_path, values, refused):
    """Small values among large ones are no loss, and one that is 0 already loses nothing."""
    weights = published_weights(towers)
    weights["text_projection.linear.weight"] = torch.tensor(values).repeat(24 * 64)[:24 * 64].view(24, 64)
    torch.save(weights, tmp_path / "low.pth")
    convert = partial(convert_checkpoint, tmp_path / "low.pth", bert, tmp_path / "out", image_size=64)
    if refused:
        assert "text.projection.weight" in failure(convert, half=True).given
    assert (convert(half=not refused) / "model.json").exists()


def test_tokenizer_files_must_be_there(towers, tmp_path):
    torch.save(published_weights(towers), tmp_path / "simseg.pth")
    (tmp_path / "nothing").mkdir()
    error = failure(convert_checkpoint, tmp_path / "simseg.pth", tmp_path / "nothing", tmp_path / "out", image_size=64)
    assert error.code == Code.MODEL_INCOMPLETE and "vocab.txt" in error.given


def test_a_harmed_directory_is_refused(converted):
    config = converted / "simseg_config.json"
    (converted / "model.json").write_text(json.dumps(
        json.loads((converted / "model.json").read_text()) | {"files": {}}))
    config.write_text(json.dumps(json.loads(config.read_text()) | {"layers": 3}))
    error = failure(ClipEncoder, load_card(converted), device="cpu")
    assert error.code in (Code.MODEL_CORRUPT, Code.MODEL_UNSUPPORTED)


def test_the_objective_is_the_mean_of_both_directions():
    generator = torch.Generator().manual_seed(2)
    images, texts = (nn.functional.normalize(torch.randn(6, 8, generator=generator), dim=-1) for _ in range(2))
    logits = (images @ texts.T).double() / 0.02
    expected = -(logits.log_softmax(dim=1).diag().mean() + logits.log_softmax(dim=0).diag().mean()) / 2
    assert torch.allclose(contrast(images, texts, torch.tensor(0.02)).double(), expected, atol=1e-5)


@pytest.mark.parametrize(("temperature", "learns"), [(0.02, True), (0.0005, False), (0.9, False)])
def test_the_temperature_is_learned_within_its_limits(temperature, learns):
    images, texts = (nn.functional.normalize(torch.randn(4, 8), dim=-1) for _ in range(2))
    learned = torch.tensor(temperature, requires_grad=True)
    contrast(images, texts, learned).backward()
    assert (learned.grad != 0) == learns
    limited = torch.tensor(min(max(temperature, 0.001), 0.5))
    assert torch.equal(contrast(images, texts, learned), contrast(images, texts, limited))


def test_training_by_the_objective_brings_pairs_together():
    from vision.clip.loda import loda_pool

    torch.manual_seed(0)
    image_tokens, text_tokens = nn.Parameter(torch.randn(5, 9, 8)), nn.Parameter(torch.randn(5, 4, 8))
    temperature = nn.Parameter(torch.tensor(0.02))
    optimiser = torch.optim.AdamW([image_tokens, text_tokens, temperature], lr=0.05)
    losses = []
    for _ in range(40):
        loss = contrast(loda_pool(image_tokens, 5), loda_pool(text_tokens, 1), temperature)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0]
