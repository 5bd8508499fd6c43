"""The picture of the README: `python -m benchmarks.picture demo-out docs/images/demo.png`."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

CHOSEN = (1, 2, 3, 4, 5, 6)
SCALE = 2


def main() -> None:
    """Scenes of a finished `lexiseg demo` in the upper row, their overlays by fine names below."""
    demo, out = Path(sys.argv[1]), Path(sys.argv[2])
    columns = []
    for number in CHOSEN:
        scene = Image.open(demo / "scenes" / "images" / f"scene-{number:02}.png").convert("RGB")
        overlay = Image.open(demo / "names" / "overlays" / f"scene-{number:02}.png.jpg")
        scene = scene.resize((SCALE * scene.width, SCALE * scene.height), Image.Resampling.LANCZOS)
        overlay = overlay.resize((scene.width, overlay.height * scene.width // overlay.width), Image.Resampling.LANCZOS)
        columns.append((scene, overlay))
    gap, width = 8, columns[0][0].width
    height = max(scene.height + gap + overlay.height for scene, overlay in columns)
    sheet = Image.new("RGB", (len(columns) * (width + gap) - gap, height), "white")
    for place, (scene, overlay) in enumerate(columns):
        sheet.paste(scene, (place * (width + gap), 0))
        sheet.paste(overlay, (place * (width + gap), scene.height + gap))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, optimize=True)


if __name__ == "__main__":
    main()
