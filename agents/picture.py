"""Pictures as a language model gets them: scaled down to a bound, and sent inside the request, never by an address."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from parsers.errors import Code, InputError
from parsers.files import sha256_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SMALL_SIDE = 256
"""Pictures up to this many pixels of the longer side are sent as PNG, without loss; larger ones as JPEG, since a PNG of
a photo takes ten times as long to write and to send."""
JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An upright RGB picture. Decoding files is not the business of this room: `image_HW3` comes from above."""

    image_HW3: NDArray[np.uint8]

    def __post_init__(self) -> None:
        shape = self.image_HW3.shape
        if len(shape) != 3 or shape[2] != 3 or 0 in shape or self.image_HW3.dtype.name != "uint8":
            raise InputError(Code.IMAGE_MODE, f"A picture of the shape {shape} and type {self.image_HW3.dtype}.",
                             "Height x width x 3 values of uint8, in RGB.", "Read it with vision.read_image.")

    def encoded(self, side: int) -> tuple[str, bytes]:
        """Media type and bytes, the longer side at most `side` pixels. Equal pictures give equal bytes."""
        image = Image.fromarray(self.image_HW3)
        if max(image.size) > side:
            scale = side / max(image.size)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3)
        buffer = io.BytesIO()
        if max(image.size) <= SMALL_SIDE:
            image.save(buffer, "PNG", compress_level=1)
            return "image/png", buffer.getvalue()
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        return "image/jpeg", buffer.getvalue()


def data_uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def picture_digest(data: bytes) -> str:
    """Hexadecimal sha256 of the bytes that are sent."""
    return sha256_bytes(data)
