"""A caption beside the evidence: two readers, verdicts, and scissors that take what is contradicted and nothing else."""

from __future__ import annotations

import liar
import pytest
from said import evidence

from unif2ace_data.captions.check import facts_of, judged, without_contradicted, without_forbidden, without_sentences
from unif2ace_data.llm.engine import Request
from unif2ace_data.schema import Attribute

KNOWN = [
    evidence("apparent_gender", "female"), evidence("hair_color", "gray"), evidence("glasses", "none"),
    evidence("smile", "broad"), evidence("mouth", "parted", validated=False),
]  # fmt: skip


def verdicts(caption: str, listed: list[tuple[str, str, bool, str]] = [], known: list[Attribute] = KNOWN) -> dict:  # noqa: B006
    return {(c.attribute, c.value): (c.verdict, caption[c.span[0] : c.span[1]]) for c in judged(caption, listed, known)}


def test_each_claim_gets_its_verdict_from_evidence_alone() -> None:
    found = verdicts("A woman with brown hair smiles broadly. Her mouth is parted.")
    assert found["hair_color", "brown"][0] == "contradicted"
    assert found["smile", "broad"][0] == "supported" and found["apparent_gender", "female"][0] == "supported"
    assert found["mouth", "parted"][0] in (
        "supported",
        "unverified",
    )  # a broad smile may imply it; nothing validated denies it


def test_the_models_list_adds_what_our_reader_does_not_find_where_its_words_are_there() -> None:
    caption = "The light on the brow has something of a theatre about it, and she smiles broadly."
    listed = [
        ("lighting", "left", False, "something of a theatre"),
        ("hair_color", "gray", False, "words that are not there"),
        ("smile", "none", False, "smiles broadly"),  # a false label of its own words
    ]
    found = verdicts(caption, listed)
    assert found["lighting", "left"] == ("unverified", "something of a theatre")
    assert ("hair_color", "gray") not in found and ("smile", "none") not in found


def test_what_is_contradicted_goes_and_the_rest_stays_word_for_word() -> None:
    caption = "A woman with brown hair and no glasses smiles broadly. Her gaze is calm."
    cut, claims, _ = without_contradicted(caption, judged(caption, [], KNOWN), KNOWN)
    assert "brown" not in cut and "no glasses" in cut and "smiles broadly" in cut and cut.endswith("Her gaze is calm.")
    assert all(c.verdict != "contradicted" for c in claims)
    assert {(c.attribute, cut[c.span[0] : c.span[1]]) for c in claims} >= {
        ("smile", "smiles broadly"),
        ("glasses", "no glasses"),
    }


def test_a_verdict_that_was_given_by_asking_again_stays_given() -> None:
    caption = "She wears earrings. She smiles broadly."
    claims = [
        c.model_copy(update={"verdict": "contradicted", "by": "asked again"})
        if c.attribute == "wearing_earrings"
        else c
        for c in judged(caption, [], KNOWN)
    ]
    assert any(c.verdict == "contradicted" for c in claims)
    cut, left, _ = without_contradicted(caption, claims, KNOWN)
    assert "earrings" not in cut and cut == "She smiles broadly." and {c.attribute for c in left} >= {"smile"}


def test_what_may_not_be_said_goes_with_its_sentence() -> None:
    text, kinds = without_forbidden("A woman smiles. She looks Italian and is beautiful. Her hair is gray.")
    assert text == "A woman smiles. Her hair is gray." and set(kinds) == {"ethnicity", "attractiveness"}
    assert without_forbidden("A woman smiles.") == ("A woman smiles.", [])


def test_sentences_are_cut_whole() -> None:
    assert without_sentences("One is here. Two is there! Three?", [(15, 16)]) == "One is here. Three?"


def test_facts_are_the_validated_evidence_in_plain_words() -> None:
    assert facts_of(KNOWN) == [
        "apparent gender: female", "hair color: gray", "glasses: no glasses", "smile: a broad smile",
    ]  # fmt: skip


def test_the_liar_lies_in_prose_and_insists() -> None:
    tale = liar.tale_of("key", KNOWN, lies=1, truths=1)
    assert [p.true for p in tale.planted] == [False, True] and all(p.text.rstrip(".") for p in tale.planted)
    engine = liar.Liar([(b"image", tale)])
    draft = engine.says(Request("draft", "", "", 1, 0.0, 0, image=b"image"))
    assert (
        draft == tale.text and engine.says(Request("repair", "", f"Description: {draft}\n\nWrong:", 1, 0.0, 0)) == draft
    )
    with pytest.raises(ValueError):
        from unif2ace_data.llm.structured import fields_of

        fields_of(draft)
