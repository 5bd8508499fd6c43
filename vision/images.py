"""Reading pictures that people and cameras leave behind, whatever is wrong with them.

Shapes: H, W height and width in pixels as a person sees the picture.
"""

from __future__ import annotations

import errno
import io
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from parsers.errors import Code, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib",
                            ".tif", ".tiff", ".gif"})
"""Lower-case suffixes by which a picture is recognised in a folder. A file named on its own is read by content."""

MAX_PIXELS = 200_000_000
MAX_BYTES = 2 << 30
MEMORY_PER_PIXEL = 24
"""Bytes that decoding takes at its peak for each pixel: Pillow's pictures have 4, and of a transparent or turned one
there are up to five at once, the result included. A limit of the process (RLIMIT_AS) would not do: pictures are decoded
in threads beside the model."""

_FORMATS = "JPEG, PNG, WebP, BMP, TIFF or still GIF"
_OPENERS = (
    (lambda start: start.startswith(b"\xff\xd8\xff"), "JPEG", JpegImagePlugin.jpeg_factory),
    (lambda start: start.startswith(b"\x89PNG\r\n\x1a\n"), "PNG", PngImagePlugin.PngImageFile),
    (lambda start: start[:4] == b"RIFF" and start[8:12] == b"WEBP", "WebP", WebPImagePlugin.WebPImageFile),
    (lambda start: start.startswith(b"BM"), "BMP", BmpImagePlugin.BmpImageFile),
    (lambda start: start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF", TiffImagePlugin.TiffImageFile),
    (lambda start: start[:6] in (b"GIF87a", b"GIF89a"), "GIF", GifImagePlugin.GifImageFile),
)
_TRANSPOSE = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
              5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
              8: Image.Transpose.ROTATE_90}
_ON_ITS_SIDE = (5, 6, 7, 8)
_ORIENTATION = 0x0112
_header_lock = threading.Lock()


def read_image(path: Path | str, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The picture at `path` as image_HW3: uint8, RGB, upright, C-contiguous and writable. See `decode_image`.

    Raises InputError: `file-missing`, `file-empty`, `file-unreadable`, and those of `decode_image`.
    """
    return decode_image(read_bytes(Path(path)), name=str(path), max_pixels=max_pixels)


def read_bytes(path: Path, *, name: str | None = None) -> bytes:
    """The bytes of an image file; `name` is what messages call it (default: the path).

    Raises InputError: `file-missing`, `file-empty`, `file-unreadable`, `image-too-large` (over 2 GiB).
    """
    name = str(path) if name is None else name
    try:
        if path.is_dir():
            raise InputError(Code.NOT_AN_IMAGE, f"{name} is a folder.", "", "Name a picture in it.")
        if path.exists() and not path.is_file():
            raise InputError(Code.NOT_AN_IMAGE, f"{name} is a device, pipe or socket.", "", "Copy it to a file first.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(Code.IMAGE_TOO_LARGE, f"{name} has {size:,} bytes.", f"At most {MAX_BYTES:,} are read.",
                             "Cut it into tiles.")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(Code.FILE_MISSING, f"{name} does not exist.", "", "Check the path.") from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise InputError(Code.FILE_MISSING, f"{name[:80]}... is too long for a file name.") from error
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(Code.FILE_UNREADABLE, f"{name} cannot be read: {reason}.", "",
                         "Check its permissions and the disk.") from error
    if not data:
        raise InputError(Code.FILE_EMPTY, f"{name} is empty (0 bytes).", "", "Copy it again from its source.")
    return data


def is_picture(start: bytes) -> bool:
    """Whether a file that begins so (16 bytes) is of a kind that is read here."""
    return any(begins(start) for begins, _, _ in _OPENERS)


def decode_image(data: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """image_HW3 from the bytes of a JPEG, PNG, WebP, BMP, TIFF or still GIF, recognised by content.

    * EXIF orientation is applied; the size of the result is the size a person sees.
    * Transparency (alpha, transparent palette entries or colours) is laid on white.
    * 16-bit grey is scaled from 0..65535 to 0..255; 16 bits per colour keep the upper 8.
    * CMYK and YCbCr become RGB by Pillow's plain formulas; ICC profiles are not applied.
    * Of a phone's multi-picture JPEG (MPO) the main picture is taken.

    `max_pixels` is checked against the header, before any pixel is decoded; at most MEMORY_PER_PIXEL bytes are taken
    for each pixel, beside the data and the decoder's own buffers. Neither `Image.MAX_IMAGE_PIXELS` nor
    `ImageFile.LOAD_TRUNCATED_IMAGES` changes the result, and no Python warning is issued. Safe in threads.

    Raises InputError: `not-an-image`, `image-truncated` (cut short or damaged), `image-too-large`, `image-animated`
    (several frames or pages), `image-mode` (32-bit or floating point values, Lab), `out-of-memory`.
    """
    return _decode(data, name, max_pixels, None)[0]


def decode_draft(data: bytes, *, name: str, shortest: int,
                 max_pixels: int = MAX_PIXELS) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """As `decode_image`, but a JPEG may come at 1/2, 1/4 or 1/8 of its size, as long as its shorter side keeps
    `shortest` pixels: the decoder then leaves out what would be thrown away (libjpeg's scaled inverse transform). Also
    the height and width of the whole picture as a person sees it. The same bytes and `shortest` give the same pixels.
    """
    return _decode(data, name, max_pixels, shortest)


def _decode(data: bytes, name: str, max_pixels: int,
            shortest: int | None) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    opener = next((entry for entry in _OPENERS if entry[0](data[:16])), None)
    if opener is None:
        raise InputError(Code.NOT_AN_IMAGE, f"{name} is not a picture that can be read here.", f"Read are {_FORMATS}.",
                         "Convert it, or leave it out.")
    try:
        image = _open(opener[2], data, name, max_pixels)
        width, height = image.size
        if shortest is not None and opener[1] == "JPEG" and min(width, height) > shortest:
            share = shortest / min(width, height)
            image.draft(None, (math.ceil(width * share), math.ceil(height * share)))
        image.load()
        orientation = _orientation(image)
        image_HW3 = _to_rgb(image, name)
    except MemoryError as error:
        raise InputError(Code.OUT_OF_MEMORY, f"{name} does not fit into memory.", "",
                         "Cut it into tiles or make it smaller.") from error
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, str(error).split(" exceeds")[0].lower(), max_pixels) from error
    except Exception as error:  # a damaged file may raise almost anything from a decoder
        raise InputError(Code.IMAGE_TRUNCATED, f"{name} is cut short or damaged ({opener[1]}: {error}).", "",
                         "Copy it again from its source.") from error
    if orientation in _TRANSPOSE:
        image_HW3 = np.array(Image.fromarray(image_HW3).transpose(_TRANSPOSE[orientation]))
    return image_HW3, (width, height) if orientation in _ON_ITS_SIDE else (height, width)


def _open(factory: Callable[..., ImageFile.ImageFile], data: bytes, name: str,
          max_pixels: int) -> ImageFile.ImageFile:
    """The picture with its header read, of a size that is allowed, and still. Raises InputError and whatever a damaged
    file raises.

    `Image.open` is not used: its size check depends on a process-wide number.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    with _header_lock, _strict_about_size(max_pixels):
        image = factory(io.BytesIO(data), "")
        width, height = image.size
        if width * height > max_pixels:
            raise _too_large(name, f"{width} x {height} = {width * height:,} pixels", max_pixels)
        if image.format != "MPO" and getattr(image, "is_animated", False):
            raise InputError(Code.IMAGE_ANIMATED, f"{name} holds several frames or pages.", "One still picture a file.",
                             "Save each frame as a picture of its own.")
        if image.format == "TIFF":
            image.load_prepare()  # it looks at the process-wide number, and not again while it loads
        return image


@contextmanager
def _strict_about_size(max_pixels: int) -> Iterator[None]:
    """Pillow's own looks at sizes, some of them of what the header does not tell, go by `max_pixels`, and their
    warning is an error. Its other warnings are of metadata, which say nothing about pixels, and are left out.

    Number and filters are process-wide, so one thread at a time changes and restores them.
    """
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _too_large(name: str, size: str, max_pixels: int) -> InputError:
    return InputError(Code.IMAGE_TOO_LARGE, f"{name} has {size}.", f"At most {max_pixels:,} are decoded.",
                      "Cut it into tiles or make it smaller.")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8 of a loaded picture; 1 when there is none or it cannot be read.

    Pillow turns a TIFF while loading and then takes the tag away, hence only after `load`.
    """
    with _header_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return int(image.getexif().get(_ORIENTATION, 1))
        except Exception:  # broken EXIF data says nothing about the pixels
            return 1


def _to_rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.array(image)
    if image.mode.startswith("I;16"):
        values_HW = np.asarray(image).astype(np.uint32)
        grey_HW = ((values_HW + 128) // 257).astype(np.uint8)
        return np.repeat(grey_HW[:, :, None], 3, axis=2)
    if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"):
        raise InputError(Code.IMAGE_MODE, f"{name} stores its values as {image.mode!r}.",
                         "8 or 16 bits per value, as grey, RGB, palette, CMYK or YCbCr.",
                         "Convert it to 8-bit RGB; only you know which range of values matters.")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))
