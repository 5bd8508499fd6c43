"""Quality on pictogram scenes: `python -m benchmarks.pictograms [TASK]...`, all tasks if none is named.

names: mIoU of fine names (seen and unseen apart) with present+20 candidates. naming: every object against all 786
names. superclasses: the 48 super-classes plain, with subclasses, with exchanged lists. ensembles: super-classes over
the number of subclasses and the ensembles. variants: names, and super-classes with 10 subclasses, over the dense
variants and the ensembles. Every table shows the control, the same masks with exchanged names. The lists are
`models/pocket/vocabularies/pictogram_superclasses.yaml`, written from general knowledge.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parsers.vocabulary import Vocabulary
from vision import ClipSettings, load_segmenter, resolve_model
from vision.clip.encoder import ClipEncoder
from vision.clip.segmenter import ClipSegmenter, load
from vision.clip.settings import VARIANTS
from vision.clip.text import TextEncoder
from vision.datasets.base import superclasses_of
from vision.datasets.pictograms import FIRST_CONCEPT_ID, PictogramDataset
from vision.datasets.sprites import concepts
from vision.datasets.superclasses import SuperclassView
from vision.evaluate import EvalRun, evaluate, shuffle_subclasses
from vision.models import load_card

TASKS = ("names", "naming", "superclasses", "ensembles", "variants")
LISTS = Path(__file__).resolve().parents[1] / "models/pocket/vocabularies/pictogram_superclasses.yaml"
COUNTS = (0, 1, 3, 5, 7, 10)
ENSEMBLES = ("code", "softmax", "mean", "max", "map-mean", "mask-vote", "super+lambda")


def names_table(dataset: PictogramDataset, model: Path) -> list[dict]:
    """mIoU in per cent per group of names."""
    rows = []
    for refine in ("none", "pydensecrf"):
        run = evaluate(dataset, load_segmenter("clip", model, settings=ClipSettings()), absent=20, refine=refine)
        for group in ("seen", "unseen", "texture"):
            rows.append({"names": group, "refine": refine, "classes": run.groups[group].classes,
                         "mIoU": percent(run.groups[group].miou), "control": percent(run.control_groups[group].miou)})
    return rows


def naming_table(dataset: PictogramDataset, model: Path) -> list[dict]:
    """Which of the 786 names is most like an object: patch features averaged over the object's own patches, weighted
    by how much of each patch it covers."""
    card = load_card(model)
    encoder = ClipEncoder(card, device="auto", variant="auto", batch_size=16)
    names_ND = TextEncoder(encoder, card.templates).embed([concept.name for concept in concepts()])
    ranks: dict[str, list[int]] = {"seen": [], "unseen": []}
    shuffled: dict[str, list[int]] = {"seen": [], "unseen": []}
    exchange = np.random.default_rng(0).permutation(len(concepts()))
    grid = card.window // card.patch
    for start in range(0, len(dataset), 16):
        scenes = [dataset.scene(i) for i in range(start, min(start + 16, len(dataset)))]
        patches_BPD, _ = encoder.encode_windows([scene.image_HW3 for scene in scenes])
        for scene, patches_PD in zip(scenes, patches_BPD.cpu(), strict=True):
            for number, thing in enumerate(scene.objects, start=1):
                mask_HW = scene.instances_HW == number
                cover_P = mask_HW.reshape(grid, card.patch, grid, card.patch).mean((1, 3)).ravel()
                mean_D = torch.from_numpy(cover_P.astype(np.float32)) @ patches_PD
                likeness_N = names_ND @ mean_D
                concept = thing.label - FIRST_CONCEPT_ID
                group = "seen" if concepts()[concept].seen else "unseen"
                ranks[group].append(int((likeness_N > likeness_N[concept]).sum()))
                other = int(exchange[concept])
                shuffled[group].append(int((likeness_N > likeness_N[other]).sum()))
    return [{"names": group, "objects": len(found), "top-1": percent(np.mean(np.array(found) < 1)),
             "top-5": percent(np.mean(np.array(found) < 5)),
             "control top-1": percent(np.mean(np.array(shuffled[group]) < 1)),
             "control top-5": percent(np.mean(np.array(shuffled[group]) < 5))}
            for group, found in ranks.items() if found]


def superclass_run(dataset: PictogramDataset, model: Path, count: int, ensemble: str,
                   knowledge: Vocabulary | None, refine: str = "none") -> EvalRun:
    """All 48 super-classes and the textures as candidates of every scene."""
    settings = ClipSettings(subclass_count=count, ensemble=ensemble)
    view = SuperclassView(dataset, superclasses_of(dataset))
    return evaluate(view, load_segmenter("clip", model, settings=settings), absent=None, knowledge=knowledge,
                    refine=refine)


def superclass_row(run: EvalRun, lists: str, count: int, ensemble: str) -> dict:
    return {"lists": lists, "K": count, "ensemble": ensemble, "mIoU": percent(run.groups["super-classes"].miou),
            "control": percent(run.control_groups["super-classes"].miou)}


def superclass_table(dataset: PictogramDataset, model: Path) -> list[dict]:
    """Plain names, the default ensemble with 10 subclasses, and the same with exchanged lists; with and without
    refinement; in scenes of seen names alone and in scenes of all names, of which a sixth is unknown to the model."""
    lists = Vocabulary.load(LISTS)
    ensemble = load_card(model).ensemble
    rows = []
    for split in ("seen", "all"):
        scenes = PictogramDataset(count=len(dataset), seed=dataset.seed, split=split, sprites=dataset.sprites)
        for refine in ("none", "pydensecrf"):
            for name, count, knowledge in (("none", 0, None), ("own", 10, lists),
                                           ("exchanged", 10, shuffle_subclasses(lists))):
                run = superclass_run(scenes, model, count, ensemble, knowledge, refine)
                rows.append({"scenes of": split, "refine": refine} | superclass_row(run, name, count, ensemble))
    return rows


def ensemble_table(dataset: PictogramDataset, model: Path) -> list[dict]:
    """Over K and the ensembles; K = 0 is the plain name, the same for all."""
    lists = Vocabulary.load(LISTS)
    rows = [superclass_row(superclass_run(dataset, model, 0, "max", None), "none", 0, "all")]
    for count in COUNTS[1:]:
        rows += [superclass_row(superclass_run(dataset, model, count, ensemble, lists), "own", count, ensemble)
                 for ensemble in ENSEMBLES]
    return rows


def variant_table(dataset: PictogramDataset, model: Path) -> list[dict]:
    """Every dense variant with the numbers of the model card: names, and super-classes with each ensemble. Below them
    what an open_clip model without a card gets: logits of 40 x cosine and the soft presence test; its first column
    `softmax` is what the first release did by default."""
    view, lists = SuperclassView(dataset, superclasses_of(dataset)), Vocabulary.load(LISTS)
    configurations: dict[str, dict[str, Any]] = {
        **{variant: {"variant": variant} for variant in VARIANTS if variant != "auto"},
        "resclip, one pass": {"variant": "resclip", "feedback": False},
        "naclip, no card": {"variant": "naclip", "logit_scale": 40.0, "temperature": 0.02}}
    rows = []
    for name, options in configurations.items():
        settings = [ClipSettings(**options, subclass_count=10, ensemble=ensemble) for ensemble in ENSEMBLES]
        encoder = load(model, settings=settings[0]).encoder
        if name.endswith("no card"):
            encoder.card.thresholds.clear()
        run = evaluate(dataset, ClipSegmenter(encoder, settings[0]), absent=20)
        above = [evaluate(view, ClipSegmenter(encoder, one), absent=None, knowledge=lists) for one in settings]
        rows.append({"variant": name}
                    | {group: percent(run.groups[group].miou) for group in ("seen", "unseen", "texture")}
                    | {ensemble: percent(found.groups["super-classes"].miou)
                       for ensemble, found in zip(ENSEMBLES, above, strict=True)}
                    | {"control": percent(max(found.control_groups["super-classes"].miou or 0 for found in above)),
                       "scenes/s": round(run.images / run.seconds, 1)})
    return rows


def percent(value: float | None) -> float | None:
    return None if value is None else round(100 * float(value), 1)


def markdown(rows: list[dict]) -> str:
    """A table of rows with equal keys."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([str(row[key]) for key in head] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Reads the command line and prints tables (Markdown) or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictograms", description=__doc__)
    parser.add_argument("tasks", nargs="*", default=TASKS, metavar="TASK", help=f"of {', '.join(TASKS)}")
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sprites", help="drawings of another illustrator: a sheet or a folder of PNG files")
    parser.add_argument("--model", help="model directory; the pocket CLIP if left out")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if unknown := set(given.tasks) - set(TASKS):
        parser.error(f"unknown tasks {sorted(unknown)}; allowed: {', '.join(TASKS)}")
    dataset = PictogramDataset(count=given.scenes, seed=given.seed, sprites=given.sprites)
    model = resolve_model(given.model, "clip")
    makers = {"names": names_table, "naming": naming_table, "superclasses": superclass_table,
              "ensembles": ensemble_table, "variants": variant_table}
    results = {}
    for task in given.tasks:
        results[task] = makers[task](dataset, model)
        if not given.json:
            print(f"\n{task}: {given.scenes} scenes, seed {given.seed}, drawings {dataset.sheet.name}, "
                  f"{platform.machine()}, {torch.get_num_threads()} threads\n\n{markdown(results[task])}", flush=True)
    if given.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
