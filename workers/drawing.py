"""Pictures of results: indexed masks, overlays with a legend, confidence maps.

Shapes: H, W height and width in pixels.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vision.types import LabelMap

if TYPE_CHECKING:
    from numpy.typing import NDArray

Colour = tuple[int, int, int]
BACKGROUND: Colour = (0, 0, 0)
IGNORE_COLOUR: Colour = (224, 224, 192)
MAX_OVERLAY_SIDE = 2048
"""Pixels of the longer side of an overlay; larger pictures are made smaller."""
MIN_OVERLAY_SIDE = 256
"""Pixels of the longer side of an overlay; smaller pictures are enlarged by a whole factor."""
_LEGEND_ROW = 22


def ignore_id(class_ids: Sequence[int]) -> int:
    """255 where 8 bits hold every class id of the job, else 65535."""
    return 255 if max(class_ids, default=0) <= 254 else 65535


def palette(colours: Mapping[int, Colour]) -> bytes:
    """The 256 colours of an 8-bit mask: black for 0, each class its own, light yellow for 255 (ignore)."""
    table = np.zeros((256, 3), np.uint8)
    for class_id, colour in colours.items():
        if class_id < 255:
            table[class_id] = colour
    table[255] = IGNORE_COLOUR
    return table.tobytes()


def encode_mask(labels_HW: NDArray[np.uint16], colours: Mapping[int, Colour]) -> bytes:
    """PNG whose pixel values are class ids: 8-bit indexed with the classes' colours where all ids of `colours` are at
    most 254, else 16-bit grey. Which of the two depends on the vocabulary alone, so it is one kind for a whole job."""
    if ignore_id(list(colours)) == 255:
        image = Image.fromarray(labels_HW.astype(np.uint8))
        image.putpalette(palette(colours))
    else:
        image = Image.fromarray(labels_HW.astype(np.uint16))
    return _png(image)


def encode_confidence(confidence_HW: NDArray[np.float16]) -> bytes:
    """8-bit grey PNG: probability of the winning class times 255, rounded."""
    return _png(Image.fromarray(np.rint(np.clip(confidence_HW.astype(np.float32), 0, 1) * 255).astype(np.uint8)))


def blend(image_HW3: NDArray[np.uint8], labels_HW: NDArray[np.uint16], colours: Mapping[int, Colour]
          ) -> NDArray[np.uint8]:
    """The picture with each class painted half transparent and outlined; where nothing was found it stays as it is."""
    table = np.zeros((int(labels_HW.max()) + 1, 3), np.uint16)
    for class_id in np.flatnonzero(np.bincount(labels_HW.ravel())):
        table[class_id] = colours.get(int(class_id), BACKGROUND)
    paint_HW3 = table[labels_HW]
    found_HW = labels_HW > 0
    mixed_HW3 = image_HW3.copy()
    mixed_HW3[found_HW] = ((image_HW3.astype(np.uint16) * 9 + paint_HW3 * 11) // 20)[found_HW]
    edge_HW = np.zeros(labels_HW.shape, bool)
    edge_HW[:, 1:] |= labels_HW[:, 1:] != labels_HW[:, :-1]
    edge_HW[1:] |= labels_HW[1:] != labels_HW[:-1]
    mixed_HW3[edge_HW] = 255
    return mixed_HW3


def draw_overlay(image_HW3: NDArray[np.uint8], label_map: LabelMap, colours: Mapping[int, Colour],
                 names: Mapping[int, str]) -> Image.Image:
    """The painted picture with a legend below: colour, name and share of the picture for each class found, most
    frequent first."""
    picture_HW3, labels_HW = _fit(image_HW3, label_map.labels_HW)
    picture = Image.fromarray(blend(picture_HW3, labels_HW, colours))
    counts = np.bincount(label_map.labels_HW.ravel())
    found = sorted((int(class_id) for class_id in np.flatnonzero(counts) if class_id), key=lambda i: (-counts[i], i))
    entries: list[tuple[Colour | None, str]] = []
    for class_id in found:
        text = f"{names.get(class_id, str(class_id))}  {_percent(counts[class_id] / counts.sum())}"
        entries.append((colours.get(class_id, BACKGROUND), text))
    return _with_legend(picture, entries or [(None, "nothing found")])


def encode_overlay(overlay: Image.Image) -> bytes:
    """JPEG, quality 90, full colour resolution."""
    buffer = io.BytesIO()
    overlay.save(buffer, "JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def _fit(image_HW3: NDArray[np.uint8], labels_HW: NDArray[np.uint16]) -> tuple[NDArray, NDArray]:
    height, width = labels_HW.shape
    longer = max(height, width)
    if longer > MAX_OVERLAY_SIDE:
        size = (max(1, width * MAX_OVERLAY_SIDE // longer), max(1, height * MAX_OVERLAY_SIDE // longer))
        image = np.array(Image.fromarray(image_HW3).resize(size, Image.Resampling.BOX))
        return image, np.array(Image.fromarray(labels_HW).resize(size, Image.Resampling.NEAREST))
    factor = -(-MIN_OVERLAY_SIDE // longer)
    if factor > 1:
        return image_HW3.repeat(factor, 0).repeat(factor, 1), labels_HW.repeat(factor, 0).repeat(factor, 1)
    return image_HW3, labels_HW


def _with_legend(picture: Image.Image, entries: Sequence[tuple[Colour | None, str]]) -> Image.Image:
    font = _font()
    cells = [min(int(font.getlength(_shown(text))), 400) + 40 for _, text in entries]
    width = max(picture.width, 256, max(cells))
    rows: list[list[int]] = [[]]
    for index, cell in enumerate(cells):
        if rows[-1] and sum(cells[i] for i in rows[-1]) + cell > width:
            rows.append([])
        rows[-1].append(index)
    sheet = Image.new("RGB", (width, picture.height + len(rows) * _LEGEND_ROW + 8), "white")
    sheet.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(sheet)
    for row, indices in enumerate(rows):
        x, y = 8, picture.height + 6 + row * _LEGEND_ROW
        for index in indices:
            colour, text = entries[index]
            if colour is not None:
                draw.rectangle((x, y, x + 14, y + 14), fill=colour, outline=(90, 90, 90))
            draw.text((x + 20, y - 2), _shown(text), fill=(30, 30, 30), font=font)
            x += cells[index]
    return sheet


@functools.cache
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(14)


def _shown(text: str) -> str:
    """One line of at most 48 characters."""
    text = " ".join(text.split())
    return text if len(text) <= 48 else text[:36] + "…" + text[-11:]


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "<1%"


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
