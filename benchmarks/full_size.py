"""Full-size CLIPs with random weights load and run: `python -m benchmarks.full_size [MODEL]...`.

Each model is built by open_clip (OpenAI's layouts, QuickGELU), saved in half precision the way its makers publish it,
loaded by the backend, and shown one picture with each dense variant. Rows say parameters, megabytes on disk, seconds to
save, to load and verify, and seconds of one picture of one window, mean over the rounds; the text vectors are ready.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from open_clip import create_model, get_model_config
from safetensors.torch import save_file

from parsers.vocabulary import Vocabulary
from vision import ClipSettings, Sample, load_segmenter, refine
from vision.clip.settings import VARIANTS
from vision.models import OPENAI_MEAN, OPENAI_STD

MODELS = ("ViT-B-16-quickgelu", "ViT-L-14-quickgelu", "ViT-L-14-336-quickgelu")


def save_model(name: str, folder: Path) -> int:
    """An open_clip directory with random weights; the number of its parameters."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = create_model(name)
    save_file({key: value.half().contiguous() for key, value in model.state_dict().items()},
              folder / "open_clip_model.safetensors")
    config = {"model_cfg": get_model_config(name), "preprocess_cfg": {"mean": OPENAI_MEAN, "std": OPENAI_STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return sum(value.numel() for value in model.parameters())


def row_of(name: str, folder: Path, variants: list[str], rounds: int) -> dict:
    """One row of the table. Raises RuntimeError where a result is not finite."""
    started = time.perf_counter()
    parameters = save_model(name, folder)
    row = {"model": name, "parameters": parameters, "save_s": round(time.perf_counter() - started, 1),
           "MB": round((folder / "open_clip_model.safetensors").stat().st_size / 1e6)}
    vocabulary = Vocabulary.from_names("dog, cat, tree, road")
    for variant in variants:
        started = time.perf_counter()
        segmenter = load_segmenter("clip", folder, settings=ClipSettings(variant=variant, templates="plain",
                                                                         batch_size=1))
        row["load_s"] = round(time.perf_counter() - started, 1)
        side = segmenter.card.window
        sample = Sample(image_HW3=np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8),
                        vocabulary=vocabulary)
        segmenter.score([sample])
        started = time.perf_counter()
        for _ in range(rounds):
            (scores,) = segmenter.score([sample])
        row[variant] = round((time.perf_counter() - started) / rounds, 2)
        if not np.isfinite(scores.scores_CHW).all() or refine(sample.image_HW3, scores).labels_HW.shape != (side, side):
            raise RuntimeError(f"{name} with {variant} gives no numbers")
        del segmenter
    return row


def main() -> None:
    """Reads the command line and prints one JSON line per model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_size", description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL", help=f"of open_clip: {', '.join(MODELS)}")
    parser.add_argument("--variants", default=",".join(VARIANTS[1:]))
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(row_of(name, Path(folder) / "model", arguments.variants.split(","), arguments.rounds)),
                  flush=True)


if __name__ == "__main__":
    main()
