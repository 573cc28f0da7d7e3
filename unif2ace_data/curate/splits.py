"""Train, validation, test: each identity goes whole to one of them, by a hash of its smallest key.

Where each face of a photo is a sample, the people of one photo stay together as well: crops of neighbours overlap, and
light and background would tell a model which they are.

The hash makes the assignment independent of order and nearly independent of what else is in the dataset. With few
people a split can come out empty; then the person whose hash lies nearest to that split's range is moved there, and
what is impossible (more splits than people) is said.
"""

from __future__ import annotations

import hashlib
from collections import Counter

from unif2ace_data.recipe import Splits
from unif2ace_data.schema import SPLITS, Split


def assign_splits(
    keys: list[str],
    clusters: list[int],
    recipe: Splits,
    held_out: set[int] | None = None,
    settled: dict[str, Split] | None = None,
) -> tuple[list[Split], list[str]]:
    """(split of each sample, notes to the user).

    keys: sample keys; clusters: number of each sample's identity, or group of identities; held_out: those that must be in test
    (the test people of an earlier release); settled: splits in which samples, and so their people, stay. Where photos that
    came later join people of several splits, what was once held out stays held out: test before validation before train.
    """
    held_out = held_out or set()
    kept = stays(keys, clusters, settled or {})
    smallest: dict[int, str] = {}
    for key, cluster in zip(keys, clusters, strict=True):
        smallest[cluster] = min(key, smallest.get(cluster, key))
    places = {cluster: place(key, recipe.salt) for cluster, key in smallest.items()}
    edges = ranges(recipe)
    chosen: dict[int, Split] = {}
    for cluster, at in places.items():
        chosen[cluster] = next((s for s, (low, high) in edges.items() if low <= at < high), "train")
        chosen[cluster] = kept.get(cluster, chosen[cluster])
        if cluster in held_out:
            chosen[cluster] = "test"
    notes = fill_empty(chosen, places, edges, held_out | kept.keys())
    return [chosen[c] for c in clusters], notes


def stays(keys: list[str], clusters: list[int], settled: dict[str, Split]) -> dict[int, Split]:
    """The split of each cluster that has settled samples: the last of theirs in the order train, validation, test."""
    found: dict[int, Split] = {}
    for key, cluster in zip(keys, clusters, strict=True):
        if key in settled:
            found[cluster] = max(settled[key], found.get(cluster, settled[key]), key=SPLITS.index)
    return found


def join_by_photo(clusters: list[int], photos: list[int]) -> list[int]:
    """The group of each sample, as the smallest cluster in it: clusters that share a photo, also through others, are one.

    clusters, photos: cluster number and photo number of each sample.
    """
    parent = {cluster: cluster for cluster in clusters}

    def root(cluster: int) -> int:
        while parent[cluster] != cluster:
            parent[cluster] = parent[parent[cluster]]
            cluster = parent[cluster]
        return cluster

    first: dict[int, int] = {}  # of each photo, the cluster of its first sample
    for cluster, photo in zip(clusters, photos, strict=True):
        low, high = sorted((root(cluster), root(first.setdefault(photo, cluster))))
        parent[high] = low
    return [root(cluster) for cluster in clusters]


def place(key: str, salt: str) -> float:
    """A number in [0, 1) that depends on the key and the salt alone."""
    return int.from_bytes(hashlib.sha256(f"{salt}:{key}".encode()).digest()[:8], "big") / 2**64


def ranges(recipe: Splits) -> dict[Split, tuple[float, float]]:
    edges: dict[Split, tuple[float, float]] = {}
    low = 0.0
    for split in SPLITS:
        share = float(getattr(recipe, split))
        edges[split] = (low, low + share)
        low += share
    return edges


def fill_empty(
    chosen: dict[int, Split], places: dict[int, float], edges: dict[Split, tuple[float, float]], fixed: set[int]
) -> list[str]:
    """Move people into empty splits, in place; the notes say what could not be done."""
    notes = []
    for split in ("test", "validation", "train"):
        low, high = edges[split]
        if high <= low or split in chosen.values():
            continue
        sizes = Counter(chosen.values())
        movable = [c for c in chosen if sizes[chosen[c]] > 1 and c not in fixed]
        if not movable:
            notes.append(
                f"the {split} split is empty: {len(chosen)} identities cannot fill {sum(h > x for x, h in edges.values())} "
                "splits without sharing a person"
            )
            continue
        nearest = min(movable, key=lambda c: (abs(places[c] - (low + high) / 2), places[c]))
        chosen[nearest] = split
    return notes
