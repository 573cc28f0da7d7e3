"""The template engine: a question of a form put into words, with its answer, from a sample's validated evidence alone."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Sequence

from unif2ace_data.qa import checks
from unif2ace_data.qa.facts import Facts
from unif2ace_data.qa.forms import Form
from unif2ace_data.qa.phrasings import (
    PATH,
    Fact,
    not_visible_answers,
    open_questions,
    option,
    statement,
    true_false_questions,
    true_of_questions,
    which_questions,
)
from unif2ace_data.schema import NOT_VISIBLE, QA, Check, Sample
from unif2ace_data.taxonomy import load_taxonomy

REVISION = "1"  # raised when the code changes in a way that changes questions
LETTERS = "ABCD"
YES_NO = ["yes", "no"]


@functools.cache
def source() -> str:
    """`source` of every question that this engine asks: its revision and the first hex digits of the phrasings' hash."""
    return f"templates:{REVISION}-{hashlib.sha256(PATH.read_bytes()).hexdigest()[:8]}"


def wordings(form: Form) -> tuple[str, ...]:
    """The questions that ask this form."""
    name, value = form.options[0][0]
    if form.kind == "true_false":
        return true_false_questions(name, value)
    if form.kind == "open":
        return open_questions(name)
    return which_questions(name) if form.single else true_of_questions()


def question_of(
    sample: Sample, facts: Facts, form: Form, answer: int, place: int, letter: int, wording: int, blind: Check
) -> QA:
    """The question in words; its checks are those that one question can be asked alone, and `distinct` is unchecked.

    answer, place: as in an offer; letter: place of the right option among the letters (of a true/false question
    given by the answer); wording: which of `wordings`, counted round.
    """
    name = form.topics(answer)[place]
    choice = random.Random(f"{sample.uid} {form.options} {wording}")
    texts = wordings(form)
    question = texts[wording % len(texts)]
    value = facts.values.get(name, "")
    options: list[str] = []
    if form.kind == "true_false":
        options, letter = list(YES_NO), answer
        said = options[answer]
    elif form.kind == "open":
        value = form.options[0][0][1]
        said = open_answer((name, value), facts, choice)
    else:
        value = dict(form.options[answer])[name]
        right = option_text(form, answer)
        options = [option_text(form, i) for i in range(len(form.options)) if i != answer]
        choice.shuffle(options)
        options.insert(letter, right)
        said = right
    qa = QA(
        question=question,
        answer=said,
        kind=form.kind,
        category=load_taxonomy()[name].group,
        attribute=name,
        value=value,
        options=options,
        letter=LETTERS[letter] if options else "",
        verdict="unverified",
        checks=checks.UNCHECKED,
        source=source(),
    )
    return checks.checked(qa, sample.attributes, [], blind)  # on evidence alone: another caption changes nothing here


def option_text(form: Form, place: int) -> str:
    facts = form.options[place]
    return option(*facts[0]) if form.single else statement(facts)


def open_answer(fact: Fact, facts: Facts, choice: random.Random) -> str:
    if fact[1] == NOT_VISIBLE:
        return choice.choice(not_visible_answers(facts.hidden[fact[0]]))
    return statement((fact,))


def in_order(sample: Sample, questions: Sequence[QA]) -> list[QA]:
    """The questions in an order that tells nothing, with `distinct` checked; what repeats an earlier one is left out."""
    found: list[QA] = []
    for qa in sorted(
        questions, key=lambda q: hashlib.blake2b(f"{sample.uid} {q.question} {q.options}".encode()).digest()
    ):
        verdict = checks.distinct(qa, found)
        if verdict == "pass":
            found.append(qa.model_copy(update={"checks": qa.checks.model_copy(update={"distinct": verdict})}))
    return found
