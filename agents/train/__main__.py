"""`python -m agents.train`: trains the pocket LLaVA-Phi2 and exports it."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from agents.card import MAX_VIEWS

SHEETS = ("noto", "openmoji", "fluent-flat", "fluent-modern")
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "8589934592",
               "MALLOC_TOP_PAD_": "268435456"}
"""As in `python -m vision.train`: a step on the CPU does not stall while memory goes back to the system."""


def main() -> None:
    """Reads the command line; see `--help` and docs/pocket.md."""
    parser = argparse.ArgumentParser(prog="python -m agents.train", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    llava = commands.add_parser("llava", help="train the pocket LLaVA-Phi2; run it again to go on")
    llava.add_argument("--sprites", type=Path, default=Path("runs/sprites"),
                       help="sheets made by python -m vision.train sprites")
    llava.add_argument("--clip", type=Path, default=Path("models/pocket/clip"), help="its image tower is the start")
    llava.add_argument("--out", type=Path, default=Path("runs/llava"))
    llava.add_argument("--start", type=Path, help="checkpoint or model of an earlier round, to begin with its weights")
    llava.add_argument("--tower-after", type=int, help="steps that the image tower stays as it is")
    llava.add_argument("--tower-every", type=int, help="then it learns in every so many steps")
    llava.add_argument("--loose", type=float, help="share of the pictures with strongly varied styles")
    llava.add_argument("--own", type=float, help="share of the pictures that the product's own sheet draws in any case")
    for name in ("text", "tower", "rest"):
        llava.add_argument(f"--{name}", type=float, help=f"highest rate; see `{name}` in agents/train/loop.py")
    llava.add_argument("--no-places", dest="places", action="store_false", default=None,
                       help="the weights of --start know places already")
    llava.add_argument("--fresh", action="store_true", default=None, help="of --start, begin the text layers anew")
    llava.add_argument("--minutes", type=float, default=600.0, help="stop after so long, with a checkpoint")
    llava.add_argument("--steps", type=int, help="length of the schedule")
    llava.add_argument("--seed", type=int, default=0)
    export = commands.add_parser("export", help="write the trained model as a LLaVA directory")
    export.add_argument("--checkpoint", type=Path, default=Path("runs/llava/checkpoint.safetensors"))
    export.add_argument("--out", type=Path, default=Path("models/pocket/llava-phi2"))
    describe = commands.add_parser("describe", help="what a model says of many pictogram scenes; run again to go on")
    describe.add_argument("--dataset", help="validation scenes such as pictograms:count=100,seed=2,split=seen; the "
                          "scenes that LLMFormer is trained on if left out")
    describe.add_argument("--count", type=int, default=8000, help="how many of those scenes")
    describe.add_argument("--sprites", type=Path, default=Path("runs/sprites"))
    describe.add_argument("--model", type=Path, default=Path("models/pocket/llava-phi2"))
    describe.add_argument("--detail", choices=("simple", "detailed"), default="detailed")
    describe.add_argument("--views", type=int, choices=range(1, MAX_VIEWS + 1), metavar="N", help="descriptions of "
                          f"each, 1 to {MAX_VIEWS}; as many as the model's card says if left out")
    describe.add_argument("--out", type=Path, required=True, help="JSON Lines")
    describe.add_argument("--minutes", type=float, default=600.0)
    given = parser.parse_args()
    if given.command == "describe":
        from agents.train.describe import describe_scenes
        from vision import open_dataset
        from vision.train.llmformer_data import PictogramSource

        scenes = open_dataset(given.dataset) if given.dataset else PictogramSource(
            given.count, sorted(given.sprites.glob("*.webp")), loose=0.3)
        print(describe_scenes(scenes, given.model, given.out, detail=given.detail, views=given.views,
                              minutes=given.minutes))
        return
    if given.command == "export":
        from agents.train.export import export_llava

        print(export_llava(given.checkpoint, given.out))
        return
    if not KEEP_MEMORY.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, "-m", "agents.train", *sys.argv[1:]], os.environ | KEEP_MEMORY)
    from agents.train.loop import Plan, train_llava

    sheets = [path for name in SHEETS if (path := given.sprites / f"{name}.webp").is_file()]
    if not sheets:
        parser.error(f"{given.sprites} holds no sprite sheet; see: python -m vision.train sprites --help")
    changes = {name: value for name in ("steps", "tower_after", "tower_every", "text", "tower", "rest", "loose",
                                   "own", "fresh", "places")
               if (value := getattr(given, name)) is not None}
    print(train_llava(given.out, sheets, minutes=given.minutes, clip=given.clip, plan=replace(Plan(), **changes),
                      start=given.start, seed=given.seed))


if __name__ == "__main__":
    main()
