"""Fairness: closed forms, a filter that is biased is named and an even one is not, small groups stay out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from unif2ace_data.curate.fairness import DIMENSIONS, MIN_COUNT, fairness, fisher, groups_of


@given(st.integers(2, 2000), st.data())
def test_fishers_chance(total: int, data: st.DataObject) -> None:
    group, drops = data.draw(st.integers(1, total - 1)), data.draw(st.integers(0, total))
    hits = data.draw(st.integers(max(0, group + drops - total), min(group, drops)))
    expected = reference.hypergeom.sf(hits - 1, total, drops, group)
    assert fisher(hits, group, drops, total) == pytest.approx(expected, abs=1e-9)


def test_chances_of_a_million_faces_are_quick_and_right() -> None:
    assert fisher(5200, 100_000, 50_000, 1_000_000) == pytest.approx(
        reference.hypergeom.sf(5199, 1_000_000, 50_000, 100_000), rel=1e-6
    )
    assert fisher(9000, 100_000, 50_000, 1_000_000) < 1e-300


FACE: dict[str, Any] = {
    "measured": True, "p_female": 0.95, "age": {"expected": 44.0}, "pixels": {"skin_ita": 30.0}, "yaw": -16.0,
}  # fmt: skip


def test_groups_of_a_face() -> None:
    assert groups_of(FACE) == {"gender": "female", "age": "30 to 44", "skin_tone": "medium", "pose": "turned"}
    assert groups_of({**FACE, "measured": False}) == {}
    bare = {**FACE, "p_female": -1.0, "age": {"child_proportion": 0.1}, "pixels": {}, "yaw": 80}
    assert groups_of(bare) == {"pose": "far turned"}
    edges = [{**FACE, "pixels": {"skin_ita": ita}, "p_female": p, "age": {"expected": a}, "yaw": y}
             for ita, p, a, y in ((41.1, 0.2, 29.9, 14.9), (41.0, 0.21, 30.0, 15), (10.0, 0.8, 60, -30))]  # fmt: skip
    assert [tuple(groups_of(face).values()) for face in edges] == [
        ("male", "under 30", "light", "frontal"),
        ("unclear", "30 to 44", "medium", "turned"),
        ("female", "60 and over", "dark", "far turned"),
    ]


def rows(rng: np.random.Generator, count: int, rates: dict[str, dict[str, float]]) -> list[tuple[dict[str, str], str]]:
    """Faces of random groups through filters; `rates`: filter -> skin tone -> rate ("": of all)."""
    found = []
    picks = np.stack([rng.integers(0, len(names), count) for names in DIMENSIONS.values()], 1).tolist()
    for pick, chances in zip(picks, rng.random((count, len(rates))).tolist(), strict=True):
        groups = {d: names[i] for i, (d, names) in zip(pick, DIMENSIONS.items(), strict=True)}
        tone = groups["skin_tone"]
        fallen = [
            r for (r, by), chance in zip(rates.items(), chances, strict=True) if chance < by.get(tone, by.get("", 0.0))
        ]
        found.append((groups, fallen[0] if fallen else ""))
    return found


def test_a_biased_filter_is_named_and_the_even_one_beside_it_is_not() -> None:
    faces = rows(np.random.default_rng(0), 3000, {"score": {"": 0.2}, "exposure": {"": 0.02, "dark": 0.2}})
    found = fairness(faces, [])
    assert [(w["reason"], w["dimension"], w["group"]) for w in found["warnings"]] == [("exposure", "skin_tone", "dark")]
    assert "exposure drops" in found["warnings"][0]["text"] and "dark in skin tone" in found["warnings"][0]["text"]
    score, exposure = found["filters"]
    assert sum(c["faces"] for c in score["gender"]) == 3000  # nothing was dropped before
    assert sum(c["faces"] for c in exposure["pose"]) == 3000 - sum(c["dropped"] for c in score["pose"])
    cell = next(c for c in exposure["skin_tone"] if c["group"] == "dark")
    assert cell["low"] < cell["rate"] < cell["high"] and cell["rate"] == round(cell["dropped"] / cell["faces"], 4)


def test_even_filters_are_seldom_warned_about() -> None:
    """Of datasets whose filters are even, at most one in twenty may get a warning (Holm over exact tests)."""
    even = {"score": {"": 0.1}, "sharpness": {"": 0.3}, "exposure": {"": 0.02}, "border": {"": 0.005}}
    warned = sum(bool(fairness(rows(np.random.default_rng(seed), 250, even), [])["warnings"]) for seed in range(200))
    assert warned <= 10 + 3 * 3.1  # 5 % of 200, and three standard deviations


def test_what_a_filter_asks_for_is_no_bias() -> None:
    faces = [({"pose": "far turned", "age": "under 30"}, "yaw" if i % 2 else "adult") for i in range(100)]
    faces += [({"pose": "frontal", "age": "60 and over"}, "") for _ in range(100)]
    warned = {(w["reason"], w["dimension"]) for w in fairness(faces, [])["warnings"]}
    assert warned == {("yaw", "age"), ("adult", "pose")}


def test_a_sure_but_small_difference_is_no_warning() -> None:
    faces = [
        ({"gender": g}, "score" if i < n else "") for g, n in (("female", 1100), ("male", 1000)) for i in range(20_000)
    ]
    assert fairness(faces, [])["warnings"] == []  # 5.5 % and 5.0 %


@given(
    st.lists(st.tuples(st.sampled_from(DIMENSIONS["skin_tone"]), st.sampled_from(["", "score", "yaw"])), max_size=40)
)
@settings(deadline=None)
def test_small_groups_stay_out(faces: list[tuple[str, str]]) -> None:
    record = {"attributes": [{"name": "smile"}], "qa": [{"category": "action"}]}
    told = [({"skin_tone": tone}, reason) for tone, reason in faces]
    found = fairness(told, [({"skin_tone": tone}, record) for tone, reason in faces if not reason])
    for entry in found["filters"]:
        assert all(cell["faces"] >= MIN_COUNT for dimension in DIMENSIONS for cell in entry[dimension])
    for tone in DIMENSIONS["skin_tone"]:
        kept = sum(t == tone and not r for t, r in faces)
        assert any(c["group"] == tone for c in found["balance"]["skin_tone"]) == (kept >= MIN_COUNT)
    json.dumps(found)


def test_balance_counts_attributes_and_questions() -> None:
    old = {"attributes": [{"name": "smile"}, {"name": "hair"}], "qa": [{"category": "action"}] * 3}
    young = {"attributes": [{"name": "smile"}], "qa": []}
    samples = (
        [({"age": "60 and over"}, old)] * 30 + [({"age": "under 30"}, young)] * 10 + [({"age": "45 to 59"}, old)] * 9
    )
    first, last = fairness([], samples)["balance"]["age"]
    assert (first["group"], first["samples"], first["share"]) == ("under 30", 10, 0.25)
    assert (last["attributes_per_sample"], last["questions_per_sample"], last["questions"]) == (
        2.0,
        3.0,
        {"action": 3.0},
    )
    assert last["attributes"] == {"hair": 1.0, "smile": 1.0} and first["attributes"] == {"smile": 1.0}
