"""LLaVA with a Phi text model as it has to be: transformers' class, and the head's bias that it leaves out.

Phi's head has a bias; `LlavaForConditionalGeneration` builds its head without one and drops what a file holds of it
(transformers 5.23), so its answers would not be those of the trained model, nor those of vLLM, which reads the bias.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import LlavaConfig, LlavaForConditionalGeneration
from transformers.utils import logging

from parsers.errors import Code, ModelError

HEAD = {r"^language_model\.lm_head\.": "lm_head."}
"""Stored name of the head to its own; transformers renames for its own classes alone."""


class PhiLlava(LlavaForConditionalGeneration):
    """`LlavaForConditionalGeneration` whose head has a bias."""

    def __init__(self, config: LlavaConfig) -> None:
        super().__init__(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=True)
        self.post_init()


def load_network(directory: Path, dtype: torch.dtype = torch.float32) -> PhiLlava:
    """The network of a LLaVA-Phi directory in evaluation mode. Only safetensors are read.

    Raises ModelError (`model-corrupt`) where weights are missing, of another shape, or of another network.
    """
    report: Any
    is_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        network, report = PhiLlava.from_pretrained(
            directory, local_files_only=True, use_safetensors=True, dtype=dtype, key_mapping=HEAD,
            output_loading_info=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise _corrupt(directory, str(error).splitlines()[0]) from error
    finally:
        if is_shown:
            logging.enable_progress_bar()
    for key, what in (("missing_keys", "missing"), ("unexpected_keys", "of no part of the network")):
        if names := sorted(report[key]):
            raise _corrupt(directory, f"the weights {', '.join(names[:3])} are {what}")
    return network.eval()


def _corrupt(directory: Path, problem: str) -> ModelError:
    return ModelError(Code.MODEL_CORRUPT, f"The language model in {directory} cannot be loaded: {problem}.",
                      "A LLaVA directory with config.json and safetensors weights, the bias of the head among them.",
                      "Copy the model again.")
