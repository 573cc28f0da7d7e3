"""Pairs across two sets: as all cosines tell; copies: as all hashes tell."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unif2ace_data.curate.leaks import cross_pairs, hash_distance, near_copies


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@given(st.integers(0, 12), st.integers(0, 12), st.floats(-0.9, 0.9), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_pairs_over_the_threshold_are_all_counted_and_the_nearest_listed(
    n: int, m: int, threshold: float, most: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    first, second = unit(rng.normal(size=(n, 3))), unit(rng.normal(size=(m, 3)))
    cosines = first @ second.T
    if (np.abs(cosines - threshold) < 1e-4).any():
        return  # the last digit decides: nothing to compare
    found = cross_pairs(first, second, threshold, most)
    assert found.over == (cosines >= threshold).sum()
    assert np.allclose(found.cosines, cosines[found.first, found.second], atol=1e-5)
    assert (np.diff(found.cosines) <= 0).all()
    assert len(set(zip(found.first.tolist(), found.second.tolist(), strict=True))) == len(found.first) <= most
    if n and m:
        expected = np.sort(cosines.ravel())[::-1][: min(most, found.over) or 1]
        assert np.allclose(found.cosines[: len(expected)], expected, atol=1e-5)


def test_the_sides_keep_their_places_whichever_is_larger() -> None:
    one, three = unit(np.array([[1.0, 0]])), unit(np.array([[0, 1.0], [1, 0.1], [-1, 0]]))
    assert (cross_pairs(one, three, 0.9, 9).first.tolist(), cross_pairs(one, three, 0.9, 1).second.tolist()) == (
        [0, 0, 0],
        [1],
    )
    assert (cross_pairs(three, one, 0.9, 1).first.tolist(), cross_pairs(three, one, 0.9, 1).second.tolist()) == (
        [1],
        [0],
    )


def test_a_pair_at_the_threshold_counts() -> None:
    first, second = unit(np.array([[1.0, 0]])), unit(np.array([[0.6, 0.8]]))
    at = float(np.float32(0.6))
    assert cross_pairs(first, second, at, 5).over == 1
    assert cross_pairs(first, second, float(np.nextafter(np.float32(0.6), np.float32(1))), 5).over == 0


@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2)), max_size=12),
    st.integers(0, 10),
)
def test_copies_are_those_of_another_group_plain_or_mirrored(rows: list[tuple[int, int, int]], distance: int) -> None:
    rows = [*rows, *((m, h ^ 3, g + 1) for h, m, g in rows[:4])]  # mirrored, two bits off, elsewhere
    hashes = np.array([[h, m] for h, m, _ in rows], np.uint64).reshape(-1, 2)
    groups = np.array([g for *_, g in rows], np.int64)
    expected = {}
    for a in range(len(rows)):
        for b in range(a + 1, len(rows)):
            ways = [(0, 0), (0, 1), (1, 0)]
            bits = min((rows[a][i] ^ rows[b][j]).bit_count() for i, j in ways)
            if groups[a] != groups[b] and bits <= distance:
                expected[a, b] = bits
    assert {(a, b): bits for a, b, bits in near_copies(hashes, groups, distance)} == expected


def test_distance_takes_the_nearer_of_picture_and_mirror() -> None:
    first, second = np.array([[0b1111, 7]], np.uint64), np.array([[0, 0b1110]], np.uint64)
    assert hash_distance(first, second).tolist() == [1]
