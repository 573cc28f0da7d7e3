"""Checks of a question of any engine: the answer found again, one right option, no give-away, no repeat, nothing forbidden."""

from __future__ import annotations

from typing import Any

import pytest
from evidence_of import attribute, person, sample

from unif2ace_data.qa.checks import UNCHECKED, blind, checked, derive, distinct, failed, known
from unif2ace_data.schema import NOT_VISIBLE, QA, Claim
from unif2ace_data.taxonomy import load_taxonomy

WOMAN = person(hair_color="gray", glasses="eyeglasses", mouth="closed", apparent_gender="female")


def question(
    text: str, answer: str, attribute: str, value: str, options: list[str] | None = None, **changes: Any
) -> QA:
    options = options or []
    kind = (
        "open"
        if not options
        else "true_false"
        if options == ["yes", "no"]
        else "choice_4"
        if len(options) == 4
        else "choice_2_3"
    )
    letter = "ABCD"[options.index(answer)] if answer in options else ""
    fields = {
        "question": text, "answer": answer, "kind": kind, "category": load_taxonomy()[attribute].group, "attribute": attribute,
        "value": value, "options": options, "letter": letter, "verdict": "unverified", "checks": UNCHECKED, "source": "test",
    }  # fmt: skip
    return QA(**(fields | changes))


def verdicts(qa: QA) -> dict[str, str]:
    found = checked(qa, WOMAN.attributes, WOMAN.claims, "pass")
    return {"verdict": found.verdict, **found.checks.model_dump()}


@pytest.mark.parametrize(
    "qa",
    [
        question("Is the hair gray?", "yes", "hair_color", "gray", ["yes", "no"]),
        question("Does she have brown hair?", "no", "hair_color", "gray", ["yes", "no"]),
        question("What color is the hair?", "gray", "hair_color", "gray", ["black", "gray", "brown"]),
        question("What color is the hair?", "The hair is gray.", "hair_color", "gray"),
        question("What about the teeth?", "They cannot be seen.", "teeth", NOT_VISIBLE),
        question("Which is true?", "a woman with gray hair", "hair_color", "gray", ["a man with gray hair", "a woman with gray hair"]),
    ],
)  # fmt: skip
def test_right_answers_are_found_again(qa: QA) -> None:
    found = verdicts(qa)
    assert found["derivable"] == found["one_correct"] == found["no_giveaway"] == "pass"
    assert found["verdict"] == "supported"


@pytest.mark.parametrize(
    "qa",
    [
        question("Is the hair gray?", "no", "hair_color", "gray", ["yes", "no"]),
        question("What color is the hair?", "brown", "hair_color", "brown", ["black", "gray", "brown"]),
        question("What color is the hair?", "The hair is brown.", "hair_color", "brown"),
        question("What color is the hair?", "It cannot be seen.", "hair_color", NOT_VISIBLE),
        question("What about the teeth?", "The teeth are visible.", "teeth", "visible"),
    ],
)
def test_wrong_answers_are_not(qa: QA) -> None:
    found = verdicts(qa)
    assert found["derivable"] == "fail" and found["verdict"] == "contradicted"


def test_the_answer_is_derived_without_being_seen() -> None:
    about = known(WOMAN.attributes, [])
    assert derive("true_false", "Is the mouth closed?", "mouth", ["yes", "no"], about).answer == "yes"
    assert derive("choice_2_3", "How is the mouth held?", "mouth", ["parted", "closed"], about).answer == "closed"
    assert derive("open", "How is the mouth held?", "mouth", [], about).answer == "closed"
    assert derive("open", "How is the head turned?", "head_turn", [], about).answer == ""


def test_what_nothing_settles_stays_unchecked() -> None:
    found = verdicts(question("Is the head turned?", "yes", "head_turn", "left", ["yes", "no"]))
    assert (found["derivable"], found["one_correct"], found["verdict"]) == ("unchecked", "unchecked", "unverified")


def test_two_right_options_fail_and_one_that_may_be_right_is_left_open() -> None:
    twice = question("Which is true?", "gray hair", "hair_color", "gray", ["gray hair", "eyeglasses", "parted mouth"])
    assert verdicts(twice)["one_correct"] == "fail"
    perhaps = question("Which is true?", "gray hair", "hair_color", "gray", ["gray hair", "a necktie"])
    assert verdicts(perhaps)["one_correct"] == "unchecked"
    same = question("What color is the hair?", "gray", "hair_color", "gray", ["gray", "Gray.", "brown"])
    assert verdicts(same)["one_correct"] == "fail"
    absent = question("What color is the hair?", "gray", "hair_color", "gray", ["black", "brown"])
    assert verdicts(absent)["one_correct"] == "fail"


def test_claims_count_where_no_evidence_speaks_and_only_as_unverified() -> None:
    claim = Claim(attribute="bangs", value="yes", span=[0, 5], verdict="unverified")
    shy = sample("shy", WOMAN.attributes, [claim])
    qa = question("Do bangs cover the forehead?", "yes", "bangs", "yes", ["yes", "no"])
    found = checked(qa, shy.attributes, shy.claims, "pass")
    assert (found.checks.derivable, found.verdict) == ("pass", "unverified")
    against = Claim(attribute="hair_color", value="brown", span=[0, 5], verdict="unverified")
    brown = question("Is the hair brown?", "yes", "hair_color", "brown", ["yes", "no"])
    assert checked(brown, shy.attributes, [against], "pass").checks.derivable == "fail"
    cut = Claim(attribute="bangs", value="yes", span=[0, 5], verdict="contradicted")
    assert checked(qa, shy.attributes, [cut], "pass").checks.derivable == "unchecked"


def test_what_is_not_validated_settles_nothing() -> None:
    guess = [attribute("hair_color", "gray", validated=False)]
    qa = question("Is the hair gray?", "yes", "hair_color", "gray", ["yes", "no"])
    assert checked(qa, guess, [], "pass").checks.derivable == "unchecked"


@pytest.mark.parametrize(
    "qa, verdict",
    [
        (question("What color is the gray hair?", "gray", "hair_color", "gray", ["black", "gray"]), "fail"),
        (question("Is the hair black or gray?", "gray", "hair_color", "gray", ["black", "gray"]), "pass"),
        (question("What makes the gray hair stand out?", "It is gray.", "hair_color", "gray"), "fail"),
        (question("The hair is gray, isn't it?", "yes", "hair_color", "gray", ["yes", "no"]), "fail"),
        (question("Isn't the hair gray?", "yes", "hair_color", "gray", ["yes", "no"]), "fail"),
        (question("Is the hair gray?", "yes", "hair_color", "gray", ["yes", "no"]), "pass"),
    ],
)
def test_a_question_keeps_its_answer_to_itself(qa: QA, verdict: str) -> None:
    assert verdicts(qa)["no_giveaway"] == verdict


def test_questions_that_ask_the_same_are_not_both_asked() -> None:
    gray = question("Is the hair gray?", "yes", "hair_color", "gray", ["yes", "no"])
    again = question("Does the person have gray hair?", "yes", "hair_color", "gray", ["yes", "no"])
    brown = question("Is the hair brown?", "no", "hair_color", "gray", ["yes", "no"])
    openly = question("What color is the hair?", "The hair is gray.", "hair_color", "gray")
    choice = question("Which color does the hair have?", "gray", "hair_color", "gray", ["black", "gray"])
    other = question("How is the mouth held?", "closed", "mouth", "closed", ["closed", "parted"])
    assert distinct(again, [gray]) == "fail" and distinct(choice, [openly]) == "fail"
    assert distinct(brown, [gray]) == "pass" and distinct(openly, [gray, brown]) == "pass"
    assert distinct(other, [gray, brown, openly]) == "pass"


@pytest.mark.parametrize(
    "text", ["Does this Asian woman smile?", "Is this beautiful woman smiling?", "Is she a Muslim?"]
)
def test_what_is_forbidden_is_not_asked(text: str) -> None:
    assert verdicts(question(text, "yes", "smiling", "yes", ["yes", "no"]))["allowed"] == "fail"


def test_the_bound_of_a_blind_answer() -> None:
    assert blind(60, 100, 0.5) == blind(35, 100, 0.25) == "pass"
    assert blind(61, 100, 0.5) == blind(36, 100, 0.25) == blind(1, 1, 0.5) == "fail"


def test_failed_checks_are_named() -> None:
    qa = question("Isn't the hair brown?", "yes", "hair_color", "brown", ["yes", "no"])
    assert failed(checked(qa, WOMAN.attributes, [], "fail").checks) == ["blind", "no_giveaway", "value_stated"]
