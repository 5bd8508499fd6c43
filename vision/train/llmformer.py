"""Training of LLMFormer: `python -m vision.train llmformer`.

A run stops after `minutes`, and the same command goes on from its checkpoint (safetensors: weights, optimiser, step).
Several GPUs: start it with `accelerate launch -m vision.train llmformer ...`.
"""

from __future__ import annotations

import json
import math
import time
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor
from torch.utils.data import DataLoader

from parsers.errors import Code, LexisegError, MissingPackageError, ModelError, SettingError
from parsers.files import canonical_json, sha256_file
from parsers.prepared import PreparedPriors
from vision.datasets import open_dataset
from vision.evaluate import evaluate, parse_candidates
from vision.llmformer.config import LlmformerConfig
from vision.llmformer.directory import check_same, load_state, trained_state, write_model
from vision.llmformer.model import Llmformer, build_model
from vision.llmformer.priors import PriorBatch, embed_priors
from vision.llmformer.segmenter import LlmformerSegmenter
from vision.llmformer.settings import LlmformerSettings
from vision.llmformer.towers import Tower, load_tower
from vision.llmformer.words import Words, load_words
from vision.models import ModelCard
from vision.train.checkpoint import read_checkpoint, restore_moments, save_checkpoint
from vision.train.llmformer_config import EvaluationConfig, TrainingConfig
from vision.train.llmformer_data import Batch, LabelledPictures, open_source
from vision.train.llmformer_loss import SegmentationLoss, is_finite, summed

CHECKPOINT = "checkpoint.safetensors"
FLOOR = 0.02
"""The last learning rate as a share of the highest, of the `cosine` schedule."""
POLY_POWER = 0.9


def train_llmformer(config: TrainingConfig, folder: Path, *, base: Path, minutes: float = 1e9, device: str = "cpu",
                    workers: int = 1) -> dict[str, Any]:
    """Trains until the steps or the minutes end, whichever comes first; returns {"step", "total", "done"}.

    folder: holds the checkpoint, `curve.jsonl` and the TensorBoard log. base: from which the relative paths of the
    model count (the directory that it will be exported to). workers: processes that make batches, 0: none.

    Raises SettingError where a loss is no number (the last good checkpoint stays), and the errors of models and data.
    """
    torch.manual_seed(config.seed)
    accelerator = Accelerator(mixed_precision=config.precision, cpu=device == "cpu", kwargs_handlers=[
        DistributedDataParallelKwargs(find_unused_parameters=True),  # some switches leave weights without a use
        InitProcessGroupKwargs(timeout=timedelta(hours=2))])  # the others wait while one evaluates
    source = open_source(config.data, config.model.window)
    words = load_words(config.model.words, base, str(accelerator.device))
    check_width(words, config.model)
    texts_Kc = class_vectors(words, source.names).to(accelerator.device)
    tower = load_tower(config.model.tower, config.model.window, base)
    model = Llmformer(pinned(config.model, tower, words), tower)
    optimiser = make_optimiser(model, config)
    checkpoint = folder / CHECKPOINT
    step = load_checkpoint(checkpoint, model, optimiser) if checkpoint.is_file() else 0
    whole = model
    model, optimiser = accelerator.prepare(model, optimiser)
    loss_of = SegmentationLoss(config.loss, len(source.names)).to(accelerator.device)
    pictures = LabelledPictures(source, config.data, config.model, batch=config.batch, seed=config.seed, start=step,
                                rank=accelerator.process_index, world=accelerator.num_processes)
    check_descriptions(pictures, config.evaluation)
    told = sha256_file(Path(config.data.priors)) if config.data.priors else ""
    if step:
        check_same_descriptions(checkpoint, told)
    batches = iter(DataLoader(pictures, batch_size=None, num_workers=workers, prefetch_factor=3 if workers else None))
    log = _Log(folder) if accelerator.is_main_process else None
    started, seen = time.monotonic(), []
    late, saved = False, step
    while step < config.steps and not late:
        for group in optimiser.param_groups:
            group["lr"] = rate(step, config)
        batch = next(batches)
        if isinstance(batch, LexisegError):
            raise batch
        torch.manual_seed(config.seed + 1_000_003 * (step + 1) + accelerator.process_index)
        found = train_step(accelerator, model, whole, optimiser, loss_of, batch, words, texts_Kc, config)
        if not is_finite(list(found.values())):
            raise SettingError(Code.SETTING_INVALID, f"A loss or the gradient of step {step + 1} is no number: "
                               f"{found}.",
                               f"{checkpoint} holds the last good state, of step {saved}."
                               if checkpoint.is_file() else "There is no checkpoint yet.",
                               "Go on with a lower rate, or with precision bf16 in place of fp16.")
        seen.append(found)
        step += 1
        late = anywhere(accelerator, time.monotonic() - started > 60 * minutes)
        over = late or step == config.steps
        if log and (step % config.report == 0 or over):
            means = {name: fmean(values[name] for values in seen) for name in seen[0]}
            log.write(step, config.steps, means | {"rate": rate(step, config), "scale": whole.scale.item()})
            seen.clear()
        if step % config.save == 0 or over:
            saved = step
        if accelerator.is_main_process and saved == step:
            folder.mkdir(parents=True, exist_ok=True)
            save_checkpoint(checkpoint, trained_state(whole), [optimiser], step, {
                "model": canonical_json(whole.config.model_dump(mode="json")).decode(), "descriptions": told})
        if log and config.evaluation and (step % config.evaluation.every == 0 or over):
            log.write(step, config.steps, measure(whole, words, config.evaluation, str(accelerator.device)))
        accelerator.wait_for_everyone()
    return {"step": step, "total": config.steps, "done": step == config.steps}


def check_descriptions(pictures: LabelledPictures, evaluation: EvaluationConfig | None) -> None:
    """Raises DatasetError that names the first picture without a description, before hours have passed."""
    if pictures.priors is not None:
        for i in range(len(pictures.source)):
            pictures.priors.row(pictures.source.key(i))
    if evaluation is not None and evaluation.priors:
        told, dataset = PreparedPriors.read(Path(evaluation.priors)), open_dataset(evaluation.dataset)
        for i in range(min(len(dataset), evaluation.limit or len(dataset))):
            told.row(dataset.key(i))


def check_same_descriptions(checkpoint: Path, told: str) -> None:
    """told: sha256 of the file of descriptions, "" without one. Raises ModelError where the run that wrote the
    checkpoint was shown another one."""
    before = read_checkpoint(checkpoint).about.get("descriptions", told)
    if before != told:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{checkpoint} was made with other descriptions: data.priors had the "
                         f"sha256 {before or 'of no file'} and has {told or 'that of no file'}.",
                         "The same file from the first step to the last.",
                         "Give the file that it was made with, or another --out DIR.")


def pinned(config: LlmformerConfig, tower: Tower, words: Words) -> LlmformerConfig:
    """The configuration with the digests of what it names."""
    return config.model_copy(update={
        "tower": config.tower.model_copy(update={"digest": tower.digest}),
        "words": config.words.model_copy(update={"digest": words.digest})})


def export_llmformer(checkpoint: Path, out: Path, *, name: str, trained_by: str, names: tuple[str, ...] | None = None,
                     licence: str | None = None, thresholds: dict[str, float] | None = None,
                     refine: str = "none") -> ModelCard:
    """From a checkpoint to a model directory, in half precision. The relative paths of its configuration count from
    `out`. names: what it was trained on. thresholds, refine: for the card. Raises ModelError."""
    model = trained_model(checkpoint, out)
    words = load_words(model.config.words, out)
    return write_model(out, model, words, name=name, trained_by=trained_by, known_names=names, licence=licence,
                       thresholds=thresholds, refine=refine)


def trained_model(checkpoint: Path, base: Path) -> Llmformer:
    """The model of a checkpoint, by the configuration in it. Raises ModelError."""
    try:
        config = LlmformerConfig.model_validate_json(read_checkpoint(checkpoint).about["model"])
    except Exception as error:  # the library raises its own kinds for damaged files
        raise ModelError(Code.MODEL_CORRUPT, f"{checkpoint} cannot be read: {error}.", "A checkpoint.",
                         "Train first: python -m vision.train llmformer --help") from error
    model = build_model(config, base)
    load_checkpoint(checkpoint, model, None)
    return model.eval()


def train_step(accelerator: Accelerator, model: torch.nn.Module, whole: Llmformer, optimiser: torch.optim.Optimizer,
               loss_of: SegmentationLoss, batch: Batch, words: Words, texts_Kc: Tensor,
               config: TrainingConfig) -> dict[str, float]:
    """One update; the losses by kind. `whole` is the model without what accelerate wraps around it. With a loss that is
    no number in any process, or a gradient that is none, nothing is updated, and one of what is returned is no number
    (in half precision with 16 bits, whose scale is being looked for, such a gradient is passed over)."""
    device = accelerator.device
    model.train()
    images_B3SS = normalised(whole, batch.images_B3SS.to(device))
    with accelerator.autocast():
        predictions = model(images_B3SS, embedded(batch, words, config.model).to(device))
    losses = loss_of(whole, predictions, batch.labels_BSS.to(device), texts_Kc)
    found = summed(losses)
    if anywhere(accelerator, not is_finite(list(found.values()))):
        return found | {"total": float("nan")}
    optimiser.zero_grad(set_to_none=True)
    accelerator.backward(torch.stack(list(losses.values())).sum())
    norm = accelerator.clip_grad_norm_(model.parameters(), config.clip)
    if config.precision != "fp16" and not is_finite([float(norm)]):
        return found | {"gradient": float(norm)}
    optimiser.step()
    return found


def anywhere(accelerator: Accelerator, here: bool) -> bool:
    """Whether it is so in any process; all of them get the same answer."""
    if accelerator.num_processes == 1:
        return here
    return bool(accelerator.reduce(torch.tensor(float(here), device=accelerator.device), "sum").item())


def embedded(batch: Batch, words: Words, model: LlmformerConfig) -> PriorBatch:
    """The descriptions of a batch as vectors."""
    return embed_priors(batch.phrases, words.names, words.phrases, objects=model.objects, relations=model.relations,
                        width=model.text_width)


def normalised(model: Llmformer, images_B3SS: Tensor) -> Tensor:
    """uint8 pixels to the range of the encoder."""
    mean, std = (torch.tensor(v, device=images_B3SS.device).view(1, 3, 1, 1)
                 for v in (model.tower.mean, model.tower.std))
    return (images_B3SS.float() / 255 - mean) / std


def class_vectors(words: Words, names: tuple[str, ...]) -> Tensor:
    """(K, c) of length 1. Raises ModelError naming what the text encoder does not know."""
    texts_Kc = words.names(names)
    unknown = [name for name, vector in zip(names, texts_Kc, strict=True) if not vector.any()]
    if unknown:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"The text encoder does not know {', '.join(unknown[:10])}.",
                         "Names that it has vectors for.", "Rename them: data.names of the training file.")
    return texts_Kc


def check_width(words: Words, model: LlmformerConfig) -> None:
    """Raises ModelError where the text vectors are not of the configuration's width."""
    if words.width != model.text_width:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"The text vectors are {words.width} long.",
                         f"model.text_width says {model.text_width}.", "Make them the same.")


def rate(step: int, config: TrainingConfig) -> float:
    """Learning rate at a step: linear warm-up, then a polynomial of power 0.9 to 0, or half a cosine."""
    if step < config.warmup:
        return config.rate * (step + 1) / config.warmup
    share = min(1.0, (step - config.warmup) / max(1, config.steps - config.warmup))
    if config.schedule == "poly":
        return config.rate * (1 - share) ** POLY_POWER
    return config.rate * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * share)))


def make_optimiser(model: Llmformer, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW; matrices and convolutions decay, embeddings, norms and biases do not."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    plain = [p for name, p in trained if p.ndim < 2 or "embed" in name or name in ("query", "query_position")]
    chosen = {id(p) for p in plain}
    return torch.optim.AdamW([
        {"params": [p for _, p in trained if id(p) not in chosen], "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0}], lr=config.rate)


def measure(model: Llmformer, words: Words, config: EvaluationConfig, device: str) -> dict[str, float]:
    """mIoU of a data set and of its control (`vision.evaluate`), in [0, 1]."""
    settings = LlmformerSettings(descriptions=config.priors, batch_size=8)
    segmenter = LlmformerSegmenter(model, words, card_of(model), settings=settings, device=device)
    run = evaluate(open_dataset(config.dataset), segmenter, absent=parse_candidates(config.candidates),
                   limit=config.limit)
    model.train()
    scores = run.groups[config.group] if config.group else run.scores
    return {"miou": scores.miou or 0.0, "control": (run.control_groups[config.group] if config.group
                                                    else run.control).miou or 0.0}


def card_of(model: Llmformer) -> ModelCard:
    """A card for a model that is still being trained."""
    return ModelCard(name="training", kind="llmformer", window=model.config.window, patch=model.config.cell)


def load_checkpoint(path: Path, model: Llmformer, optimiser: torch.optim.Optimizer | None) -> int:
    """Restores what a run wrote; the step. Raises ModelError: damaged, or of another configuration."""
    try:
        found = read_checkpoint(path)
    except Exception as error:  # the library raises its own kinds for damaged files
        raise ModelError(Code.MODEL_CORRUPT, f"{path} cannot be read: {error}.", "A checkpoint.",
                         "Remove it, or begin in another folder: --out DIR") from error
    check_same(found.about.get("model", ""), model.config, str(path))
    load_state(model, found.weights, str(path))
    if optimiser is not None:
        restore_moments(found, [optimiser])
    return found.step


class _Log:
    """`curve.jsonl`, the terminal and TensorBoard."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingPackageError(Code.PACKAGE_MISSING, "tensorboard is not installed.",
                                      "Training writes its log with it.", "pip install lexiseg[train]") from error
        folder.mkdir(parents=True, exist_ok=True)
        self._curve = folder / "curve.jsonl"
        self._board = SummaryWriter(str(folder / "tensorboard"))
        self._started = time.monotonic()

    def write(self, step: int, total: int, values: dict[str, float]) -> None:
        minutes = round((time.monotonic() - self._started) / 60, 2)
        line = json.dumps({"step": step, "of": total, **{k: round(v, 5) for k, v in values.items()},
                           "minutes": minutes})
        print(line, flush=True)
        with self._curve.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        self._board.flush()
