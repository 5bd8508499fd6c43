"""ViT-Adapter (Chen et al., ICLR 2023): feature maps at four strides beside a plain vision transformer.

Shapes: B batch; H, W picture in pixels; E width of the encoder; P patches; N tokens of the levels 2 to 4 (strides 8,
16, 32 where the stem's stride is 4); h, w cells of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.llmformer.config import AdapterConfig
from vision.llmformer.deformable import DeformableAttention, cell_centres
from vision.llmformer.towers import Tower

GROUPS = 8
"""Of group normalisation. Batch normalisation, as published, would need large batches."""
FFN_RATIO = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What the adapter and the encoder say of a batch of pictures."""

    maps: tuple[Tensor, ...]
    """Four maps (B, E, h, w), the finest first."""
    tokens_BNE: Tensor
    """After the last block, prefix included."""
    grid: tuple[int, int]
    """Rows and columns of the patches."""


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3, group normalisation, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(GROUPS, outputs), nn.ReLU())


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity; the second begins as nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        norm = nn.GroupNorm(GROUPS, channels)
        nn.init.zeros_(norm.weight)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), norm)

    def forward(self, x_BChw: Tensor) -> Tensor:
        return F.relu(x_BChw + self.second(self.first(x_BChw)))


class SpatialPrior(nn.Module):
    """Convolutions over the picture: four maps of the encoder's width, with 1, 2, 4 and 4 times `stem` channels
    before the last 1x1 convolution."""

    def __init__(self, config: AdapterConfig, width: int, *, finest: bool) -> None:
        super().__init__()
        stem = config.stem
        first = [convolution(3, stem, 2), convolution(stem, stem), convolution(stem, stem)]
        if config.stem_stride == 4:
            first.append(nn.Sequential(nn.MaxPool2d(3, 2, 1)))
        channels = (stem, 2 * stem, 4 * stem, 4 * stem)
        steps = [nn.Sequential(*first)] + [convolution(a, b, 2) for a, b in pairwise(channels)]
        self.levels = nn.ModuleList(
            nn.Sequential(step, *(Residual(count) for _ in range(blocks)))
            for step, count, blocks in zip(steps, channels, config.stem_blocks, strict=True))
        self.project = nn.ModuleList(nn.Conv2d(count, width, 1) if i or finest else nn.Identity()
                                     for i, count in enumerate(channels))
        self.level_embedding = nn.Parameter(torch.randn(3, width) * 0.02)

    def forward(self, images_B3HW: Tensor) -> tuple[Tensor, ...]:
        maps, x = [], images_B3HW
        for level, project in zip(self.levels, self.project, strict=True):
            x = level(x)
            maps.append(project(x))
        return tuple(maps)


class Injector(nn.Module):
    """The encoder's tokens read the maps; at the start they stay as they are."""

    def __init__(self, config: AdapterConfig, width: int) -> None:
        super().__init__()
        self.query_norm, self.value_norm = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = DeformableAttention(width, config.heads, 3, config.points, config.ratio)
        self.gamma = nn.Parameter(torch.zeros(width))

    def forward(self, patches_BPE: Tensor, maps_BNE: Tensor, grid: tuple[int, int],
                shapes: Sequence[tuple[int, int]]) -> Tensor:
        reference_PL2 = cell_centres([grid], patches_BPE.device)[:, None].expand(-1, 3, 2)
        read = self.attention.attend(self.query_norm(patches_BPE), self.value_norm(maps_BNE), reference_PL2, shapes)
        return patches_BPE + self.gamma * read


class Extractor(nn.Module):
    """The maps read the encoder's tokens, then a feed-forward network with a depth-wise convolution on each level."""

    def __init__(self, config: AdapterConfig, width: int) -> None:
        super().__init__()
        hidden = max(8, int(width * FFN_RATIO))
        self.query_norm, self.value_norm = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = DeformableAttention(width, config.heads, 1, config.points, config.ratio)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden)

    def forward(self, maps_BNE: Tensor, patches_BPE: Tensor, grid: tuple[int, int],
                shapes: Sequence[tuple[int, int]]) -> Tensor:
        reference_N12 = cell_centres(shapes, maps_BNE.device)[:, None]
        maps_BNE = maps_BNE + self.attention.attend(self.query_norm(maps_BNE), self.value_norm(patches_BPE),
                                                    reference_N12, [grid])
        hidden = self.widen(self.norm(maps_BNE)).split([h * w for h, w in shapes], 1)
        mixed = [self.depthwise(part.transpose(1, 2).unflatten(2, shape)).flatten(2).transpose(1, 2)
                 for part, shape in zip(hidden, shapes, strict=True)]  # each (B, h w, hidden)
        return maps_BNE + self.narrow(F.gelu(torch.cat(mixed, 1)))


class VitAdapter(nn.Module):
    """A vision transformer and its adapter. The tower is held outside of the parameters of this module."""

    def __init__(self, config: AdapterConfig, tower: Tower, *, finest: bool) -> None:
        """finest: whether the first of the four maps will be used (else it stays as the stem left it)."""
        super().__init__()
        width = tower.width
        self.config, self.finest = config, finest
        self.prior = SpatialPrior(config, width, finest=finest)
        count = config.interactions
        self.injectors = nn.ModuleList(Injector(config, width) for _ in range(count if config.injector else 0))
        self.extractors = nn.ModuleList(
            nn.ModuleList(Extractor(config, width) for _ in range(1 + (i == count - 1) * config.extra_extractors))
            for i in range(count))
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, width) if i or finest else nn.Identity() for i in range(4))
        if finest:
            self.up = nn.ConvTranspose2d(width, width, 2, 2)

    def forward(self, tower: Tower, images_B3HW: Tensor, *, frozen: bool) -> Features:
        """images: normalised, the square that the adapter is shown; the tower sees it at `patch` pixels for each cell
        of the third map. frozen: the tower runs without gradients unless the injector needs them."""
        height, width = images_B3HW.shape[-2:]
        cell = 4 * self.config.stem_stride
        grid = (height // cell, width // cell)
        quiet = torch.no_grad() if frozen else nullcontext()
        with quiet:
            size = (grid[0] * tower.patch, grid[1] * tower.patch)
            seen = images_B3HW if size == (height, width) else F.interpolate(
                images_B3HW, size, mode="bicubic", align_corners=False, antialias=True)
            tokens_BNE = tower.embed(seen)
        maps = self.prior(images_B3HW)
        shapes = [(level.shape[2], level.shape[3]) for level in maps[1:]]
        maps_BNE = torch.cat([level.flatten(2).transpose(1, 2) + embedding for level, embedding
                              in zip(maps[1:], self.prior.level_embedding, strict=True)], 1)  # (B, N, E)
        seen_by_group = []
        for i, blocks in enumerate(_groups(tower.blocks, self.config.interactions)):
            if self.config.injector:
                injected = self.injectors[i](tokens_BNE[:, tower.prefix:], maps_BNE, grid, shapes)
                tokens_BNE = torch.cat([tokens_BNE[:, :tower.prefix], injected], 1)
            with torch.no_grad() if frozen and not self.config.injector else nullcontext():
                for block in blocks:
                    tokens_BNE = tower.run(block, tokens_BNE)
            patches_BPE = tokens_BNE[:, tower.prefix:]
            seen_by_group.append(patches_BPE.transpose(1, 2).unflatten(2, grid))  # (B, E, rows, columns)
            for extractor in cast(nn.ModuleList, self.extractors[i]):
                maps_BNE = extractor(maps_BNE, patches_BPE, grid, shapes)
        levels = [part.transpose(1, 2).unflatten(2, shape) for part, shape
                  in zip(maps_BNE.split([h * w for h, w in shapes], 1), shapes, strict=True)]
        levels.insert(0, maps[0] + self.up(levels[0]) if self.finest else maps[0])
        count = self.config.interactions
        out = []
        for i, (level, norm) in enumerate(zip(levels, self.norms, strict=True)):
            if i or self.finest:
                group = seen_by_group[min(count - 1, i * count // 4)]
                level = norm(level + F.interpolate(group, level.shape[-2:], mode="bilinear", align_corners=False))
            out.append(level)
        return Features(maps=tuple(out), tokens_BNE=tokens_BNE, grid=grid)


def _groups(blocks: Sequence[nn.Module], count: int) -> list[list[nn.Module]]:
    """Consecutive blocks in `count` groups of nearly the same size, longer ones first."""
    bounds = [-(-len(blocks) * i // count) for i in range(count + 1)]
    return [list(blocks[a:b]) for a, b in pairwise(bounds)]
