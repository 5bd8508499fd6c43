"""The training loop of the pocket LLaVA-Phi2: `python -m agents.train llava`.

A run stops after `minutes`, and the same command goes on from its checkpoint (safetensors: weights, moments, step);
batches depend on the step alone.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import LlavaForConditionalGeneration

from agents.train.batches import Batch, Questions, Rows
from agents.train.export import read_weights
from agents.train.network import (
    add_places,
    initialise_projector,
    logits,
    make_network,
    opened_states,
    patch_features,
    start_text_layers,
    text_states,
)
from vision.train.checkpoint import read_checkpoint, restore_moments, save_checkpoint
from vision.train.muon import Muon, fast_kind

ROUND = 256
Optimisers = Sequence[torch.optim.Optimizer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to train."""

    steps: int = 1900
    pictures: int = 16
    """A step."""
    singles: int = 20
    """Small pictures a step."""
    texts: int = 24
    """Questions without a picture a step."""
    loose: float = 0.5
    """Share of the pictures with strongly varied styles."""
    own: float = 0.0
    """Share of the pictures that are drawn by the first sheet, beside its share of the others."""
    fresh: bool = False
    """Of a checkpoint to begin with take what sees and names, and begin the text layers anew."""
    places: bool = True
    """Begin with a code of places in the tower (`add_places`); no longer where a round goes on from one that did."""
    text: float = 0.015
    """Highest rate of the matrices inside the text layers (Muon)."""
    tower: float = 0.004
    """Highest rate of the matrices inside the vision tower (Muon), which begins as the pocket CLIP's."""
    rest: float = 2e-3
    """Highest rate of embeddings, head, projector and of the text layers' norms and biases (AdamW)."""
    tower_rest: float = 2e-4
    """Highest rate of the tower's embeddings, norms and biases (AdamW)."""
    entry: float = 3e-5
    """Highest rate of the projector's first matrix (AdamW). What it reads is about 25 times as large as what the other
    layers read, and its weights are as much smaller."""
    tower_after: int = 100
    """Steps that the tower stays as it is, until the text layers ask it for something."""
    tower_every: int = 2
    """From then on it learns in every so many steps; the other steps are cheaper by half."""
    naming: float = 1.0
    """Weight of the loss that asks each patch, as it leaves the projector, for the name of what it shows."""
    marking: float = 0.25
    """Weight of the losses that ask each patch, there too, where its thing lies (what the order of a description and
    its relations follow), and for that thing's size and colour."""
    looking: float = 0.3
    """Weight of the losses that tell the FINDERS what to look at."""


def rate(step: int, total: int, peak: float, warmup: int = 100, floor: float = 0.02) -> float:
    """Learning rate at a step: linear warm-up, then half a cosine down to `floor` times the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, total - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def train_llava(folder: Path, sheets: list[Path], *, minutes: float, clip: Path, plan: Plan | None = None,
                start: Path | None = None, seed: int = 0, report: int = 20) -> dict:
    """Trains until the steps or the minutes end, whichever comes first; returns {"step", "total", "done"}.

    folder: holds `checkpoint.safetensors` and `curve.jsonl`, a line every `report` steps. start: a checkpoint of an
    earlier round, or the model that was made of it, whose weights this one begins with.
    """
    plan = plan or Plan()
    network = make_network(clip, seed)
    optimisers, peaks = make_optimisers(network, plan)
    checkpoint = folder / "checkpoint.safetensors"
    step = 0
    if checkpoint.is_file():
        kept = read_checkpoint(checkpoint)
        network.load_state_dict(kept.weights)
        restore_moments(kept, optimisers)
        step = kept.step
    elif start is not None:
        network.load_state_dict(read_weights(start))
        if plan.fresh:
            start_text_layers(network)
    questions = Questions(sheets, pictures=plan.pictures, singles=plan.singles, texts=plan.texts,
                          loose=plan.loose, own=plan.own, seed=seed, start=step)
    batches = iter(DataLoader(questions, batch_size=None, num_workers=1, prefetch_factor=3))
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    losses: list[dict[str, float]] = []
    while step < plan.steps:
        batch = next(batches)
        if step == 0 and start is None:
            initialise_projector(network, batch.images_B3SS)
        if step == 0 and plan.places:
            add_places(network, batch.images_B3SS)
        for optimiser, peak in zip(optimisers, peaks, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate(step, plan.steps, peak)
        losses.append(train_step(network, optimisers, batch, naming=plan.naming, marking=plan.marking,
                                 looking=plan.looking,
                                 frozen=step < plan.tower_after or step % plan.tower_every > 0))
        step += 1
        late = time.monotonic() - started > 60 * minutes
        if step % report == 0 or late or step == plan.steps:
            means = {name: round(fmean(values[name] for values in losses), 4) for name in losses[0]}
            line = {"step": step, "of": plan.steps, **means, "minutes": round((time.monotonic() - started) / 60, 2)}
            print(json.dumps(line), flush=True)
            with (folder / "curve.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            losses.clear()
        if step % 200 == 0 or late or step == plan.steps:
            weights = network.state_dict()
            weights["lm_head.weight"] = weights["lm_head.weight"].clone()  # a file holds no tensor twice
            save_checkpoint(checkpoint, weights, optimisers, step)
        if late:
            break
    return {"step": step, "total": plan.steps, "done": step == plan.steps}


def make_optimisers(network: LlavaForConditionalGeneration, plan: Plan) -> tuple[Optimisers, tuple[float, ...]]:
    """Muon for the matrices inside the layers (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), AdamW
    for the rest; with their highest rates. LLaVA reads the tower before its last norm, which stays as it is."""
    groups: dict[str, list[torch.nn.Parameter]] = {"text": [], "tower": [], "rest": [], "tower_rest": [], "entry": []}
    for name, weight in network.named_parameters():
        sees = "vision_tower" in name
        if "linear_1.weight" in name:
            groups["entry"].append(weight)
        elif ".layers." in name and weight.ndim == 2:
            groups["tower" if sees else "text"].append(weight)
        elif "post_layernorm" not in name:
            groups["tower_rest" if sees else "rest"].append(weight)
    optimisers = [Muon(weights, lr=1.0, momentum=0.95, weight_decay=0.01) if name in ("text", "tower") else
                  torch.optim.AdamW(weights, lr=1.0, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0)
                  for name, weights in groups.items()]
    return optimisers, tuple(getattr(plan, name) for name in groups)


def train_step(network: LlavaForConditionalGeneration, optimisers: Optimisers, batch: Batch, *, naming: float,
               marking: float, looking: float, frozen: bool) -> dict[str, float]:
    """One update; returns the losses. frozen: the tower stays as it is."""
    kind = fast_kind()
    with torch.set_grad_enabled(not frozen):
        features_BPV = patch_features(network, batch.images_B3SS, kind)
        single_BPV = patch_features(network, batch.single_B3SS, kind, batch.places_P)
    opened_BPD = opened_states(network, features_BPV)
    named = naming_loss(network, opened_BPD, batch.names_BP)
    marks = {name: naming_loss(network, opened_BPD, mark.choices_BP, among=mark.tokens_W)
             for name, mark in batch.marks.items()}
    single = naming_loss(network, opened_states(network, single_BPV), batch.single_BP)
    loss = naming * (named + single) + marking * torch.stack(list(marks.values())).sum()
    watched: list[Tensor] = []
    answers = {"seen": answer_loss(network, batch.questions, features_BPV, watched),
               "told": answer_loss(network, batch.texts, None)}
    looks = looking_loss(watched, batch.questions)
    loss = loss + answers["seen"] + answers["told"] + looking * looks
    network.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()
    found = answers | {"looks": looks, "named": named, "single": single} | marks
    return {name: value.item() for name, value in found.items()}


def naming_loss(network: LlavaForConditionalGeneration, states_BSD: Tensor, targets_BS: Tensor, *,
                among: Tensor | None = None, weights_BS: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of the tokens that states are asked for; -1 asks for nothing. among: ids of the tokens in
    question, of which targets are then indices. weights: what each counts; 1 if left out."""
    flat_N = targets_BS.flatten()
    places_K = (flat_N >= 0).nonzero()[:, 0]
    spare = F.pad(places_K, (0, -len(places_K) % ROUND))  # CPU kernels are prepared once per shape
    logits_KW = logits(network, states_BSD.flatten(0, 1)[spare], among)
    losses_K = F.cross_entropy(logits_KW[:len(places_K)], flat_N[places_K], reduction="none")
    if weights_BS is None:
        return losses_K.mean()
    weights_K = weights_BS.flatten()[places_K]
    return (losses_K * weights_K).sum() / weights_K.sum()


def looking_loss(watched: Sequence[Tensor], rows: Rows) -> Tensor:
    """Minus the logarithm of how much of its attention a finder gives to what it is to look at, summed over finders.

    A search whose result nobody can use yet is not learnt from answers alone: after three rounds questions of presence
    were still answered by chance, and no head looked at the thing that a word names. The way is ours.
    """
    asked_BT = rows.looks_BT >= 0
    shown_BGN = rows.shown_BGN.to(watched[0].dtype)
    shares = [(attention_BTN @ shown_BGN.mT).gather(2, rows.looks_BT.clamp(min=0)[..., None])[..., 0][asked_BT]
              for attention_BTN in watched]
    return torch.stack([-share_K.float().clamp(min=1e-6).log().mean() for share_K in shares]).sum()


def answer_loss(network: LlavaForConditionalGeneration, rows: Rows, features_BPV: Tensor | None,
                watched: list[Tensor] | None = None) -> Tensor:
    """Mean cross-entropy of the answers' tokens, each by its weight. watched: see `text_states`."""
    states_BTD = text_states(network, rows.tokens_BT, rows.segments_BT, rows.positions_BT, features_BPV, fast_kind(),
                             watched)
    weights_BT = rows.learn_BT[:, :-1]
    targets_BT = torch.where(weights_BT > 0, rows.tokens_BT[:, 1:], -1)
    return naming_loss(network, states_BTD[:, :-1], targets_BT, weights_BS=weights_BT)
