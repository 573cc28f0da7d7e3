"""Bytes to upright RGB pixels, at the smallest JPEG scale that serves.

One decoder (Pillow) for every format, so that every oddity (CMYK, 16-bit, palette, transparency, animation, EXIF
rotation, truncation, decompression bombs) is met in one place and gives either pixels or a named InputError.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.Image import Transpose

from unif2ace_data.errors import InputError
from unif2ace_data.faces.runtime import four_channels

MAX_PIXELS = 256_000_000  # our choice: 16k x 16k; a bomb is refused before any of it is unpacked
# Pictures only: Pillow would hand an EPS or a PDF, whatever it is named, to an outside program.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM")
FOUR_CHANNELS = 2_000_000  # pixels up to which a picture gets a fourth channel for its warps (faces/runtime.py)
JPEG_SCALES = (0.125, 0.25, 0.5, 1.0)
UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}

# Pillow refuses what has more than twice its own limit, also inside containers, and warns from that limit on: one
# limit for both, and no warning in a worker's log.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(slots=True)
class Decoded:
    """`rgb`: upright (H, W, 3) uint8. `scale`: its pixels per source pixel. `width`, `height`: the upright source.

    A place (x, y) in the source is (x, y) * scale in `rgb`; its last column and row may reach beyond the source.
    `picture`: the same pixels as Pillow holds them, where it has decoded them.
    """

    rgb: np.ndarray
    scale: float
    width: int
    height: int
    format: str
    mode: str
    frames: int = 1
    picture: Image.Image | None = None
    _rgba: np.ndarray | None = None

    def as_picture(self) -> Image.Image:
        return self.picture or Image.fromarray(self.rgb)

    def for_warps(self) -> np.ndarray:
        """`rgb`, with a fourth channel where that saves more time than it takes."""
        if self.width * self.height * self.scale**2 > FOUR_CHANNELS:
            return self.rgb
        if self._rgba is None:
            self._rgba = four_channels(self.rgb)
        return self._rgba


@dataclass(slots=True)
class Header:
    width: int
    height: int
    format: str
    mode: str
    frames: int
    orientation: int

    @property
    def upright(self) -> tuple[int, int]:
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def open_header(data: bytes) -> tuple[Image.Image, Header]:
    """Read size and format; unpacks no pixels (but a PNG's: its EXIF may come last).

    Raises InputError: empty, not_an_image, too_many_pixels, truncated, broken_image.
    """
    if not data:
        raise InputError("empty", "zero bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise InputError("too_many_pixels", f"{width} x {height} pixels, more than {MAX_PIXELS // 10**6} million")
        orientation = image.getexif().get(0x0112)
        frames = int(getattr(image, "n_frames", 1))
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError("too_many_pixels", str(error)) from None
    except UnidentifiedImageError:
        raise InputError("not_an_image", f"no known image format (begins with {data[:12]!r})") from None
    except MemoryError:
        raise  # the machine's trouble, not the photo's: tried again on the next run
    except Exception as error:  # Pillow's plugins raise nearly anything on broken headers
        raise broken(error) from None
    if image.format == "TIFF" or not isinstance(orientation, int) or orientation not in range(1, 9):
        orientation = 1  # Pillow turns TIFFs by itself; and a nonsensical tag is no reason to lose a photo
    return image, Header(width, height, image.format or "", image.mode, frames, orientation)


def broken(error: Exception) -> InputError:
    """The InputError for what Pillow raised: `truncated` where it says so, else `broken_image`."""
    code = "truncated" if "truncated" in str(error).lower() else "broken_image"
    return InputError(code, f"{type(error).__name__}: {error}")


def jpeg_scale(width: int, height: int, format: str, needed: float) -> float:
    """The smallest scale at which this file can be decoded that is at least `needed` (1 for all but JPEG)."""
    if format not in ("JPEG", "MPO"):  # MPO: a JPEG with further ones behind it, as many phones write
        return 1.0
    return next((s for s in JPEG_SCALES if s >= needed and min(width, height) * s >= 1), 1.0)


def decode(data: bytes, needed: float = 1.0, opened: tuple[Image.Image, Header] | None = None) -> Decoded:
    """Decode the first frame at the smallest scale >= `needed`. Raises InputError as open_header does.

    `opened`: what open_header has just given of `data`, where it was asked already.
    """
    image, header = opened or open_header(data)
    scale = jpeg_scale(header.width, header.height, header.format, needed)
    if header.orientation not in (1, 5) and ((header.width * scale) % 1 or (header.height * scale) % 1):
        scale = 1.0  # turned, a last column that is only part of a pixel would come first and shift the whole picture
    try:
        if scale < 1:
            image.draft("RGB", (int(header.width * scale), int(header.height * scale)))
        rgb = to_rgb(image)
    except MemoryError:
        raise
    except Exception as error:
        raise broken(error) from None
    if header.orientation != 1:
        rgb = rgb.transpose(UPRIGHT[header.orientation])
    width, height = header.upright
    return Decoded(np.asarray(rgb), scale, width, height, header.format, header.mode, header.frames, rgb)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to 8-bit RGB; transparency over white (our choice: what a page shows behind a picture)."""
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        values = np.asarray(image).astype(np.float64)
        top = 65535.0 if values.max() > 255 else (1.0 if image.mode == "F" and values.max() <= 1 else 255.0)
        return Image.fromarray((np.clip(values / top, 0, 1) * 255).astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
