"""Claims found in prose: what English says, what it denies, and which noun an adjective is about."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml

from unif2ace_data.captions.extract import Found, find_claims
from unif2ace_data.captions.grounded import caption_of
from unif2ace_data.captions.lexicon import lexicon
from unif2ace_data.captions.phrases import phrases
from unif2ace_data.captions.verdict import incompatible, judge
from unif2ace_data.schema import Attribute, Evidence
from unif2ace_data.taxonomy import load_taxonomy

STATEMENTS: dict[str, dict[str, list[str]]] = yaml.safe_load(
    Path(__file__).with_name("statements.yaml").read_text(encoding="utf-8")
)
CASES = [(name, value, text) for name, by in STATEMENTS.items() for value, texts in by.items() for text in texts]
READ_BACK = 0.97  # of a grounded caption's claims; measured: 1.0 on 405 portraits


def evidence(name: str, value: str, confidence: float = 0.9) -> Attribute:
    return Attribute(
        name=name, group="appearance", value=value, confidence=confidence, validated=True, evidence=Evidence(by="eye")
    )


def stated(text: str) -> set[str]:
    """`attribute=value` or `attribute!=value` of every claim but the apparent gender."""
    return {
        f"{c.attribute}{'!=' if c.negated else '='}{c.value}"
        for c in find_claims(text)
        if c.attribute != "apparent_gender"
    }


@pytest.mark.parametrize(("name", "value", "text"), CASES, ids=[text for _, _, text in CASES])
def test_a_statement_agrees_with_its_value_and_with_no_other(name: str, value: str, text: str) -> None:
    claims = [c for c in find_claims(text) if name == "apparent_gender" or c.attribute != "apparent_gender"]

    def verdicts(held: str) -> list[str]:
        return [judge(c.attribute, c.value, c.negated, [evidence(name, held)])[0] for c in claims]

    assert "contradicted" not in verdicts(value)
    if any(c.attribute == name and not c.negated for c in claims):
        for other in load_taxonomy()[name].values:
            if incompatible((name, value), (name, other)):
                assert "contradicted" in verdicts(other), other
    else:
        assert any("contradicted" in verdicts(other) for other in load_taxonomy()[name].values)


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("no glasses", {"glasses=none"}),
        ("without a beard", {"facial_hair=none"}),
        ("clean-shaven", {"facial_hair=none"}),
        ("He isn't smiling.", {"smiling=no"}),
        ("His face is free of glasses.", {"glasses=none"}),
        ("He lacks facial hair.", {"facial_hair=none"}),
        ("The lips do not part.", {"mouth=closed"}),
        ("He is far from bald.", {"baldness=none"}),
        ("neither glasses nor a tie", {"glasses=none", "wearing_necktie=no"}),
        ("without glasses, a tie or a beard", {"glasses=none", "wearing_necktie=no", "facial_hair=none"}),
        ("His hair is anything but blond.", {"hair_color!=blond"}),
        ("not without a smile", {"smiling=yes"}),
        ("He cannot hide his joy.", {"emotion=happy"}),
        ("Her chin is neither raised nor lowered.", {"head_pitch=level"}),
        ("No glasses and short hair.", {"glasses=none", "hair_length=short"}),
        ("Not a smile but a frown.", {"smiling=no", "frown=frowning"}),
        ("A man with no glasses smiles broadly.", {"glasses=none", "smile=broad"}),
        ("bespectacled not at all", {"glasses=none"}),
        ("The background is far from bright.", {"background_tone=dark"}),
        ("The background is not bright.", {"background_tone!=light"}),
        ("The background shows no colour except green.", {"background_hue=green"}),
        ("The backdrop could hardly be darker.", {"background_tone=dark"}),
        ("His lips are anything but parted.", {"mouth=closed"}),
        ("His mouth is not just parted but wide open.", {"mouth=open"}),
        ("The lenses are not tinted.", {"glasses=eyeglasses"}),
        ("A tie is missing, and his head is cocked to the left.", {"wearing_necktie=no", "head_tilt=left"}),
        ("Not a cloud darkens her cheerful face.", {"emotion=happy"}),
        ("He does not lift his chin from his chest.", {"head_pitch=down"}),
    ],
)
def test_negation_is_resolved(text: str, claims: set[str]) -> None:
    assert stated(text) >= claims
    assert {c.split("=")[0].rstrip("!") for c in stated(text)} == {c.split("=")[0].rstrip("!") for c in claims}


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("A man in a dark jacket with gray hair.", {"clothing_tone=dark", "hair_color=gray"}),
        ("a red tie", {"wearing_necktie=yes"}),
        ("dark hair", set()),
        ("He has brown eyes.", set()),
        ("The background behind his head is dark.", {"background_tone=dark"}),
        ("short, neatly combed gray hair", {"hair_length=short", "hair_color=gray"}),
        ("His gray beard is full.", {"facial_hair=beard"}),
        ("The gray suit.", set()),
        ("black-rimmed glasses", {"glasses=eyeglasses"}),
        ("Her mouth and her eyes are closed.", {"eye_openness=closed"}),
        ("He tilts his head to the left.", {"head_tilt=left"}),
        ("He turns his head to the left.", {"head_turn=left"}),
        ("His head is lit from the left.", {"lighting=left"}),
        ("He looks to the left.", {"gaze=away"}),
        ("He looks right into the camera.", {"gaze=camera"}),
        ("The background is not dark; it is pale.", {"background_tone=light"}),
        ("Hair: gray. Glasses: none.", {"hair_color=gray", "glasses=none"}),
        ("A wide smile lights up his face.", {"smile=broad"}),
        ("He turned up in a dark suit.", {"clothing_tone=dark"}),
        ("Up goes the chin.", {"head_pitch=up"}),
        ("The corners of his lips are turned up slightly.", {"smile=slight"}),
        ("His right ear is visible.", set()),
        ("Thick hair grows right down to his collar.", {"baldness=none", "hair_length=medium"}),
        ("a rightward slant to the head", {"head_tilt=right"}),
        ("The hair that covers his head is brown.", {"hair_color=brown"}),
        ("She shows no bags under the eyes.", {"eye_bags=none"}),
        ("The light is uniform from ear to ear.", {"lighting=even"}),
        ("Both his spectacle frames and his tie are blue.", {"glasses=eyeglasses", "wearing_necktie=yes"}),
    ],
)
def test_a_word_is_about_its_noun(text: str, claims: set[str]) -> None:
    found = stated(text)
    assert found >= claims
    assert all(one in claims or one.split("=")[0].rstrip("!") in {c.split("=")[0] for c in claims} for one in found)


def test_words_and_spans() -> None:
    text = "A man with short gray hair wears no glasses. He smiles broadly."
    words = {(c.attribute, c.value): text[c.start : c.end] for c in find_claims(text)}
    assert words["hair_color", "gray"] == "gray"
    assert words["hair_length", "short"] in ("short", "short hair")
    assert words["glasses", "none"] == "no glasses"
    assert words["smile", "broad"] == "smiles broadly"


def test_gender_is_stated_once_by_a_noun_and_once_by_a_pronoun() -> None:
    text = "A woman looks up. She has a hat, and the woman holds her bag."
    assert [c for c in find_claims(text) if c.attribute == "apparent_gender"] == [
        Found("apparent_gender", "female", False, 2, 7),
        Found("apparent_gender", "female", False, 18, 21),
    ]


def test_every_value_of_the_vocabulary_is_the_taxonomys() -> None:
    taxonomy = load_taxonomy()
    rules = [rule for rules in lexicon().says.by_word.values() for rule in rules]
    said = {rule.stands_for for rule in rules} | {
        fact for row in lexicon().state_is for facts in row.values() for fact in facts
    }
    for name, value in {(n, v) for n, v in said if "?" not in (n, v)}:
        assert value.lstrip("!") in taxonomy[name].values, (name, value)


@pytest.mark.parametrize("text", ["", "...", "Glasses", "no", "—", "’s", "A. B. C.", "left right up down", "without"])
def test_odd_texts_are_read_without_error(text: str) -> None:
    for claim in find_claims(text):
        assert 0 <= claim.start < claim.end <= len(text)


def test_grounded_captions_read_back() -> None:
    draw = random.Random(7)
    taxonomy = load_taxonomy()
    names = [
        n for n in sorted({name for name, _ in phrases().values}) if n in taxonomy and len(taxonomy[n].values) > 2
    ] + ["wearing_necktie", "eye_bags", "gaze", "teeth"]
    names = [n for n in names if n not in ("complexion", "face_framing")]  # "portrait" is also any photograph
    total = found = 0
    for i in range(120):
        chosen = draw.sample(names, draw.randint(8, 20))
        given = [evidence(n, draw.choice(taxonomy[n].values), draw.random()) for n in chosen]
        caption, claims = caption_of(f"{i:032x}", given)
        read = find_claims(caption)
        total += len(claims)
        for c in claims:
            own = [evidence(c.attribute, c.value)]
            found += any(judge(r.attribute, r.value, r.negated, own)[0] == "supported" for r in read)
        said = [a for a in given if any(c.attribute == a.name for c in claims)]
        for one in read:
            own = [a for a in said if a.name == one.attribute]
            assert judge(one.attribute, one.value, one.negated, own)[0] != "contradicted", (one, caption)
    assert found / total >= READ_BACK
