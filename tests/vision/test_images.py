"""One test for each way in which a picture can surprise."""

from __future__ import annotations

import concurrent.futures
import io
import os
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from parsers.errors import Code, InputError
from vision.images import IMAGE_SUFFIXES, decode_draft, decode_image, read_image

REPOSITORY = Path(__file__).resolve().parents[2]
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def picture(width=32, height=20) -> Image.Image:
    """Left half red, upper right green, lower right blue: every turn and mirror of it looks different."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (width // 2, height // 2, width, height))
    return image


def encode(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def code_of(data: bytes, **options) -> Code:
    with pytest.raises(InputError) as caught:
        decode_image(data, name="picture", **options)
    assert "picture" in str(caught.value)
    return caught.value.code


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF"])
def test_lossless_formats_keep_every_pixel(tmp_path, format):
    path = tmp_path / "a"
    path.write_bytes(encode(picture(), format))
    image_HW3 = read_image(path)
    assert image_HW3.dtype == np.uint8
    assert np.array_equal(image_HW3, np.asarray(picture()))
    assert image_HW3.flags.writeable and image_HW3.flags.c_contiguous


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_lossy_formats_come_close(format):
    image_HW3 = decode_image(encode(picture(64, 64), format, quality=95), name="a")
    assert np.abs(image_HW3.astype(int) - np.asarray(picture(64, 64))).mean() < 4
    assert image_HW3.flags.writeable and image_HW3.flags.c_contiguous


def test_content_decides_not_the_name(tmp_path):
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(encode(picture(), "PNG"))
    assert np.array_equal(read_image(path), np.asarray(picture()))


def test_missing_empty_and_folder(tmp_path):
    (tmp_path / "empty.jpg").touch()
    for path, code in ((tmp_path / "none.jpg", Code.FILE_MISSING), (tmp_path / "empty.jpg", Code.FILE_EMPTY),
                       (tmp_path, Code.NOT_AN_IMAGE), (tmp_path / ("x" * 400), Code.FILE_MISSING),
                       ("nul\0byte.jpg", Code.FILE_UNREADABLE)):
        with pytest.raises(InputError) as caught:
            read_image(path)
        assert caught.value.code == code


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(InputError) as caught:
        read_image(tmp_path / "pipe.jpg")
    assert caught.value.code == Code.NOT_AN_IMAGE


def test_unreadable_file():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, "secret.png")
        path.write_bytes(encode(picture(), "PNG"))
        path.chmod(0)
        root = os.geteuid() == 0  # root may read everything, so play somebody else
        os.seteuid(65534 if root else os.geteuid())
        try:
            with pytest.raises(InputError) as caught:
                read_image(path)
        finally:
            os.seteuid(0 if root else os.geteuid())
    assert caught.value.code == Code.FILE_UNREADABLE


@pytest.mark.parametrize("data", [b"hello, I am a text", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\0" * 100,
                                  b"%PDF-1.7 ...", b"\xff", b"P"])
def test_what_is_not_an_image(data):
    assert code_of(data) == Code.NOT_AN_IMAGE


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("keep", [0.05, 0.5, 0.9])
def test_truncated_at_any_place(format, keep):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    data = encode(noise, format)
    assert code_of(data[: max(16, int(len(data) * keep))]) == Code.IMAGE_TRUNCATED


def test_truncation_is_seen_even_if_a_library_asked_pillow_to_hide_it(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert code_of(encode(picture(200, 200), "JPEG")[:-400]) == Code.IMAGE_TRUNCATED


def test_damaged_checksum():
    data = bytearray(encode(picture(), "PNG"))
    data[30] ^= 0xFF
    assert code_of(bytes(data)) == Code.IMAGE_TRUNCATED


def test_decompression_bomb_is_refused_from_the_header():
    bomb = png_header(60_000, 60_000) + png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + png_chunk(b"IEND", b"")
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert code_of(bomb) == Code.IMAGE_TOO_LARGE
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_the_limit_is_the_argument_and_not_pillows_global(monkeypatch, format):
    data = encode(picture(40, 25), format)
    for of_pillow in (Image.MAX_IMAGE_PIXELS, 10, 600, None):  # an error for Pillow, a warning, no limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", of_pillow)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert decode_image(data, name="a", max_pixels=1000).shape == (25, 40, 3)
            assert code_of(data, max_pixels=999) == Code.IMAGE_TOO_LARGE
            assert code_of(data, max_pixels=400) == Code.IMAGE_TOO_LARGE
        assert of_pillow == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("side", [300, 60_000])
def test_a_frame_that_is_larger_than_its_header_says_is_too_large(side):
    frame = b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x4c\x01\0;"
    gif = b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0x80, 0, 0) + bytes(6) + frame
    assert code_of(gif, max_pixels=80_000) == Code.IMAGE_TOO_LARGE


BOMBS = {
    "PNG": png_header(60_000, 60_000) + png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + png_chunk(b"IEND", b""),
    "PNG, text": png_header(10, 10) + png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000))),
    "PNG, profile": png_header(10, 10) + png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100_000_000))),
    "GIF": b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0x80, 0, 0) + bytes(6) + b"," + struct.pack(
        "<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\x02\x02\x4c\x01\0;",
    "BMP": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 1000, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "TIFF": b"II*\0" + struct.pack("<IH", 8, 6) + b"".join(struct.pack("<HHII", *entry) for entry in (
        (256, 4, 1, 60_000), (257, 4, 1, 60_000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8))) + bytes(4),
}
MEASURE = """
import io, resource, sys
import numpy as np
from PIL import Image
from parsers.errors import InputError
from vision.images import MEMORY_PER_PIXEL, decode_image
SLACK = 48 << 20

def taken():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024

def limited(more):
    resource.setrlimit(resource.RLIMIT_AS, (taken() + more, resource.RLIM_INFINITY))

def free():
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

def encode(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()

def code(data):
    try:
        decode_image(data, name="a")
    except InputError as error:
        return str(error.code)
    return "whole"
"""


def measured(code: str, *arguments: object) -> list[str]:
    """What a program prints that decodes with a limit on its memory."""
    done = subprocess.run([sys.executable, "-c", MEASURE + code, *map(str, arguments)], text=True, cwd=REPOSITORY,
                          capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited as Linux does it")
def test_decoding_takes_no_more_memory_than_is_promised():
    said = measured("""
side = 2000
clear = Image.new("RGBA", (side, side))
palette = Image.new("P", (side, side))
palette.putpalette([0, 0, 0, 9, 9, 9])
turned = Image.Exif()
turned[0x0112] = 5
kinds = {"PNG RGBA": (clear, "PNG", {"exif": turned}), "TIFF RGBA": (clear, "TIFF", {"exif": turned}),
         "PNG LA": (clear.convert("LA"), "PNG", {"exif": turned}), "TIFF CMYK": (clear.convert("CMYK"), "TIFF", {}),
         "JPEG CMYK": (clear.convert("CMYK"), "JPEG", {"exif": turned}),
         "JPEG": (clear.convert("RGB"), "JPEG", {"exif": turned}),
         "PNG 16": (Image.fromarray(np.zeros((side, side), np.uint16)), "PNG", {"exif": turned}),
         "PNG P": (palette, "PNG", {"transparency": 0, "exif": turned}),
         "WebP": (clear, "WEBP", {"exif": turned, "method": 0, "quality": 1}),
         "GIF": (palette, "GIF", {"transparency": 0}), "BMP": (clear.convert("RGB"), "BMP", {})}
for name, (image, format, options) in kinds.items():
    data = encode(image, format, **options)
    limited(MEMORY_PER_PIXEL * side * side + SLACK // 4)
    print(name, code(data))
    free()
""")
    assert len(said) == 11 and all(line.endswith(" whole") for line in said), said


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited as Linux does it")
def test_a_bomb_of_any_format_is_refused_within_the_memory_of_a_small_picture(tmp_path):
    for name, data in BOMBS.items():
        (tmp_path / name).write_bytes(data)
    said = measured("""
import pathlib
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    data = path.read_bytes()
    limited(SLACK)
    print(path.name, code(data))
    free()
""", tmp_path)
    assert len(said) == len(BOMBS)
    for line in said:
        assert line.endswith(" image-truncated" if "," in line else " image-too-large"), said


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited as Linux does it")
def test_memory_that_runs_out_is_an_error_of_that_picture_alone():
    assert measured("""
large, small = (encode(Image.new("RGB", (side, side)), "PNG") for side in (8000, 100))
limited(SLACK)
print(code(large))
print(code(small))
""") == ["out-of-memory", "whole"]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animated_and_multi_page_files_are_refused(format):
    data = encode(picture(), format, save_all=True, append_images=[picture().rotate(180)])
    assert code_of(data) == Code.IMAGE_ANIMATED


def test_a_phones_multi_picture_jpeg_gives_its_main_picture():
    data = encode(picture(64, 64), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 64), BLUE)], quality=95)
    image_HW3 = decode_image(data, name="a")
    assert image_HW3[32, 8, 0] > 240 and image_HW3[32, 8, 2] < 15


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(format):
    values_HW = np.linspace(0, 65535, 64 * 4).astype(np.uint16).reshape(4, 64)
    image_HW3 = decode_image(encode(Image.fromarray(values_HW), format), name="a")
    assert image_HW3.shape == (4, 64, 3)
    assert image_HW3.min() == 0 and image_HW3.max() == 255
    assert np.abs(image_HW3[:, :, 0].astype(float) - values_HW / 257).max() <= 0.5


def test_16_bit_big_endian_tiff():
    values = struct.pack(">2H", 0, 65535)
    entries = [(256, 4, 1, 2), (257, 4, 1, 1), (258, 3, 1, 16 << 16), (259, 3, 1, 1 << 16), (262, 3, 1, 1 << 16),
               (273, 4, 1, 8), (277, 3, 1, 1 << 16), (278, 4, 1, 1), (279, 4, 1, 4)]
    directory = struct.pack(">H", len(entries)) + b"".join(struct.pack(">HHII", *entry) for entry in entries)
    data = b"MM\0*" + struct.pack(">I", 12) + values + directory + b"\0\0\0\0"
    assert decode_image(data, name="a").tolist() == [[[0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("values_HW", [np.zeros((3, 3), np.int32), np.zeros((3, 3), np.float32)])
def test_values_without_a_known_range_are_refused(values_HW):
    assert code_of(encode(Image.fromarray(values_HW), "TIFF")) == Code.IMAGE_MODE


def test_cmyk():
    image_HW3 = decode_image(encode(picture(64, 64).convert("CMYK"), "JPEG", quality=95), name="a")
    assert np.abs(image_HW3.astype(int) - np.asarray(picture(64, 64))).mean() < 6


def test_bilevel_and_grey():
    image = Image.new("1", (4, 2), 1)
    image.putpixel((0, 0), 0)
    assert decode_image(encode(image, "PNG"), name="a")[0].tolist() == [[0] * 3] + [[255] * 3] * 3
    assert decode_image(encode(Image.new("L", (4, 2), 77), "PNG"), name="a").tolist() == [[[77] * 3] * 4] * 2


@pytest.mark.parametrize("form", ["RGBA", "LA", "palette index", "palette bytes", "RGB key", "grey key", "WEBP"])
def test_transparency_is_laid_on_white(form):
    black = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    black.paste((0, 0, 0, 255), (2, 0, 4, 4))
    if form == "RGBA":
        data = encode(black, "PNG")
    elif form == "LA":
        data = encode(black.convert("LA"), "PNG")
    elif form == "WEBP":
        data = encode(black, "WEBP", lossless=True, exact=True)
    elif form in ("palette index", "palette bytes"):
        palette = Image.new("P", (4, 4), 1)
        palette.putpalette([0, 0, 0, 0, 0, 0, 9, 9, 9])
        palette.paste(2, (0, 0, 1, 4))
        palette.paste(0, (2, 0, 4, 4))
        data = encode(palette, "PNG", transparency=b"\xff\x00\x00" if form == "palette bytes" else 1)
    elif form == "RGB key":
        image = Image.new("RGB", (4, 4), (1, 2, 3))
        image.paste((0, 0, 0), (2, 0, 4, 4))
        data = encode(image, "PNG", transparency=(1, 2, 3))
    else:
        image = Image.new("L", (4, 4), 9)
        image.paste(0, (2, 0, 4, 4))
        data = encode(image, "PNG", transparency=9)
    image_HW3 = decode_image(data, name="a")
    assert tuple(image_HW3[1, 1]) == WHITE
    assert tuple(image_HW3[1, 3]) == (0, 0, 0)


def test_half_transparent_is_mixed():
    data = encode(Image.new("RGBA", (2, 2), (0, 0, 0, 128)), "PNG")
    assert abs(int(decode_image(data, name="a")[0, 0, 0]) - 127) <= 1


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(format, orientation):
    upright = picture(64, 48)
    undo = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270}
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif} | ({"quality": 95} if format in ("JPEG", "WEBP") else {})
    image_HW3 = decode_image(encode(stored, format, **options), name="a")
    assert image_HW3.shape == (48, 64, 3)
    assert np.abs(image_HW3.astype(int) - np.asarray(upright)).mean() < 5
    assert image_HW3.flags.writeable and image_HW3.flags.c_contiguous


def test_broken_exif_is_ignored_without_a_warning():
    data = encode(picture(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\x00\x03")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(data, name="a").shape == (20, 32, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (20_000, 50)])
def test_odd_sizes(size):
    assert decode_image(encode(Image.new("RGB", size, GREEN), "PNG"), name="a").shape == (size[1], size[0], 3)


def test_large_jpeg():
    data = encode(Image.new("RGB", (6000, 4000), BLUE), "JPEG")
    assert decode_image(data, name="a").shape == (4000, 6000, 3)


def test_threads_do_not_disturb_each_other_or_the_warning_filters():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\x00\x03"
    data = [encode(picture(40 + i, 30), "JPEG", exif=exif) for i in range(8)] * 8
    before = list(warnings.filters)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        shapes = list(pool.map(lambda item: decode_image(item, name="a").shape, data))
    assert shapes == [(30, 40 + i, 3) for i in range(8)] * 8
    assert warnings.filters == before


def test_the_callers_data_is_not_kept(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode(picture(), "PNG"))
    first = read_image(path)
    first[:] = 0
    assert read_image(path).max() == 255


def test_suffixes_are_lower_case_with_a_dot():
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)


@pytest.mark.parametrize(("shortest", "expected"), [(400, (48, 64)), (48, (48, 64)), (25, (48, 64)), (24, (24, 32)),
                                                    (12, (12, 16)), (6, (6, 8)), (1, (6, 8))])
def test_a_draft_keeps_its_shorter_side(shortest, expected):
    data = encode(picture(64, 48), "JPEG", quality=95)
    image_HW3, size = decode_draft(data, name="a", shortest=shortest)
    assert (image_HW3.shape, size) == ((*expected, 3), (48, 64))
    assert image_HW3.flags.writeable and image_HW3.flags.c_contiguous
    if expected == (48, 64):
        assert np.array_equal(image_HW3, decode_image(data, name="a"))


def test_a_draft_shows_the_same_picture():
    random = np.random.default_rng(0)
    soft = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8)).resize((800, 600), Image.Resampling.BICUBIC)
    data = encode(soft, "JPEG", quality=95)
    draft_HW3, size = decode_draft(data, name="a", shortest=100)
    assert (draft_HW3.shape, size) == ((150, 200, 3), (600, 800))
    whole_HW3 = np.asarray(Image.fromarray(decode_image(data, name="a")).resize((200, 150), Image.Resampling.BOX))
    assert np.abs(draft_HW3.astype(int) - whole_HW3).mean() < 2


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_that_a_draft_tells_is_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image_HW3, size = decode_draft(encode(picture(640, 480), "JPEG", exif=exif), name="a", shortest=60)
    assert size == ((640, 480) if orientation in (6, 8) else (480, 640))
    assert image_HW3.shape == (size[0] // 8, size[1] // 8, 3)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_only_jpeg_has_drafts(format):
    data = encode(picture(640, 480), format)
    image_HW3, size = decode_draft(data, name="a", shortest=10)
    assert image_HW3.shape == (480, 640, 3)
    assert size == (480, 640)


@pytest.mark.parametrize("image", [picture(640, 480).convert("L"), picture(640, 480).convert("CMYK")])
def test_grey_and_cmyk_have_drafts(image):
    assert decode_draft(encode(image, "JPEG"), name="a", shortest=60)[0].shape == (60, 80, 3)


def test_damage_and_size_are_found_in_a_draft_too():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8))
    data = encode(noise, "JPEG")
    for broken, options, code in ((data[:-9000], {}, Code.IMAGE_TRUNCATED),
                                  (data, {"max_pixels": 1000}, Code.IMAGE_TOO_LARGE)):
        with pytest.raises(InputError) as caught:
            decode_draft(broken, name="a", shortest=60, **options)
        assert caught.value.code == code
