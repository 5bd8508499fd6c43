"""The losses of LLMFormer: Hungarian matching, class, mask and dice, after every layer (transformers' own).

Shapes: B batch; Q mask queries; K classes; S side of the window; h, w cells of the masks; c text width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

from vision.llmformer.model import Llmformer, Predictions
from vision.train.llmformer_config import LossConfig

IGNORED = -1


class SegmentationLoss(nn.Module):
    """All losses of a batch by name, weighted; their sum is what is minimised."""

    def __init__(self, config: LossConfig, classes: int) -> None:
        super().__init__()
        self.config = config
        self.weights = {"loss_cross_entropy": config.classes, "loss_mask": config.mask, "loss_dice": config.dice}
        self.criterion = _Criterion(Mask2FormerConfig(
            num_labels=classes, class_weight=config.classes, mask_weight=config.mask, dice_weight=config.dice,
            no_object_weight=config.no_object, train_num_points=config.points), self.weights)

    def forward(self, model: Llmformer, found: Predictions, labels_BSS: Tensor, texts_Kc: Tensor) -> dict[str, Tensor]:
        """labels: index of the class, `IGNORED` where nothing counts; texts: of length 1."""
        masks, classes = targets(labels_BSS)
        outputs = [{"masks_queries_logits": layer.masks_BQhw.float(),
                    "class_queries_logits": model.class_logits(layer.classes_BQc, texts_Kc).float()}
                   for layer in found.layers]
        unweighted = self.criterion(**outputs[-1], mask_labels=masks, class_labels=classes,
                                    auxiliary_predictions=outputs[:-1])
        losses = {name: value * self.weights["_".join(name.split("_")[:2 + ("cross" in name)])]
                  for name, value in unweighted.items()}
        if self.config.pixel and found.pixels_Bchw is not None:
            losses["loss_pixel"] = self.config.pixel * pixel_loss(model, found.pixels_Bchw, labels_BSS, texts_Kc,
                                                                  self.config.pixel_cells)
        return losses


class _Criterion(Mask2FormerLoss):
    """With several processes transformers divides the number of masks by theirs twice, which weighs masks and dice as
    many times too much."""

    def get_num_masks(self, class_labels: list[Tensor], device: torch.device) -> Tensor:
        """The mean over the processes, at least 1."""
        here = torch.as_tensor(float(sum(map(len, class_labels))), device=device)
        return reduce(here, "mean").clamp(min=1)


def targets(labels_BSS: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Per picture a mask for each class in it, (n, S, S) float, and the classes, (n,) int64."""
    masks, classes = [], []
    for labels_SS in labels_BSS:
        present_n = labels_SS.unique()
        present_n = present_n[present_n != IGNORED]
        classes.append(present_n)
        masks.append((labels_SS[None] == present_n[:, None, None]).float())
    return masks, classes


def pixel_loss(model: Llmformer, pixels_Bchw: Tensor, labels_BSS: Tensor, texts_Kc: Tensor,
               cells: int | None = None) -> Tensor:
    """Cross-entropy of the per-pixel head against the labels at the cells' centres. cells: so many of them, chosen at
    random; None: all."""
    labels_BP = F.interpolate(labels_BSS[:, None].float(), pixels_Bchw.shape[-2:], mode="nearest-exact").flatten(1)
    pixels_BcP = pixels_Bchw.flatten(2)
    if cells is not None and cells < labels_BP.shape[1]:
        chosen = torch.randperm(labels_BP.shape[1], device=labels_BP.device)[:cells]
        labels_BP, pixels_BcP = labels_BP[:, chosen], pixels_BcP[:, :, chosen]
    labels_M = labels_BP.flatten().long()
    counted_M = labels_M != IGNORED  # a mean over nothing would be no number
    logits_MK = model.scale * (pixels_BcP.transpose(1, 2).flatten(0, 1).float() @ texts_Kc.T)
    return F.cross_entropy(logits_MK, labels_M, ignore_index=IGNORED, reduction="sum") / counted_M.sum().clamp(min=1)


def summed(losses: dict[str, Tensor]) -> dict[str, float]:
    """The losses for the log: those of all layers together by kind, and their total."""
    groups: dict[str, float] = {}
    for name, value in losses.items():
        kind = name.removeprefix("loss_").rstrip("0123456789_")
        groups[kind] = groups.get(kind, 0.0) + value.item()
    return groups | {"total": sum(groups.values())}


def is_finite(losses: Sequence[float]) -> bool:
    return all(value == value and abs(value) != float("inf") for value in losses)
