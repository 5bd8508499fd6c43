"""`python -m vision.train`: makes the sprite sheets, trains the pocket CLIP, exports it."""

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
    given = parser.parse_args()
    if given.command == "sprites":
        from vision.train.sprites import make_sheets

        print(make_sheets(given.out, noto=given.noto, openmoji=given.openmoji, fluent=given.fluent))
    elif given.command == "thresholds":
        from vision.train.thresholds import grid

        for row in grid(given.model, _sheets(parser, given.sprites), given.scenes):
            print(row, flush=True)
    elif given.command == "clip":
        if not KEEP_MEMORY.keys() <= os.environ.keys():
            os.execve(sys.executable, [sys.executable, "-m", "vision.train", *sys.argv[1:]], os.environ | KEEP_MEMORY)
        from vision.train.clip import MORE_STAGES, STAGES, train_clip

        sheets = _sheets(parser, given.sprites)
        print(train_clip(given.out, sheets, minutes=given.minutes, device=given.device, seed=given.seed,
                         stages=MORE_STAGES if given.init else STAGES, init=given.init))
    else:
        from vision.train.export import export_clip

        print(export_clip(given.checkpoint, given.out))


if __name__ == "__main__":
    main()
