"""A model's words read: which letter it means, which question it wrote, and whether the answer says what it is filed under."""

from __future__ import annotations

from typing import Any

import pytest
from evidence_of import person
from hypothesis import given
from hypothesis import strategies as st

from unif2ace_data.qa.checks import checked, value_stated
from unif2ace_data.qa.llm import OPTION, QUESTION, letter_of, means, read_question
from unif2ace_data.schema import NOT_VISIBLE, QA

WOMAN = person(hair_color="gray", glasses="eyeglasses", mouth="closed", apparent_gender="female")
OPTIONS = ["parted", "closed", "open wide"]


@pytest.mark.parametrize(
    "answer", ["B", "b", "B.", "B)", "(b)", "(B).", "B: closed", "B. closed", "b) Closed.", "**B**", "Option B", "answer: B", "closed", "Closed."]
)  # fmt: skip
def test_a_letter_is_read_in_many_ways(answer: str) -> None:
    assert letter_of(answer, OPTIONS) == "B"


@pytest.mark.parametrize(
    "answer", ["", "D", "A. closed", "A or B", "A, B", "closed or parted", "cannot_tell", "several", "B because", "E", "Beard"]
)  # fmt: skip
def test_what_is_unclear_is_no_letter(answer: str) -> None:
    assert letter_of(answer, OPTIONS) == ""


def test_words_that_begin_like_a_letter_are_words() -> None:
    assert letter_of("A man", ["A woman", "A man"]) == "B"
    assert letter_of("yes", ["yes", "no"]) == "A" and letter_of("B. no", ["yes", "no"]) == "B"
    assert letter_of("same", ["same", "same"]) == ""


@given(st.text(max_size=30))
def test_no_answer_breaks_the_reader(answer: str) -> None:
    assert letter_of(answer, OPTIONS) in ("", "A", "B", "C")


def test_an_open_answer_means_one_value_or_none() -> None:
    assert means("It is gray.", "hair_color") == "gray"
    assert means("This cannot be seen.", "teeth") == NOT_VISIBLE
    assert means("gray or brown", "hair_color") == means("a hat", "hair_color") == ""


# ------------------------------------------------------------------ what it wrote


def written(**changes: Any) -> QA | str:
    fields = {
        "kind": "choice_2_3", "states": "mouth=closed", "question": "How does the person hold the mouth?",
        "options": ["closed", "parted"], "answer": "closed",
    }  # fmt: skip
    return read_question(fields | changes, WOMAN, "openai:m")


def test_a_question_is_read() -> None:
    qa = written()
    assert isinstance(qa, QA) and qa.options["ABCD".index(qa.letter)] == qa.answer == "closed"
    assert (qa.attribute, qa.value, qa.category) == ("mouth", "closed", "action")


@pytest.mark.parametrize(
    "changes",
    [
        {"states": "mouth=purple"},
        {"states": "mouth"},
        {"states": "nothing=closed"},
        {"options": ["closed"]},
        {"options": ["open", "parted"]},
        {"options": "closed"},
        {"kind": "essay"},
        {"question": "The mouth."},
        {"answer": ""},
        {"answer": None},
    ],
)
def test_parts_that_do_not_fit_are_malformed(changes: dict[str, Any]) -> None:
    assert written(**changes) == "malformed"


@pytest.mark.parametrize(
    "changes",
    [
        {"question": "How " + "very " * (QUESTION // 5) + "much?"},
        {"options": ["closed", "p" * (OPTION + 1)]},
        {"kind": "open", "options": [], "answer": "closed " * 9},
    ],
)
def test_what_is_longer_than_asked_for_is_not_published(changes: dict[str, Any]) -> None:
    assert written(**changes) == "too_long"


# ------------------------------------------------------------------ what it is filed under


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "pass"),
        ({"states": "mouth=parted"}, "fail"),
        ({"states": "hair_color=gray"}, "fail"),
        ({"states": "mouth=not_visible"}, "fail"),
        ({"kind": "open", "options": [], "answer": "The mouth is closed."}, "pass"),
        ({"kind": "open", "options": [], "answer": "The hair is gray."}, "fail"),
        ({"kind": "open", "options": [], "answer": "The mouth is closed or parted."}, "fail"),
        ({"kind": "open", "options": [], "answer": "It is a fine day."}, "fail"),
        ({"kind": "open", "options": [], "states": "teeth=not_visible", "answer": "They cannot be seen."}, "pass"),
        ({"kind": "open", "options": [], "states": "teeth=visible", "answer": "They cannot be seen."}, "fail"),
        ({"kind": "true_false", "question": "Is the mouth closed?", "answer": "yes"}, "pass"),
        ({"kind": "true_false", "question": "Is the mouth closed?", "answer": "no"}, "fail"),
        ({"kind": "true_false", "question": "Is the mouth parted?", "answer": "no"}, "pass"),
        ({"kind": "true_false", "question": "Is the mouth parted?", "answer": "yes"}, "fail"),
        ({"kind": "true_false", "question": "Is the weather fine?", "answer": "yes"}, "fail"),
    ],
)
def test_the_answer_must_state_the_value(changes: dict[str, Any], verdict: str) -> None:
    qa = written(**changes)
    assert isinstance(qa, QA) and value_stated(qa) == verdict
    assert checked(qa, WOMAN.attributes, [], "pass").checks.value_stated == verdict
