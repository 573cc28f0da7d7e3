"""Embeddings and perceptual hashes of a dataset's faces, for an audit.

They come from `OUT.work` where its build left them for this pack, else from the crops. What is measured here is kept in
`OUT.work/audit`, by the hash of the shard that it was measured on: embeddings never lie in `OUT`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image

from unif2ace_data.errors import InputError, UserError
from unif2ace_data.faces.analyse import HASHED, config_hash
from unif2ace_data.faces.decode import decode, open_header
from unif2ace_data.faces.engine import FaceEngine, Pack
from unif2ace_data.faces.runtime import bgr_of, single_threaded
from unif2ace_data.recipe import Detector
from unif2ace_data.release.read import parse_sample, pick
from unif2ace_data.run.progress import Progress
from unif2ace_data.run.store import WorkStore
from unif2ace_data.shards import read_index, read_samples, sha256_file, write_bytes

CACHE = "audit"  # folder in OUT.work
VERSION = 1  # raise it when the same crops would give other numbers


@dataclass(slots=True)
class Shown:
    """What a page shows of a face: where it comes from, and a JPEG (empty where there is no picture)."""

    source: str
    jpeg: bytes


@dataclass(slots=True)
class Faces:
    """Faces in a fixed order. `vectors` (N, D) float32 unit; `hashes` (N, 2) uint64 of the picture as it is and mirrored.

    `hashes` is empty where there are no pictures; `measured`: how many embeddings did not come from a build's store;
    `groups` (N,): the shard that a face lies in; `show`: what a page shows of these rows.
    """

    ids: list[str]
    vectors: np.ndarray
    hashes: np.ndarray
    groups: np.ndarray
    show: Callable[[list[int]], dict[int, Shown]]
    measured: int = 0
    notes: list[str] = field(default_factory=list)


class Measurer:
    """The pack's networks, loaded when the first face has to be measured."""

    def __init__(self, pack: Pack, detector: Detector) -> None:
        self.pack, self.detector = pack, detector
        self.id = config_hash([VERSION, pack.files])
        self._engine: FaceEngine | None = None

    @property
    def engine(self) -> FaceEngine:
        if self._engine is None:
            single_threaded()
            self._engine = FaceEngine(self.pack, self.detector)
        return self._engine


# ------------------------------------------------------------------ a dataset


def dataset_faces(
    out: Path, cache: Path, measurer: Measurer, store: WorkStore | None, config: str, quiet: bool
) -> Faces:
    """Every sample of the dataset at `out`, shard by shard. `store`: its build's, with analyses under `config`."""
    entries = read_index(out)["shards"]
    progress = Progress("looking", sum(entry["samples"] for entry in entries), quiet)
    parts: list[Part] = []
    notes, names = [], set()
    try:
        for entry in entries:
            path = out / entry["name"]
            if not path.is_file():
                raise UserError(f"{path} is missing: run unif2ace-data verify, or build again")
            digest = sha256_file(path)
            if digest != entry["sha256"]:
                notes.append(
                    f"{entry['name']} is not what index.json says: what lies there was audited; run unif2ace-data verify"
                )
            kept = cache / f"{digest[:32]}-{measurer.id}.npz"
            names.add(kept.name)
            parts.append(shard_part(path, kept, measurer, store, config, progress))
    finally:
        progress.close()
    for leftover in cache.glob("*.npz"):  # embeddings of samples that are no longer in the dataset
        if leftover.name not in names:
            leftover.unlink()
    ids = [key for part in parts for key in part.keys]

    def show(rows: list[int]) -> dict[int, Shown]:
        found: dict[int, Shown] = {}
        first = 0
        for entry, part in zip(entries, parts, strict=True):
            here = {part.keys[row - first]: row for row in rows if first <= row < first + len(part.keys)}
            first += len(part.keys)
            for sample, jpeg in pick(out / entry["name"], set(here)) if here else ():
                found[here[sample.uid]] = Shown(sample.source.id, jpeg)
        return found

    return Faces(
        ids,
        stacked([part.vectors for part in parts]),
        np.concatenate([part.hashes for part in parts]) if parts else np.zeros((0, 2), np.uint64),
        np.repeat(np.arange(len(parts)), [len(part.keys) for part in parts]),
        show,
        sum(part.measured for part in parts),
        notes,
    )


@dataclass(slots=True)
class Part:
    keys: list[str]
    vectors: np.ndarray
    hashes: np.ndarray
    measured: int = 0


def shard_part(
    path: Path, kept: Path, measurer: Measurer, store: WorkStore | None, config: str, progress: Progress
) -> Part:
    """One shard: what is cached, the store's embeddings before those measured on crops, and the rest from the crops."""
    part = cached(kept)
    stored = stored_vectors(store, config, part.keys) if part else None
    if part and stored is not None:
        progress.advance(len(part.keys), [])
        return Part(part.keys, stored, part.hashes)
    if part and len(part.vectors) == len(part.keys):
        progress.advance(len(part.keys), [])
        return part
    keys, hashes, crops = [], [], []
    for key, files in read_samples(path):
        keys.append(key)
        hashes.append(part.hashes[len(keys) - 1] if part else hashes_of(path, key, files["jpg"]))
        crops.append((files["jpg"], files["json"]))
        if not part:
            progress.advance(1, [])
    stored = stored_vectors(store, config, keys)
    vectors = np.zeros((0, 0), np.float32)
    if stored is None:
        found = []
        for key, (jpeg, record) in zip(keys, crops, strict=True):
            found.append(crop_vector(path, key, jpeg, record, measurer.engine))
            progress.advance(int(part is not None), [])
        vectors = stacked(found)
    fresh = Part(keys, vectors, np.array(hashes, np.uint64).reshape(-1, 2), len(vectors))
    keep(kept, fresh)
    return Part(keys, stored, fresh.hashes) if stored is not None else fresh


def stored_vectors(store: WorkStore | None, config: str, keys: list[str]) -> np.ndarray | None:
    """(N, D) of these samples as the build measured them; None where one is not there."""
    if store is None:
        return None
    found = []
    for key in keys:
        digits, _, face = key.partition("-")
        row = store.db.execute(
            "select embeddings, width from analyses where sha256 >= ? and sha256 < ? and config=?",
            (digits, digits + "g", config),
        ).fetchone()
        if not row or not row[1]:
            return None
        vectors = np.frombuffer(row[0], np.float32).reshape(-1, row[1])
        if int(face or 0) >= len(vectors):
            return None
        found.append(vectors[int(face or 0)])
    return stacked(found)


def crop_vector(path: Path, key: str, jpeg: bytes, record: bytes, engine: FaceEngine) -> np.ndarray:
    """The crop's face by the landmarks that its record holds: no second search that could find another face."""
    sample = parse_sample(path, key, record)
    try:
        rgb = decode(jpeg).rgb
    except InputError as error:
        raise UserError(f"{path}: {key}.jpg: {error.message}; run unif2ace-data verify") from None
    return engine.embed(bgr_of(rgb), np.array(sample.face.landmarks, np.float64))


def hashes_of(path: Path, key: str, jpeg: bytes) -> tuple[int, int]:
    try:
        _, header = open_header(jpeg)
        return picture_hashes(decode(jpeg, min(1.0, HASHED / max(1, min(header.width, header.height)))).rgb)
    except InputError as error:
        raise UserError(f"{path}: {key}.jpg: {error.message}; run unif2ace-data verify") from None


def picture_hashes(rgb: np.ndarray) -> tuple[int, int]:
    """64-bit perceptual hashes of a picture and of its mirror image."""
    picture = Image.fromarray(rgb)
    small = picture.reduce(max(1, min(picture.size) // HASHED))
    views = (small, small.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    plain, mirrored = (int(str(imagehash.phash(view)), 16) for view in views)
    return plain, mirrored


def cached(path: Path) -> Part | None:
    """What an earlier audit kept; None where nothing sound is there."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as data:
            part = Part([str(key) for key in data["keys"]], data["vectors"], data["hashes"])
    except (OSError, ValueError, KeyError, EOFError):
        return None
    part.measured = len(part.vectors)
    return part if len(part.hashes) in (0, len(part.keys)) else None


def keep(path: Path, part: Part) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, keys=np.array(part.keys, np.str_), vectors=part.vectors, hashes=part.hashes)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())


def kept_embeddings(work: Path) -> int:
    """How many embeddings audits have left in `OUT.work`, for the receipt of its deletion."""
    parts = map(cached, sorted((work / CACHE).rglob("*.npz")))
    return sum(len(part.vectors) for part in parts if part)


def stacked(vectors: list[np.ndarray]) -> np.ndarray:
    """(N, D) float32 from vectors (D,) or blocks (n, D); empty blocks do not matter."""
    rows = [np.atleast_2d(v) for v in vectors if v.size]
    return np.concatenate(rows).astype(np.float32, copy=False) if rows else np.zeros((0, 0), np.float32)
