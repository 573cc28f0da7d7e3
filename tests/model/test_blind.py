"""The readers without the picture, by hand on toy questions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unif2ace_model.blind import PRIOR, READERS, BlindReader, baseline, chance_of


def tf(answer: str, question: str = "Does the person wear glasses?") -> dict[str, Any]:
    return {
        "question": question, "answer": answer, "kind": "true_false", "category": "appearance", "attribute": "glasses",
        "value": "eyeglasses" if answer == "yes" else "none", "options": ["yes", "no"], "letter": "AB"[answer == "no"],
    }  # fmt: skip


def choice(options: list[str], right: int, question: str = "What is the mouth like?") -> dict[str, Any]:
    return {
        "question": question, "answer": options[right], "kind": f"choice_{'2_3' if len(options) < 4 else 4}",
        "category": "action", "attribute": "mouth", "value": options[right], "options": options, "letter": "ABCD"[right],
    }  # fmt: skip


def openly(value: str, question: str = "How is the mouth?") -> dict[str, Any]:
    return {
        "question": question, "answer": f"The mouth is {value}.", "kind": "open", "category": "action",
        "attribute": "mouth", "value": value, "options": [], "letter": "",
    }  # fmt: skip


def test_the_commonest_answer_of_a_form_by_option_text_wherever_its_letter_stands() -> None:
    reader = BlindReader([choice(["open", "closed"], 1), choice(["closed", "open"], 0), choice(["open", "closed"], 0)])
    assert reader.right(choice(["closed", "open"], 0), "form") == 1
    assert reader.right(choice(["open", "closed"], 1), "form") == 1
    assert reader.right(choice(["open", "closed"], 0), "form") == 0
    assert reader.right(choice(["open", "parted", "closed"], 2), "attribute") == 1  # another form, known answers
    assert reader.right(choice(["open", "parted", "closed"], 2), "form") == pytest.approx(1 / 3)


def test_all_levels_together_by_hand() -> None:
    """Letter 1 A of 3, 2 B; attribute, form and wording: closed 2, open 1. Each adds PRIOR times what was expected before."""
    train = [choice(["open", "closed"], 1), choice(["open", "closed"], 1), choice(["open", "closed"], 0)]
    reader = BlindReader(train)
    share = (1 + PRIOR * 0.5) / (3 + PRIOR)  # of the first option, by its letter
    for _ in range(3):
        share = (1 + PRIOR * share) / (3 + PRIOR)
    assert share < 0.5
    assert reader.right(choice(["open", "closed"], 1), "together") == 1
    share = (1 + PRIOR * 0.5) / (3 + PRIOR)  # in the other order the letter speaks for "open", the words for "closed"
    assert reader.right(choice(["closed", "open"], 0), "together") == 1


def test_what_was_never_seen_is_guessed_and_ties_count_their_share() -> None:
    reader = BlindReader([])
    assert reader.right(tf("yes"), "form") == reader.right(tf("no"), "together") == 0.5
    assert reader.right(openly("closed"), "attribute") == 0
    assert chance_of(choice(["a", "b", "c", "d"], 0)) == 0.25
    assert chance_of(openly("closed")) == 1 / 3  # the taxonomy's values of the mouth


def test_an_open_question_gets_its_attribute_s_commonest_value() -> None:
    reader = BlindReader([openly("closed"), openly("closed"), openly("parted", "Which mouth?")])
    assert reader.right(openly("closed"), "attribute") == 1
    assert reader.right(openly("parted", "Which mouth?"), "attribute") == 0
    assert reader.right(openly("parted", "Which mouth?"), "wording") == 1


def test_the_baseline_is_the_best_reader_of_each_kind_and_never_under_chance() -> None:
    """True/false: train says yes 3 of 4, and so does the test. Choices: train is what the test is not, so guessing wins."""
    train = [
        tf("yes"),
        tf("yes"),
        tf("yes"),
        tf("no"),
        *[choice(["open", "closed"], 0)] * 3,
        choice(["open", "closed"], 1),
    ]
    test = [
        tf("yes"),
        tf("yes"),
        tf("yes"),
        tf("no"),
        *[choice(["open", "closed"], 1)] * 3,
        choice(["open", "closed"], 0),
    ]
    best, readers = baseline(BlindReader(train), test)
    assert best.tolist() == [1, 1, 1, 0, 0.5, 0.5, 0.5, 0.5]
    assert readers["true_false"]["best"] == "letter"  # as good as form, and the more general
    assert readers["choice_2_3"]["best"] == "chance"
    assert readers["choice_2_3"]["form"] == 0.25
    assert readers["choice_2_3"]["rarest"] == 0.75  # the splits tell of each other
    assert set(readers["true_false"]) == {"best", "rarest", *READERS}
    assert np.mean(best) >= np.mean([chance_of(qa) for qa in test])
