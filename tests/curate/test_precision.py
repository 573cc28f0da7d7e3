"""Measured precision: closed forms, and weights that lead from the draw back to the dataset."""

from __future__ import annotations

from typing import Any

import pytest

from unif2ace_data.curate.intervals import wilson
from unif2ace_data.curate.precision import kappa, outcome, precision_report
from unif2ace_data.curate.review import Draw, Item

COMMON, RARE = ("smile", "supported", "0.98 and over"), ("smile", "unverified", "no record")


def item(number: int, stratum: tuple[str, str, str], *statements: tuple[str, bool]) -> Item:
    return Item(f"{number:032x}", stratum[0], "broad", stratum, statements or (("face_landmarker", False),))


def said(one: Item, answer: str, reviewer: str = "ab") -> dict[str, str]:
    return {
        "key": one.key, "attribute": one.attribute, "value": one.value, "reviewer": reviewer, "answer": answer, "right": "",
    }  # fmt: skip


def test_kappa_by_hand() -> None:
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    assert kappa(pairs) == pytest.approx(0.4)  # po 0.7, pe 0.5
    assert kappa([("yes", "yes"), ("no", "no")]) == 1 and kappa([("yes", "no"), ("no", "yes")]) == -1
    assert kappa([("yes", "yes")] * 3) is None and kappa([]) is None


def test_outcomes_of_several_people() -> None:
    assert [outcome(a) for a in (["yes", "yes"], ["yes", "cannot_tell"], ["yes", "no"], ["cannot_tell"])] == [
        "yes", "yes", "disputed", "cannot_tell",
    ]  # fmt: skip


def test_precision_is_weighted_back_to_the_strata() -> None:
    """90 common statements of which 4 of 4 are right, 10 rare ones of which 1 of 4 is: 0.625 as drawn, 0.925 in truth."""
    common, rare = [item(i, COMMON) for i in range(5)], [item(i, RARE) for i in range(10, 14)]
    draw = Draw("r", {COMMON: 90, RARE: 10, ("mouth", "measured", "x"): 25}, common + rare)
    answers = [said(i, "yes") for i in common[:4]] + [said(common[4], "cannot_tell")]
    answers += [said(i, a) for i, a in zip(rare, ("yes", "no", "no", "no"), strict=True)]
    report = precision_report(draw, answers)
    smile: dict[str, Any] = report["by_attribute"]["smile"]
    assert (smile["answered"], smile["right"], smile["cannot_tell"], smile["covers"]) == (8, 5, 1, 1.0)
    assert smile["precision"] == 0.625 and smile["weighted"] == pytest.approx((90 * 1 + 10 * 0.25) / 100)
    effective = 100**2 / (4 * 22.5**2 + 4 * 2.5**2)
    assert (smile["weighted_low"], smile["weighted_high"]) == pytest.approx(
        wilson(0.925 * effective, effective), abs=1e-4
    )
    assert (smile["low"], smile["high"]) == pytest.approx(wilson(5, 8), abs=1e-4)
    assert report["overall"]["covers"] == 0.8 and report["statements"] == 125  # nobody looked at the mouths
    assert report["by_verdict"]["unverified"]["precision"] == 0.25 == report["by_verdict"]["unverified"]["weighted"]


def test_each_engine_is_judged_by_what_it_says() -> None:
    both = item(0, COMMON, ("face_landmarker", False), ("caption by openai m", True))
    denied = item(1, COMMON, ("caption by openai m", True))
    report = precision_report(Draw("r", {COMMON: 2}, [both, denied]), [said(both, "yes"), said(denied, "no")])
    assert report["by_engine"]["face_landmarker"]["right"] == 1
    assert (
        report["by_engine"]["caption by openai m"]["right"],
        report["by_engine"]["caption by openai m"]["answered"],
    ) == (1, 2)
    assert report["overall"]["right"] == 2


def test_disagreement_counts_for_neither_side() -> None:
    one, other = item(0, COMMON), item(1, COMMON)
    answers = [said(one, "yes"), said(one, "no", "cd"), said(other, "yes"), said(other, "yes", "cd")]
    report = precision_report(Draw("r", {COMMON: 2}, [one, other]), answers)
    assert (report["overall"]["answered"], report["overall"]["disputed"]) == (1, 1)
    assert report["agreement"] == [{"reviewers": ["ab", "cd"], "items": 2, "agreed": 1, "kappa": 0.0}]
    assert report["reviewers"] == ["ab", "cd"]


def test_without_answers_there_are_no_figures() -> None:
    report = precision_report(Draw("r", {COMMON: 2}, [item(0, COMMON)]), [])
    assert report["overall"] == {"answered": 0, "right": 0, "cannot_tell": 0, "disputed": 0, "covers": 0.0}
    assert report["by_attribute"] == {} and report["agreement"] == []
