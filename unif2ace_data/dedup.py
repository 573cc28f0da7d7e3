"""Duplicates: exact bytes, perceptual hash, near-identical faces. Who survives does not depend on the order of arrival.

Candidates are ranked once (larger face, sharper, then smaller key); going down the ranking, a sample is a duplicate of
the best-ranked survivor that it matches. Exact copies never get here: they share their key (run/decide.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import faiss
import numpy as np

HASH_BITS = 64


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Sample `index` falls to `survivor` (both indices into the arrays given); `value`: distance or cosine."""

    index: int
    survivor: int
    value: float


def ranking(face_px: np.ndarray, sharpness: np.ndarray, keys: list[str]) -> np.ndarray:
    """(N,) indices from best to worst."""
    by_key = np.argsort(np.array(keys)) if keys else np.zeros(0, np.int64)
    position = np.empty(len(keys), np.int64)
    position[by_key] = np.arange(len(keys))
    return np.lexsort((position, -sharpness, -face_px))


def perceptual_duplicates(
    hashes: np.ndarray, photos: np.ndarray, embeddings: np.ndarray, order: np.ndarray, distance: int, same_face: float
) -> list[Duplicate]:
    """Photos whose 64-bit hashes (N,) uint64 differ in at most `distance` bits and whose faces agree (cosine).

    The faces must agree because portraits in front of one backdrop have close hashes. `photos` (N,) numbers the source
    photo of each sample: faces of one photo are not duplicates of each other. `order` (N,) is the ranking.
    """
    pairs = (
        (a, b, float((int(hashes[a]) ^ int(hashes[b])).bit_count()))
        for a, b in close_hashes(hashes, distance)
        if photos[a] != photos[b] and float(embeddings[a] @ embeddings[b]) >= same_face
    )
    return settle(pairs, order)


def face_duplicates(
    embeddings: np.ndarray, photos: np.ndarray, order: np.ndarray, min_cosine: float
) -> list[Duplicate]:
    """Samples whose face (unit embeddings (N, D)) is nearly the same picture as a better-ranked one's."""
    pairs = ((a, b, c) for a, b, c in close_embeddings(embeddings, min_cosine) if photos[a] != photos[b])
    return settle(pairs, order)


def settle(pairs: Iterable[tuple[int, int, float]], order: np.ndarray) -> list[Duplicate]:
    """Down the ranking, a sample that matches a survivor above it falls to the best-ranked such survivor."""
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    above: dict[int, list[tuple[int, int, float]]] = defaultdict(list)
    for a, b, value in pairs:
        worse, better = (a, b) if rank[a] > rank[b] else (b, a)
        above[worse].append((int(rank[better]), better, value))
    found, gone = [], set()
    for index in sorted(above, key=lambda i: int(rank[i])):
        standing = [match for match in above[index] if match[1] not in gone]
        if standing:
            _, better, value = min(standing)
            found.append(Duplicate(index, better, round(value, 4)))
            gone.add(index)
    return found


def close_hashes(hashes: np.ndarray, distance: int) -> Iterator[tuple[int, int]]:
    """All pairs (a < b) of 64-bit hashes within `distance` bits.

    Exact by the pigeonhole principle: cut in distance + 1 bands, two such hashes agree in at least one whole band.
    """
    if len(hashes) < 2:
        return
    bands = distance + 1
    edges = np.linspace(0, HASH_BITS, bands + 1).astype(int)
    seen: set[tuple[int, int]] = set()
    for low, high in pairwise(edges):
        mask = np.uint64((1 << int(high - low)) - 1)
        band = (hashes >> np.uint64(low)) & mask
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.r_[True, band[order][1:] != band[order][:-1]])
        for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
            group = order[start:stop]
            for i in range(len(group) - 1):
                others = group[i + 1 :]
                near = np.bitwise_count(hashes[others] ^ hashes[group[i]]) <= distance
                for other in others[near]:
                    pair = (min(int(group[i]), int(other)), max(int(group[i]), int(other)))
                    if pair not in seen:
                        seen.add(pair)
                        yield pair


def close_embeddings(embeddings: np.ndarray, min_cosine: float) -> Iterator[tuple[int, int, float]]:
    """All pairs (a < b, cosine) of unit vectors (N, D) float32 with at least this cosine."""
    for a, b, cosines in close_blocks(embeddings, min_cosine):
        yield from zip(a.tolist(), b.tolist(), cosines.tolist(), strict=True)


def close_blocks(embeddings: np.ndarray, min_cosine: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The same pairs as arrays a, b (P,) int64 and cosines (P,), block by block (faiss, exact)."""
    if len(embeddings) < 2:
        return
    vectors = np.ascontiguousarray(embeddings, np.float32)
    faiss.omp_set_num_threads(1)  # the order of sums, and so the last digit, must not depend on the machine's cores
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    for start in range(0, len(vectors), 4096):
        limits, cosines, ids = index.range_search(vectors[start : start + 4096], min_cosine)
        rows = start + np.repeat(np.arange(len(limits) - 1), (limits[1:] - limits[:-1]).astype(np.int64))
        once = ids > rows
        yield rows[once], ids[once].astype(np.int64), cosines[once]
