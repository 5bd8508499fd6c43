"""The rule `sclip` against its published steps, written down once more: one picture, one window, one pixel size at a
time, and everything at full size."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from parsers.vocabulary import Vocabulary, VocabularyClass
from vision import ClipSettings, load_segmenter
from vision.refine import refine
from vision.types import Sample

WINDOW, PATCH = 32, 8
CLASSES = (("grass", "sky"), ("dog", "puppy", "hound"), ("cat",), ("bird", "red bird"))
"""The background first."""
VOCABULARY = Vocabulary(background=CLASSES[0], classes=tuple(
    VocabularyClass(id=id, name=names[0], synonyms=names[1:]) for id, names in enumerate(CLASSES[1:], start=1)))


def published_steps(image_HW3, segmenter, *, short_side, stride, scale, threshold, area):
    """Labels by the steps of the protocol; class ids 0 to 3."""
    height, width = image_HW3.shape[:2]
    ratio = min(2048 / max(height, width), short_side / min(height, width))
    size = (int(height * ratio + 0.5), int(width * ratio + 0.5))
    planes_13HW = torch.from_numpy(image_HW3).permute(2, 0, 1)[None].float()
    resized_hw3 = F.interpolate(planes_13HW, size, mode="bilinear")[0].permute(1, 2, 0).round().byte().numpy()
    words = [word for names in CLASSES for word in names]
    text_ND = segmenter._text.embed(words)
    crop = (size[0], size[1]) if stride == 0 else (min(WINDOW, size[0]), min(WINDOW, size[1]))
    step = stride or max(size)
    total_Nhw, count_hw = torch.zeros(len(words), *size), torch.zeros(size)
    for row in range(max(size[0] - crop[0] + step - 1, 0) // step + 1):
        for column in range(max(size[1] - crop[1] + step - 1, 0) // step + 1):
            bottom, right = min(row * step + crop[0], size[0]), min(column * step + crop[1], size[1])
            top, left = max(bottom - crop[0], 0), max(right - crop[1], 0)
            patches_PD = segmenter.encoder.encode_windows([resized_hw3[top:bottom, left:right]])[0][0]
            maps_Ngq = (text_ND @ patches_PD.T).reshape(len(words), crop[0] // PATCH, crop[1] // PATCH)
            total_Nhw[:, top:bottom, left:right] += F.interpolate(maps_Ngq[None], crop, mode="bilinear")[0]
            count_hw[top:bottom, left:right] += 1
    assert count_hw.min() > 0
    logits_NHW = F.interpolate((total_Nhw / count_hw)[None], (height, width), mode="bilinear")[0]
    probabilities_NHW = (logits_NHW * scale).softmax(dim=0)
    of_class = np.repeat(np.arange(len(CLASSES)), [len(names) for names in CLASSES])
    best_CHW = torch.stack([probabilities_NHW[of_class == index].amax(dim=0) for index in range(len(CLASSES))])
    if area is not None:
        counts = torch.bincount(best_CHW.argmax(dim=0).flatten(), minlength=len(CLASSES))
        for index in range(1, len(CLASSES)):
            if counts[index] <= area * counts[1:].sum():
                best_CHW[index] = 0
    labels_HW = best_CHW.argmax(dim=0)
    labels_HW[best_CHW.amax(dim=0) < threshold] = 0
    return labels_HW.numpy()


@pytest.mark.parametrize(("shape", "options"), [
    pytest.param((50, 66), {}, id="plain"),
    pytest.param((97, 61), {"threshold": 0.2}, id="threshold"),
    pytest.param((61, 97), {"area": 0.25}, id="area"),
    pytest.param((40, 200), {"threshold": 0.15, "area": 0.2}, id="long"),
    pytest.param((33, 49), {"stride": 0}, id="no windows"),
    pytest.param((20, 21), {"stride": 8, "short_side": 40}, id="small picture, small steps"),
    pytest.param((48, 48), {"scale": 65.0}, id="square"),
    pytest.param((6, 300), {"short_side": 48}, id="longer side at most 2048"),
])
def test_labels_follow_the_published_steps(tiny_clip, shape, options):
    options = {"short_side": 48, "stride": 16, "scale": 40.0, "threshold": 0.0, "area": None} | options
    settings = ClipSettings(rule="sclip", variant="sclip", short_side=options["short_side"], stride=options["stride"],
                            logit_scale=options["scale"], background_threshold=options["threshold"],
                            area_threshold=options["area"], batch_size=3)
    segmenter = load_segmenter("clip", tiny_clip, device="cpu", settings=settings)
    coarse = torch.from_numpy(np.random.default_rng(sum(shape)).integers(0, 256, (3, 4, 5)).astype(np.float32))
    image_HW3 = F.interpolate(coarse[None], shape, mode="bicubic")[0].clamp(0, 255).byte().permute(1, 2, 0).numpy()
    expected_HW = published_steps(np.ascontiguousarray(image_HW3), segmenter, **options)
    [score_map] = segmenter.score([Sample(image_HW3=np.ascontiguousarray(image_HW3), vocabulary=VOCABULARY)])
    labels_HW = refine(image_HW3, score_map).labels_HW
    assert (labels_HW == expected_HW).mean() > 0.999
    assert len(np.unique(expected_HW)) > 1
