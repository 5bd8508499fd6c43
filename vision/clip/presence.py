"""Which classes are in an image at all.

SimSeg and LLM-Supervision keep the classes whose image score is at least mean + one standard deviation of the best
scores (`present`). `presence` makes that threshold the middle of a sigmoid, and its logarithm is added to the class's
logits: nothing is cut off.

Shapes: C classes; M names of the longest list; N names; D embedding.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from vision.clip.ensemble import NameLists

EPS = 1e-6


def evidence(pooled_D: torch.Tensor, table_ND: torch.Tensor, lists: NameLists, source: str) -> torch.Tensor:
    """(C,): the cosine of the image vector with the class name (`super`), or with the best of the class name and its
    list (`super_or_sub`). The background, where there is one, has the best of its words."""
    cosine_N = table_ND @ pooled_D
    own_C, best_C = cosine_N[lists.own_C], cosine_N[lists.lists_CM].amax(dim=1)
    if source == "super_or_sub":
        return torch.maximum(own_C, best_C)
    return torch.cat([best_C[:1], own_C[1:]]) if lists.class_ids[:1] == (0,) else own_C


def presence(evidence_C: torch.Tensor, class_ids: tuple[int, ...],
             thresholds: Mapping[str, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Image scores in [0, 1] and what is added to the logits, at most 0; both (C,).

    With `presence_threshold` among the model's thresholds: sigmoid((s - threshold) / presence_temperature), and
    presence_weight times its logarithm. Without: the threshold is mean + standard deviation of the scores, the
    temperature their standard deviation, and the best class loses nothing. Equal scores give 0.5 and, without a
    threshold, no change. The background always is present: score 1, nothing added.
    """
    foreground_C = torch.tensor([class_id != 0 for class_id in class_ids], device=evidence_C.device)
    known_F = evidence_C[foreground_C]
    weight = thresholds.get("presence_weight", 1.0)
    if "presence_threshold" in thresholds:
        margin_F = (known_F - thresholds["presence_threshold"]) / thresholds.get("presence_temperature", 0.05)
        bias_F = weight * F.logsigmoid(margin_F)
    else:
        spread = known_F.std() if len(known_F) > 1 else known_F.new_zeros(())
        margin_F = (known_F - known_F.mean() - spread) / spread if spread > EPS else torch.zeros_like(known_F)
        bias_F = weight * F.logsigmoid(margin_F)
        bias_F = bias_F - bias_F.max() if len(bias_F) else bias_F
    scores_C, bias_C = torch.ones_like(evidence_C), torch.zeros_like(evidence_C)
    scores_C[foreground_C], bias_C[foreground_C] = margin_F.sigmoid(), bias_F
    return scores_C, bias_C


def present(evidence_C: torch.Tensor, class_ids: tuple[int, ...], *, top: int | None = None, sigma: float = 1.0,
            limit: int | None = None) -> list[int]:
    """Rows of the classes that pass the hard test, best first.

    The threshold is mean + sigma standard deviations (n - 1) of the `top` best scores (None: all). The first `limit`
    of the ranking are walked through (None: all of it): the background is skipped, but uses a place, and the first
    score below the threshold ends it. Where all scores are equal, none is below.
    """
    best_T, order_T = evidence_C.sort(descending=True, stable=True)
    best_T, order_T = best_T[:top], order_T[:top]
    spread = best_T.std() if len(best_T) > 1 else best_T.new_zeros(())
    threshold = best_T.mean() + sigma * spread if spread > EPS else float("-inf")
    rows = []
    for row, score in zip(order_T[:limit].tolist(), best_T[:limit], strict=True):
        if class_ids[row] == 0:
            continue
        if score < threshold:
            break
        rows.append(row)
    return rows
