"""LLMFormer: `python -m benchmarks.llmformer quality|ablation|speed|camvid`.

quality: a model on pictogram validation scenes of seen names, refined as its card says, with descriptions and without;
the control; Open mIoU with names given and candidate-free; how many ground-truth classes descriptions name. ablation:
one switch at a time, each variant trained for `--steps` from each of `--seeds`. speed: pictures per second of the
decoder with priors and without, taken in turn. camvid: mIoU of the validation photographs, and IoU per class.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

import numpy as np
import torch

from agents.card import load_llm_card
from agents.train.describe import describe_scenes
from agents.train.tasks import describe
from benchmarks.pictograms import markdown, percent
from parsers.prepared import PreparedPriors, PreparedRow, named_classes, recall
from parsers.reader import SceneReader
from vision import LlmformerSettings, load_segmenter, make_settings, open_dataset, resolve_model
from vision.datasets.pictograms import PictogramDataset
from vision.evaluate import evaluate, parse_candidates
from vision.llmformer.directory import read_config, read_model
from vision.llmformer.evaluate_free import open_tally
from vision.llmformer.priors import embed_priors, prior_phrases
from vision.llmformer.similarity import text_similarity
from vision.llmformer.words import load_words
from vision.models import load_card
from vision.train.llmformer_priors import Mistakes, scene_rows
from vision.types import Sample, ScoreMap, Segmenter

CLIP_TOWER = {"model.tower": "{kind: open_clip, path: ../clip}"}
VARIANTS = {
    "full": {},
    "priors off": {"model.priors": "none"},
    "objects alone": {"model.priors": "object"},
    "fusion: add": {"model.fusion": "add"},
    "fusion: concat": {"model.fusion": "concat"},
    "scales: mean": {"model.scales": "mean"},
    "scales: soft": {"model.scales": "soft"},
    "scales: single": {"model.scales": "single:1"},
    "relation off": {"model.relation": "false"},
    "Mask2Former's attention": {"model.attention": "mask2former"},
    "TSG's attention": {"model.attention": "tsg"},
    "no cue (without our addition)": {"model.cue": "false"},
    "no cue, priors off": {"model.cue": "false", "model.priors": "none"},
    "no cue, relation off": {"model.cue": "false", "model.relation": "false"},
    "no cue, scales: mean": {"model.cue": "false", "model.scales": "mean"},
    "encoder of the pocket CLIP": CLIP_TOWER,
    "encoder of the pocket CLIP, priors off": CLIP_TOWER | {"model.priors": "none"},
}
"""Name to changes of the training file."""


def quality(model: Path, scenes: int, seed: int, file: Path | None, views: int | None,
            open_scenes: int) -> list[dict]:
    dataset = PictogramDataset(count=scenes, seed=seed, split="seen")
    llava = resolve_model(None, "clip").parent / "llava-phi2"
    views = views or load_llm_card(llava).views
    file = file or Path(f"runs/llmformer/validation-{seed}-{views}.jsonl")
    describe_scenes(dataset, llava, file, views=views)
    told = PreparedPriors.read(file)
    segmenters = {"with descriptions": load_segmenter("llmformer", model),
                  "without": load_segmenter("llmformer", model, settings=LlmformerSettings(priors="none"))}
    rows = []
    for name, segmenter in segmenters.items():
        run = evaluate(dataset, Telling(segmenter, told), absent=20, refine=load_card(model).refine)
        for group in ("seen", "texture"):
            rows.append({"what": f"{name}, {group} names", "mIoU": percent(run.groups[group].miou),
                         "control": percent(run.control_groups[group].miou)})
    rows += bounds(dataset, told, llava, segmenters, open_scenes)
    words = load_words(read_config(model).words, model)
    for name, free in (("Open mIoU, names given", False), ("Open mIoU, candidate-free", True)):
        tally = open_tally(dataset, segmenters["with descriptions"], told.row, free=free, absent=20, limit=open_scenes)
        found = tally.scores(text_similarity(words, tally.names, tally.classes))
        rows.append({"what": name, "mIoU": percent(found.open_miou), "control": ""})
        rows.append({"what": f"{name}: plain mIoU after mapping", "mIoU": percent(found.mapped_miou), "control": ""})
    named = recall(((told.of(dataset.key(i)), dataset.scene(i).names) for i in range(scenes)), dataset.superclasses)
    rows.append({"what": "ground-truth classes that the descriptions name", "mIoU": percent(named), "control": ""})
    return rows


def bounds(dataset: PictogramDataset, told: PreparedPriors, llava: Path, segmenters: dict[str, Segmenter],
           scenes: int) -> list[dict]:
    """What descriptions could give, on the first scenes, not refined: those of the language model, with the names that
    they have preferred by a constant; true ones; and, more than a description can tell, no name given that a picture
    does not show."""
    texts = [describe(dataset.scene(i), detailed=True) for i in range(scenes)]
    read = SceneReader(use_head=False).read(texts, load_llm_card(llava).terms)
    true = PreparedPriors({dataset.key(i): PreparedRow(image_id=dataset.key(i), prompt_id="detailed", model_id="tables",
                                                       priors=priors) for i, priors in enumerate(read)}, "tables")
    rows = []
    reading = segmenters["with descriptions"]
    for name, segmenter, absent in (("without", segmenters["without"], 20),
                                    ("with descriptions, their names preferred", Preferring(reading, told), 20),
                                    ("with true descriptions", Telling(reading, true), 20),
                                    ("without, no absent name given", segmenters["without"], 0)):
        run = evaluate(dataset, segmenter, absent=absent, limit=scenes)
        rows.append({"what": f"the first {scenes}, not refined: {name}", "mIoU": percent(run.groups["seen"].miou),
                     "control": percent(run.control_groups["seen"].miou)})
    return rows


class Preferring:
    """`Telling` that doubles the probability of each name that the description has."""

    def __init__(self, segmenter: Segmenter, told: PreparedPriors) -> None:
        self._telling, self._told = Telling(segmenter, told), told

    def score(self, samples: Sequence[Sample]) -> list[ScoreMap]:
        found = []
        for sample, one in zip(samples, self._telling.score(samples), strict=True):
            named = named_classes(self._told.of(sample.key), one.names)
            more_C = np.array([math.log(2) if name in named else 0.0 for name in one.names], np.float16)
            found.append(replace(one, scores_CHW=one.scores_CHW + more_C[:, None, None]))
        return found


class Telling:
    """A segmenter that is given each sample with its description."""

    def __init__(self, segmenter: Segmenter, told: PreparedPriors) -> None:
        self._segmenter, self._told = segmenter, told

    def score(self, samples: Sequence[Sample]) -> list[ScoreMap]:
        return self._segmenter.score([replace(sample, priors=self._told.of(sample.key)) for sample in samples])


def ablation(out: Path, steps: int, seeds: int, names: list[str], config: str, device: str) -> list[dict]:
    """Trains what is not trained yet; the last figure of each run's log."""
    rows = []
    for name in names or list(VARIANTS):
        figures = []
        for seed in range(seeds):
            folder = out / f"{name.replace(' ', '-').replace(':', '')}-{seed}"
            changes = VARIANTS[name] | {"seed": str(seed), "steps": str(steps), "evaluation.every": str(steps)}
            options = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
            subprocess.run([sys.executable, "-m", "vision.train", "llmformer", "--config", config, "--out", str(folder),
                            "--model-dir", str(resolve_model(None, "clip").parent / "llmformer"),
                            "--device", device, *options], check=True)
            lines = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
            figures.append(next(line["miou"] for line in reversed(lines) if "miou" in line))
        rows.append({"variant": name} | {f"seed {seed}": percent(value) for seed, value in enumerate(figures)}
                    | {"mean": percent(fmean(figures))})
    return rows


@torch.inference_mode()
def speed(model: Path, rounds: int) -> list[dict]:
    """The decoder alone: the layers and heads, after the picture was read."""
    network = read_model(model)
    config = network.config
    words = load_words(config.words, model)
    dataset = PictogramDataset(count=8, split="seen")
    rows = scene_rows((dataset.key(i) for i in range(len(dataset))), dataset.scene, Mistakes(), 2)
    told = PreparedPriors({row.image_id: row for row in rows}, "captions with mistakes")
    sizes = {"objects": config.objects, "relations": config.relations}
    images = torch.randn(8, 3, config.window, config.window)
    priors = embed_priors([prior_phrases(told.of(dataset.key(i)), **sizes) for i in range(8)], words.names,
                          words.phrases, **sizes, width=config.text_width)
    none = network.config.model_copy(update={"priors": "none", "relation": False})
    picture = network.read(images)
    network.read = lambda images: picture  # type: ignore[method-assign, assignment]
    seconds: dict[str, list[float]] = {"with priors": [], "without": []}
    for _ in range(rounds):
        for name, chosen in (("with priors", config), ("without", none)):
            network.config = chosen
            for layer in network.layers:
                layer.config = chosen  # type: ignore[assignment]
            started = time.perf_counter()
            network(images, priors)
            seconds[name].append(time.perf_counter() - started)
    rates = {name: 8 / median(values[1:]) for name, values in seconds.items()}
    return [{"decoder": name, "pictures/s": round(rate, 1)} for name, rate in rates.items()] + [
        {"decoder": "ratio", "pictures/s": round(rates["with priors"] / rates["without"], 3)}]


def camvid(model: Path, path: str) -> list[dict]:
    run = evaluate(open_dataset(f"camvid:{path},split=val"),
                   load_segmenter("llmformer", model, settings=make_settings("llmformer", {})),
                   absent=parse_candidates("all"))
    rows = [{"class": name, "IoU": percent(score.iou)} for name, score in run.per_class.items()]
    return [*rows, {"class": "mean", "IoU": percent(run.scores.miou)},
            {"class": "mean of the control", "IoU": percent(run.control.miou)}]


def main() -> None:
    """Reads the command line and prints a table (Markdown)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llmformer", description=__doc__)
    parser.add_argument("task", choices=("quality", "ablation", "speed", "camvid"))
    parser.add_argument("--model", help="model directory; the pocket LLMFormer if left out")
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--open-scenes", type=int, default=500, help="the first so many for Open mIoU, unrefined")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--descriptions", type=Path, help="prepared ones; if left out, runs/llmformer/"
                        "validation-SEED-VIEWS.jsonl, where the pocket LLaVA-Phi2 writes what is missing")
    parser.add_argument("--views", type=int, help="descriptions of each scene; as many as the card of the LLaVA says "
                        "if left out")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--variants", nargs="*", default=[], metavar="NAME", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--config", default="pictograms")
    parser.add_argument("--out", type=Path, default=Path("runs/llmformer-ablation"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--camvid", default="../shared/data/camvid")
    given = parser.parse_args()
    if given.task == "ablation":
        rows = ablation(given.out, given.steps, given.seeds, given.variants, given.config, given.device)
    else:
        model = resolve_model(given.model, "llmformer")
        if given.task == "quality":
            rows = quality(model, given.scenes, given.seed, given.descriptions, given.views, given.open_scenes)
        elif given.task == "speed":
            rows = speed(model, given.rounds)
        else:
            rows = camvid(model, given.camvid)
    print(markdown(rows))


if __name__ == "__main__":
    main()
