"""Wilson's interval, and Newcombe's of a difference: by hand, by tables, by another implementation, and by what defines them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from unif2ace_data.curate.intervals import Z, newcombe, wilson


def test_wilson_as_tables_have_it() -> None:
    assert wilson(29, 30) == pytest.approx((0.833, 0.994), abs=1e-3)
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_by_hand() -> None:
    assert wilson(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    assert wilson(3, 3)[1] == 1.0 and wilson(3, 3)[0] == pytest.approx(3 / (3 + Z * Z))
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 3000), st.data())
def test_wilsons_interval(count: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, count))
    expected = reference.binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert wilson(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(st.integers(1, 2000), st.data())
def test_wilsons_ends_are_where_the_test_turns(cases: int, data: st.DataObject) -> None:
    """The ends solve |p - share| = z sqrt(p (1 - p) / n)."""
    right = data.draw(st.integers(0, cases))
    low, high = wilson(right, cases)
    assert 0 <= low <= right / cases <= high <= 1
    for p in (low, high):
        if 0 < p < 1:
            assert abs(p - right / cases) == pytest.approx(Z * math.sqrt(p * (1 - p) / cases), rel=1e-6)


@given(right=st.integers(0, 200), wrong=st.integers(0, 200))
def test_wilson_holds_the_share(right: int, wrong: int) -> None:
    low, high = wilson(right, right + wrong)
    share = right / max(right + wrong, 1)
    assert 0 <= low <= share + 1e-9 and (share - 1e-9 <= high <= 1 + 1e-9)


def test_newcombe_as_the_paper_has_it() -> None:
    """Newcombe 1998, table II, method 10: 56/70 - 48/80, 9/10 - 3/10, 5/56 - 0/29, 10/10 - 0/20."""
    assert newcombe(48, 80, 56, 70) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert newcombe(3, 10, 9, 10) == pytest.approx((0.1705, 0.8090), abs=1e-4)
    assert newcombe(0, 29, 5, 56) == pytest.approx((-0.0381, 0.1926), abs=1e-4)
    assert newcombe(0, 20, 10, 10) == pytest.approx((0.6791, 1.0), abs=1e-4)


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))
def test_newcombe_holds_the_difference_and_turns_with_its_sides(r: int, s: int, x: int, y: int) -> None:
    low, high = newcombe(r, r + s, x, x + y)
    assert newcombe(x, x + y, r, r + s) == pytest.approx((-high, -low))
    assert -1.0000001 <= low <= high <= 1.0000001
    if r + s and x + y:
        assert low <= x / (x + y) - r / (r + s) <= high
