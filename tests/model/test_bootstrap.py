"""Intervals: whole people are drawn again, and the interval covers what it should as often as it should."""

from __future__ import annotations

import numpy as np
import pytest

from unif2ace_model.bootstrap import Bootstrap, Figure


def test_the_value_is_the_ratio_of_the_sums() -> None:
    bootstrap = Bootstrap([0, 0, 1, 2])
    figure = bootstrap.ratio([0, 1, 2, 3, 3], [1, 0, 1, 1, 0])
    assert figure.value == pytest.approx(3 / 5)
    assert bootstrap.ratio([0, 2], [6.0, 3.0], [2, 4]).value == pytest.approx(9 / 6)
    assert bootstrap.identities == 3


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """60 people with an accuracy each, of 10 questions: 95 % intervals of 200 such splits."""
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        skill = rng.beta(2, 2, 60)
        right = (rng.random((60, 10)) < skill[:, None]).ravel()
        figure = Bootstrap(list(range(60)), draws=300, seed=seed).ratio(np.repeat(np.arange(60), 10), right)
        assert figure.low is not None and figure.high is not None
        covered += figure.low <= 0.5 <= figure.high
    assert 180 <= covered <= 198


def test_one_person_s_many_questions_are_no_evidence_of_many_people() -> None:
    """The same rows: of 100 people the interval is narrow, of 4 people who are each all right or all wrong it is not."""
    right = np.repeat([1, 1, 0, 0], 25)
    many = Bootstrap(list(range(100))).ratio(np.arange(100), right)
    few = Bootstrap(np.repeat(np.arange(4), 25).tolist()).ratio(np.arange(100), right)
    assert many.high - many.low < 0.25  # type: ignore[operator]
    assert few.high - few.low >= 0.75  # type: ignore[operator]


def test_what_one_person_alone_bears_on_has_no_interval_and_what_nobody_does_no_value() -> None:
    bootstrap = Bootstrap([0, 0, 1])
    assert bootstrap.ratio([0, 1], [1, 0]) == Figure(0.5, None, None)
    assert bootstrap.ratio([], []) == Figure(None, None, None)
    assert Figure(None, None, None).as_json() == {"value": None, "low": None, "high": None}


def test_the_same_people_are_drawn_for_every_figure() -> None:
    """So an interval of a difference is that of the difference, not of two figures that vary by themselves."""
    bootstrap = Bootstrap(list(range(50)))
    right = np.random.default_rng(1).random(50)
    none = bootstrap.ratio(np.arange(50), right - right)
    assert (none.low, none.high) == (0, 0)


def test_a_difference_of_ratios_is_of_the_same_people() -> None:
    bootstrap = Bootstrap(list(range(40)))
    right = np.random.default_rng(2).random(40) < 0.5
    one, other = (np.arange(40), right), (np.arange(40), right * 0.5)
    assert bootstrap.difference(one, one) == Figure(0, 0, 0)
    found = bootstrap.difference(one, other)
    assert found.value == pytest.approx(right.mean() / 2)
    alone = bootstrap.ratio(*one)
    assert found.high - found.low == pytest.approx((alone.high - alone.low) / 2)  # type: ignore[operator]
    assert bootstrap.difference(one, ([], [])) == Figure(None, None, None)
