"""Every oddity of image files comes out as upright RGB pixels or as a named InputError, at the smallest scale that serves."""

from __future__ import annotations

import io
import math
import resource
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unif2ace_data.errors import InputError
from unif2ace_data.faces.decode import JPEG_SCALES, MAX_PIXELS, decode, jpeg_scale, open_header

ORIENTATION = 0x0112
RED, GREEN, BLUE, WHITE = (200, 30, 40), (20, 160, 60), (30, 50, 190), (255, 255, 255)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def plain(mode: str, colour: object, size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.new(mode, size, colour)  # type: ignore[arg-type]


def colour_of(data: bytes, needed: float = 1.0) -> np.ndarray:
    """The colour of a one-colour picture."""
    rgb = decode(data, needed).rgb
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3
    assert rgb.astype(int).std((0, 1)).max() < 1
    return np.asarray(rgb.mean((0, 1)))


def corners_marked() -> np.ndarray:
    """(40, 64, 3): red top left, green top right, blue bottom left, white bottom right."""
    picture = np.empty((40, 64, 3), np.uint8)
    picture[:20, :32], picture[:20, 32:], picture[20:, :32], picture[20:, 32:] = RED, GREEN, BLUE, WHITE
    return picture


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def code_of(data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        decode(data)
    assert caught.value.message
    return caught.value.code


# ------------------------------------------------------------------ modes


@pytest.mark.parametrize("needed", [1.0, 0.25])
@pytest.mark.parametrize("marked", [True, False])
def test_cmyk_jpegs_are_stored_inverted_as_adobe_began_it(marked: bool, needed: float) -> None:
    """Also without Adobe's mark: so do browsers read them."""
    data = encoded(plain("CMYK", (0, 255, 255, 0), (64, 64)), "JPEG", quality=100)
    mark = data.index(b"\xff\xee\x00\x0eAdobe")
    if not marked:
        data = data[:mark] + data[mark + 16 :]
    assert np.allclose(colour_of(data, needed), (255, 0, 0), atol=3)
    assert decode(data).mode == "CMYK"


def test_cmyk_tiffs_are_not() -> None:
    assert np.allclose(colour_of(encoded(plain("CMYK", (0, 255, 255, 0)), "TIFF")), (255, 0, 0))
    assert np.allclose(colour_of(encoded(plain("CMYK", (0, 0, 0, 55)), "TIFF")), 200, atol=1)


def test_sixteen_bits_become_the_upper_eight() -> None:
    grey = encoded(Image.fromarray(np.full((8, 8), 40_000, np.uint16)), "PNG")
    assert decode(grey).mode.startswith("I;16")
    assert np.allclose(colour_of(grey), 40_000 >> 8)
    _, colour = cv2.imencode(".png", np.full((8, 8, 3), (10_000, 40_000, 60_000), np.uint16))
    assert np.allclose(colour_of(colour.tobytes()), (60_000 >> 8, 40_000 >> 8, 10_000 >> 8), atol=1)
    dark = encoded(Image.fromarray(np.full((8, 8), 200, np.uint16)), "PNG")
    assert np.allclose(colour_of(dark), 0)  # and not 200: the file says 16 bits


@pytest.mark.parametrize("value", [0, 77, 255])
def test_grey_is_three_equal_channels(value: int) -> None:
    assert np.allclose(colour_of(encoded(plain("L", value), "PNG")), value)
    assert np.allclose(colour_of(encoded(plain("L", value), "JPEG")), value)
    assert np.allclose(colour_of(encoded(plain("L", value), "JPEG"), 0.25), value)


def test_bilevel() -> None:
    assert np.allclose(colour_of(encoded(plain("1", 1), "PNG")), 255)
    assert np.allclose(colour_of(encoded(plain("1", 0), "TIFF")), 0)


@pytest.mark.parametrize("alpha", [0, 100, 255])
@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_transparency_lies_over_white(alpha: int, format: str) -> None:
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    share = alpha / 255
    rgba = encoded(plain("RGBA", (*RED, alpha)), format, **options)
    assert np.allclose(colour_of(rgba), [c * share + 255 * (1 - share) for c in RED], atol=1)
    if format != "WEBP":
        la = encoded(plain("LA", (60, alpha)), format)
        assert np.allclose(colour_of(la), 60 * share + 255 * (1 - share), atol=1)


def test_a_palette_with_a_transparent_entry() -> None:
    palette = plain("P", 1)
    palette.putpalette([*RED, *BLUE])
    assert np.allclose(colour_of(encoded(palette, "PNG")), BLUE)
    assert np.allclose(colour_of(encoded(palette, "PNG", transparency=0)), BLUE)
    assert np.allclose(colour_of(encoded(palette, "PNG", transparency=1)), WHITE)
    assert np.allclose(colour_of(encoded(palette, "GIF", transparency=1)), WHITE)
    half = bytes([255, 128])  # an alpha per entry
    assert np.allclose(colour_of(encoded(palette, "PNG", transparency=half)), (np.array(BLUE) + 255) / 2, atol=1)


@pytest.mark.parametrize(("mode", "colour"), [("RGB", RED), ("L", 60)])
def test_a_colour_key_is_transparency_too(mode: str, colour: object) -> None:
    assert np.allclose(colour_of(encoded(plain(mode, colour), "PNG", transparency=colour)), 255)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame_and_the_count(format: str) -> None:
    frames = [plain("RGB", colour) for colour in (RED, GREEN, BLUE)]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=50, quality=100)
    decoded = decode(data)
    assert decoded.frames == 3
    assert np.allclose(decoded.rgb.mean((0, 1)), RED, atol=4)


def test_a_still_picture_has_one_frame() -> None:
    assert decode(encoded(noise(5, 7), "GIF")).frames == 1
    assert decode(encoded(noise(5, 7), "JPEG")).frames == 1


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_one_pixel(format: str) -> None:
    decoded = decode(encoded(plain("RGB", WHITE, (1, 1)), format), needed=0.1)
    assert decoded.rgb.shape == (1, 1, 3) and decoded.scale == 1
    assert (decoded.width, decoded.height, decoded.format) == (1, 1, format)
    assert np.allclose(decoded.rgb, 255, atol=2)


def test_lossless_pixels_are_the_files_own() -> None:
    picture = noise(31, 17)
    for format in ("PNG", "BMP", "TIFF"):
        assert np.array_equal(decode(encoded(picture, format)).rgb, np.asarray(picture))


# ------------------------------------------------------------------ EXIF orientation


# EXIF 2.32, table 6: which side of the upright picture the file's first row and its first column are.
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,  # row: top, column: left
    2: lambda upright: upright[:, ::-1],  # top, right
    3: lambda upright: upright[::-1, ::-1],  # bottom, right
    4: lambda upright: upright[::-1],  # bottom, left
    5: lambda upright: upright.transpose(1, 0, 2),  # left, top
    6: lambda upright: upright[:, ::-1].transpose(1, 0, 2),  # right, top
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
    8: lambda upright: upright[::-1].transpose(1, 0, 2),  # left, bottom
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("format", "needed"), [("JPEG", 1.0), ("JPEG", 0.5), ("PNG", 1.0), ("WEBP", 1.0), ("TIFF", 1.0)]
)
def test_all_eight_orientations_come_out_upright(orientation: int, format: str, needed: float) -> None:
    upright = corners_marked()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    data = encoded(stored, format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
    decoded = decode(data, needed)
    step = round(1 / needed)
    assert decoded.rgb.shape == (40 // step, 64 // step, 3)
    assert (decoded.width, decoded.height) == (64, 40)
    assert open_header(data)[1].upright == (64, 40)
    difference = np.abs(decoded.rgb.astype(int) - upright[::step, ::step])
    assert np.median(difference) <= 4 and difference.mean() < 6  # JPEG blurs where the colours meet


def jpeg_with_orientation(kind: int, count: int, value: bytes) -> bytes:
    """A JPEG, 24 wide and 16 high, whose EXIF holds just an orientation of this type, count and (4-byte) value."""
    tiff = b"MM\0*\0\0\0\x08" + struct.pack(">HHHI", 1, ORIENTATION, kind, count) + value + b"\0\0\0\0"
    segment = b"Exif\0\0" + tiff + b"\0\0\0\x01\0\0\0\0"
    jpeg = encoded(noise(24, 16), "JPEG")
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "count", "value"),
    [
        (3, 1, b"\0\0\0\0"),  # 0
        (3, 1, b"\0\x09\0\0"),  # 9
        (2, 3, b"ab\0\0"),  # text
        (5, 1, b"\0\0\0\x1a"),  # the fraction 1/0
        (3, 1_000_000, b"\0\0\0\x1a"),  # beyond the end of the block
        (99, 1, b"\0\x06\0\0"),  # no such type
    ],
)
def test_a_nonsensical_orientation_is_no_reason_to_lose_a_photo(kind: int, count: int, value: bytes) -> None:
    decoded = decode(jpeg_with_orientation(kind, count, value))
    assert (decoded.width, decoded.height) == (24, 16)


def test_the_hand_made_orientation_block_is_read() -> None:
    assert decode(jpeg_with_orientation(3, 1, b"\0\x06\0\0")).rgb.shape == (24, 16, 3)


def test_exif_that_is_garbage_is_no_reason_either() -> None:
    jpeg = encoded(noise(24, 16), "JPEG")
    segment = b"Exif\0\0neither MM nor II"
    data = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]
    assert decode(data).rgb.shape == (16, 24, 3)


# ------------------------------------------------------------------ files that give no pixels


def test_zero_bytes() -> None:
    assert code_of(b"") == "empty"


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE html><html><body>404 Not Found</body></html>",  # what a download named .jpg often is
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n",
        b"\0" * 500,
        b"x",
    ],
)
def test_what_is_not_an_image(data: bytes) -> None:
    assert code_of(data) == "not_an_image"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_file_is_named_so(format: str, share: float) -> None:
    data = encoded(noise(80, 64), format)
    assert code_of(data[: int(len(data) * share)]) == "truncated"


@given(st.floats(0, 0.999))
@settings(max_examples=60, deadline=None)
def test_a_jpeg_cut_anywhere_never_passes(share: float) -> None:
    data = encoded(noise(40, 32), "JPEG")
    assert code_of(data[: int(len(data) * share)]) in ("empty", "not_an_image", "truncated", "broken_image")


def png_header(width: int, height: int, bits: int, rows: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_before_it_unpacks() -> None:
    side = math.isqrt(MAX_PIXELS) + 1
    bomb = png_header(side, side, 1, bytes((side + 7) // 8 + 1) * side)
    assert len(bomb) < 100_000  # and would be a quarter of a gigabyte
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert code_of(bomb) == "too_many_pixels"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000  # KiB
    assert code_of(png_header(60_000, 60_000, 8, b"")) == "too_many_pixels"
    assert code_of(png_header(2**31 - 1, 1, 8, b"")) == "too_many_pixels"


@pytest.mark.filterwarnings("ignore")
def test_the_largest_phone_cameras_stay_within_the_limit() -> None:
    data = bytearray(encoded(noise(16, 16), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 12_240, 16_320)  # 200 megapixels, by the header alone
    assert open_header(bytes(data))[1].upright == (16_320, 12_240)


@pytest.mark.filterwarnings("ignore")
@given(
    st.sampled_from(
        [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"II*\0", b"BM", b"P6 "]
    ),
    st.binary(),
)
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_give_pixels_or_an_input_error(magic: bytes, data: bytes) -> None:
    try:
        decode(magic + data, 0.3)
    except InputError as error:
        assert error.code in ("empty", "not_an_image", "too_many_pixels", "truncated", "broken_image")


VALID = [
    encoded(noise(20, 12), format) for format in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "MPO", "ICO", "PPM")
]


@pytest.mark.filterwarnings("ignore")
@given(
    st.sampled_from(VALID),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
)
@settings(max_examples=200, deadline=None)
def test_damaged_files_give_pixels_or_an_input_error(valid: bytes, damage: list[tuple[float, int]]) -> None:
    data = bytearray(valid)
    for place, value in damage:
        data[int(place**3 * len(data))] = value  # mostly near the beginning, where headers are
    try:
        decoded = decode(bytes(data), 0.5)
    except InputError as error:
        assert error.code in ("not_an_image", "too_many_pixels", "truncated", "broken_image")
    else:
        assert decoded.rgb.dtype == np.uint8 and decoded.rgb.shape[2] == 3


# ------------------------------------------------------------------ reduced JPEG scales


@given(st.integers(1, 5000), st.integers(1, 5000), st.floats(0, 2))
def test_the_scale_is_the_smallest_that_serves(width: int, height: int, needed: float) -> None:
    scale = jpeg_scale(width, height, "JPEG", needed)
    assert scale in JPEG_SCALES
    assert scale >= min(needed, 1)
    smaller = [s for s in JPEG_SCALES if s < scale]
    assert all(s < needed or min(width, height) * s < 1 for s in smaller)
    assert jpeg_scale(width, height, "PNG", needed) == 1


@given(st.integers(1, 70), st.integers(1, 70), st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_a_reduced_decode_has_the_size_it_promises(width: int, height: int, needed: float) -> None:
    decoded = decode(encoded(noise(width, height), "JPEG"), needed)
    scale = jpeg_scale(width, height, "JPEG", needed)
    assert decoded.rgb.shape[:2] == (math.ceil(height * scale), math.ceil(width * scale))
    assert decoded.scale == scale
    assert (decoded.width, decoded.height) == (width, height)  # the full size, always


def test_a_reduced_decode_is_the_same_picture() -> None:
    ramp = np.linspace(0, 255, 320).astype(np.uint8)
    picture = Image.fromarray(np.stack([np.broadcast_to(ramp, (240, 320))] * 3, -1).copy())
    data = encoded(picture, "JPEG", quality=95)
    for needed, shape in ((0.5, (120, 160)), (0.25, (60, 80)), (0.125, (30, 40)), (0.2, (60, 80)), (0.6, (240, 320))):
        reduced = decode(data, needed)
        assert reduced.rgb.shape[:2] == shape
        area = cv2.resize(decode(data).rgb, shape[::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(reduced.rgb.astype(int) - area).max() <= 4


def test_a_phones_multi_picture_jpeg_is_reduced_like_any_jpeg() -> None:
    data = encoded(noise(64, 48), "MPO", save_all=True, append_images=[noise(64, 48)])
    decoded = decode(data, 0.25)
    assert decoded.format == "MPO" and decoded.rgb.shape == (12, 16, 3)
    assert (decoded.width, decoded.height) == (64, 48)


def test_other_formats_are_decoded_in_full() -> None:
    assert decode(encoded(noise(64, 48), "PNG"), 0.1).rgb.shape == (48, 64, 3)
