"""The dense CRF and PAMR in torch against exact sums, plain loops, pydensecrf and the published numbers."""

import itertools
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vision import ScoreMap, refine
from vision.refine import refine_probabilities
from vision.refine.dense_crf import dense_crf
from vision.refine.enlarge import enlarge, enlarge_on
from vision.refine.lattice import Lattice
from vision.refine.pamr import neighbour_weights, pamr
from vision.refine.settings import BILATERAL, SPATIAL
from vision.refine.torch_crf import mean_field

CONSTANTS = {"spatial_compat": SPATIAL["compat"], "bilateral_srgb": BILATERAL["srgb"],
             "bilateral_compat": BILATERAL["compat"]}


def golden() -> dict[str, np.ndarray]:
    given = os.environ.get("LEXISEG_SHARED")
    places = [Path(given)] if given else [parent / "shared" for parent in Path(__file__).resolve().parents[2:5]]
    for place in places:
        if (place / "data" / "golden" / "pamr.npz").exists():
            return dict(np.load(place / "data" / "golden" / "pamr.npz"))
    return {}


GOLDEN = golden()


def picture(height=40, width=50, seed=0):
    """Smooth colours with some noise and an edge."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 200, (height // 10 + 1, width // 10 + 1, 3))
    image = small.repeat(10, 0).repeat(10, 1)[:height, :width] + generator.integers(0, 30, (height, width, 3))
    image[:, width // 2:] += 20
    return image.astype(np.uint8)


def probabilities(classes=4, height=40, width=50, seed=0):
    logits = np.random.default_rng(seed).normal(0, 2, (classes, height // 8 + 1, width // 8 + 1))
    exponents = np.exp(logits.repeat(8, 1).repeat(8, 2)[:, :height, :width])
    return (exponents / exponents.sum(axis=0)).astype(np.float32)


def field(images, maps, stride=1.0, iterations=3):
    return mean_field(torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(maps)), iterations=iterations,
                      spatial_sxy=SPATIAL["sxy"] / stride, bilateral_sxy=BILATERAL["sxy"] / stride, **CONSTANTS).numpy()


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_the_lattice_approximates_a_gaussian_of_deviation_one(dimensions):
    points_dN = torch.rand(dimensions, 400, generator=torch.Generator().manual_seed(1)) * 6
    values_NK = torch.rand(400, 3, generator=torch.Generator().manual_seed(2))
    distance_NN = (points_dN[:, :, None] - points_dN[:, None]).square().sum(dim=0)
    exact_NN = torch.exp(-distance_NN / 2)
    exact_NK = exact_NN @ values_NK / exact_NN.sum(dim=1, keepdim=True)
    lattice = Lattice(points_dN)
    found_NK = lattice.filter(values_NK) / lattice.filter(torch.ones(400, 1))
    assert (found_NK - exact_NK).abs().mean() < 0.01
    assert (values_NK - exact_NK).abs().mean() > 0.1  # what no filter would leave


@pytest.mark.parametrize("last", [1, 10**9], ids=["keys of 32 bits", "keys of 64 bits"])
def test_points_of_different_groups_do_not_see_each_other(last):
    points_dN = torch.rand(3, 60, generator=torch.Generator().manual_seed(3)) * 4
    values_NK = torch.rand(60, 2, generator=torch.Generator().manual_seed(4))
    together = Lattice(points_dN.repeat(1, 2), torch.tensor([0, last]).repeat_interleave(60))
    alone_NK = Lattice(points_dN).filter(values_NK)
    both_NK = together.filter(torch.cat([values_NK, 2 * values_NK]))
    torch.testing.assert_close(both_NK, torch.cat([alone_NK, 2 * alone_NK]))


@pytest.mark.parametrize(("size", "classes", "stride"), [((40, 50), 4, 1.0), ((31, 17), 2, 2.0), ((1, 30), 3, 1.5),
                                                         ((1, 1), 2, 1.0), ((64, 64), 12, 2.0)], ids=str)
def test_mean_field_is_that_of_pydensecrf(size, classes, stride):
    image, maps = picture(*size), probabilities(classes, *size)
    for iterations in (1, 5):
        expected = dense_crf(image, maps, stride=stride, iterations=iterations)
        assert np.abs(field([image], [maps], stride, iterations)[0] - expected).max() < 1e-4
    assert size == (1, 1) or np.abs(expected - maps).max() > 0.1


def test_pictures_of_a_batch_do_not_see_each_other_and_may_be_filled_up_with_classes():
    images = [picture(seed=seed) for seed in range(3)]
    maps = [probabilities(4, seed=seed) for seed in range(3)]
    maps[1][2:] = 0
    maps[1][:2] /= maps[1][:2].sum(axis=0)
    together = field(images, maps)
    for index, (image, own) in enumerate(zip(images, maps, strict=True)):
        kept = 2 if index == 1 else 4
        assert np.abs(together[index, :kept] - field([image], [own[:kept]])[0]).max() < 1e-4
    assert (together[1, 2:] == 0).all()


@pytest.mark.gpu
def test_the_gpu_computes_what_the_cpu_computes():
    given = torch.from_numpy(picture()[None]), torch.from_numpy(probabilities()[None])
    sizes = {"spatial_sxy": 3.0, "bilateral_sxy": 40.0, "iterations": 3}
    cpu = mean_field(*given, **sizes, **CONSTANTS)
    gpu = mean_field(*(tensor.cuda() for tensor in given), **sizes, **CONSTANTS)
    assert (cpu - gpu.cpu()).abs().max() < 1e-3


def score_map(classes=6, seed=0):
    logits = np.random.default_rng(seed).normal(0, 3, (classes, 8, 10)).astype(np.float16)
    return ScoreMap(scores_CHW=logits, class_ids=tuple(range(classes)), names=tuple(map(str, range(classes))),
                    image_scores_C=np.ones(classes, np.float32))


@pytest.mark.parametrize("size", [(64, 80), (7, 5), (33, 90)])
@pytest.mark.parametrize("classes", [1, 2, 40])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_winners_of_a_device_are_those_of_the_processor(monkeypatch, size, classes, device):
    """In several chunks of classes; they may differ where two classes are equal but for rounding."""
    maps = np.random.default_rng(classes).dirichlet(np.full(classes, 0.3), (8, 10)).astype(np.float32)
    maps = np.ascontiguousarray(maps.transpose(2, 0, 1))
    winner, best = enlarge(maps, *size)
    monkeypatch.setattr(sys.modules["vision.refine.enlarge"], "CLASS_VALUES", 3 * size[0] * size[1])
    winner_there, best_there = enlarge_on(torch.device(device), maps, *size)
    assert winner_there.dtype == winner.dtype and best_there.dtype == best.dtype and winner_there.shape == size
    assert np.abs(best_there - best).max() < 1e-5 and (winner_there == winner).mean() > 0.999


@pytest.mark.parametrize(("method", "device", "is_there"), [
    ("none", "cuda", True), ("torch-crf", "cuda", False), ("pydensecrf", "cuda", False), ("none", "cpu", False)])
def test_plain_enlarging_happens_on_the_device(monkeypatch, method, device, is_there):
    """Only the answer to where is made up: there may be no GPU here."""
    module, asked = sys.modules["vision.refine"], []
    monkeypatch.setattr(module, "_place", lambda _device: torch.device("cuda"))
    monkeypatch.setattr(module, "_refined", lambda _picture, _stride, maps, *_: maps)

    def winners(place, maps, height, width):
        asked.append(place.type)
        return enlarge_on(torch.device("cpu"), maps, height, width)

    monkeypatch.setattr(module, "enlarge_on", winners)
    found = refine(picture(80, 100), score_map(), method, device=device)
    assert asked == ["cuda"] * is_there
    assert (found.labels_HW == refine(picture(80, 100), score_map(), method).labels_HW).mean() > 0.999
    monkeypatch.setattr(module, "DEVICE_PIXELS", 80 * 100 - 1)
    refine(picture(80, 100), score_map(), method, device=device)
    assert asked == ["cuda"] * is_there, "a picture that is too large stays off the GPU"


@pytest.mark.parametrize(("method", "device", "expected"), [
    ("none", "auto", "cuda:1"), ("pamr", "cuda:1", "cuda:1"), ("torch-crf", "auto", "cuda:1"),
    ("pydensecrf", "auto", "cpu"), ("pamr", "cpu", "cpu")])
def test_a_rule_is_told_where_to_compute(monkeypatch, method, device, expected):
    """Only the answer to where is made up: there may be no GPU here."""
    monkeypatch.setattr(sys.modules["vision.refine"], "_place", lambda _device: torch.device("cuda:1"))
    told = []

    class Rule:
        def decide(self, image, refinement, device):
            told.append((refinement, device))
            size = image.shape[:2]
            return np.zeros(size, np.uint16), np.ones(size, np.float32), np.zeros(1, np.uint16)

    refine(picture(8, 9), replace(score_map(), rule=Rule()), method, device=device)
    assert told == [(method, expected)]


def test_pamr_does_not_depend_on_how_many_classes_go_at_once(monkeypatch):
    image, maps = picture(), probabilities(7)
    whole = refine_probabilities(image, maps, "pamr")
    monkeypatch.setattr(sys.modules["vision.refine"], "CLASS_VALUES", 2 * 40 * 50)
    assert (refine_probabilities(image, maps, "pamr") == whole).all()


def test_the_weights_of_pamr_are_made_in_little_memory():
    """Of its 16 weights for a pixel, not of the colours of all neighbours."""
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    sizes = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            sizes.append(result.numel() if isinstance(result, torch.Tensor) else 0)
            return result

    with Watch():
        neighbour_weights(image)
    assert max(sizes) == 16 * 64 * 64


def test_refine_with_torch_gives_the_labels_of_pydensecrf():
    image = picture(80, 100)
    one, other = (refine(image, score_map(), method).labels_HW for method in ("pydensecrf", "torch-crf"))
    assert (one == other).mean() > 0.999 and (one != refine(image, score_map()).labels_HW).mean() > 0.01


@pytest.mark.parametrize("case", [f"{source}{tag}_it{steps}" for source in ("out_", "out_low_")
                                  for tag in ("d8_16", "d1_2_4_8_12_24") for steps in (1, 10)
                                  if not GOLDEN or f"{source}{tag}_it{steps}" in GOLDEN])
@pytest.mark.skipif(not GOLDEN, reason="../shared is absent")
def test_pamr_equals_the_published_numbers(case):
    dilations = (8, 16) if "d8_16" in case else (1, 2, 4, 8, 12, 24)
    mask = GOLDEN["mask_low" if "low" in case else "mask"]
    found = pamr(torch.from_numpy(GOLDEN["image"]), torch.from_numpy(mask), dilations=dilations,
                 iterations=int(case.rpartition("it")[2])).numpy()
    assert np.abs(found - GOLDEN[case]).max() < 1e-5


def test_pamr_equals_plain_loops():
    generator = np.random.default_rng(0)
    image, mask = generator.random((3, 5, 6)), generator.random((2, 5, 6))
    expected = np.zeros_like(mask)
    for y, x in itertools.product(range(5), range(6)):
        steps = [(a * d, b * d) for d in (1, 2) for a, b in itertools.product((-1, 0, 1), repeat=2)]
        places = [(min(max(y + a, 0), 4), min(max(x + b, 0), 5)) for a, b in steps]
        around = [place for place, step in zip(places, steps, strict=True) if step != (0, 0)]
        spread = np.std([image[:, *place] for place in places], axis=0, ddof=1)
        cost = np.array([np.mean(np.abs(image[:, *place] - image[:, y, x]) / (1e-8 + 0.1 * spread))
                         for place in around])
        weights = np.exp(-cost) / np.exp(-cost).sum()
        expected[:, y, x] = sum(weight * mask[:, *place] for weight, place in zip(weights, around, strict=True))
    found = pamr(torch.from_numpy(image)[None].float(), torch.from_numpy(mask)[None].float(), iterations=1,
                 dilations=(1, 2))
    assert np.abs(found[0].numpy() - expected).max() < 1e-5


def test_pamr_on_a_constant_picture_is_a_mean_and_sums_stay():
    maps = torch.from_numpy(probabilities(3))[None]
    refined = pamr(torch.full((1, 3, 40, 50), 0.4), maps, iterations=1, dilations=(1,))
    padded = torch.nn.functional.pad(maps, (1, 1, 1, 1), mode="replicate")
    mean = (torch.nn.functional.avg_pool2d(padded, 3, stride=1) * 9 - maps) / 8
    torch.testing.assert_close(refined, mean)
    refined = pamr(torch.from_numpy(picture()).permute(2, 0, 1)[None].float(), maps)
    torch.testing.assert_close(refined.sum(dim=1), torch.ones(1, 40, 50))
