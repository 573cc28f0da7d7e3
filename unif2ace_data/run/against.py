"""What a dataset is audited against: a folder of pictures, or embeddings in a file. (A dataset: run/embeddings.py.)"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unif2ace_data.errors import InputError, UserError
from unif2ace_data.faces.align import encode_jpeg
from unif2ace_data.faces.analyse import TINY, first_look
from unif2ace_data.faces.engine import Detection, FaceEngine
from unif2ace_data.faces.runtime import bgr_of
from unif2ace_data.recipe import SourceSpec
from unif2ace_data.run.embeddings import Faces, Measurer, Part, Shown, cached, keep, picture_hashes, stacked
from unif2ace_data.run.progress import Progress
from unif2ace_data.schema import InputRef
from unif2ace_data.sources.listing import list_inputs
from unif2ace_data.sources.manifest import load_manifest
from unif2ace_data.sources.read import read_input

CHUNK = 256  # pictures a cache file
FILES = (".npy", ".npz", ".parquet")


def picture_faces(folder: Path, cache: Path, measurer: Measurer, quiet: bool) -> Faces:
    """Every face that the pack finds in the pictures under `folder` (or in its tars and tables), named by its picture."""
    refs = [ref for ref in list_inputs(SourceSpec(path=str(folder)), load_manifest("folder")) if not ref.problem]
    if not refs:
        raise UserError(f"--against {folder}: neither a dataset nor a folder with pictures", 2)
    by_id = {ref.source_id: ref for ref in refs}
    progress = Progress("looking", len(refs), quiet)
    parts = []
    try:
        for start in range(0, len(refs), CHUNK):
            chunk = refs[start : start + CHUNK]
            told = "".join(f"{ref.source_id}\0{ref.stamp}\0{ref.offset}\n" for ref in chunk)
            digest = hashlib.sha256(f"{told}{measurer.detector.model_dump_json()}".encode()).hexdigest()
            kept = cache / f"{digest[:32]}-{measurer.id}.npz"
            part = cached(kept)
            if part is None:
                part = look_at(chunk, measurer.engine, progress)
                keep(kept, part)
            else:
                progress.advance(len(chunk), [])
            parts.append(part)
    finally:
        progress.close()
    ids = [key for part in parts for key in part.keys]
    seen = {name.rpartition("#")[0] for name in ids}

    def show(rows: list[int]) -> dict[int, Shown]:
        found = {}
        for row in rows:
            name, _, number = ids[row].rpartition("#")
            found[row] = Shown(name, face_picture(by_id[name], int(number), measurer.engine))
        return found

    notes = [f"{len(refs) - len(seen)} of {len(refs)} inputs of {folder} show no face"] if len(seen) < len(refs) else []
    vectors, hashes = stacked([p.vectors for p in parts]), np.concatenate([p.hashes for p in parts])
    return Faces(ids, vectors, hashes, np.zeros(len(ids), np.int64), show, len(ids), notes)


def look_at(refs: list[InputRef], engine: FaceEngine, progress: Progress) -> Part:
    keys, vectors, hashes = [], [], []
    for ref in refs:
        rgb, faces = faces_in(ref, engine)
        for number, face in enumerate(faces):
            keys.append(f"{ref.source_id}#{number}")
            vectors.append(engine.embed(bgr_of(rgb), face.landmarks))
            hashes.append(picture_hashes(around(rgb, face)))
        progress.advance(1, [] if faces else ["no_face"])
    return Part(keys, stacked(vectors), np.array(hashes, np.uint64).reshape(-1, 2), len(keys))


def faces_in(ref: InputRef, engine: FaceEngine) -> tuple[np.ndarray, list[Detection]]:
    """The picture (RGB) and its faces from the largest; none where it cannot be read."""
    try:
        decoded = first_look(read_input(ref))
    except InputError:
        return np.zeros((1, 1, 3), np.uint8), []
    found = engine.detect(bgr_of(decoded.rgb), decoded.scale)
    found = [face for face in found if max(np.ptp(face.box[::2]), np.ptp(face.box[1::2])) >= TINY]
    found.sort(key=lambda face: (-float(np.ptp(face.box[::2]) * np.ptp(face.box[1::2])), face.box.tolist()))
    return decoded.rgb, found


def around(rgb: np.ndarray, face: Detection) -> np.ndarray:
    """The face with its surroundings, about as a crop shows it."""
    centre, half = (face.box[:2] + face.box[2:4]) / 2, np.ptp(face.box.reshape(2, 2), axis=0).max() * 0.9
    x1, y1 = np.maximum(0, centre - half).astype(int)
    x2, y2 = (centre + half).astype(int)
    return np.ascontiguousarray(rgb[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)])


def face_picture(ref: InputRef, number: int, engine: FaceEngine) -> bytes:
    rgb, faces = faces_in(ref, engine)
    if number >= len(faces):
        return b""
    piece = around(rgb, faces[number])
    side = max(piece.shape[:2])
    return encode_jpeg(cv2.resize(piece, None, fx=min(1.0, 256 / side), fy=min(1.0, 256 / side)), 85)


# ------------------------------------------------------------------ a file


def file_faces(path: Path, width: int) -> Faces:
    """Embeddings (N, D) from .npy, or with ids from .npz (`embeddings`, `ids`) or parquet (columns `embedding`, `id`).

    They are brought to unit length; rows without length or with a number that is none are left out, with a note.
    Raises UserError (exit code 2) for anything else.
    """
    try:
        ids, vectors = embeddings_in(path)
    except (OSError, ValueError, KeyError, TypeError, EOFError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            f"--against {path}: no embeddings there ({error}). Give .npy with (N, D) numbers, .npz with `embeddings` and "
            "`ids`, or parquet with the columns `embedding` and `id`",
            2,
        ) from None
    if vectors.ndim != 2 or vectors.shape[1] != width or len(ids) != len(vectors):
        shape = " x ".join(map(str, vectors.shape))
        raise UserError(
            f"--against {path}: {shape} numbers and {len(ids)} ids, where this pack needs N x {width} and N ids", 2
        )
    lengths = np.linalg.norm(vectors, axis=1)
    sound = np.isfinite(lengths) & (lengths > 0)
    notes = [f"{int((~sound).sum())} rows of {path} are no embeddings and were left out"] if not sound.all() else []
    kept = np.ascontiguousarray(vectors[sound] / lengths[sound, None], np.float32)
    names = [name for name, good in zip(ids, sound, strict=True) if good]
    return Faces(
        names, kept, np.zeros((0, 2), np.uint64), np.zeros(len(kept), np.int64),
        lambda rows: {row: Shown(names[row], b"") for row in rows}, 0, notes,
    )  # fmt: skip


def embeddings_in(path: Path) -> tuple[list[str], np.ndarray]:
    if path.suffix == ".parquet":
        table = pq.read_table(path, columns=["id", "embedding"])
        column = table["embedding"].combine_chunks()
        flat: Any = column.flatten().to_numpy(zero_copy_only=False)
        return [str(i) for i in table["id"].to_pylist()], flat.astype(np.float32).reshape(len(table), -1)
    found: Any = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return [str(i) for i in range(len(np.atleast_1d(found)))], found.astype(np.float32)
    with found as data:
        vectors = np.asarray(data["embeddings"], np.float32)
        ids = [str(i) for i in data["ids"]] if "ids" in data else [str(i) for i in range(len(vectors))]
    return ids, vectors
