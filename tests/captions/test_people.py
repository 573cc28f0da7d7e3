"""What people say of a sample outranks what was measured; where they disagree nothing is stated."""

from __future__ import annotations

from typing import Any

from unif2ace_data.captions.check import judged
from unif2ace_data.captions.people import caption_after, rejudged, said_of, with_people
from unif2ace_data.captions.text import notes_hash
from unif2ace_data.schema import Annotations, Attribute, Captioner, Claim, Evidence
from unif2ace_data.taxonomy import load_taxonomy

WRITTEN = Captioner(engine="openai", model="m", revision="", prompt_sha256="")


def measured(name: str, value: str, by: str = "face_landmarker", confidence: float = 0.95) -> Attribute:
    return Attribute(
        name=name, group=load_taxonomy()[name].group, value=value, confidence=confidence, validated=True,
        evidence=Evidence(by=by),
    )  # fmt: skip


def answer(
    attribute: str, value: str, said: str, right: str = "", reviewer: str = "ab", key: str = "k"
) -> dict[str, str]:
    return {
        "key": key, "attribute": attribute, "value": value, "reviewer": reviewer, "answer": said, "right": right,
    }  # fmt: skip


def facts(attributes: list[Attribute]) -> list[tuple[str, str, str]]:
    return [(a.name, a.value, a.evidence.by) for a in attributes]


def test_yes_makes_the_record_peoples() -> None:
    after = with_people([measured("smile", "broad")], said_of("k", [answer("smile", "broad", "yes")]))
    assert facts(after) == [("smile", "broad", "people:ab")]
    assert after[0].confidence == 1.0 and after[0].validated and after[0].group == "action"


def test_no_with_the_right_value_replaces_every_record_of_the_name() -> None:
    records = [measured("hair_color", "brown"), measured("hair_color", "black", "source:annotation", 1.0)]
    after = with_people(records, said_of("k", [answer("hair_color", "brown", "no", "gray")]))
    assert facts(after) == [("hair_color", "gray", "people:ab")]


def test_no_without_a_value_removes_that_value_alone_and_what_implies_it() -> None:
    records = [measured("smile", "broad"), measured("hair_color", "brown"), measured("hair_color", "black", "source:x")]
    said = said_of("k", [answer("hair_color", "brown", "no"), answer("smiling", "yes", "no")])
    assert facts(with_people(records, said)) == [("hair_color", "black", "source:x")]  # a broad smile would be smiling


def test_what_people_say_rules_out_what_cannot_hold_beside_it() -> None:
    records = [measured("smile", "broad"), measured("emotion", "happy"), measured("mouth", "closed")]
    after = with_people(
        records, said_of("k", [answer("smile", "broad", "no", "none"), answer("emotion", "happy", "yes")])
    )
    assert ("smile", "none", "people:ab") in facts(after) and ("mouth", "closed", "face_landmarker") in facts(after)
    ruled_out = with_people([measured("smiling", "yes")], said_of("k", [answer("smile", "slight", "no", "none")]))
    assert facts(ruled_out) == [("smile", "none", "people:ab")]


def test_two_who_agree_are_both_named_and_two_who_disagree_state_nothing() -> None:
    records = [measured("smile", "broad"), measured("glasses", load_taxonomy()["glasses"].values[0])]
    agreed = said_of("k", [answer("smile", "broad", "yes"), answer("smile", "broad", "yes", reviewer="cd")])
    assert facts(with_people(records, agreed))[0] == ("smile", "broad", "people:ab+cd")
    for other in (answer("smile", "broad", "no", reviewer="cd"), answer("smile", "broad", "no", "none", reviewer="cd")):
        disputed = said_of("k", [answer("smile", "broad", "yes"), other])
        assert [s.disputed for s in disputed] == [True]
        assert [a.name for a in with_people(records, disputed)] == ["glasses"]
    unsure = said_of("k", [answer("smile", "broad", "yes"), answer("smile", "broad", "cannot_tell", reviewer="cd")])
    assert facts(with_people(records, unsure))[0] == ("smile", "broad", "people:ab")


def test_values_that_one_face_may_have_together_are_no_disagreement() -> None:
    said = said_of(
        "k", [answer("facial_hair", "beard", "yes"), answer("facial_hair", "moustache", "yes", reviewer="cd")]
    )
    assert not said[0].disputed and [a.value for a in with_people([], said)] == ["beard", "moustache"]


def test_answers_about_another_sample_and_cannot_tell_say_nothing() -> None:
    records = [measured("smile", "broad")]
    nothing = [answer("smile", "broad", "no", key="other"), answer("smile", "broad", "cannot_tell")]
    assert said_of("k", nothing) == [] and with_people(records, said_of("k", nothing)) == records


def test_it_can_be_done_again() -> None:
    said = said_of("k", [answer("smile", "broad", "no", "none")])
    once = with_people([measured("mouth", "closed"), measured("smile", "broad")], said)
    assert with_people(once, said) == once
    assert facts(with_people(once, [])) == [("mouth", "closed", "face_landmarker")]  # an answer that was taken back


def test_the_notes_hash_is_the_old_one_where_nobody_said_anything() -> None:
    assert notes_hash(Annotations(author="a")) == "5c74bcac3a652a69"
    assert notes_hash(Annotations(author="a", people=[answer("smile", "broad", "yes")])) != notes_hash(
        Annotations(author="a")
    )


# ------------------------------------------------------------------ a model's caption

CAPTION = "The woman has brown hair. A broad smile shows the teeth. She looks straight into the camera."


def after(answers: list[dict[str, str]], records: list[Attribute]) -> tuple[str, list[Claim], Captioner]:
    said = said_of("k", answers)
    return caption_after(
        "k", CAPTION, judged(CAPTION, [], records), WRITTEN, with_people(records, said), said, complexion=False
    )


def test_what_people_contradict_is_cut_and_the_rest_stands() -> None:
    records = [measured("hair_color", "brown"), measured("smile", "broad")]
    for correction in (answer("smile", "broad", "no", "none"), answer("smile", "broad", "no")):
        caption, claims, wrote = after([correction], records)
        assert "smile" not in caption and "brown hair" in caption and "straight into the camera" in caption
        assert "smile=broad" in wrote.removed.split() and wrote.engine == "openai"
        assert not any(c.attribute == "smile" for c in claims)
        assert {c.verdict for c in claims if c.attribute == "hair_color"} == {"supported"}
        for claim in claims:
            assert caption[claim.span[0] : claim.span[1]]


def test_what_people_confirm_is_theirs_and_what_they_dispute_is_unverified() -> None:
    records = [measured("hair_color", "brown"), measured("smile", "broad")]
    caption, claims, _ = after(
        [
            answer("hair_color", "brown", "yes"),
            answer("smile", "broad", "yes"),
            answer("smile", "broad", "no", reviewer="cd"),
        ],
        records,
    )
    verdicts = {c.attribute: (c.verdict, c.by) for c in claims}
    assert caption == CAPTION
    assert verdicts["hair_color"] == ("supported", "people:ab") and verdicts["smile"] == ("unverified", "")


def test_a_denial_bears_out_a_negated_claim() -> None:
    claim = Claim(attribute="smile", value="broad", negated=True, span=[0, 3], verdict="unverified")
    (one,) = rejudged([claim], [], said_of("k", [answer("smile", "broad", "no")]))
    assert (one.verdict, one.by) == ("supported", "people:ab")


def test_where_nothing_is_left_the_caption_is_composed_anew() -> None:
    text = "A broad smile."
    said = said_of("k", [answer("smile", "broad", "no", "none")])
    records = with_people([measured("mouth", "closed")], said)
    caption, claims, wrote = caption_after("k", text, judged(text, [], []), WRITTEN, records, said, complexion=False)
    assert wrote.engine == "grounded" and "smile=broad" in wrote.removed
    assert {(c.attribute, c.value) for c in claims} == {("smile", "none"), ("mouth", "closed")} and len(caption) > 20


def test_without_people_nothing_changes() -> None:
    claims: list[Any] = judged(CAPTION, [], [])
    assert caption_after("k", CAPTION, claims, WRITTEN, [], [], complexion=False) == (CAPTION, claims, WRITTEN)
