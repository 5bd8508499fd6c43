"""`python -m parsers.train`: trains the pocket spaCy pipeline and the learned head."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from parsers.errors import LexisegError
from parsers.pipeline import import_spacy

EWT = Path("../shared/data/ud_english_ewt")
FACTUAL = Path("../shared/data/factual")


def main() -> None:
    """Reads the command line; see `--help` and docs/parsers.md."""
    parser = argparse.ArgumentParser(prog="python -m parsers.train", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    pipeline = commands.add_parser("pipeline", help="train the pipeline on UD English EWT and write the best model")
    pipeline.add_argument("--minutes", type=float, default=600.0, help="stop after so long, with the best model")
    pipeline.add_argument("--seed", type=int, default=0)
    export = commands.add_parser("export-pipeline", help="write the best model of a training that was killed")
    for command in (pipeline, export):
        command.add_argument("--ewt", type=Path, default=EWT, help=f"the folder of the treebank (default {EWT})")
        command.add_argument("--work", type=Path, default=Path("runs/en_scene"), help="corpora and checkpoints")
        command.add_argument("--out", type=Path, default=Path("models/pocket/en_scene"))
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
    if given.command == "export-head":
        from parsers.train.head import export_head

        return export_head(given.work, given.out)
    if given.command == "head":
        from parsers.train.head import train_head

        return train_head(given.factual / "train.csv", given.work, epochs=given.epochs, minutes=given.minutes,
                          seed=given.seed)
    import_spacy()
    from parsers.train.pipeline import export_pipeline, train_pipeline

    if given.command == "export-pipeline":
        return export_pipeline(given.work, given.out, given.ewt)
    return train_pipeline(given.ewt, given.out, given.work, minutes=given.minutes, seed=given.seed)


if __name__ == "__main__":
    main()
