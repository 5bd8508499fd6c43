"""Training of the pocket CLIP from pictures and captions: `python -m vision.train clip`.

Stages grow from small pictures of one thing to full scenes. A run stops after `minutes`, and the same command goes
on from its checkpoint (safetensors: weights, optimiser, step); batches depend on the step alone.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader

from vision.datasets.sprites import concepts, texture_names
from vision.train.checkpoint import read_checkpoint, restore_moments, save_checkpoint
from vision.train.losses import caption_loss, patch_losses, phrase_loss
from vision.train.muon import Muon, fast_kind
from vision.train.pictures import Batch, CaptionedPictures, bank_phrases
from vision.train.tokenizer import CONTEXT_LENGTH, known_words, make_tokenizer
from vision.train.towers import encode_image, encode_text

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
EMBED = 192
WEIGHTS = "open_clip_model.safetensors"
PEAKS = (0.02, 1e-3)
"""Highest learning rates of Muon and AdamW."""
BANK_TOKENS = 12
"""All shapes of a stage stay the same from step to step: CPU kernels are prepared once per shape."""
TEMPLATES = ("{}", "a {}", "the {}", "a picture of a {}", "there is a {}")


def model_config() -> dict:
    """`model_cfg` of open_clip: 3.9 million parameters."""
    return {
        "embed_dim": EMBED,
        "vision_cfg": {"image_size": 128, "patch_size": 8, "width": 256, "layers": 5, "head_width": 64,
                       "mlp_ratio": 3.0},
        "text_cfg": {"context_length": CONTEXT_LENGTH, "vocab_size": len(known_words()) + 4, "width": 128, "heads": 4,
                     "layers": 2, "mlp_ratio": 3.0, "hf_tokenizer_name": "pocket"},
    }


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One kind of picture to learn from."""

    side: int
    """Pixels."""
    counts: tuple[int, int]
    """Fewest and most things in a picture."""
    sizes: tuple[int, int]
    """Smallest and largest side of a thing in pixels."""
    loose: float
    """Share of the pictures whose poses and drawing styles vary more than in validation scenes."""
    best: tuple[int, int]
    """How many patches must name a texture, and how many a thing (losses.patch_losses)."""
    batch: int


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the training: steps that take the streams in turn."""

    streams: tuple[Stream, ...]
    steps: int


FIRST = (
    Stream(side=48, counts=(1, 1), sizes=(38, 48), loose=0.0, best=(12, 12), batch=192),
    Stream(side=48, counts=(1, 1), sizes=(26, 48), loose=1.0, best=(8, 8), batch=192),
    Stream(side=40, counts=(1, 1), sizes=(30, 42), loose=0.3, best=(10, 10), batch=256),
    Stream(side=80, counts=(1, 3), sizes=(26, 60), loose=0.5, best=(8, 8), batch=96),
    Stream(side=128, counts=(1, 5), sizes=(26, 76), loose=0.5, best=(10, 10), batch=40),
)
STAGES = tuple(Stage(streams=(stream,), steps=steps)
               for stream, steps in zip(FIRST, (700, 700, 2000, 450, 600), strict=True))
ONE = Stream(side=40, counts=(1, 1), sizes=(28, 42), loose=0.3, best=(4, 14), batch=256)
FEW = Stream(side=80, counts=(1, 3), sizes=(26, 60), loose=0.3, best=(30, 24), batch=96)
SCENES = Stream(side=128, counts=(1, 5), sizes=(26, 76), loose=0.3, best=(40, 28), batch=40)
MORE_STAGES = (
    Stage(streams=(ONE,), steps=2600),
    Stage(streams=(ONE, FEW), steps=1400),
    Stage(streams=(SCENES, ONE, SCENES, FEW), steps=2000),
)
"""A second round for a model that went through `STAGES`; about two hours on two CPU cores."""


def rate(step: int, total: int, peak: float, warmup: int = 60, floor: float = 0.03) -> float:
    """Learning rate at a step: linear warm-up, then half a cosine down to `floor` times the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, total - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def normalised(images_B3SS: Tensor, kind: torch.dtype) -> Tensor:
    """uint8 pixels to the model's range."""
    mean, std = (torch.tensor(v, device=images_B3SS.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return ((images_B3SS.float() / 255 - mean) / std).to(kind)


class PhraseBank:
    """Token ids of the bank's phrases; draws a subset and a wording for each step."""

    def __init__(self, device: torch.device) -> None:
        tokenizer = make_tokenizer()
        tokenizer.enable_padding(pad_id=0, length=BANK_TOKENS)
        self.tokens = [torch.tensor([e.ids for e in tokenizer.encode_batch([t.format(p) for p in bank_phrases()])],
                                    device=device) for t in TEMPLATES]
        self.always = len(texture_names()) + len({concept.superclass for concept in concepts()})  # come first

    def draw(self, named_BM: Tensor, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Bank ids (K,) that hold all named ones, and their tokens (K, T); single words are sometimes unknown."""
        needed = np.unique(named_BM[named_BM >= 0].numpy())
        fixed = np.union1d(np.arange(self.always), needed)
        rest = np.setdiff1d(np.arange(len(bank_phrases())), fixed)
        extra = rng.choice(rest, count - len(fixed), replace=False)
        ids_K = torch.from_numpy(np.sort(np.concatenate([fixed, extra])))
        template = rng.choice(len(TEMPLATES), p=(0.4, 0.3, 0.1, 0.1, 0.1))
        tokens_KT = self.tokens[template][ids_K.to(self.tokens[0].device)].clone()
        words_K = (tokens_KT > 2).sum(1) - 1
        hide = torch.from_numpy(rng.random(tuple(tokens_KT.shape)) < 0.04).to(tokens_KT.device) & (tokens_KT > 2)
        hide &= (words_K > 2)[:, None] & (tokens_KT < tokens_KT.max())
        return ids_K, tokens_KT.masked_fill(hide, 1)


def train_clip(folder: Path, sheets: list[Path], *, minutes: float, device: str = "cpu",
               stages: tuple[Stage, ...] = STAGES, init: Path | None = None, seed: int = 0, bank_size: int = 400,
               report: int = 50) -> dict:
    """Trains until the stages or the minutes end, whichever comes first; returns {"step", "total", "done"}.

    folder: holds `checkpoint.safetensors` and `curve.jsonl`, a line per stream every `report` steps. init: an exported
    model to start from instead of random weights.
    """
    torch.manual_seed(seed)
    target = torch.device(device)
    model = CLIP(**model_config(), init_logit_scale=math.log(14)).to(target)
    if init:
        model.load_state_dict({name: value.float() for name, value in load_file(init / WEIGHTS).items()})
    else:
        initialise(model, next(iter(_streams(sheets, stages[0], seed + 1, 0)[0])).images_B3SS)
    optimisers = make_optimisers(model)
    checkpoint = folder / "checkpoint.safetensors"
    step = 0
    if checkpoint.is_file():
        kept = read_checkpoint(checkpoint)
        model.load_state_dict(kept.weights)
        restore_moments(kept, optimisers)
        step = kept.step
    total = sum(stage.steps for stage in stages)
    bank = PhraseBank(target)
    folder.mkdir(parents=True, exist_ok=True)
    started, first = time.monotonic(), 0
    for stage in stages:
        if step < first + stage.steps:
            loaders = [iter(DataLoader(pictures, batch_size=None, num_workers=1, prefetch_factor=3))
                       for pictures in _streams(sheets, stage, seed + first + 2, step - first)]
            losses: list[list[dict[str, float]]] = [[] for _ in loaders]
            while step < first + stage.steps:
                for optimiser, peak in zip(optimisers, PEAKS, strict=True):
                    for group in optimiser.param_groups:
                        group["lr"] = rate(step, total, peak)
                turn = (step - first) % len(loaders)
                losses[turn].append(train_step(model, optimisers, bank, next(loaders[turn]), stage.streams[turn],
                                               step, seed, bank_size))
                step += 1
                late = time.monotonic() - started > 60 * minutes
                if step % report == 0:
                    minute = round((time.monotonic() - started) / 60, 2)
                    for stream, found in zip(stage.streams, losses, strict=True):
                        if not found:
                            continue
                        means = {name: round(fmean(values[name] for values in found), 4) for name in found[0]}
                        line = {"step": step, "of": total, "side": stream.side, **means,
                                "scale": round(math.exp(model.logit_scale.item()), 2), "minutes": minute}
                        print(json.dumps(line), flush=True)
                        with (folder / "curve.jsonl").open("a", encoding="utf-8") as file:
                            file.write(json.dumps(line) + "\n")
                        found.clear()
                if step % (report * 4) == 0 or late or step == total:
                    save_checkpoint(checkpoint, model.state_dict(), optimisers, step)
                if late:
                    return {"step": step, "total": total, "done": step == total}
        first += stage.steps
    return {"step": step, "total": total, "done": True}


def _streams(sheets: list[Path], stage: Stage, seed: int, step: int) -> list[CaptionedPictures]:
    """The pictures of each stream from a step of the stage on."""
    turns = len(stage.streams)
    return [CaptionedPictures(sheets, side=stream.side, counts=stream.counts, sizes=stream.sizes, loose=stream.loose,
                              batch=stream.batch, seed=seed + turn, start=(step - turn + turns - 1) // turns)
            for turn, stream in enumerate(stage.streams)]


def make_optimisers(model: CLIP) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for the rest (Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon)."""
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and "resblocks" in name]
    chosen = {id(p) for p in inner}
    outer = [p for p in model.parameters() if id(p) not in chosen]
    return (Muon(inner, lr=PEAKS[0], momentum=0.95, weight_decay=0.01),
            torch.optim.AdamW(outer, lr=PEAKS[1], betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0))


@torch.no_grad()
def initialise(model: CLIP, images_B3SS: Tensor) -> None:
    """Patch filters begin as the whitening of the pictures' patches, so that edges count as much as flat colour
    (the start of Page's and Jordan's CIFAR-10 speed runs); positions begin as gentle two-dimensional waves, so that
    windows of the grid look alike."""
    weight = model.visual.conv1.weight
    side, width = weight.shape[-1], weight.shape[0]
    patches_BVP = F.unfold(normalised(images_B3SS, torch.float32), side, stride=side)
    patches_NV = patches_BVP.transpose(1, 2).flatten(0, 1)  # (B * P, 3 * side * side)
    values, vectors = torch.linalg.eigh(torch.cov(patches_NV.T.double()))
    white_VV = (vectors / (values + 3e-3).sqrt()).T.flip(0).float()
    mixed = F.normalize(torch.randn(max(0, width - len(white_VV)), len(white_VV)), dim=-1) @ white_VV
    weight.copy_(torch.cat([white_VV, mixed])[:width].view_as(weight))
    visual = model.visual
    height, width = visual.grid_size
    depth = visual.positional_embedding.shape[1] // 4
    rates = 1.0 / (100 ** (torch.arange(depth) / depth))
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    waves = torch.cat([f(axis.flatten()[:, None] * rates) for axis in (y, x) for f in (torch.sin, torch.cos)], dim=1)
    visual.positional_embedding[1:] = 0.1 * waves


def train_step(model: CLIP, optimisers: Sequence[torch.optim.Optimizer], bank: PhraseBank, batch: Batch, stream: Stream,
               step: int, seed: int, bank_size: int) -> dict[str, float]:
    """One update; returns the losses."""
    rng = np.random.default_rng([seed, step])
    device = model.logit_scale.device
    kind = fast_kind(device.type)
    rows = batch.images_B3SS.shape[2] // 8
    top, left = (int(v) for v in rng.integers(0, model.visual.grid_size[0] - rows + 1, 2))
    image_BE, patches_BPE = encode_image(model, normalised(batch.images_B3SS.to(device), kind), (top, left))
    image_BE, patches_BPE = F.normalize(image_BE.float(), dim=-1), F.normalize(patches_BPE, dim=-1)
    ids_K, tokens_KT = bank.draw(batch.named_BM, bank_size, rng)
    bank_KE = F.normalize(encode_text(model, tokens_KT, kind).float(), dim=-1)
    place = torch.full((len(bank_phrases()),), -1).index_copy(0, ids_K, torch.arange(len(ids_K)))
    named_BM = torch.where(batch.named_BM >= 0, place[batch.named_BM.clamp(min=0)], -1).to(device)
    unknown_BK = batch.unknown_BK[:, ids_K].to(device)
    scale = model.logit_scale.exp()
    texture_BM = named_BM < len(texture_names())  # they come first in the bank and are never left out
    pooled, cover, explain = patch_losses(
        patches_BPE, bank_KE, named_BM, unknown_BK, scale, torch.where(texture_BM, *stream.best), ~texture_BM)
    phrase = phrase_loss(image_BE, bank_KE, named_BM, unknown_BK, scale)
    captions_BT = batch.captions_BT.to(device)
    text_BE = F.normalize(encode_text(model, captions_BT, kind).float(), dim=-1)
    same_BB = (captions_BT[:, None] == captions_BT[None]).all(-1)
    caption = caption_loss(image_BE, text_BE, same_BB, scale)
    loss = pooled + cover + explain + 0.5 * phrase + 0.3 * caption
    model.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()
    with torch.no_grad():
        model.logit_scale.clamp_(max=math.log(40))
    return {"pooled": pooled.item(), "cover": cover.item(), "explain": explain.item(), "phrase": phrase.item(),
            "caption": caption.item()}
