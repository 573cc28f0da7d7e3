"""Identities: clusters of face embeddings, as connected components over a cosine threshold.

Single linkage on purpose (our choice): for splits that must not share a person, joining two people wrongly costs a
little freedom, cutting one person in two breaks the promise. Up to EXACT faces every pair is looked at. Of more, only
pairs are looked at that an inverted file brings together: each face is compared with the members of the PROBES cells
that lie nearest to it, and few are missed (docs/audit.md; `audit` compares exactly). There a pair joins by its cosine in
double precision, so that the number of threads decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import faiss
import numpy as np

from unif2ace_data.dedup import close_blocks

EXACT = 150_000  # our choice: more faces than this are not compared each with each (a minute or a few on one core)
PROBES = 64  # our choice: cells that a face is looked for in
TRAINED_ON = 40  # faces a cell, for k-means (faiss asks for 39 at least)
ROUNDS = 8  # of k-means
BLOCK = 4096  # faces of one cell that are compared at a time: bounds the memory of a crowded cell
MARGIN = 1e-4  # candidates are chosen this much below the threshold, in single precision
STEP, STEPS = 0.02, 10  # our choice: higher thresholds that are tried for a crowded cluster


def cluster_identities(embeddings: np.ndarray, min_cosine: float) -> np.ndarray:
    """(N,) int64: for each unit embedding (N, D) the smallest index in its cluster."""
    return cluster_at(embeddings, [min_cosine])[0]


def cluster_at(embeddings: np.ndarray, cosines: list[float]) -> list[np.ndarray]:
    """The clusters (cluster_identities) at several thresholds, the lowest first, in one search."""
    parents = [np.arange(len(embeddings), dtype=np.int64) for _ in cosines]
    for a, b, cosine in close_pairs(embeddings, cosines[0]):
        for parent, least in zip(parents, cosines, strict=True):
            near = cosine >= least
            join(parent, a[near], b[near])
    return [roots(parent, np.arange(len(parent))) for parent in parents]


def join(parent: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """Make the clusters of each pair (a, b) one, in place: a root's parent is the smaller root."""
    while len(a):
        one, other = roots(parent, a), roots(parent, b)
        apart = one != other
        a, b = a[apart], b[apart]
        low, high = np.minimum(one, other)[apart], np.maximum(one, other)[apart]
        np.minimum.at(parent, high, low)


def roots(parent: np.ndarray, of: np.ndarray) -> np.ndarray:
    """The root of each, with the way there shortened in place."""
    at = parent[of]
    while True:
        above = parent[at]
        if (above == at).all():
            break
        at = parent[above]
    parent[of] = at
    return np.asarray(at)


# ------------------------------------------------------------------ pairs

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]  # a, b (P,) int64; cosines (P,)


def close_pairs(embeddings: np.ndarray, min_cosine: float) -> Iterator[Pairs]:
    """Pairs of unit vectors (N, D) with at least this cosine, in batches: all of them up to EXACT, most of more.

    Above EXACT a pair may come twice.
    """
    return (pairs_by_cell if len(embeddings) > EXACT else close_blocks)(embeddings, min_cosine)


def pairs_by_cell(embeddings: np.ndarray, min_cosine: float) -> Iterator[Pairs]:
    """What an inverted file finds: pairs of which one lies in one of the PROBES cells nearest to the other."""
    vectors = np.ascontiguousarray(embeddings, np.float32)
    faiss.omp_set_num_threads(1)  # which cells are nearest must not depend on the machine's cores
    cells = cells_of(vectors)
    probes = np.empty((len(vectors), min(PROBES, len(cells))), np.int32)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(cells)
    for start in range(0, len(vectors), BLOCK):
        probes[start : start + BLOCK] = index.search(vectors[start : start + BLOCK], probes.shape[1])[1]
    home = np.argsort(probes[:, 0], kind="stable")
    home_edges = np.searchsorted(probes[home, 0], np.arange(len(cells) + 1))
    visits = np.argsort(probes, axis=None, kind="stable")  # flat places, by cell
    visit_edges = np.searchsorted(probes.ravel()[visits], np.arange(len(cells) + 1))
    for (low, high), (first, last) in zip(pairwise(home_edges), pairwise(visit_edges), strict=True):
        members, visitors = home[low:high], visits[first:last] // probes.shape[1]
        for start in range(0, len(visitors), BLOCK):
            for begin in range(0, len(members), BLOCK):
                yield from compared(
                    vectors, visitors[start : start + BLOCK], members[begin : begin + BLOCK], min_cosine
                )


def compared(vectors: np.ndarray, some: np.ndarray, others: np.ndarray, min_cosine: float) -> Iterator[Pairs]:
    rows, columns = np.nonzero(vectors[some] @ vectors[others].T >= min_cosine - MARGIN)
    a, b = some[rows], others[columns]
    a, b = a[a != b], b[a != b]
    for start in range(0, len(a), BLOCK * 16):
        one, other = a[start : start + BLOCK * 16], b[start : start + BLOCK * 16]
        exact = np.einsum("nd,nd->n", vectors[one], vectors[other], dtype=np.float64)
        near = exact >= min_cosine
        yield one[near], other[near], exact[near]


def cells_of(vectors: np.ndarray) -> np.ndarray:
    """(cells, D) centroids by k-means from a fixed seed: twice as many as the root of N."""
    count = round(2 * len(vectors) ** 0.5)
    kmeans = faiss.Kmeans(
        vectors.shape[1], count, niter=ROUNDS, seed=1, spherical=True, max_points_per_centroid=TRAINED_ON
    )
    kmeans.train(vectors)
    return np.asarray(kmeans.centroids)


# ------------------------------------------------------------------ crowded clusters


def crowded(clusters: np.ndarray) -> int:
    """Size of the largest cluster where it is so large that strangers were probably joined; else 0.

    Our choice: more than 20 samples and more than a twentieth of all.
    """
    largest = int(np.bincount(clusters).max(initial=0))
    return largest if largest > max(20, 0.05 * len(clusters)) else 0


def uncrowded_cosine(embeddings: np.ndarray, min_cosine: float) -> float | None:
    """The lowest of a few higher thresholds at which no cluster is crowded; None where none of them is high enough."""
    tried = [round(min_cosine + STEP * i, 4) for i in range(1, STEPS + 1)]
    tried = [cosine for cosine in tried if cosine < 1]
    for cosine, clusters in zip(tried, cluster_at(embeddings, tried) if tried else [], strict=True):
        if not crowded(clusters):
            return cosine
    return None
