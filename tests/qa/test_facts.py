"""What may be asked about a sample: what validated evidence settles, what hides it, and nothing that is in dispute."""

from __future__ import annotations

import random

import pytest
from evidence_of import attribute, person, portraits
from hypothesis import given, settings
from hypothesis import strategies as st

from unif2ace_data.captions.verdict import judge
from unif2ace_data.errors import UserError
from unif2ace_data.qa.facts import assumed, excludes, facts_of, settle
from unif2ace_data.schema import NOT_VISIBLE
from unif2ace_data.taxonomy import load_taxonomy, parse_taxonomy


def test_validated_values_are_facts_and_others_are_not() -> None:
    facts = facts_of([attribute("mouth", "parted"), attribute("smile", "broad", validated=False)])
    assert facts.values == {"mouth": "parted"} and facts.hidden == {}


def test_where_records_disagree_nothing_is_asked() -> None:
    assert facts_of([attribute("hair_color", "gray"), attribute("hair_color", "brown")]).values == {}
    assert facts_of([attribute("mouth", "closed"), attribute("teeth", "visible")]).values == {}


def test_what_is_hidden_is_known_to_be_with_its_reason() -> None:
    assert facts_of(person(baldness="bald").attributes).hidden["hair_color"] == ("baldness", "bald")
    assert facts_of(person(glasses="sunglasses").attributes).hidden["gaze"] == ("glasses", "sunglasses")
    masked = facts_of(person(wearing_mask="yes").attributes).hidden
    assert {"mouth", "lips", "teeth", "smile", "facial_hair"} <= masked.keys()
    closed = facts_of(person(mouth="closed", teeth="hidden").attributes)
    assert closed.hidden["teeth"] == ("mouth", "closed") and closed.values["teeth"] == "hidden"
    assert "teeth" not in facts_of(person(mouth="parted", teeth="visible").attributes).hidden


def test_what_is_said_of_something_that_cannot_be_seen_is_not_asked_about() -> None:
    facts = facts_of(person(wearing_mask="yes", mouth="closed").attributes)
    assert "mouth" not in facts.values and "mouth" not in facts.hidden


def test_values_of_one_attribute_exclude_each_other_where_they_cannot_go_together() -> None:
    assert excludes(("hair_color", "gray"), ("hair_color", "brown"))
    assert not excludes(("facial_hair", "moustache"), ("facial_hair", "goatee"))
    assert not excludes(("hair_color", "gray"), ("glasses", "none"))


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(portraits()), st.randoms())
def test_the_order_of_the_evidence_does_not_matter_and_facts_agree_with_it(sample, rng: random.Random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(sample.attributes)
    rng.shuffle(shuffled)
    facts = facts_of(shuffled)
    assert facts == facts_of(sample.attributes)
    truth = {a.name: a.value for a in sample.attributes}
    assert all(truth[name] == value for name, value in facts.values.items())
    for name in load_taxonomy().attributes:
        seen = settle((name, NOT_VISIBLE), facts, sample.attributes)
        assert (seen == "supported") == (name in facts.hidden)


def test_what_hides_must_be_in_the_taxonomy() -> None:
    entry = "{group: action, values: [none, broad], which: How?, yes_no: 'Is it {value}?', hidden_by: {mask: ['yes']}}"
    with pytest.raises(UserError, match="smile: hidden_by names mask"):
        parse_taxonomy(f"attributes: {{smile: {entry}}}", "small.yaml")


RECORDS = [(entry.name, value) for entry in load_taxonomy().attributes.values() for value in entry.values]


@settings(deadline=None, max_examples=300)
@given(st.sets(st.sampled_from(RECORDS), max_size=6) | st.sets(st.sampled_from(RECORDS), min_size=15, max_size=30))
def test_facts_are_what_the_verdict_supports_less_what_is_hidden(records: set[tuple[str, str]]) -> None:
    evidence = [assumed(record) for record in sorted(records)]
    supported = {n: v for n, v in sorted(records) if judge(n, v, False, evidence)[0] == "supported"}
    values = facts_of(evidence).values
    assert values.items() <= supported.items()
    for name in supported.keys() - values.keys():
        assert any(supported.get(n) in hiding for n, hiding in load_taxonomy()[name].hidden_by.items())
