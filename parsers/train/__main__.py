"""`python -m parsers.train`: trains the learned head."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from parsers.errors import LexisegError

FACTUAL = Path("../shared/data/factual")


def main() -> None:
    """Reads the command line; see `--help` and docs/parsers.md."""
    parser = argparse.ArgumentParser(prog="python -m parsers.train", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    head = commands.add_parser("head", help="train one network of the learned head on FACTUAL; run it again to go on")
    head.add_argument("--factual", type=Path, default=FACTUAL, help=f"the folder with train.csv (default {FACTUAL})")
    head.add_argument("--work", type=Path, default=Path("runs/scene_head/0"), help="checkpoint and log of this network")
    head.add_argument("--minutes", type=float, default=600.0, help="stop after so long, with a checkpoint")
    head.add_argument("--epochs", type=int, default=30)
    head.add_argument("--seed", type=int, default=0)
    export = commands.add_parser("export-head", help="write trained networks as one head")
    export.add_argument("--work", type=Path, nargs="+", default=[Path("runs/scene_head/0")],
                        help="the folders of one or more trained networks")
    export.add_argument("--out", type=Path, default=Path("models/pocket/scene_head"))
    given = parser.parse_args()
    try:
        print(_run(given))
    except LexisegError as error:
        sys.exit(f"{error.code}: {error}")


def _run(given: argparse.Namespace) -> object:
    from parsers.train.head import export_head, train_head

    if given.command == "export-head":
        return export_head(given.work, given.out)
    return train_head(given.factual / "train.csv", given.work, epochs=given.epochs, minutes=given.minutes,
                      seed=given.seed)


if __name__ == "__main__":
    main()
