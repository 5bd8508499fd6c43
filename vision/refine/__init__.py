"""A score map becomes a label map at the size of the image.

Probabilities (softmax over the classes) are enlarged bilinearly and the largest wins. The other methods first move the
borders along the edges of the picture, a smaller one, and then enlarge along those of the whole one
(`vision.refine.upsample`); docs/refinement.md compares them.

Shapes: C classes; K classes that take part; h, w score map; s, t the picture that is refined; H, W image.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision.refine import dense_crf as pydensecrf
from vision.refine.enlarge import CLASS_VALUES, DEVICE_PIXELS, enlarge, enlarge_on, softmax, turn
from vision.refine.regions import find_regions
from vision.refine.settings import BILATERAL, METHODS, SPATIAL, RefineSettings, parse_refinement
from vision.refine.upsample import follow_edges
from vision.types import LabelMap, ScoreMap

if TYPE_CHECKING:
    import torch

__all__ = ["METHODS", "RefineSettings", "parse_refinement", "refine", "refine_probabilities"]

_Field = Callable[[NDArray[np.float32]], NDArray[np.float32]]
DEFAULTS = RefineSettings()
STEPS = 2
"""Of mean field. SimSeg and LLM-Supervision take three; two were better on every set of pictures we tried, and cheaper
(docs/refinement.md)."""
SMALL_SIDE = 256
"""Pixels of the longer side up to which a CRF needs a stride of 3 to keep small things."""


def refine(image_HW3: NDArray[np.uint8], score_map: ScoreMap, method: str = "none", *, confidence: bool = False,
           device: str = "cpu") -> LabelMap:
    """Labels of every pixel, with regions and scores.

    image: uint8 RGB; method: `none`, `pydensecrf`, `pamr` or `torch-crf`, the last three also with options
    (`parse_refinement`); confidence: also return the probability of each pixel's label; device: where all but
    pydensecrf compute, `auto`, `cpu`, `cuda` or `cuda:N`. Raises SettingError for another method and
    MissingPackageError where pydensecrf is not installed. The same arguments give the same bytes.
    """
    name, settings = parse_refinement(method)
    if score_map.rule is not None:
        place = str(_place(device)) if device != "cpu" and name != "pydensecrf" else "cpu"
        winner_HW, probability_HW, class_ids_K = score_map.rule.decide(image_HW3, method, place)
    else:
        winner_HW, probability_HW, class_ids_K = _most_probable(image_HW3, score_map, name, device, settings)
    scores, regions = find_regions(winner_HW, probability_HW, class_ids_K)
    return LabelMap(labels_HW=class_ids_K[winner_HW], scores=scores, regions=regions,
                    confidence_HW=probability_HW.astype(np.float16) if confidence else None)


def _most_probable(image_HW3: NDArray[np.uint8], score_map: ScoreMap, method: str, device: str,
                   settings: RefineSettings) -> tuple[NDArray[np.uint16], NDArray[np.float32], NDArray[np.uint16]]:
    """(H, W) winners as indices into the class ids, (H, W) their probabilities, and the class ids. The processes of
    pydensecrf stay off the GPU, and so do very large pictures, whatever else it does just now."""
    probabilities_Khw = softmax(score_map.scores_CHW)
    class_ids_K = np.array(score_map.class_ids, np.uint16)
    if method != "none":
        kept_K = participants(probabilities_Khw, settings.floor)
        probabilities_Khw, class_ids_K = probabilities_Khw[kept_K], class_ids_K[kept_K]
        if len(class_ids_K) > 1:
            picture_st3, stride = _smaller(image_HW3, method, settings)
            probabilities_Kst = _refined(picture_st3, stride, probabilities_Khw, method, device, settings)
            return *follow_edges(image_HW3, picture_st3, probabilities_Kst, srgb=BILATERAL["srgb"]), class_ids_K
    height, width = image_HW3.shape[:2]
    on_device = device != "cpu" and method != "pydensecrf" and height * width <= DEVICE_PIXELS
    if on_device and (place := _place(device)).type != "cpu":
        return *enlarge_on(place, probabilities_Khw, height, width), class_ids_K
    return *enlarge(probabilities_Khw, height, width), class_ids_K


def _place(device: str) -> torch.device:
    import torch

    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


def participants(probabilities_Chw: NDArray[np.float32], floor: float) -> NDArray[np.intp]:
    """Indices of the classes that are the most probable somewhere, or reach `floor` somewhere; ascending."""
    highest_C = probabilities_Chw.max(axis=(1, 2))
    return np.union1d(np.flatnonzero(highest_C >= floor), probabilities_Chw.argmax(axis=0))


def refine_probabilities(image_HW3: NDArray[np.uint8], probabilities_Khw: NDArray[np.float32], method: str, *,
                         device: str = "cpu", settings: RefineSettings = DEFAULTS) -> NDArray[np.float32]:
    """(K, s, t) refined probabilities of at least two classes, on the picture made smaller as `settings` say."""
    picture_st3, stride = _smaller(image_HW3, method, settings)
    return _refined(picture_st3, stride, probabilities_Khw, method, device, settings)


def _smaller(image_HW3: NDArray[np.uint8], method: str,
             settings: RefineSettings) -> tuple[NDArray[np.uint8], float]:
    """The picture that is refined, and how many pixels of the image one of its pixels is wide."""
    height, width = image_HW3.shape[:2]
    usual = 1 if method == "pamr" else 3 if max(height, width) <= SMALL_SIDE else 4
    wanted = settings.stride or usual
    stride = max(wanted if min(height, width) >= 2 * wanted else 1, max(height, width) / settings.largest_side)
    size_ts = max(1, round(width / stride)), max(1, round(height / stride))
    return np.array(Image.fromarray(image_HW3).resize(size_ts, Image.Resampling.BOX)), stride


def _refined(picture_st3: NDArray[np.uint8], stride: float, probabilities_Khw: NDArray[np.float32], method: str,
             device: str, settings: RefineSettings) -> NDArray[np.float32]:
    size_ts = picture_st3.shape[1], picture_st3.shape[0]
    probabilities_Kst = np.stack([
        np.asarray(Image.fromarray(map_hw).resize(size_ts, Image.Resampling.BILINEAR)) for map_hw in probabilities_Khw])
    if method == "pydensecrf":
        field: _Field = partial(_pydensecrf_field, picture_st3, stride, settings.iterations)
    else:
        field = _torch_field(picture_st3, method, stride, settings.iterations, device)
    return _binary(probabilities_Kst, field) if settings.binary and method != "pamr" else field(probabilities_Kst)


def _binary(probabilities_Kst: NDArray[np.float32], field: _Field) -> NDArray[np.float32]:
    """Each class against the rest; what the fields say is scaled to sum 1."""
    alone_Kst = np.concatenate([field(np.stack([map_st, 1 - map_st]))[:1] for map_st in probabilities_Kst])
    alone_Kst += 1e-6 * probabilities_Kst  # where all fields say no, what was there before decides
    return alone_Kst / alone_Kst.sum(axis=0)


def _pydensecrf_field(picture_st3: NDArray[np.uint8], stride: float, iterations: int | None,
                      maps_Kst: NDArray[np.float32]) -> NDArray[np.float32]:
    return pydensecrf.dense_crf(picture_st3, maps_Kst, stride=stride,
                                iterations=_or(iterations, STEPS))


def _torch_field(picture_st3: NDArray[np.uint8], method: str, stride: float, iterations: int | None,
                 device: str) -> _Field:
    import torch

    from vision.refine import pamr, torch_crf

    place = _place(device)

    def pamr_field(maps_Kst: NDArray[np.float32]) -> NDArray[np.float32]:
        with turn(place):
            picture_13st = torch.from_numpy(picture_st3).permute(2, 0, 1)[None].to(place).float() / 255
            weights_1Zst = pamr.neighbour_weights(picture_13st)
            together = max(1, CLASS_VALUES // maps_Kst[0].size)
            parts = []
            for start in range(0, len(maps_Kst), together):
                maps_1Kst = torch.from_numpy(maps_Kst[start:start + together])[None].to(place)
                parts.append(pamr.mix(maps_1Kst, weights_1Zst, iterations=_or(iterations, pamr.ITERATIONS))[0].cpu())
            return torch.cat(parts).numpy()

    def crf_field(maps_Kst: NDArray[np.float32]) -> NDArray[np.float32]:
        with turn(place):
            refined_1Kst = torch_crf.mean_field(
                torch.from_numpy(picture_st3)[None].to(place), torch.from_numpy(maps_Kst)[None].to(place),
                spatial_sxy=SPATIAL["sxy"] / stride, spatial_compat=SPATIAL["compat"],
                bilateral_sxy=BILATERAL["sxy"] / stride, bilateral_srgb=BILATERAL["srgb"],
                bilateral_compat=BILATERAL["compat"], iterations=_or(iterations, STEPS))
            return refined_1Kst[0].cpu().numpy()

    return pamr_field if method == "pamr" else crf_field


def _or(given: int | None, default: int) -> int:
    return default if given is None else given
