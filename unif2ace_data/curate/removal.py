"""Tombstones: what of a removed photograph stays, so that neither it nor a copy of it comes back.

Kept are keyed hashes (HMAC-SHA256): one of the file's bytes, and for its pictures (the whole photograph, each aligned face)
128 of what they look like. A look is 255 signs of a cosine transform; each of the 128 hashes is over another 32 of them, so
that a copy whose signs differ in a few places still agrees in some, and a single hash does not give its signs away one by
one. Two that agree make a copy. docs/removal.md has what was measured, and what the hashes do not protect against.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import io
import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from PIL import Image

from unif2ace_data.errors import UserError
from unif2ace_data.recipe import Align

TOMBSTONES = "removed.json"
KIND, VERSION = "unif2ace-removed", 1
REMOVED = "removed"  # the ledger's reason
WHY = "removed, or a copy of what was removed (removed.json)"  # the ledger's detail: which one, it does not say

SIDE, WAVES = 64, 16  # pixels of the grey picture; waves along each axis of which the signs are taken
SIGNS = WAVES * WAVES - 1  # the mean has no sign to speak of
PARTS, WIDTH = 128, 32  # our choice, as measured in docs/removal.md: hashes of one look, signs in each
AGREE = 2  # our choice: so many equal hashes make a copy; one alone met 3 of 81,810 pairs of different portraits
HEX = 16  # digits of a hash that are kept


@dataclass(frozen=True, slots=True)
class Tombstones:
    """`removed.json` in memory. `looks`: hash -> the pictures (numbered over all tombstones) that have it."""

    key: bytes
    stones: list[dict[str, Any]]
    files: frozenset[str] = frozenset()
    looks: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def has_file(self, sha256: str) -> bool:
        """Whether a file of these bytes was removed."""
        return keyed(self.key, "file", sha256.encode()) in self.files

    def has_look(self, kind: str, look: np.ndarray) -> bool:
        """Whether a picture that looks (SIGNS,) bool like this was removed. `kind`: PHOTO or that of a face (face_kind)."""
        if not self.looks:
            return False
        met = Counter(picture for part in parts_of(self.key, kind, look) for picture in self.looks.get(part, ()))
        return max(met.values(), default=0) >= AGREE

    def has_any(self, photo: np.ndarray | None, kind: str, faces: Iterable[np.ndarray]) -> bool:
        """Whether the whole photograph, or one of its faces, looks like one that was removed."""
        return (photo is not None and self.has_look(PHOTO, photo)) or any(self.has_look(kind, face) for face in faces)

    def joined(self, stones: list[dict[str, Any]]) -> Tombstones:
        """These and further ones."""
        known = {stone["file"] for stone in stones}
        return tombstones(self.key, [s for s in self.stones if s["file"] not in known] + stones)


def tombstones(key: bytes, stones: list[dict[str, Any]]) -> Tombstones:
    stones = sorted(stones, key=lambda stone: str(stone["file"]))
    looks: dict[str, list[int]] = {}
    for number, parts in enumerate(parts for stone in stones for parts in stone["looks"]):
        for part in parts:
            looks.setdefault(part, []).append(number)
    numbered = {part: tuple(numbers) for part, numbers in looks.items()}
    return Tombstones(key, stones, frozenset(stone["file"] for stone in stones), numbered)


def read_tombstones(out: Path) -> Tombstones | None:
    """Those of the dataset at `out`, None where nothing was ever removed. Raises UserError where the file is broken.

    It fails closed: with a file that cannot be read, nothing is built.
    """
    path = out / TOMBSTONES
    if not path.is_file():
        return None
    return parse_tombstones(path, path.read_bytes())


def parse_tombstones(path: Path, content: bytes) -> Tombstones:
    """Those in the bytes of a removed.json. Raises UserError, which names `path`."""
    try:
        data = orjson.loads(content)
        if data["kind"] != KIND or data["version"] != VERSION:
            raise ValueError(f"{data['kind']}, version {data['version']}")
        for stone in data["removed"]:
            if not isinstance(stone["file"], str) or not all(
                isinstance(p, str) for look in stone["looks"] for p in look
            ):
                raise ValueError("not a list of hashes")
        return tombstones(bytes.fromhex(data["key"]), data["removed"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is broken ({error!r}): put back the one that was published; without it, what was removed would come back"
        ) from None


def no_tombstones() -> Tombstones:
    """An empty list with a key of its own."""
    return Tombstones(secrets.token_bytes(32), [])


def tombstone_bytes(stones: Tombstones) -> bytes:
    """removed.json."""
    return orjson.dumps({"kind": KIND, "version": VERSION, "key": stones.key.hex(), "removed": stones.stones}) + b"\n"


def stone_of(
    key: bytes, sha256: str, photo: np.ndarray | None, kind: str, faces: Iterable[np.ndarray]
) -> dict[str, Any]:
    """The tombstone of a photograph: its bytes' hash, how it looks as a whole (where that is known), and its faces."""
    looks = [parts_of(key, PHOTO, photo)] if photo is not None else []
    looks += [parts_of(key, kind, face) for face in faces]
    return {"file": keyed(key, "file", sha256.encode()), "looks": looks}


# ------------------------------------------------------------------ looks

PHOTO = "photo"


def face_kind(align: Align) -> str:
    """Faces are compared with faces that were aligned in the same way."""
    return "face ffhq" if align.mode == "ffhq" else f"face box {align.margin}"


def look_of(picture: Image.Image) -> np.ndarray:
    """(SIGNS,) bool: the signs of the low waves of the grey picture, shrunk to SIDE x SIDE."""
    grey = np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
    waves = cosines()
    return np.asarray(((waves @ grey @ waves.T) > 0).ravel()[1:])


def look_of_jpeg(jpeg: bytes) -> np.ndarray:
    """Of a crop, decoded no larger than is needed."""
    picture = Image.open(io.BytesIO(jpeg))
    picture.draft("L", (2 * SIDE, 2 * SIDE))
    return look_of(picture)


@functools.cache
def cosines() -> np.ndarray:
    """(WAVES, SIDE) the first rows of a cosine transform."""
    at = (2 * np.arange(SIDE) + 1) * np.pi / (2 * SIDE)
    return np.asarray(np.cos(np.arange(WAVES)[:, None] * at[None]))


@functools.cache
def places() -> np.ndarray:
    """(PARTS, WIDTH) which signs go into which hash: fixed for all time, by SHA-256."""

    def chosen(part: int) -> list[int]:
        return sorted(range(SIGNS), key=lambda sign: hashlib.sha256(f"{part} {sign}".encode()).digest())[:WIDTH]

    return np.array([chosen(part) for part in range(PARTS)])


def parts_of(key: bytes, kind: str, look: np.ndarray) -> list[str]:
    """PARTS keyed hashes of a look."""
    packed = np.packbits(look[places()], axis=1)
    return [keyed(key, f"{kind} {number}", part.tobytes()) for number, part in enumerate(packed)]


def keyed(key: bytes, what: str, data: bytes) -> str:
    return hmac.digest(key, what.encode() + b"\0" + data, "sha256").hex()[: HEX if what != "file" else 64]


def likeness(a: np.ndarray, b: np.ndarray) -> tuple[bool, float]:
    """(whether one would be taken for a copy of the other, share of their signs that are equal)."""
    same = (a == b)[places()].all(axis=1).sum() >= AGREE
    return bool(same), float((a == b).mean())
