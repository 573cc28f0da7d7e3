"""Distributions of two datasets: shares, total variation and quantiles in closed form, from the statistics alone."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unif2ace_data.curate.shifts import NOT_STATED, compared, distributions, measures, quantiles
from unif2ace_data.schema import SPLITS

COUNTS = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 50), max_size=5)
EDGES = (0, 10, 20, 30)


def stats(
    kept: int = 10, smiles: dict[str, int] | None = None, tokens: tuple[int, int, int] = (0, 10, 0)
) -> dict[str, Any]:
    """What `distributions` and `measures` read of a stats.json."""
    smiles = {"none": 6, "broad": 2} if smiles is None else smiles
    values = [{"value": v, "samples": n, "share": n / kept} for v, n in smiles.items()]
    return {
        "kept": kept,
        "splits": {split: {"samples": kept if split == "train" else 0} for split in SPLITS},
        "datasets": {"folder": {"kept": kept}},
        "licences": {"": kept},
        "attributes_per_sample": 0.8,
        "attributes": [{"name": "smile", "group": "action", "samples": sum(smiles.values()), "values": values}] if smiles else [],
        "captions": {
            "engines": {"grounded": kept}, "tokens_mean": 15.0, "attributes_per_caption": 1.0,
            "varied_attributes_per_caption": 1.0, "token_edges": list(EDGES), "token_counts": list(tokens),
        },
        "claims": {"total": 10, "supported": 9, "contradicted": 0, "unverified": 1},
        "qa": {
            "total": 0, "per_sample": 0.0, "not_visible": 0, "blind": {"above_chance": 0.0}, "samples_by_questions": {"0": kept},
            "kinds": {}, "groups": {}, "attributes": {}, "verdicts": {}, "sources": {}, "letters": {},
        },
        "fairness": {"balance": {"gender": [{"group": "female", "samples": kept}]}},
        "distributions": {"yaw": {"unit": "degrees", "edges": [-90, 0, 90], "kept": [kept, 0], "mean": -5.0}},
    }  # fmt: skip


def named(a: dict[str, Any], b: dict[str, Any], name: str) -> Any:
    return next(d for d in distributions(a, b) if d.name == name)


def test_shares_and_total_variation_by_hand() -> None:
    found = named(stats(), stats(20, {"none": 4, "broad": 16}), "smile")
    told = {v.value: (v.a, v.b, v.share_a, v.share_b, v.points) for v in found.values}
    assert told == {
        "broad": (2, 16, 0.2, 0.8, 60.0), "none": (6, 4, 0.6, 0.2, -40.0), NOT_STATED: (2, 0, 0.2, 0.0, -20.0),
    }  # fmt: skip
    assert [v.value for v in found.values] == ["broad", "none", NOT_STATED] and found.total_variation == 0.6
    assert [v.clear for v in found.values] == [True, True, False]


def test_an_attribute_that_one_lacks_is_not_stated_there() -> None:
    found = named(stats(), stats(10, {}), "smile")
    assert {v.value: (v.share_a, v.share_b) for v in found.values}[NOT_STATED] == (0.2, 1.0)
    assert found.total_variation == 0.8


def test_what_differs_most_stands_first_and_equal_ones_say_zero() -> None:
    found = distributions(stats(), stats(10, {"none": 1, "broad": 7}, (10, 0, 0)))
    assert [d.name for d in found[:2]] == ["caption tokens", "smile"] and found[0].total_variation == 1
    assert {d.total_variation for d in found[2:]} == {0}
    assert {d.total_variation for d in distributions(stats(), stats())} == {0}


def test_what_one_has_no_cases_of_is_not_compared() -> None:
    other = stats()
    other["qa"] = {**other["qa"], "kinds": {"open": 5}}
    assert not any(d.name == "kind" for d in distributions(stats(), other))
    assert any(d.name == "kind" for d in distributions(other, other))


@given(COUNTS, COUNTS)
def test_total_variation_is_half_the_distance_and_symmetric(a: dict[str, int], b: dict[str, int]) -> None:
    there, back = compared(("g", "n"), a, b), compared(("g", "n"), b, a)
    if there.a and there.b:
        p, q = (np.array([counts.get(v, 0) for v in "abcde"]) / sum(counts.values()) for counts in (a, b))
        assert there.total_variation == pytest.approx(np.abs(p - q).sum() / 2, abs=1e-4)
        assert 0 <= there.total_variation <= 1
    assert there.total_variation == back.total_variation
    assert [(v.value, v.points) for v in there.values] == [(v.value, -v.points) for v in back.values]
    for v in there.values:
        assert v.low - 0.01 <= v.points <= v.high + 0.01


@given(st.lists(st.floats(0, 29.99), min_size=1, max_size=60))
def test_quantiles_lie_in_the_bin_of_the_true_ones(values: list[float]) -> None:
    counts = np.histogram(values, EDGES)[0].tolist()
    for share, told in zip((0.1, 0.5, 0.9), quantiles(EDGES, counts), strict=True):
        true = float(np.quantile(values, share, method="inverted_cdf"))
        assert 10 * (true // 10) <= told <= 10 * (true // 10) + 10


def test_quantiles_by_hand() -> None:
    assert quantiles(EDGES, [0, 10, 0]) == [11.0, 15.0, 19.0]
    assert quantiles(EDGES, [0, 0, 0]) == []


def test_measures_stand_side_by_side() -> None:
    other = copy.deepcopy(stats(20))
    other["captions"]["tokens_mean"] = 30.0
    found = {m.name: m for m in measures(stats(), other)}
    assert (found["samples"].a, found["samples"].b, found["samples"].ratio) == (10, 20, 2.0)
    assert found["caption tokens"].ratio == 2.0 and found["questions"].ratio is None
    assert found["share of claims unverified"].a == 0.1


def test_bins_of_another_schema_are_not_compared() -> None:
    other = stats()
    other["captions"]["token_edges"] = [0, 5, 10, 15]
    with pytest.raises(KeyError, match="bins of caption tokens"):
        distributions(stats(), other)
