"""Does `torch.compile` pay? `python -m benchmarks.compiled [--precision bfloat16] [--freezing] [--layers 4]
[--device cuda]`.

The dense features of a vision transformer with random weights (patches of 16 at 224 pixels, the width of ViT-B), as
they are and compiled, in turns in one thread. Printed are processor milliseconds per window (on a GPU: milliseconds
until it is done), median and least, those of the library's own forward beside them, and the seconds that compiling
took. A C++ compiler is needed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from open_clip.transformer import VisionTransformer

from vision.clip.dense import dense_features
from vision.clip.encoder import halve


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Processor seconds; on a GPU seconds until it is done."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    started = clock()
    work()
    if device != "cpu":
        torch.cuda.synchronize(device)
    return clock() - started


def main() -> None:
    """Reads the command line and prints JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled", description=__doc__)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--freezing", action="store_true", help="the compiler packs the weights")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--variant", default="naclip")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    half = given.precision == "bfloat16"
    visual = VisionTransformer(image_size=224, patch_size=16, width=768, layers=given.layers, heads=12, mlp_ratio=4,
                               output_dim=512).eval().requires_grad_(False)
    visual.to(given.device)
    if half:
        halve(visual)
    images_B3HW = torch.randn(given.batch, 3, 224, 224).to(given.device)
    torch._inductor.config.freezing = given.freezing
    compiled = torch.compile(lambda images: dense_features(visual, images, given.variant))
    ways: dict[str, Callable[[], object]] = {
        "the library's forward": lambda: visual(images_B3HW),
        "dense features": lambda: dense_features(visual, images_B3HW, given.variant),
        "dense features, compiled": lambda: compiled(images_B3HW)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with torch.no_grad(), torch.autocast(given.device.partition(":")[0], torch.bfloat16, enabled=half):
        for way in ways.values():
            started = time.perf_counter()
            way()
            warming_s = time.perf_counter() - started  # of the last one: compiling
        for _ in range(given.rounds):
            for name, way in ways.items():
                seconds[name].append(1000 * seconds_of(way, given.device) / given.batch)
    unit = "CPU ms/window" if given.device == "cpu" else "ms/window"
    told = {"torch": torch.__version__, "device": given.device, "precision": given.precision,
            "freezing": given.freezing, "layers": given.layers, "compiling s": round(warming_s, 1)}
    print(json.dumps(told | {name: {unit: round(statistics.median(row), 1), "least": round(min(row), 1)}
                             for name, row in seconds.items()}, indent=2))


if __name__ == "__main__":
    main()
