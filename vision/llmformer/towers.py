"""Vision encoders in one form: tokens in, block after block, tokens out.

Shapes: B batch; H, W picture in pixels; h, w grid; N = prefix + h w tokens; E width of the encoder; c text width.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from parsers.errors import Code, ModelError
from parsers.files import sha256_bytes
from vision.llmformer.config import TowerConfig
from vision.models import OPENAI_MEAN, OPENAI_STD

LLAVA_TOWER = re.compile(r"(?:model\.)?vision_tower\.(?:vision_model\.)?(.+)")
LLAVA_LAYER = -2
"""The hidden state that the projector reads where config.json does not say; -1 is that after the last block."""
LLAVA_PROJECTOR = re.compile(r"(?:model\.)?multi_modal_projector\.(.+)")


class Tower(nn.Module):
    """A vision transformer in parts. Subclasses say how a picture becomes tokens."""

    width: int
    """E."""
    patch: int
    """Pixels."""
    prefix: int
    """Tokens before those of the patches."""
    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD
    digest: str | None = None
    text_width: int | None = None
    """Length of the features of `text_space`; None for an encoder that has none."""

    def embed(self, images_B3HW: Tensor) -> Tensor:
        """(B, N, E): what enters the first block."""
        raise NotImplementedError

    @property
    def blocks(self) -> Sequence[nn.Module]:
        raise NotImplementedError

    def run(self, block: nn.Module, tokens_BNE: Tensor) -> Tensor:
        """One block, (B, N, E)."""
        return block(tokens_BNE)

    def text_space(self, tokens_BNE: Tensor) -> Tensor | None:
        """(B, h w, text_width): patch features as names are told from; None for an encoder that has none."""
        return None


class OpenClipTower(Tower):
    """The image tower of an open_clip directory."""

    prefix = 1

    def __init__(self, visual: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.visual = visual
        self.width, self.patch = visual.conv1.out_channels, visual.patch_size[0]
        self.text_width = visual.proj.shape[1]
        self.mean, self.std = mean, std

    def embed(self, images_B3HW: Tensor) -> Tensor:
        from vision.clip.dense import resize_positions

        visual = self.visual
        grid = (images_B3HW.shape[2] // self.patch, images_B3HW.shape[3] // self.patch)
        patches_BPE = visual.conv1(images_B3HW).flatten(2).transpose(1, 2)  # (B, h w, E)
        class_B1E = visual.class_embedding.to(patches_BPE.dtype).expand(len(patches_BPE), 1, -1)
        positions_NE = resize_positions(visual.positional_embedding, visual.grid_size, grid)
        return visual.ln_pre(torch.cat([class_B1E, patches_BPE], 1) + positions_NE.to(patches_BPE.dtype))

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return self.visual.transformer.resblocks

    def text_space(self, tokens_BNE: Tensor) -> Tensor | None:
        return self.visual.ln_post(tokens_BNE[:, self.prefix:]) @ self.visual.proj


class LlavaTower(Tower):
    """The CLIP tower of a LLaVA directory, as the language model was trained with it, up to the block that the
    projector reads. Its text space is what the projector hands to the language model."""

    prefix = 1

    def __init__(self, directory: Path) -> None:
        from transformers import CLIPVisionConfig, CLIPVisionModel
        from transformers.activations import ACT2FN

        super().__init__()
        try:
            config = json.loads((directory / "config.json").read_bytes())
            settings = config["vision_config"]
            self.model = CLIPVisionModel(CLIPVisionConfig(**settings))
            weights, digest = _llava_weights(directory, LLAVA_TOWER)
            projector, of_projector = _llava_weights(directory, LLAVA_PROJECTOR)
            self.digest = sha256_bytes(f"{digest} {of_projector}".encode())
            if not weights:
                raise ModelError(Code.MODEL_INCOMPLETE, f"{directory} has no weights named vision_tower.*.",
                                 "Safetensors of a LLaVA model.", "Copy it again from its source.")
            weights.pop("embeddings.position_ids", None)
            self.model.load_state_dict(weights)
            layer, depth = config.get("vision_feature_layer", LLAVA_LAYER), settings["num_hidden_layers"]
            if not isinstance(layer, int):
                raise ModelError(Code.MODEL_UNSUPPORTED, f"The vision_feature_layer of {directory} is {layer}.",
                                 "One layer.", "Several layers side by side are not read here.")
            self.used = layer if layer >= 0 else depth + 1 + layer
            self.projector = nn.Sequential()
            if projector:
                self.projector = nn.Sequential(_linear(projector, "linear_1"), ACT2FN[config.get(
                    "projector_hidden_act", "gelu")], _linear(projector, "linear_2"))
                self.text_width = len(projector["linear_2.weight"])
            self.mean, self.std = _llava_range(directory)
        except ModelError:
            raise
        except Exception as error:  # JSON, key, shape and safetensors errors
            raise ModelError(Code.MODEL_CORRUPT, f"{directory} has no CLIP tower that can be read: {error}.",
                             "A LLaVA directory: config.json with vision_config, safetensors with vision_tower.*.",
                             "Copy it again from its source.") from error
        self.width, self.patch = settings["hidden_size"], settings["patch_size"]

    def embed(self, images_B3HW: Tensor) -> Tensor:
        return self.model.pre_layrnorm(self.model.embeddings(images_B3HW, interpolate_pos_encoding=True))

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return self.model.encoder.layers[:self.used]

    def run(self, block: nn.Module, tokens_BNE: Tensor) -> Tensor:
        return block(tokens_BNE, attention_mask=None)

    def text_space(self, tokens_BNE: Tensor) -> Tensor | None:
        return self.projector(tokens_BNE[:, self.prefix:]) if self.text_width else None


class TimmTower(Tower):
    """Any plain vision transformer of timm, with random weights or those of a local safetensors file."""

    def __init__(self, name: str, options: dict[str, Any], window: int, weights: Path | None = None) -> None:
        import timm

        super().__init__()
        try:
            self.model = timm.create_model(name, pretrained=False, num_classes=0, img_size=window,
                                           dynamic_img_size=True, **options)
            self.width, self.prefix = self.model.embed_dim, self.model.num_prefix_tokens
            self.patch = self.model.patch_embed.patch_size[0]
            self.model.blocks, self.model.norm_pre, self.model._pos_embed  # noqa: B018  (a plain ViT has them all)
        except (RuntimeError, TypeError, AttributeError, ValueError) as error:
            raise ModelError(Code.MODEL_UNSUPPORTED, f"timm makes no plain vision transformer of {name!r}: {error}.",
                             "A model of timm.models.vision_transformer, such as vit_tiny_patch16_224.",
                             'timm.list_models("vit_*") lists them.') from error
        if hasattr(self.model, "norm"):
            self.model.norm = nn.Identity()  # not used, and without gradients
        self.mean, self.std = (tuple(self.model.pretrained_cfg[key]) for key in ("mean", "std"))
        if weights is not None:
            self.digest = _load_timm(self.model, weights)

    def embed(self, images_B3HW: Tensor) -> Tensor:
        return self.model.norm_pre(self.model._pos_embed(self.model.patch_embed(images_B3HW)))

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return self.model.blocks


def _load_timm(model: Any, path: Path) -> str:
    """Loads what timm's own loading would: position embeddings and patch filters are brought to the model's size, what
    belongs to heads is left out. Returns the file's sha256. Raises ModelError."""
    from timm.models.vision_transformer import checkpoint_filter_fn

    if not path.is_file():
        raise ModelError(Code.MODEL_MISSING, f"The encoder's weights {path} are not there.",
                         "The file that `tower.path` of config.json names.", "Bring it to that place.")
    try:
        content = path.read_bytes()
        found = checkpoint_filter_fn(load_safetensors(content), model)
        if missing := model.load_state_dict(found, strict=False).missing_keys:
            raise ValueError(f"{', '.join(missing[:3])} are missing")
    except Exception as error:  # file, safetensors, shape and key errors
        raise ModelError(Code.MODEL_CORRUPT, f"{path} holds no weights of this vision transformer: {error}.",
                         "A safetensors file of timm's, of the model that `tower.name` names.",
                         "Copy it again from its source.") from error
    return sha256_bytes(content)


def load_tower(config: TowerConfig, window: int, base: Path) -> Tower:
    """The encoder that a configuration names, with its weights (timm without a path: random ones). Relative paths count
    from `base`; window: pixels of the square that it will be shown.

    Raises ModelError: `model-missing`, `model-corrupt`, or `model-unsupported` where the digest is another one.
    """
    if config.kind == "timm":
        assert config.name is not None
        tower: Tower = TimmTower(config.name, dict(config.options), window,
                                 (base / config.path).resolve() if config.path else None)
        return _checked(tower, config, config.path or config.name)
    assert config.path is not None
    directory = (base / config.path).resolve()
    if not directory.is_dir():
        raise ModelError(Code.MODEL_MISSING, f"The encoder {directory} is not there.",
                         "The directory that `tower.path` of config.json names.", "Bring it to that place.")
    tower = LlavaTower(directory) if config.kind == "llava" else _open_clip_tower(directory)
    return _checked(tower, config, str(directory))


def _checked(tower: Tower, config: TowerConfig, where: str) -> Tower:
    if config.digest not in (None, tower.digest):
        raise ModelError(Code.MODEL_UNSUPPORTED, f"The encoder {where} has sha256 {tower.digest}, the model was "
                         f"trained with {config.digest}.", "The encoder that it was trained with.",
                         "Bring that encoder, or train again: python -m vision.train llmformer --help")
    return tower


def _open_clip_tower(directory: Path) -> Tower:
    from vision.clip.dense import check_tower
    from vision.clip.encoder import load_clip
    from vision.models import load_card, model_digest

    card = load_card(directory)
    visual = load_clip(card)[0].visual
    check_tower(visual, "loda", str(directory))
    tower = OpenClipTower(visual, card.mean, card.std)
    tower.digest = model_digest(card)
    return tower


def _llava_weights(directory: Path, wanted: re.Pattern[str]) -> tuple[dict[str, Tensor], str]:
    """The tensors whose names match, in float32, under the names of the pattern's group; and sha256 over them as they
    are stored."""
    weights, digest = {}, hashlib.sha256()
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for key in sorted(file.keys()):
                if match := wanted.fullmatch(key):
                    stored = file.get_tensor(key)
                    digest.update(match[1].encode() + stored.view(torch.uint8).numpy().tobytes())
                    weights[match[1]] = stored.float()
    return weights, digest.hexdigest()


def _linear(weights: dict[str, Tensor], name: str) -> nn.Linear:
    rows, columns = weights[f"{name}.weight"].shape
    linear = nn.Linear(columns, rows)
    linear.load_state_dict({"weight": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]})
    return linear


def _llava_range(directory: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation that pixels are normalised with; CLIP's where the directory does not say."""
    path = directory / "preprocessor_config.json"
    said = json.loads(path.read_bytes()) if path.is_file() else {}
    return tuple(said.get("image_mean", OPENAI_MEAN)), tuple(said.get("image_std", OPENAI_STD))
