"""Counting questions of any engine, and how often a reader without the picture is right."""

from __future__ import annotations

import math
from typing import Any

import pytest

from unif2ace_data.qa.checks import UNCHECKED
from unif2ace_data.qa.counts import QaCounts


def true_false(answer: str, question: str = "Is the mouth closed?") -> dict[str, Any]:
    return {
        "question": question, "answer": answer, "kind": "true_false", "category": "action", "attribute": "mouth",
        "value": "closed", "options": ["yes", "no"], "letter": "AB"[answer == "no"], "verdict": "supported",
        "checks": UNCHECKED.model_dump(), "source": "test",
    }  # fmt: skip


def choice(answer: str, options: list[str]) -> dict[str, Any]:
    fields = {"kind": "choice_4" if len(options) == 4 else "choice_2_3", "options": options, "question": "What color?"}
    return (
        true_false("yes")
        | fields
        | {"answer": answer, "letter": "ABCD"[options.index(answer)], "attribute": "hair_color"}
    )


def counted(*questions: dict[str, Any]) -> QaCounts:
    found = QaCounts()
    found.add(list(questions))
    return found


def test_a_form_that_always_has_one_answer_is_answered_blindly() -> None:
    blind = counted(*[true_false("yes")] * 10).blind()
    assert (blind["chance"], blind["readers"]["form"], blind["above_chance"]) == (0.5, 1.0, 0.5)


def test_a_balanced_form_is_not() -> None:
    assert counted(*[true_false("yes"), true_false("no")] * 10).blind()["above_chance"] == 0


def test_other_words_for_the_same_do_not_hide_an_answer_that_is_always_the_same() -> None:
    both = [true_false("yes", "Is the mouth closed?"), true_false("yes", "Is it true that the mouth is closed?")]
    assert counted(*both * 5).blind()["readers"]["form"] == 1.0


def test_the_order_of_the_options_makes_no_other_form() -> None:
    options = ["black", "brown", "gray", "red"]
    questions = [choice("gray", options[i:] + options[:i]) for i in range(4)]
    blind = counted(*questions).blind()
    assert blind["readers"]["form"] == 1.0 and blind["readers"]["letter"] == 0.25


def test_a_wording_that_goes_with_an_answer_is_noticed() -> None:
    yes = [true_false("yes", "Is it true that the mouth is closed?")] * 5
    no = [true_false("no", "Is it right to say that the mouth is closed?")] * 5
    blind = counted(*yes, *no).blind()
    assert (blind["readers"]["form"], blind["readers"]["wording"]) == (0.5, 1.0)


def test_what_stands_alone_counts_at_chance() -> None:
    assert counted(choice("gray", ["black", "brown", "gray"])).blind()["readers"]["form"] == pytest.approx(
        1 / 3, abs=1e-4
    )


def test_no_questions_give_no_share() -> None:
    stats = QaCounts().as_stats(0)
    assert stats["total"] == stats["per_sample"] == 0 and not math.isnan(stats["blind"]["above_chance"])
