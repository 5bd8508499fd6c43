"""`python -m vision.train`: makes the sprite sheets, trains the pocket CLIP, exports it."""

from __future__ import annotations

import argparse
from pathlib import Path

SHEETS = ("noto", "openmoji", "fluent-flat", "fluent-modern")


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
    clip.add_argument("--seed", type=int, default=0)
    export = commands.add_parser("export", help="write the trained CLIP as an open_clip directory")
    export.add_argument("--checkpoint", type=Path, default=Path("runs/clip/checkpoint.safetensors"))
    export.add_argument("--out", type=Path, default=Path("models/pocket/clip"))
    given = parser.parse_args()
    if given.command == "sprites":
        from vision.train.sprites import make_sheets

        print(make_sheets(given.out, noto=given.noto, openmoji=given.openmoji, fluent=given.fluent))
    elif given.command == "clip":
        from vision.train.clip import train_clip

        sheets = [path for name in SHEETS if (path := given.sprites / f"{name}.webp").is_file()]
        if not sheets:
            parser.error(f"{given.sprites} holds no sprite sheet; see: python -m vision.train sprites --help")
        print(train_clip(given.out, sheets, minutes=given.minutes, device=given.device, seed=given.seed))
    else:
        from vision.train.export import export_clip

        print(export_clip(given.checkpoint, given.out))


if __name__ == "__main__":
    main()
