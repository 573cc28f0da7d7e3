"""Tombstones: how many other photographs does one block, and how many altered copies of the removed one does it let in?

    python benchmarks/removal.py --photos FOLDER

FOLDER holds different photographs, one face each. docs/removal.md has the figures.
"""

from __future__ import annotations

import argparse
import io
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from unif2ace_data.curate.removal import (
    AGREE,
    PHOTO,
    face_kind,
    look_of,
    look_of_jpeg,
    parts_of,
    stone_of,
    tombstones,
)
from unif2ace_data.errors import InputError
from unif2ace_data.faces.align import crop_jpeg
from unif2ace_data.faces.analyse import Analyser
from unif2ace_data.recipe import Faces

KEY = bytes(32)
FACES = Faces()
KIND = face_kind(FACES.align)
Looks = tuple[np.ndarray, np.ndarray | None]  # of the whole photo, of its face


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, required=True)
    args = parser.parse_args()
    analyser = Analyser(FACES)
    own: list[Looks] = []
    copies: dict[str, list[Looks]] = {}
    for path in sorted(path for path in args.photos.rglob("*") if path.is_file()):
        try:
            looks = looks_of(analyser, path.read_bytes())
        except InputError:
            continue
        if looks[1] is None:
            continue
        own.append(looks)
        picture = Image.open(path).convert("RGB")
        for name, altered in altered_copies(picture).items():
            copies.setdefault(name, []).append(looks_of(analyser, altered))
    print(f"{len(own)} photographs")
    hashes = [tuple(numbered(kind, look) for kind, look in zip((PHOTO, KIND), looks, strict=True)) for looks in own]
    pairs = ((a, b) for number, a in enumerate(hashes) for b in hashes[:number])
    met = Counter(max(len(mine & others) for mine, others in zip(a, b, strict=True)) for a, b in pairs)
    blocked = sum(count for agree, count in met.items() if agree >= AGREE)
    print(
        f"others blocked: {blocked} of {met.total()} pairs; pairs by equal hashes (of 128): {dict(sorted(met.items()))}"
    )
    for name, altered_looks in copies.items():
        through = [not caught(a, b) for a, b in zip(own, altered_looks, strict=True)]
        alone = [not caught((None, a[1]), b) for a, b in zip(own, altered_looks, strict=True)]
        print(f"{name:<28} {sum(through):>4} let in ({np.mean(through):.2%}); by the face alone {sum(alone)}")


def looks_of(analyser: Analyser, data: bytes) -> Looks:
    analysis = analyser.analyse(data)
    if analysis.decoded is None:
        raise InputError("not_an_image", "")
    face = None
    if len(analysis.record.faces) == 1 and analysis.record.faces[0].measured:
        quad = np.array(analysis.record.faces[0].quad)
        face = look_of_jpeg(crop_jpeg(data, quad, FACES.align, analysis.decoded)[0])
    return look_of(Image.fromarray(analysis.decoded.rgb)), face


def altered_copies(picture: Image.Image) -> dict[str, bytes]:
    half = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)
    return {
        "quality 70": jpeg(picture, 70),
        "50 %, quality 70": jpeg(half, 70),
        "2 % cut off each side": jpeg(cut(picture), 95),
        "all three": jpeg(cut(half), 70),
    }


def cut(picture: Image.Image) -> Image.Image:
    x, y = round(0.02 * picture.width), round(0.02 * picture.height)
    return picture.crop((x, y, picture.width - x, picture.height - y))


def jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def numbered(kind: str, look: np.ndarray | None) -> set[str]:
    return {f"{n} {part}" for n, part in enumerate(parts_of(KEY, kind, look))} if look is not None else set()


def caught(removed: tuple[np.ndarray | None, np.ndarray | None], copy: Looks) -> bool:
    faces = [removed[1]] if removed[1] is not None else []
    stones = tombstones(KEY, [stone_of(KEY, "", removed[0], KIND, faces)])
    return stones.has_any(copy[0], KIND, [copy[1]] if copy[1] is not None else [])


if __name__ == "__main__":
    main()
