"""A CLIP from a local open_clip directory: windows to patch features, prompts to text vectors.

Shapes: B batch; S window side in pixels; P patches; D embedding; T tokens of a prompt.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray

from parsers.errors import Code, ModelError, SettingError
from vision.clip.dense import check_tower, dense_features
from vision.clip.resclip import Feedback, ResclipNumbers
from vision.models import ModelCard, model_digest, weights_file
from vision.simseg.network import load_simseg

PROMPT_BATCH = 64
MESSAGE = 600
"""Letters of a library's error that are passed on; one about missing keys may be very long."""


class ClipEncoder:
    """The two towers of a CLIP or a SimSeg, in evaluation mode, float32; the image tower in bfloat16 where that is
    chosen.

    Batches have a fixed shape (short ones are filled up), so that a result does not depend on its neighbours.
    """

    def __init__(self, card: ModelCard, *, device: str = "auto", variant: str = "auto", batch_size: int = 16,
                 residual: bool | None = None, precision: str = "auto", numbers: ResclipNumbers | None = None) -> None:
        """Loads and verifies the model of a card. device: `auto`, `cpu`, `cuda` or `cuda:N`; precision: see
        `ClipSettings`; numbers: of `resclip`.

        Raises ModelError (files missing, damaged, or not an open_clip vision transformer) and SettingError
        (`device-missing`).
        """
        self.card = card
        self.device = torch.device(choose_device(device))
        self.variant = card.variant if variant == "auto" else variant
        self.residual = residual
        self.numbers = numbers
        self.half = uses_bfloat16(self.device, precision)
        self.batch_size = batch_size
        self.digest = model_digest(card)
        self._model: Any
        self._tokenizer: Any
        self._model, self._tokenizer = load_clip(card)
        check_tower(self._model.visual, self.variant, str(card.directory))
        _check_numbers(self._model, card)
        self._model.to(self.device).eval().requires_grad_(False)
        if self.half:
            halve(self._model.visual)
        else:  # torch itself lets convolutions on a GPU round their factors to 10 bits
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self._mean_3, self._std_3 = (torch.tensor(v, device=self.device) * 255 for v in (card.mean, card.std))

    @torch.inference_mode()
    def encode_windows(self, windows_SS3: Sequence[NDArray[np.uint8]],
                       feedback: Feedback | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """At most `batch_size` windows, uint8 RGB, to patch features (B, P, D) of length 1 and image vectors (B, D) of
        length 1; both on the device. All windows have the same size, usually `card.window` pixels a side; windows of
        another size come one at a time. feedback: for the second pass of `resclip`, with the names of each window."""
        own = windows_SS3[0].shape == (self.card.window, self.card.window, 3)
        rows = self.batch_size if own else len(windows_SS3)
        batch_BSS3 = np.zeros((rows, *windows_SS3[0].shape), np.uint8)
        for row, window_SS3 in enumerate(windows_SS3):
            batch_BSS3[row] = window_SS3
        images_BSS3 = torch.from_numpy(batch_BSS3).to(self.device).float()
        images_B3SS = ((images_BSS3 - self._mean_3) / self._std_3).permute(0, 3, 1, 2).contiguous()
        if feedback is not None:  # rows that only fill the batch look for one thing
            filling = [feedback.texts[-1][:1]] * (rows - len(windows_SS3))
            feedback = replace(feedback, texts=[*feedback.texts, *filling])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            patches_BPD, pooled_BD = dense_features(self._model.visual, images_B3SS, self.variant, self.card.pooling,
                                                    residual=self.residual, feedback=feedback, numbers=self.numbers)
        patches_BPD = torch.nn.functional.normalize(patches_BPD.float(), dim=-1)
        return patches_BPD[:len(windows_SS3)], pooled_BD[:len(windows_SS3)].float()

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
        """(number of prompts, D) float32 of length 1, on the CPU."""
        if not prompts:
            return torch.zeros(0, self._model.visual.output_dim)
        ids_NT = self._tokenizer(list(prompts))
        parts = []
        for start in range(0, len(ids_NT), PROMPT_BATCH):
            part_BT = ids_NT[start:start + PROMPT_BATCH]
            filling = part_BT[-1:].expand(PROMPT_BATCH - len(part_BT), *part_BT.shape[1:])
            filled_BT = torch.cat([part_BT, filling])
            vectors_BD = self._model.encode_text(filled_BT.to(self.device), normalize=True)
            parts.append(vectors_BD[:len(part_BT)].float().cpu())
        return torch.cat(parts)

    @property
    def image_tower(self) -> torch.nn.Module:
        """The library's own module, to compare with."""
        return self._model.visual


def uses_bfloat16(device: torch.device, precision: str) -> bool:
    """Whether the image tower runs in bfloat16; see `ClipSettings.precision`."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"


def choose_device(device: str) -> str:
    """`auto` becomes `cuda` where there is one, else `cpu`. Raises SettingError (`device-missing`,
    `setting-invalid`)."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise SettingError(Code.SETTING_INVALID, f"device is {device!r}.", "Allowed: auto, cpu, cuda, cuda:0...",
                           "lexiseg doctor")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if int(number or 0) >= count:
        raise SettingError(Code.DEVICE_MISSING, f"Device {device!r} was asked for; this machine has {count} CUDA "
                           "devices that torch can use." if kind == "cuda" else f"There is no device {device!r}.",
                           "Use --device auto or --device cpu.", "lexiseg doctor")
    return device


def halve(visual: torch.nn.Module) -> None:
    """The weights of matrix products and convolutions in bfloat16, once and not anew for each batch. On a CPU this also
    decides whether attention takes torch's fast path, which wants tokens and weights of one type."""
    for module in visual.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            module.to(torch.bfloat16)
        elif isinstance(module, torch.nn.MultiheadAttention) and module.in_proj_weight is not None:
            module.in_proj_weight.data = module.in_proj_weight.data.bfloat16()
            if module.in_proj_bias is not None:
                module.in_proj_bias.data = module.in_proj_bias.data.bfloat16()


def _check_numbers(model: torch.nn.Module, card: ModelCard) -> None:
    """Raises ModelError for weights that are not finite numbers, as a conversion to half precision may leave them."""
    for name, value in model.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise ModelError(Code.MODEL_CORRUPT, f"{card.directory}: {name} holds values that are no finite numbers.",
                             "Weights whose values fit their precision (half precision ends at 65,504).",
                             "Convert the model again in single precision.")


def load_clip(card: ModelCard) -> tuple[Any, Any]:
    """The model of a card with its weights, and its tokenizer. Raises ModelError."""
    return load_simseg(card) if card.kind == "simseg" else _load(card)


def _load(card: ModelCard) -> tuple[open_clip.CLIP | open_clip.CustomTextCLIP, open_clip.HFTokenizer]:
    directory = card.directory
    path = weights_file(directory)
    try:
        # The weights follow in a call of their own, which reads no other file than the one that was verified. Without
        # them the library warns of random weights, hence the silence.
        previous = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            model = open_clip.create_model(f"local-dir:{directory}", load_weights=False, pretrained_text=False)
        finally:
            logging.disable(previous)
        open_clip.load_checkpoint(model, str(path))
        tokenizer = open_clip.get_tokenizer(f"local-dir:{directory}")
    except Exception as error:  # the library lets anything through: safetensors, JSON, key and shape errors, OSError
        said = str(error) if len(str(error)) <= MESSAGE else str(error)[:MESSAGE] + "..."
        raise ModelError(Code.MODEL_CORRUPT, f"open_clip cannot load {directory}: {type(error).__name__}: {said}",
                         "An open_clip directory whose configuration, weights and tokenizer belong together.",
                         f"lexiseg models verify {directory}") from error
    size = model.visual.image_size
    if tuple(np.broadcast_to(size, 2)) != (card.window, card.window):
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{directory} has image_size {size}, its card says {card.window}.",
                         "The same number in both.", f"lexiseg models verify {directory}")
    return model, tokenizer
