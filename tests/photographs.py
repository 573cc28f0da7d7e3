"""Photographs for the tests: the examples, and variations of them (other pixels, same people)."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "raw"
# Face regions of the examples, so that variations are small and quick: left, top, right, bottom.
REGIONS = {
    "obama.jpg": (230, 0, 710, 500),
    "obama2.jpg": (90, 60, 600, 720),
    "obama3.jpg": (450, 130, 1050, 830),
    "biden.jpg": (250, 50, 850, 650),
    "astronaut.png": (90, 0, 400, 310),
}


def variation(path: Path, number: int) -> Image.Image:
    """A repeatable, visibly different photograph of the same person."""
    rng = np.random.default_rng([number, *path.name.encode()])
    image = Image.open(path).convert("RGB").crop(REGIONS[path.name])
    side = int(rng.integers(300, 420))
    image = image.resize((side, round(side * image.height / image.width)), Image.Resampling.LANCZOS)
    image = image.rotate(float(rng.uniform(-9, 9)), Image.Resampling.BICUBIC, fillcolor=(90, 90, 90))
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    image = ImageEnhance.Brightness(image).enhance(float(rng.uniform(0.75, 1.25)))
    return ImageEnhance.Color(image).enhance(float(rng.uniform(0.6, 1.4)))


def write_photos(folder: Path, count: int, start: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(REGIONS)
    for number in range(start, start + count):
        picture = variation(EXAMPLES / names[number % len(names)], number)
        picture.save(folder / f"photo{number:03d}.jpg", quality=92)
    return folder


def png_bomb(side: int = 60_000) -> bytes:
    """A well-formed PNG header of 3.6 thousand million pixels with hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
