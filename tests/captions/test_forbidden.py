"""What captions never say is found; ordinary descriptions are left alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from unif2ace_data.captions.forbidden import forbidden_spans

STATEMENTS: dict[str, dict[str, list[str]]] = yaml.safe_load(
    Path(__file__).with_name("statements.yaml").read_text(encoding="utf-8")
)


@pytest.mark.parametrize(
    ("text", "words", "kind"),
    [
        ("An Asian man smiles.", "Asian", "ethnicity"),
        ("A woman of Italian descent.", "of Italian descent", "ethnicity"),
        ("A Black woman in a suit.", "Black woman", "ethnicity"),
        ("A white man with glasses.", "white man", "ethnicity"),
        ("A Muslim woman.", "Muslim", "religion"),
        ("He appears to be gay.", "gay", "orientation"),
        ("A beautiful woman.", "beautiful", "attractiveness"),
        ("The handsome man.", "handsome", "attractiveness"),
        ("She looks ill.", "ill", "health"),
        ("The boy is autistic.", "autistic", "health"),
        ("A man named John Smith.", "John Smith", "name"),
        ("This is Barack Obama.", "Barack Obama", "name"),
        ("Senator Smith looks on.", "Senator Smith", "name"),
        ("The sitter, Angela Merkel, smiles.", "Angela Merkel", "name"),
        ("Joe D. Biden smiles at the camera.", "Joe D. Biden", "name"),
        ("She is identified as Maria.", "Maria", "name"),
    ],
)
def test_found(text: str, words: str, kind: str) -> None:
    assert [(text[start:end].rstrip("."), found) for start, end, found in forbidden_spans(text)] == [(words, kind)]


@pytest.mark.parametrize(
    "text",
    [
        "Black hair and a white shirt.",
        "She has brown eyes and white teeth before a white background.",
        "A fair complexion.",
        "The American flag stands behind him.",
        "He wears a T-shirt and a Windsor knot.",
        "In this Photo, the man has a straight nose.",
        "It is pretty dark, and he looks calm.",
        "Her hair is black, her jacket white.",
        "The woman sits in a racing car.",
    ],
)
def test_left_alone(text: str) -> None:
    assert forbidden_spans(text) == []


def test_plain_descriptions_hold_nothing_forbidden() -> None:
    texts = [t for values in STATEMENTS.values() for texts in values.values() for t in texts]
    assert [(t, forbidden_spans(t)) for t in texts if forbidden_spans(t)] == []


def test_spans_are_in_order_and_apart() -> None:
    text = "A beautiful Asian woman named Ann Lee, a devout Christian, looks sick."
    spans = forbidden_spans(text)
    assert [kind for _, _, kind in spans] == ["attractiveness", "ethnicity", "name", "religion", "religion", "health"]
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
