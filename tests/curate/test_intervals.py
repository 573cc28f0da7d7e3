"""Wilson's interval: by hand, by tables, by another implementation, and by what defines its ends."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from unif2ace_data.curate.intervals import Z, wilson


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
