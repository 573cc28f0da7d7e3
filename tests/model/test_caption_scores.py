"""Captions scored: the stored ones are perfect, precision and recall by hand, the library's scores in their closed cases."""

from __future__ import annotations

import pytest
from labelled import annotation

from unif2ace_model.bootstrap import Bootstrap
from unif2ace_model.caption_scores import grounding, grounding_scores, text_scores, words_of
from unif2ace_model.evaluate_captions import caption_report

KNOWN = [
    annotation("glasses", "eyeglasses"),
    annotation("mouth", "closed"),
    annotation("hair_color", "black"),
    annotation("head_tilt", "level", validated=False),
]
CAPTIONS = [
    "A person who wears eyeglasses and has black hair. The mouth is closed.",
    "This is a picture of somebody with a broad smile and a gray beard.",
    "The background is blue, and the light comes from the left.",
]


def test_a_caption_that_is_the_stored_one_scores_in_full() -> None:
    scores = text_scores(CAPTIONS, CAPTIONS, Bootstrap([0, 1, 2]))
    assert [scores[f"bleu_{n}"] for n in (1, 2, 3, 4)] == pytest.approx([1] * 4, abs=1e-4)
    assert scores["rouge_l"]["value"] == pytest.approx(1)
    assert scores["cider"]["value"] == pytest.approx(10)


def test_case_and_punctuation_do_not_count() -> None:
    other = [caption.upper().replace(".", " !") for caption in CAPTIONS]
    assert text_scores(other, CAPTIONS, Bootstrap([0, 1, 2]))["bleu_4"] == pytest.approx(1, abs=1e-4)
    assert words_of("A well-lit man's face, from 3/4.") == "a well-lit man's face from 3 4"


def test_words_in_common_by_hand() -> None:
    """2 of 4 words and no pair of them; the longest common subsequence is 2 of 4 on both sides."""
    scores = text_scores(["a b x y"], ["z a q b"], Bootstrap([0]))
    assert scores["bleu_1"] == pytest.approx(0.5, abs=1e-4)
    assert scores["bleu_2"] < 0.01
    assert scores["rouge_l"]["value"] == pytest.approx(0.5)


def test_nothing_said_scores_nothing() -> None:
    scores = text_scores(["", "", ""], CAPTIONS, Bootstrap([0, 1, 2]))
    assert scores["bleu_1"] == scores["rouge_l"]["value"] == scores["cider"]["value"] == 0


def test_precision_and_recall_by_hand() -> None:
    """Right: glasses. Wrong: mouth. Not settled: the beard. Left out: hair colour. Not validated, so no evidence: tilt."""
    found = grounding("The person wears eyeglasses. The mouth is open. There is a full beard.", KNOWN)
    assert found.supported == {"glasses"}
    assert found.contradicted == {"mouth"}
    assert "facial_hair" in found.unverified
    assert found.evidence == {"glasses", "mouth", "hair_color"}
    scores = grounding_scores([found, grounding(CAPTIONS[0], KNOWN)], Bootstrap([0, 1]))
    assert scores["precision"]["value"] == pytest.approx(4 / 5)
    assert scores["recall"]["value"] == pytest.approx(4 / 6, abs=1e-5)
    assert scores["by_attribute"]["mouth"]["precision"]["value"] == 0.5
    assert scores["by_attribute"]["hair_color"]["recall"]["value"] == 0.5
    assert "facial_hair" not in scores["by_attribute"]  # what no evidence settles says nothing of the captions


def test_the_report_sets_captions_of_others_beside() -> None:
    blank = [annotation("glasses", "none")]
    report = caption_report(
        [CAPTIONS[0], "The person wears no glasses."], [CAPTIONS[0], "The person wears no glasses."],
        [KNOWN, blank], Bootstrap([0, 1]), [1, 0],
    )  # fmt: skip
    assert report["written"]["precision"]["value"] == report["stored"]["precision"]["value"] == 1
    assert report["exchanged"]["precision"]["value"] == 0
    assert report["written"]["recall"]["value"] == 1
    assert report["examples"][0] == {"written": CAPTIONS[0], "stored": CAPTIONS[0]}
