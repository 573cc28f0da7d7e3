"""Duplicates: exact search, deterministic survivors."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unif2ace_data.curate.identities import cluster_identities
from unif2ace_data.dedup import close_embeddings, close_hashes, face_duplicates, perceptual_duplicates, ranking, settle


@given(arrays(np.uint64, st.integers(0, 40), elements=st.integers(0, 2**64 - 1)), st.integers(0, 8), st.data())
@settings(max_examples=60)
def test_close_hashes_are_all_pairs_within_the_distance(hashes: np.ndarray, distance: int, data) -> None:
    if len(hashes) > 1:  # plant near neighbours: random 64-bit hashes are never close
        for i in range(1, len(hashes)):
            if data.draw(st.booleans()):
                flips = data.draw(st.lists(st.integers(0, 63), max_size=9))
                hashes[i] = hashes[i - 1] ^ np.uint64(sum({1 << f for f in flips}))
    brute = {
        (a, b)
        for a in range(len(hashes))
        for b in range(a + 1, len(hashes))
        if (int(hashes[a]) ^ int(hashes[b])).bit_count() <= distance
    }
    found = list(close_hashes(hashes, distance))
    assert set(found) == brute and len(found) == len(brute)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_close_embeddings_are_all_pairs_over_the_cosine() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(200, 8)))
    cosines = vectors @ vectors.T
    brute = {(a, b) for a in range(200) for b in range(a + 1, 200) if cosines[a, b] > 0.8}
    assert {(a, b) for a, b, _ in close_embeddings(vectors, 0.8)} == brute


def test_the_best_of_a_group_survives_whatever_the_order() -> None:
    vectors = unit(np.array([[1, 0], [1, 0.01], [0, 1], [1, 0.02]], float))
    keys = ["d", "c", "b", "a"]
    size = np.array([100.0, 300.0, 50.0, 300.0])
    sharp = np.array([10.0, 20.0, 5.0, 20.0])
    order = ranking(size, sharp, keys)
    assert [keys[i] for i in order] == ["a", "c", "d", "b"]  # equal size and sharpness: the smaller key
    found = face_duplicates(vectors, np.arange(4), order, 0.99)
    assert {(keys[d.index], keys[d.survivor]) for d in found} == {("c", "a"), ("d", "a")}


def test_a_loser_takes_nobody_with_it() -> None:
    # a ~ b and b ~ c, but a and c differ: b falls to a, so c has no survivor to fall to.
    order = np.array([0, 1, 2])
    found = settle([(0, 1, 0.99), (1, 2, 0.99)], order)
    assert [(d.index, d.survivor) for d in found] == [(1, 0)]


def test_close_hashes_of_different_people_are_no_duplicates() -> None:
    hashes = np.array([5, 5], np.uint64)
    strangers, twins = unit(np.array([[1, 0], [0, 1]], float)), unit(np.array([[1, 0], [1, 0.1]], float))
    order = np.array([0, 1])
    assert perceptual_duplicates(hashes, np.array([0, 1]), strangers, order, 4, 0.6) == []
    assert len(perceptual_duplicates(hashes, np.array([0, 1]), twins, order, 4, 0.6)) == 1


def test_faces_of_one_photo_are_not_duplicates_of_each_other() -> None:
    vectors = unit(np.array([[1, 0], [1, 0.001]], float))
    assert face_duplicates(vectors, np.array([7, 7]), np.array([0, 1]), 0.9) == []


@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_identities_are_connected_components(n: int, seed: int) -> None:
    vectors = unit(np.random.default_rng(seed).normal(size=(n, 3)))
    clusters = cluster_identities(vectors, 0.7)
    for a, b, _ in close_embeddings(vectors, 0.7):
        assert clusters[a] == clusters[b]
    assert all(clusters[c] == c and c <= i for i, c in enumerate(clusters))
