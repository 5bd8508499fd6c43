"""Sentences with `{}` for a name.

The lists of `voc`, `context` and `coco` are those that LLM-Supervision (arXiv 2404.00701) kept. They were chosen on the
validation images of these datasets, so a figure made with them there says too much.
"""

from __future__ import annotations

from collections.abc import Sequence

from open_clip import OPENAI_IMAGENET_TEMPLATES

PLAIN_TEMPLATES = ("a photo of a {}.",)
IMAGENET_TEMPLATES = tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
VOC_TEMPLATES = (
    "a photo of one {}.", "a photo of a cool {}.", "a photo of a weird {}.", "a photo of a nice {}.",
    "a jpeg corrupted photo of a {}.", "a pixelated photo of a {}.", "a photo of a {}.", "a cropped photo of the {}.",
    "a bright photo of a {}.", "a cropped photo of a {}.", "a bad photo of the {}.", "a drawing of a {}.",
    "a photo of the cool {}.")
CONTEXT_TEMPLATES = (
    "a photo of a nice {}.", "a jpeg corrupted photo of the {}.", "a photo of the nice {}.", "a bad photo of the {}.",
    "a jpeg corrupted photo of a {}.", "a good photo of the {}.", "itap of a {}.", "a photo of one {}.",
    "a photo of a {}.", "a photo of the cool {}.", "a good photo of a {}.")
COCO_TEMPLATES = (
    "a photo of a weird {}.", "a jpeg corrupted photo of a {}.", "a photo of a {}.", "a photo of the weird {}.",
    "a photo of one {}.", "a low resolution photo of a {}.", "a bad photo of a {}.")
NAMED = {"plain": PLAIN_TEMPLATES, "imagenet": IMAGENET_TEMPLATES, "voc": VOC_TEMPLATES, "context": CONTEXT_TEMPLATES,
         "coco": COCO_TEMPLATES}


def chosen_templates(setting: str, card: Sequence[str]) -> tuple[str, ...]:
    """The sentences of the option `templates`. card: those of the model card, none for the 80 ImageNet templates."""
    if setting == "card":
        return tuple(card) or IMAGENET_TEMPLATES
    return NAMED.get(setting) or (setting,)
