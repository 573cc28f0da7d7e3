"""The wordings: enough of them for every attribute, English in form, and readable back to what they ask and state."""

from __future__ import annotations

import pytest

from unif2ace_data.qa.checks import UNCHECKED, allowed, no_giveaway
from unif2ace_data.qa.phrasings import (
    UNMARKED,
    asked,
    clause,
    is_yes_no,
    open_questions,
    option,
    phrasings,
    stated,
    statement,
    true_false_questions,
    true_of_questions,
    which_questions,
)
from unif2ace_data.schema import NOT_VISIBLE, QA
from unif2ace_data.taxonomy import Entry, load_taxonomy

ENTRIES = list(load_taxonomy().attributes.values())
CLAIMED = [entry for entry in ENTRIES if any(claim.holds for claim in entry.claims.values())]


@pytest.mark.parametrize("entry", CLAIMED, ids=lambda e: e.name)
def test_what_can_be_claimed_is_asked_in_at_least_six_wordings_of_each_kind(entry: Entry) -> None:
    assert len(which_questions(entry.name)) >= 6
    assert len(open_questions(entry.name)) >= 6
    for value in entry.values:
        assert len(true_false_questions(entry.name, value)) >= 6
    assert len(true_of_questions()) >= 6


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_everything_is_asked_in_at_least_three_wordings_of_each_kind(entry: Entry) -> None:
    assert len(set(which_questions(entry.name))) >= 3
    assert len(set(open_questions(entry.name))) >= 3
    for value in entry.values:
        assert len(set(true_false_questions(entry.name, value))) >= 3


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_questions_and_statements_are_whole_sentences(entry: Entry) -> None:
    questions = [*which_questions(entry.name), *open_questions(entry.name)]
    questions += [q for value in entry.values for q in true_false_questions(entry.name, value)]
    for question in questions:
        assert question[0].isupper() and question.endswith("?") and "{" not in question and "_" not in question
        assert "  " not in question
    for value in entry.values:
        text = statement(((entry.name, value),))
        assert text[0].isupper() and text.endswith(".") and "{" not in text and "_" not in text


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_what_a_wording_asks_is_read_back(entry: Entry) -> None:
    for value in entry.values:
        for question in true_false_questions(entry.name, value):
            assert asked(question, entry.name) in ((entry.name, value), None)
            if value not in UNMARKED and not question.startswith(
                ("Is the background", "Is what lies", "Is the backdrop")
            ):
                assert asked(question, entry.name) == (entry.name, value)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_what_an_option_states_is_read_back(entry: Entry) -> None:
    for value in (*entry.values, NOT_VISIBLE):
        assert stated(option(entry.name, value), entry.name) == ((entry.name, value),)
        assert stated(clause(entry.name, value), entry.name) == ((entry.name, value),)


def test_a_statement_of_two_facts_is_read_back() -> None:
    facts = (("mouth", "closed"), ("glasses", "eyeglasses"))
    assert statement(facts) == "The mouth is closed, and the person wears eyeglasses."
    assert stated(statement(facts), "mouth") == facts


@pytest.mark.parametrize(
    "text, attribute, facts",
    [
        ("clean-shaven", "facial_hair", (("facial_hair", "none"),)),
        ("Dark brown", "hair_color", (("hair_color", "brown"),)),
        ("a woman with gray hair", "hair_color", (("apparent_gender", "female"), ("hair_color", "gray"))),
        ("not brown", "hair_color", ()),
        ("Not visible", "teeth", (("teeth", NOT_VISIBLE),)),
        ("It can't be seen", "teeth", (("teeth", NOT_VISIBLE),)),
        ("a zebra", "hair_color", ()),
    ],
)
def test_options_in_other_words_are_read(text: str, attribute: str, facts: tuple[tuple[str, str], ...]) -> None:
    assert stated(text, attribute) == facts


@pytest.mark.parametrize(
    "question, attribute, fact",
    [
        ("Is the person clean-shaven?", "facial_hair", ("facial_hair", "none")),
        ("Does the man have a beard?", "facial_hair", ("facial_hair", "beard")),
        ("Does she wear a tie?", "wearing_necktie", ("wearing_necktie", "yes")),
        ("Is the hair not brown?", "hair_color", None),
        ("Does the person own a boat?", "hair_color", None),
    ],
)
def test_questions_in_other_words_are_read(question: str, attribute: str, fact: tuple[str, str] | None) -> None:
    assert asked(question, attribute) == fact


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_no_wording_gives_its_answer_away_or_says_what_is_forbidden(entry: Entry) -> None:
    for value in entry.values:
        said = statement(((entry.name, value),))
        for question in open_questions(entry.name):
            qa = made(question, said, entry, value, [])
            assert no_giveaway(qa) == "pass" and allowed(qa) != "fail", question
        options = [option(entry.name, v) for v in entry.values]
        for question in which_questions(entry.name):
            assert no_giveaway(made(question, option(entry.name, value), entry, value, options)) == "pass", question
        for question in true_false_questions(entry.name, value):
            qa = made(question, "yes", entry, value, ["yes", "no"])
            assert no_giveaway(qa) == "pass" and allowed(qa) != "fail", question


def made(question: str, answer: str, entry: Entry, value: str, options: list[str]) -> QA:
    kind = "open" if not options else "true_false" if options == ["yes", "no"] else "choice_4"
    return QA(
        question=question, answer=answer, kind=kind, category=entry.group, attribute=entry.name, value=value,
        options=options, letter="", verdict="unverified", checks=UNCHECKED, source="",
    )  # fmt: skip


def test_the_taxonomys_own_words_are_inserted_not_copied() -> None:
    for name, wording in phrasings().attributes.items():
        entry = load_taxonomy()[name]
        if not is_yes_no(entry) and isinstance(wording.says, str):
            assert "{value}" in wording.says
            assert all("{value}" in text for text in wording.whether)
