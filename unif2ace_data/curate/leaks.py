"""Who is on both sides: the nearest pairs of faces between two sets, and pictures that are nearly the same.

The search is exact (faiss, flat, in blocks): an audit that looks at a sample of the pairs proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np

from unif2ace_data.dedup import close_hashes

BLOCK = 1024  # queries at a time
NEIGHBOURS = 3  # our choice: nearest faces that each query may add to a list that leaks do not fill


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of rows (first (P,), second (P,)) by falling cosine (P,); `over`: how many reach the threshold, listed or not."""

    first: np.ndarray
    second: np.ndarray
    cosines: np.ndarray
    over: int


def cross_pairs(first: np.ndarray, second: np.ndarray, threshold: float, most: int) -> Pairs:
    """The `most` nearest pairs between unit vectors (N, D) and (M, D) float32.

    Every pair at or over `threshold` is counted; those under it are looked for only where there are fewer than `most`.
    """
    if not len(first) or not len(second):
        empty = np.zeros(0, np.int64)
        return Pairs(empty, empty, np.zeros(0, np.float32), 0)
    turned = len(first) > len(second)
    queries, base = (second, first) if turned else (first, second)
    faiss.omp_set_num_threads(1)  # the order of sums, and so the last digit, must not depend on the machine's cores
    index = faiss.IndexFlatIP(base.shape[1])
    index.add(np.ascontiguousarray(base, np.float32))
    best, over = leaking(index, queries, threshold, most)
    if over < most:
        best = nearest_of([best, under(index, queries, threshold)], most)
    rows, others, cosines = best
    return Pairs(others, rows, cosines, over) if turned else Pairs(rows, others, cosines, over)


Found = tuple[np.ndarray, np.ndarray, np.ndarray]  # query rows, base rows, cosines


def leaking(index: faiss.IndexFlatIP, queries: np.ndarray, threshold: float, most: int) -> tuple[Found, int]:
    """The `most` nearest pairs at or over the threshold, and how many there are."""
    at_least = float(np.nextafter(np.float32(threshold), np.float32(-2)))  # faiss takes what is over its radius
    best: Found = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    over = 0
    for start in range(0, len(queries), BLOCK):
        block = np.ascontiguousarray(queries[start : start + BLOCK], np.float32)
        limits, cosines, ids = index.range_search(block, at_least)
        over += len(ids)
        rows = start + np.repeat(np.arange(len(block)), (limits[1:] - limits[:-1]).astype(np.int64))
        best = nearest_of([best, (rows, ids, cosines)], most)
    return best, over


def under(index: faiss.IndexFlatIP, queries: np.ndarray, threshold: float) -> Found:
    """Each query's nearest faces, as far as they lie under the threshold."""
    k = min(NEIGHBOURS, index.ntotal)
    cosines, ids = index.search(np.ascontiguousarray(queries, np.float32), k)
    rows = np.repeat(np.arange(len(queries)), k)
    below = cosines.ravel() < np.float32(threshold)
    return rows[below], ids.ravel()[below], cosines.ravel()[below]


def nearest_of(parts: list[Found], most: int) -> Found:
    """The pairs of all parts by falling cosine, then by row, at most so many."""
    rows, others, cosines = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((others, rows, -cosines))[:most]
    return rows[order].astype(np.int64), others[order].astype(np.int64), cosines[order].astype(np.float32)


def hash_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(P,) bits in which 64-bit hashes differ, one picture taken as it is or mirrored. (P, 2) uint64 each: hash, mirrored."""
    plain = np.bitwise_count(first[:, 0] ^ second[:, 0])
    return np.asarray(np.minimum(plain, np.bitwise_count(first[:, 0] ^ second[:, 1])), np.int64)


def near_copies(hashes: np.ndarray, groups: np.ndarray, distance: int) -> list[tuple[int, int, int]]:
    """(a, b, bits) of pictures in different groups (N,) whose hashes (N, 2) differ in at most `distance` bits, a < b.

    The second picture counts as it is and mirrored. Sorted by bits.
    """
    count = len(hashes)
    found: dict[tuple[int, int], int] = {}
    for a, b in close_hashes(np.concatenate([hashes[:, 0], hashes[:, 1]]), distance):
        one, other = a % count, b % count
        if (a < count or b < count) and groups[one] != groups[other]:
            pair = (min(one, other), max(one, other))
            bits = int(np.bitwise_count(hashes[one, a // count] ^ hashes[other, b // count]))
            found[pair] = min(bits, found.get(pair, bits))
    return sorted(((a, b, bits) for (a, b), bits in found.items()), key=lambda pair: (pair[2], pair[0], pair[1]))
