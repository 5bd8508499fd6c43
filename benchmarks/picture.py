"""The picture of the README: `python -m benchmarks.picture demo-out docs/images/demo.png`."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

CHOSEN = (1, 2, 3, 4, 5, 6)
JOBS = ("names", "llmformer")
SCALE, GAP = 2, 8


def main() -> None:
    """Scenes of a finished `lexiseg demo` in the first row, their overlays by fine names below, a row for each job."""
    demo, out = Path(sys.argv[1]), Path(sys.argv[2])
    rows = [[Image.open(demo / "scenes" / "images" / f"scene-{number:02}.png").convert("RGB") for number in CHOSEN]]
    rows += [[Image.open(demo / job / "overlays" / f"scene-{number:02}.png.jpg") for number in CHOSEN] for job in JOBS]
    width = SCALE * rows[0][0].width
    rows = [[image.resize((width, image.height * width // image.width), Image.Resampling.LANCZOS) for image in row]
            for row in rows]
    heights = [max(image.height for image in row) for row in rows]
    sheet = Image.new("RGB", (len(CHOSEN) * (width + GAP) - GAP, sum(heights) + GAP * (len(rows) - 1)), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for place, image in enumerate(row):
            sheet.paste(image, (place * (width + GAP), top))
        top += height + GAP
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(256).save(out, optimize=True)


if __name__ == "__main__":
    main()
