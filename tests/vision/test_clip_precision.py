"""The image tower in bfloat16 says what it says in float32."""

import numpy as np
import pytest
import torch

from parsers.errors import SettingError
from parsers.vocabulary import Vocabulary
from vision import ClipSettings, load_segmenter
from vision.clip.encoder import uses_bfloat16
from vision.datasets.pictograms import PictogramDataset
from vision.refine import refine
from vision.types import Sample

CPU = torch.device("cpu")


@pytest.mark.parametrize(("precision", "half"), [("auto", False), ("float32", False), ("bfloat16", True)])
def test_a_cpu_computes_in_bfloat16_only_where_it_is_told_to(precision, half):
    assert uses_bfloat16(CPU, precision) is half


@pytest.mark.parametrize(("supported", "half"), [(True, True), (False, False)])
def test_a_gpu_does_it_by_itself_if_it_can(monkeypatch, supported, half):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert uses_bfloat16(torch.device("cuda"), "auto") is half
    assert uses_bfloat16(torch.device("cuda"), "float32") is False


@pytest.mark.parametrize(("precision", "rounds"), [("float32", False), ("bfloat16", True)])
def test_single_precision_is_not_rounded_by_a_gpu(monkeypatch, tiny_clip, precision, rounds):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    segmenter = load_segmenter("clip", tiny_clip, device="cpu", settings=ClipSettings(precision=precision))
    assert torch.backends.cudnn.allow_tf32 is rounds
    assert (segmenter.device, segmenter.precision) == ("cpu", precision)


@pytest.mark.gpu
def test_single_precision_on_a_gpu_is_that_of_the_cpu(tiny_clip):
    window = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    settings = ClipSettings(precision="float32")
    on_cpu, on_gpu = (load_segmenter("clip", tiny_clip, device=device, settings=settings).encoder.encode_windows(
        [window])[0].cpu() for device in ("cpu", "cuda"))
    assert (on_cpu - on_gpu).abs().max() < 1e-5


def test_another_precision_is_refused():
    with pytest.raises(SettingError, match="auto, float32, bfloat16"):
        ClipSettings(precision="float16")


def test_weights_of_products_are_converted_once_and_the_rest_is_not(pocket_clip):
    visual = load_segmenter("clip", pocket_clip, device="cpu",
                            settings=ClipSettings(precision="bfloat16")).encoder.image_tower
    block = visual.transformer.resblocks[0]
    for weight in (visual.conv1.weight, block.attn.in_proj_weight, block.attn.out_proj.weight, block.mlp.c_fc.weight):
        assert weight.dtype == torch.bfloat16
    for weight in (block.ln_1.weight, visual.positional_embedding, visual.proj):
        assert weight.dtype == torch.float32


@pytest.mark.parametrize("variant", ["auto", "sc-clip", "resclip", "loda"])
def test_more_than_99_of_100_pixels_keep_their_label(pocket_clip, variant):
    dataset = PictogramDataset(count=3, seed=5)
    samples, labels = [], {}
    for i in range(3):
        image_HW3, labels_HW = dataset.load(i)
        names = [dataset.classes[id] for id in np.unique(labels_HW)]
        samples.append(Sample(image_HW3=image_HW3, vocabulary=Vocabulary.from_names(names)))
    for precision in ("float32", "bfloat16"):
        segmenter = load_segmenter("clip", pocket_clip, device="cpu",
                                   settings=ClipSettings(templates="plain", variant=variant, precision=precision))
        maps = segmenter.score(samples)
        assert all(score_map.scores_CHW.dtype == np.float16 for score_map in maps)
        labels[precision] = np.stack([refine(sample.image_HW3, score_map).labels_HW
                                      for sample, score_map in zip(samples, maps, strict=True)])
    assert not np.array_equal(labels["float32"], np.zeros_like(labels["float32"]))
    assert (labels["float32"] == labels["bfloat16"]).mean() > 0.99
