"""The test of paired differences: closed forms, exactness, and that test and interval say the same."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unif2ace_model.paired import (
    detectable,
    family_p,
    flips,
    interval,
    over_people,
    p_values,
    sign_flip,
    smallest_found,
)

DIFFERENCES = st.lists(st.floats(-10, 10).filter(lambda x: abs(x) > 1e-3), min_size=6, max_size=9, unique=True)


def test_flips_are_all_of_them_once() -> None:
    assert {tuple(row) for row in flips(5)} == set(itertools.product((1.0, -1.0), repeat=5))
    assert (flips(5)[0] == 1).all()
    assert flips(20).shape == (20_000, 20)


def test_pairs_that_all_point_one_way_have_the_smallest_p_there_is() -> None:
    for pairs in (3, 5, 8):
        assert sign_flip(np.arange(1.0, pairs + 1)) == 2 / 2**pairs
    assert sign_flip(np.arange(1.0, 6)) > 0.06  # five pairs cannot go under


def test_a_p_by_hand() -> None:
    # sums of +-1 +-2 +-3 that are as far from zero as 1 + 2 - 3 = 0: all eight
    assert sign_flip(np.array([1.0, 2, -3])) == 1
    # as far as 3 + 2 - 1 = 4: 6, 4 and their negatives
    assert sign_flip(np.array([-1.0, 2, 3])) == 4 / 8


@given(DIFFERENCES)
@settings(max_examples=60, deadline=None)
def test_the_interval_is_what_the_test_does_not_refuse(differences: list[float]) -> None:
    seen = np.array(differences)
    found = interval(seen)
    assert found is not None and found.low <= seen.mean() <= found.high
    width = found.high - found.low
    for inside in (found.low + 0.01 * width, (found.low + found.high) / 2, found.high - 0.01 * width):
        assert sign_flip(seen - inside) > 0.05
    for outside in (found.low - 0.01 * width - 1e-6, found.high + 0.01 * width + 1e-6):
        assert sign_flip(seen - outside) <= 0.05


def test_five_pairs_have_no_interval() -> None:
    assert interval(np.arange(5.0)) is None
    assert smallest_found(np.arange(5.0)) is None


@given(DIFFERENCES)
@settings(max_examples=30, deadline=None)
def test_turning_both_variants_turns_the_answer(differences: list[float]) -> None:
    seen = np.array(differences)
    one, other = interval(seen), interval(-seen)
    assert one is not None and other is not None
    assert sign_flip(seen) == sign_flip(-seen)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_a_family_of_one_is_the_test_itself_and_of_copies_costs_nothing() -> None:
    seen = np.random.default_rng(1).normal(0.5, 1, 8)
    assert family_p(seen[:, None]) == pytest.approx([sign_flip(seen)])
    assert family_p(np.stack([seen, 3 * seen, -seen], 1)) == pytest.approx([sign_flip(seen)] * 3)


def test_a_measurement_that_never_moves_is_no_evidence() -> None:
    seen = np.stack([np.arange(1.0, 9), np.zeros(8)], 1)
    assert family_p(seen) == pytest.approx([2 / 256, 1])


def test_a_family_gives_false_alarms_no_oftener_than_one_test() -> None:
    """400 nulls of six measurements, three of which are nearly one: at most 5 % with an alarm, and not far under."""
    chance, alarms = np.random.default_rng(2), 0
    for _ in range(400):
        common = chance.normal(size=(8, 1))
        seen = np.concatenate([common + 0.1 * chance.normal(size=(8, 3)), chance.normal(size=(8, 3))], 1)
        alarms += bool((family_p(seen) < 0.05).any())
    assert 8 <= alarms <= 32  # 20 expected; either end is 2.8 standard deviations away


def test_the_test_alone_is_exact() -> None:
    """Eight pairs: 12 of 256 flips are refused, 4.7 %."""
    nulls = np.random.default_rng(3).standard_t(3, size=(4000, 8))
    assert abs(np.mean(p_values(nulls, flips(8)) < 0.05) - 12 / 256) < 0.01


def test_the_smallest_difference_is_found_in_four_of_five() -> None:
    size = detectable(8)
    fresh = np.random.default_rng(4).standard_normal((4000, 8)) + size
    assert abs(np.mean(p_values(fresh, flips(8)) < 0.05) - 0.8) < 0.03
    seen = np.array([1.0, 2, 3, 4, 5, 6, 7, 8])
    assert smallest_found(seen) == pytest.approx(size * seen.std(ddof=1))


def test_people_widen_an_interval_of_differences_that_are_people_s() -> None:
    chance = np.random.default_rng(5)
    below = np.ones((8, 40))
    a = np.zeros((8, 40)) + 0.01 * chance.normal(size=(8, 40))
    same = 0.2 + 0.01 * chance.normal(size=(8, 40))
    scattered = same + chance.normal(size=(1, 40)) * 0.3
    narrow, wide = over_people((a, below), (a + same, below)), over_people((a, below), (a + scattered, below))
    assert narrow is not None and wide is not None
    assert narrow.low < 0.2 < narrow.high
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)
    assert over_people((a[:, :1], below[:, :1]), (a[:, :1], below[:, :1])) is None
