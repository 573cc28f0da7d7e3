"""Claims against evidence: only validated records count, related attributes speak for each other, doubt stays doubt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unif2ace_data.captions.phrases import phrases
from unif2ace_data.captions.verdict import closure, excluded, judge, relations
from unif2ace_data.schema import Attribute, Evidence, Verdict
from unif2ace_data.taxonomy import load_taxonomy

FACTS = [(name, value) for name, entry in load_taxonomy().attributes.items() for value in entry.values]
facts = st.sampled_from(FACTS)


def record(fact: str, validated: bool = True, by: str = "mesh", confidence: float = 0.9) -> Attribute:
    name, _, value = fact.partition("=")
    return Attribute(
        name=name,
        group="appearance",
        value=value,
        confidence=confidence,
        validated=validated,
        evidence=Evidence(by=by),
    )


def verdict(claim: str, *evidence: str) -> Verdict:
    """`claim`: attribute=value or attribute!=value."""
    name, _, value = claim.partition("=")
    return judge(name.rstrip("!"), value, name.endswith("!"), [record(e) for e in evidence])[0]


@pytest.mark.parametrize(
    ("claim", "evidence", "expected"),
    [
        ("glasses=none", "glasses=none", "supported"),
        ("glasses=eyeglasses", "glasses=none", "contradicted"),
        ("hair_color!=blond", "hair_color=brown", "supported"),
        ("hair_color!=blond", "hair_color=blond", "contradicted"),
        ("smiling=yes", "smile=broad", "supported"),
        ("smiling=yes", "smile=slight", "supported"),
        ("smiling=yes", "smile=none", "contradicted"),
        ("laugh=yes", "smile=none", "contradicted"),
        ("smile=slight", "smile=broad", "contradicted"),
        ("smile=broad", "smiling=no", "contradicted"),
        ("smile=broad", "smiling=yes", "unverified"),
        ("teeth=visible", "mouth=closed", "contradicted"),
        ("teeth=hidden", "mouth=closed", "supported"),
        ("mouth_slightly_open=yes", "mouth=closed", "contradicted"),
        ("hair_color=gray", "baldness=bald", "contradicted"),
        ("baldness=bald", "hair_length=long", "contradicted"),
        ("emotion=sad", "smile=broad", "contradicted"),
        ("young=yes", "age_band=older_adult", "contradicted"),
        ("facial_hair=moustache", "facial_hair=none", "contradicted"),
        ("facial_hair=moustache", "facial_hair=beard", "unverified"),
        ("makeup=lips", "makeup=eyes", "unverified"),
        ("blurry=yes", "sharpness=sharp", "contradicted"),
        ("hair_color=brown", "eye_bags=none", "unverified"),
    ],
)
def test_what_evidence_says_of_a_claim(claim: str, evidence: str, expected: Verdict) -> None:
    assert verdict(claim, evidence) == expected


def test_no_evidence_or_none_validated_is_unverified() -> None:
    assert judge("glasses", "none", False, []) == ("unverified", "")
    assert judge("glasses", "none", False, [record("glasses=eyeglasses", validated=False)]) == ("unverified", "")


def test_records_that_disagree_settle_nothing() -> None:
    assert verdict("glasses=none", "glasses=none", "glasses=eyeglasses") == "unverified"
    assert verdict("hair_color=red", "hair_color=gray", "hair_color=brown") == "unverified"
    assert verdict("smiling=yes", "smile=broad", "smile=none") == "unverified"


def test_the_most_confident_record_is_named() -> None:
    evidence = [record("smile=broad", by="mesh"), record("smiling=yes", by="celeba", confidence=1.0)]
    assert judge("smiling", "no", False, evidence) == ("contradicted", "celeba")


def test_the_table_speaks_the_taxonomys_language() -> None:
    table = relations()
    named = {fact for pair in table.together | table.excludes for fact in pair}
    named |= {fact for one, others in table.implies.items() for fact in (one, *others)}
    assert named <= set(FACTS)


def test_nothing_implies_what_it_excludes() -> None:
    for fact in FACTS:
        assert not any(excluded(fact, other) for other in closure(fact)), fact


def test_real_contradictions_of_the_wording_are_contradictions_here() -> None:
    """phrases.yaml never puts these into one caption because they cannot both be true."""
    for pair in (
        ("smile=broad", "emotion=sad"),
        ("mouth=closed", "teeth=visible"),
        ("baldness=bald", "hair_color=red"),
    ):
        one, other = (tuple(text.split("=")) for text in pair)
        assert frozenset((one, other)) in phrases().never_together
        assert excluded((one[0], one[1]), (other[0], other[1]))


@given(facts, facts)
def test_exclusion_goes_both_ways(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert excluded(one, other) == excluded(other, one)


@given(facts, facts, st.booleans())
def test_a_denial_is_the_reverse(claim: tuple[str, str], held: tuple[str, str], negated: bool) -> None:
    evidence = [record("=".join(held))]
    reverse = {"supported": "contradicted", "contradicted": "supported", "unverified": "unverified"}
    assert judge(*claim, negated, evidence)[0] == reverse[judge(*claim, not negated, evidence)[0]]
