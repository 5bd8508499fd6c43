"""`python -m vision.train`: makes the sprite sheets, trains the pocket CLIP and LLMFormer, exports them."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

SHEETS = ("noto", "openmoji", "fluent-flat", "fluent-modern")

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "8589934592",
               "MALLOC_TOP_PAD_": "268435456"}
"""glibc gives large blocks back to the system after each step and asks for them again; kept, a step on the CPU does
not stall now and then."""


def _sheets(parser: argparse.ArgumentParser, folder: Path) -> list[Path]:
    sheets = [path for name in SHEETS if (path := folder / f"{name}.webp").is_file()]
    if not sheets:
        parser.error(f"{folder} holds no sprite sheet; see: python -m vision.train sprites --help")
    return sheets


def _keep_memory() -> None:
    if not KEEP_MEMORY.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, "-m", "vision.train", *sys.argv[1:]], os.environ | KEEP_MEMORY)


def _llmformer_options(commands: argparse._SubParsersAction) -> None:
    train = commands.add_parser("llmformer", help="train an LLMFormer; run it again to go on")
    train.add_argument("--config", type=Path, default=Path("pictograms"),
                       help="a training file, or the name of one in vision/train/configs")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                       help="change a value of the training file: model.relation=false")
    train.add_argument("--out", type=Path, help="default: runs/llmformer-NAME")
    train.add_argument("--model-dir", type=Path, help="where it will be exported to; relative paths of the model "
                       "section count from here. Default: OUT/model")
    train.add_argument("--minutes", type=float, default=1e9, help="stop after so long, with a checkpoint")
    train.add_argument("--device", default="cpu")
    train.add_argument("--workers", type=int, default=1, help="processes that make batches; 0: none")
    export = commands.add_parser("llmformer-export", help="write a trained LLMFormer as a model directory")
    export.add_argument("--checkpoint", type=Path, required=True)
    export.add_argument("--model-dir", type=Path, required=True, help="the directory to write")
    export.add_argument("--name", default="pocket-llmformer")
    export.add_argument("--config", type=Path, help="the training file; its names go into the card")
    export.add_argument("--licence", help="what the model was trained on, and its licences")
    export.add_argument("--pixel-share", type=float, help="share of the per-pixel head in the result, from 0 to 1")
    export.add_argument("--refine", default="none", help="the refinement that suits the model")
    priors = commands.add_parser("llmformer-priors", help="describe pictogram validation scenes by their captions with "
                                 "mistakes, where no language model has described them")
    priors.add_argument("--dataset", default="pictograms:split=seen")
    priors.add_argument("--out", type=Path, required=True)
    for name, rate in (("left-out", 0.2), ("mistaken", 0.15), ("added", 0.1), ("ground", 0.1)):
        priors.add_argument(f"--{name}", type=float, default=rate, help="share, from 0 to 1")


def _llmformer(given: argparse.Namespace) -> None:
    import yaml

    from parsers.errors import LexisegError

    try:
        if given.command == "llmformer-export":
            from vision.train.llmformer import export_llmformer
            from vision.train.llmformer_config import read_training
            from vision.train.llmformer_data import open_source

            config = read_training(given.config) if given.config else None
            card = export_llmformer(
                given.checkpoint, given.model_dir, name=given.name, licence=given.licence,
                names=open_source(config.data, config.model.window).names if config else None,
                thresholds={} if given.pixel_share is None else {"pixel_share": given.pixel_share},
                refine=given.refine, trained_by="python -m vision.train llmformer")
            print(card.model_dump_json(include={"name", "files"}))
        elif given.command == "llmformer-priors":
            from parsers.prepared import write_prepared
            from vision.train.llmformer_priors import Mistakes, validation_rows

            mistakes = Mistakes(left_out=given.left_out, mistaken=given.mistaken, added=given.added,
                                ground=given.ground)
            write_prepared(given.out, validation_rows(given.dataset, mistakes))
        else:
            _keep_memory()
            from accelerate import PartialState

            from vision.train.llmformer import train_llmformer
            from vision.train.llmformer_config import read_training
            from vision.train.llmformer_priors import make_vectors, prepare_missing

            changes = dict(item.partition("=")[::2] for item in given.set)
            config = read_training(given.config, {key: yaml.safe_load(value) for key, value in changes.items()})
            out = given.out or Path("runs") / f"llmformer-{config.name}"
            base = given.model_dir or out / "model"
            table = base / config.model.words.path
            with PartialState(cpu=given.device == "cpu").main_process_first():
                prepare_missing(config, lambda text: print(text, flush=True))
                if config.data.vectors and config.model.words.kind == "table" and not table.is_file():
                    make_vectors(config.data.vectors, table)
            print(train_llmformer(config, out, base=base, minutes=given.minutes, device=given.device,
                                  workers=given.workers))
    except LexisegError as error:
        sys.exit(f"error [{error.code}]: {error}")


def main() -> None:
    """Reads the command line; see `--help` and docs/pocket.md."""
    parser = argparse.ArgumentParser(prog="python -m vision.train", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    sprites = commands.add_parser("sprites", help="make the sprite sheets of the three illustrators")
    sprites.add_argument("--noto", type=Path, help="NotoColorEmoji.ttf of the package fonts-noto-color-emoji")
    sprites.add_argument("--openmoji", type=Path, help="unpacked npm package openmoji")
    sprites.add_argument("--fluent", type=Path, help="unpacked npm package fluentui-emoji")
    sprites.add_argument("--out", type=Path, default=Path("runs/sprites"))
    clip = commands.add_parser("clip", help="train the pocket CLIP; run it again to go on")
    clip.add_argument("--sprites", type=Path, default=Path("runs/sprites"))
    clip.add_argument("--out", type=Path, default=Path("runs/clip"))
    clip.add_argument("--minutes", type=float, default=600.0, help="stop after so long, with a checkpoint")
    clip.add_argument("--device", default="cpu")
    clip.add_argument("--init", type=Path, help="an exported model for a second round; its seed should differ")
    clip.add_argument("--seed", type=int, default=0)
    export = commands.add_parser("export", help="write the trained CLIP as an open_clip directory")
    export.add_argument("--checkpoint", type=Path, default=Path("runs/clip/checkpoint.safetensors"))
    export.add_argument("--out", type=Path, default=Path("models/pocket/clip"))
    thresholds = commands.add_parser("thresholds", help="compare numbers of the model card on training scenes")
    thresholds.add_argument("--sprites", type=Path, default=Path("runs/sprites"))
    thresholds.add_argument("--model", type=Path, default=Path("models/pocket/clip"))
    thresholds.add_argument("--scenes", type=int, default=200)
    _llmformer_options(commands)
    given = parser.parse_args()
    if given.command == "sprites":
        from vision.train.sprites import make_sheets

        print(make_sheets(given.out, noto=given.noto, openmoji=given.openmoji, fluent=given.fluent))
    elif given.command == "thresholds":
        from vision.train.thresholds import grid

        for row in grid(given.model, _sheets(parser, given.sprites), given.scenes):
            print(row, flush=True)
    elif given.command.startswith("llmformer"):
        _llmformer(given)
    elif given.command == "clip":
        _keep_memory()
        from vision.train.clip import MORE_STAGES, STAGES, train_clip

        sheets = _sheets(parser, given.sprites)
        print(train_clip(given.out, sheets, minutes=given.minutes, device=given.device, seed=given.seed,
                         stages=MORE_STAGES if given.init else STAGES, init=given.init))
    else:
        from vision.train.export import export_clip

        print(export_clip(given.checkpoint, given.out))


if __name__ == "__main__":
    main()
