"""SimSeg (CVPR 2023): a vision transformer and a BERT whose tokens are pooled by LoDA.

Its vision transformer is kept as open_clip's: the same blocks, no norm before them, the bias of the patch embedding
added to the positions, the projection as `proj`. So every dense variant reads it too.

Shapes: B batch; T tokens of a text; E width; D embedding.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from open_clip.transformer import VisionTransformer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer, BertConfig, BertModel

from parsers.errors import Code, ModelError
from vision.clip.loda import loda_pool
from vision.models import ModelCard, weights_file

CONFIG_FILE = "simseg_config.json"
TEXT_K = 1
"""LoDA of texts: the largest value of each channel."""
TEMPERATURE = 0.02
"""Where the training starts."""
NORM_EPS = 1e-6
"""Of timm's vision transformers."""
HEAD_WIDTH = 64
SHOWN = 5
"""Names of weights in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSegConfig:
    """The sizes of a SimSeg."""

    image_size: int
    """Pixels a side."""
    patch_size: int
    width: int
    layers: int
    mlp: int
    """Width inside the image tower's MLP."""
    embed_dim: int
    text_width: int
    text_layers: int
    text_mlp: int
    vocabulary: int
    """Wordpieces."""
    positions: int
    """Of the text tower."""
    token_types: int = 2
    context_length: int = 25
    """Wordpieces of a text; shorter ones are padded, longer ones cut."""


class SimSegText(nn.Module):
    """Wordpieces to text vectors: BERT, projection, LoDA over all wordpieces with the two marks that BERT adds."""

    def __init__(self, config: SimSegConfig) -> None:
        super().__init__()
        self.bert = BertModel(BertConfig(
            vocab_size=config.vocabulary, hidden_size=config.text_width, num_hidden_layers=config.text_layers,
            num_attention_heads=config.text_width // HEAD_WIDTH, intermediate_size=config.text_mlp,
            max_position_embeddings=config.positions, type_vocab_size=config.token_types), add_pooling_layer=False)
        self.projection = nn.Linear(config.text_width, config.embed_dim, bias=False)

    def forward(self, ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        """(B, D) of length 1. mask: 1 where a wordpiece counts."""
        tokens_BTE = self.bert(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        return loda_pool(self.projection(tokens_BTE), TEXT_K, mask_BT.bool())


class SimSeg(nn.Module):
    """Both towers and the learned temperature of the loss."""

    def __init__(self, config: SimSegConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = VisionTransformer(
            image_size=config.image_size, patch_size=config.patch_size, width=config.width, layers=config.layers,
            heads=config.width // HEAD_WIDTH, mlp_ratio=config.mlp / config.width, output_dim=config.embed_dim,
            no_ln_pre=True, norm_layer=partial(nn.LayerNorm, eps=NORM_EPS))
        self.text = SimSegText(config)
        self.temperature = nn.Parameter(torch.tensor(TEMPERATURE))

    def encode_text(self, ids_B2T: torch.Tensor, normalize: bool = True) -> torch.Tensor:
        """(B, D) of length 1; ids and mask of the wordpieces, stacked."""
        return self.text(ids_B2T[:, 0], ids_B2T[:, 1])


class SimSegTokenizer:
    """Texts to (B, 2, T): wordpieces and which of them count."""

    def __init__(self, directory: Path, context_length: int) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
        self._length = context_length

    def __call__(self, texts: list[str]) -> torch.Tensor:
        found = self._tokenizer(texts, padding="max_length", truncation=True, max_length=self._length,
                                return_tensors="pt")
        return torch.stack([found["input_ids"], found["attention_mask"]], dim=1)


def load_simseg(card: ModelCard) -> tuple[SimSeg, SimSegTokenizer]:
    """The model of a directory that `lexiseg models convert` made. Raises ModelError (`model-corrupt`,
    `model-incomplete`)."""
    directory = card.directory
    path = weights_file(directory)
    try:
        config = SimSegConfig(**json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8")))
        model = SimSeg(config)
        weights = load_file(path)
        tokenizer = SimSegTokenizer(directory, config.context_length)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise ModelError(Code.MODEL_CORRUPT, f"{directory} is no SimSeg that can be read: {error}",
                         f"A folder with {CONFIG_FILE}, {path.name} and a BERT tokenizer.",
                         f"lexiseg models verify {directory}") from error
    fill(model, weights, str(directory))
    return model, tokenizer


def fill(model: nn.Module, weights: dict[str, torch.Tensor], where: str) -> None:
    """Puts weights into a model. Raises ModelError (`model-corrupt`) where names or shapes do not agree."""
    expected = model.state_dict()
    problems = [f"{kind}: {_listed(names)}" for kind, names in (
        ("missing", sorted(expected.keys() - weights.keys())), ("not known", sorted(weights.keys() - expected.keys())),
        ("of another shape", sorted(name for name in expected.keys() & weights.keys()
                                    if expected[name].shape != weights[name].shape))) if names]
    if problems:
        raise ModelError(Code.MODEL_CORRUPT, f"The weights of {where} do not belong to its configuration; "
                         + "; ".join(problems) + ".", "The weights and the configuration of one model.",
                         "Convert the checkpoint again, or bring both from the same place.")
    model.load_state_dict(weights)


def config_json(config: SimSegConfig) -> dict[str, Any]:
    return asdict(config)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
