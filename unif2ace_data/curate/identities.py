"""Identities: clusters of face embeddings, as connected components over a cosine threshold.

Single linkage on purpose (our choice): for splits that must not share a person, joining two people wrongly costs a
little freedom, cutting one person in two breaks the promise.
"""

from __future__ import annotations

import numpy as np

from unif2ace_data.dedup import close_embeddings


def cluster_identities(embeddings: np.ndarray, min_cosine: float) -> np.ndarray:
    """(N,) int64: for each unit embedding (N, D) the smallest index in its cluster."""
    parent = np.arange(len(embeddings), dtype=np.int64)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    for a, b, _ in close_embeddings(embeddings, min_cosine):
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return np.array([root(i) for i in range(len(parent))], np.int64)
