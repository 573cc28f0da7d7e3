"""samples.jpg: the first faces of `train`, in key order, as one numbered picture for the dataset card.

Its bytes depend on those samples alone (and on Pillow's version, which recipe.yaml names), whatever shards they lie in.
"""

from __future__ import annotations

import io
from itertools import chain, islice
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from unif2ace_data.errors import InputError
from unif2ace_data.release.contact_sheet import FONT_SIZE, GAP, INK, PAPER, square
from unif2ace_data.schema import Sample
from unif2ace_data.shards import read_samples

SAMPLES = "samples.jpg"
FACES, COLUMNS, SIDE, QUALITY = 8, 4, 200, 88  # pictures, in a row, pixels of each, JPEG


def sample_sheet(out: Path, shards: list[dict[str, Any]]) -> tuple[bytes, list[str]]:
    """(JPEG, caption of each face by number) of the dataset at `out`; empty where `train` has no sample.

    shards: their entries in the index. Among the first eight, one whose picture does not decode is left out: `verify`
    names it, and a removal must not fail on it.
    """
    train = sorted((s for s in shards if s["split"] == "train"), key=lambda s: (s["prefix"], s["name"]))
    faces: list[tuple[Image.Image, str]] = []
    for _, files in islice(chain.from_iterable(read_samples(out / s["name"]) for s in train), FACES):
        try:
            face = square(files["jpg"], SIDE)
        except InputError:
            continue
        faces.append((face, Sample.model_validate_json(files["json"]).caption))
    if not faces:
        return b"", []
    data = io.BytesIO()
    drawn([face for face, _ in faces]).save(data, "JPEG", quality=QUALITY)
    return data.getvalue(), [caption for _, caption in faces]


def drawn(faces: list[Image.Image]) -> Image.Image:
    """RGB image: the squares in rows, each over its number."""
    font = ImageFont.load_default(FONT_SIZE)
    columns, rows = min(COLUMNS, len(faces)), -(-len(faces) // COLUMNS)
    across, down = SIDE + GAP, SIDE + FONT_SIZE + 2 * GAP
    sheet = Image.new("RGB", (GAP + columns * across, GAP + rows * down), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, face in enumerate(faces):
        left, top = GAP + i % COLUMNS * across, GAP + i // COLUMNS * down
        sheet.paste(face, (left, top))
        draw.text((left, top + SIDE + GAP // 2), str(i + 1), INK, font)
    return sheet
