"""The taxonomy that ships: strict, complete, without forbidden attributes, and with claims that obey the rule."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unif2ace_data.errors import UserError
from unif2ace_data.resources import resource
from unif2ace_data.taxonomy import ValueClaim, load_taxonomy, parse_taxonomy

LABELS = Path(__file__).resolve().parent.parent / "benchmarks" / "labels" / "portraits.csv"

CELEBA = """5_o_Clock_Shadow Arched_Eyebrows Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair
Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male
Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks
Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
Wearing_Necktie Young"""
CELEBV_HQ_ACTIONS = """blow chew close_eyes cough cry drink eat frown glare head_wagging kiss laugh listen_to_music
look_around make_a_face nod play_instrument read shake_head shout sigh sing sleep smile smoke sneer sneeze sniff talk turn
weep whisper wink yawn"""

SMALL = """
attributes:
  smile:
    group: action
    values: [none, slight, broad]
    which: How broad is the smile?
    yes_no: Is there {value}?
    bands: {quantity: blendshape.mouthSmile, edges: [0.2, 0.6], width: 0.05}
"""


def test_it_has_at_least_the_46_attributes_of_the_papers_kind_in_three_groups() -> None:
    entries = load_taxonomy().attributes.values()
    assert len(entries) >= 46
    assert {e.group for e in entries} == {"appearance", "action", "emotion"}
    assert sum(e.measured for e in entries) >= 30


@pytest.mark.parametrize("label", [*CELEBA.split(), *CELEBV_HQ_ACTIONS.split()])
def test_labels_of_celeba_and_celebv_hq_mean_something(label: str) -> None:
    assert load_taxonomy().from_labels({label: True})


def test_labels_state_what_they_say_and_no_more() -> None:
    taxonomy = load_taxonomy()
    assert taxonomy.from_labels({"Male": False, "Eyeglasses": False}) == [
        ("apparent_gender", "female"),
        ("glasses", "none"),
    ]
    assert taxonomy.from_labels({"Black_Hair": False, "laugh": False}) == []
    assert ("facial_hair", "goatee") in taxonomy.from_labels({"No_Beard": False, "Goatee": True})
    assert taxonomy.from_labels({"Attractive": True}) == []


def test_nothing_forbidden_is_in_it() -> None:
    text = resource("manifests", "attributes.yaml").read_text(encoding="utf-8").split("\nattributes:")[1].lower()
    for word in ("attractive", "ethnic", "race:", "religio", "hijab", "sexual", "disease", "disab", "nationality"):
        assert word not in text


def test_every_value_can_be_asked_about() -> None:
    for entry in load_taxonomy().attributes.values():
        assert entry.which.endswith("?")
        for value in entry.values:
            question = entry.asks(value)
            assert question.endswith("?") and "{" not in question and "_" not in question
            assert entry.said(value)


@pytest.mark.parametrize(
    "change, complaint",
    [
        (("group: action", "group: deed"), "group"),
        (("values:", "colour: red\n    values:"), "colour"),
        (("edges: [0.2, 0.6]", "edges: [0.6, 0.2]"), "edges must rise"),
        (("edges: [0.2, 0.6]", "edges: [0.6]"), "need 2 edges"),
        (("values: [none, slight, broad]", "values: [none, none, broad]"), "twice"),
        (("bands:", "words: {huge: huge}\n    bands:"), "huge"),
        (("bands:", "labels: {smile: {presnt: broad}}\n    bands:"), "presnt"),
        (("bands:", "fit: {quantities: [yaw]}\n    bands:"), "not both"),
        (("{value}", "a smile"), "yes_no"),
        (("attributes:", "atributes:"), "attributes"),
        (("attributes:", "version: 1\nattributes:"), "version"),
        (("attributes:", "claims: {nose: {}}\nattributes:"), "nose"),
        (("none, slight", "no, slight"), "values"),
        (("which:", "- which:"), "YAML"),
    ],
)
def test_what_is_wrong_with_a_taxonomy_is_said(change: tuple[str, str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        parse_taxonomy(SMALL.replace(*change), "small.yaml")


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_taxonomy(tmp_path / "none.yaml")


def test_weights_of_other_quantities_are_refused() -> None:
    text = SMALL.replace(
        "bands: {quantity: blendshape.mouthSmile, edges: [0.2, 0.6], width: 0.05}", "fit: {quantities: [yaw]}"
    )
    weights = "{quantities: [pitch], values: [none, broad], mean: [0], scale: [1], bias: [0, 0], weights: [[0], [1]]}"
    with pytest.raises(UserError, match="run the benchmark again"):
        parse_taxonomy(text + f"weights: {{smile: {weights}}}\n", "small.yaml")
    assert parse_taxonomy(text + f"weights: {{smile: {weights.replace('pitch', 'yaw')}}}\n", "small.yaml")[
        "smile"
    ].measured


def wilson_low(right: float, cases: int) -> float:
    z, p = 1.96, right / cases
    return float(
        (p + z * z / (2 * cases) - z * np.sqrt(p * (1 - p) / cases + (z / (2 * cases)) ** 2)) / (1 + z * z / cases)
    )


def test_claims_obey_the_rule() -> None:
    claimed = 0
    for entry in load_taxonomy().attributes.values():
        for value, claim in entry.claims.items():
            right = claim.cases - claim.mistaken
            if claim.cases:
                assert claim.precision == pytest.approx(right / claim.cases, abs=6e-4), (entry.name, value)
                assert claim.wilson_low == pytest.approx(wilson_low(right, claim.cases), abs=2e-3), (entry.name, value)
            if claim.holds:
                claimed += 1
                assert claim.labels >= 30 and claim.cases >= 30, (entry.name, value)
                assert claim.precision >= 0.9 and claim.wilson_low >= 0.8, (entry.name, value)
                assert entry.measured
    assert claimed >= 20


@given(st.builds(ValueClaim, threshold=st.just(0.5), labels=st.integers(0, 99), cases=st.integers(0, 99), others=st.integers(0, 99),
       mistaken=st.integers(0, 99), precision=st.floats(0, 1), coverage=st.just(0.5), wilson_low=st.floats(0, 1)))  # fmt: skip
def test_no_claim_escapes_the_rule(claim: ValueClaim) -> None:
    if claim.holds:
        assert min(claim.labels, claim.cases) >= 30 and claim.precision >= 0.9 and claim.wilson_low >= 0.8
        assert claim.others < 10 or claim.mistaken <= claim.others / 2


def test_the_labels_that_claims_rest_on_are_there_and_name_no_one() -> None:
    lines = [line for line in LABELS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    assert len({row["file"] for row in rows}) >= 150
    taxonomy = load_taxonomy()
    for name in set(rows[0]) - {"file", "labeller"}:
        judged = [row for row in rows if row[name] not in ("", "unclear")]
        claims = taxonomy[name].claims
        assert not claims or {c.labels for c in claims.values()} == {len({row["file"] for row in judged})}, name
        stray = set(Counter(row[name] for row in judged)) - set(taxonomy[name].values)
        assert stray <= {"none"}, (name, stray)
    assert all(row["file"].removesuffix(".jpg").isalnum() and len(row["file"]) == 11 for row in rows)
