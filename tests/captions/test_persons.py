"""A caption that gets the person's gender wrong loses the gender, and nothing else."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from said import evidence

from unif2ace_data.captions.check import judged, without_contradicted
from unif2ace_data.captions.cut import cut
from unif2ace_data.captions.grounded import caption_of
from unif2ace_data.captions.tokens import tokens_of
from unif2ace_data.captions.wordclass import grammar
from unif2ace_data.schema import Attribute
from unif2ace_data.taxonomy import load_taxonomy

WOMAN = {"man": "woman", "he": "she", "his": "her", "him": "her"}
OTHERS_KEPT = 0.98  # of the claims that have nothing to do with gender; measured: 1.0 on 395 portraits
NAMES = (
    ["head_turn", "head_tilt", "head_pitch", "gaze", "smile", "teeth", "mouth", "emotion", "lips", "eye_bags"]
    + ["hair_color", "hair_length", "facial_hair", "glasses", "wearing_necktie", "clothing_tone", "lighting"]
    + ["background_tone", "background_hue"]
)


def of_a_woman(caption: str) -> str:
    """A man's caption with every word for him changed to one for a woman."""

    def changed(match: re.Match[str]) -> str:
        word = WOMAN.get(match[0].lower(), match[0])
        return word.capitalize() if match[0][0].isupper() else word

    return re.sub("[A-Za-z]+", changed, caption)


def known_of(seed: int) -> list[Attribute]:
    draw = random.Random(seed)
    names = draw.sample(NAMES, draw.randint(6, len(NAMES)))
    return [evidence("apparent_gender", "male"), *(evidence(n, draw.choice(load_taxonomy()[n].values)) for n in names)]


def wrongly_gendered(caption: str) -> list[str]:
    return [t.word for t in tokens_of(caption) if t.word in grammar()["female"]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000))
def test_the_wrong_gender_goes_in_one_pass_and_the_other_claims_stay(seed: int) -> None:
    known = known_of(seed)
    caption = of_a_woman(caption_of(f"{seed:032x}", known)[0])
    claims = judged(caption, [], known)
    wrong = [(c.span[0], c.span[1]) for c in claims if c.verdict == "contradicted"]
    keep = [(c.span[0], c.span[1]) for c in claims if c.verdict != "contradicted"]
    assert not wrongly_gendered(cut(caption, wrong, keep))

    left_text, left, _ = without_contradicted(caption, claims, known)
    assert not wrongly_gendered(left_text)
    assert not re.search(r"\b(?:of|with|is|a|the) (?:[.,]|is\b|are\b)|  |\bthe person's [.,]", left_text), left_text
    others = {(c.attribute, c.value) for c in claims if c.verdict == "supported"}
    assert len(others & {(c.attribute, c.value) for c in left}) >= OTHERS_KEPT * len(others)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Pictured here is a woman, smiling.", "Pictured here is a person, smiling."),
        ("Her eyes are closed and she smiles.", "The person's eyes are closed and the person smiles."),
        ("Light falls on both sides of her face.", "Light falls on both sides of the person's face."),
        ("The camera looks at her.", "The camera looks at the person."),
        ("Here is a smiling woman, her head upright.", "Here is a smiling person, the person's head upright."),
    ],
)
def test_the_person_takes_the_place_of_the_wrong_word(caption: str, expected: str) -> None:
    known = [evidence("apparent_gender", "male")]
    assert without_contradicted(caption, judged(caption, [], known), known)[0] == expected


def test_a_denial_of_the_wrong_gender_stays() -> None:
    known = [evidence("apparent_gender", "male")]
    caption = "The sitter is not a woman but a man."
    assert without_contradicted(caption, judged(caption, [], known), known)[0] == caption
