"""Questions by a language model, from the refined caption and its claims (paper: prompt 3), and their checks.

Three requests a sample, none with the photograph: the questions; their answers, found again from caption and facts by
somebody who has not been told; and again by somebody who sees nothing at all. What the evidence can settle, it settles
(qa/checks.py): a model's word never outranks it.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from unif2ace_data.captions.check import facts_of
from unif2ace_data.llm.engine import Request, told_model
from unif2ace_data.llm.prompts import Prompts, pairs
from unif2ace_data.llm.room import EngineRoom, Unusable
from unif2ace_data.llm.structured import fields_of, line, list_of, object_of, one_of, prose, strings_in
from unif2ace_data.qa.checks import UNCHECKED, checked, distinct, failed, same_words
from unif2ace_data.qa.phrasings import says_not_visible, stated
from unif2ace_data.recipe import Qa
from unif2ace_data.schema import NOT_VISIBLE, QA, Claim, QAKind, Sample
from unif2ace_data.taxonomy import load_taxonomy

SPARE = 4  # questions asked for beyond those wanted: some fail their checks
QUESTION, OPTION = 160, 60  # characters
QUESTION_TOKENS = 180  # upper bound of what one question costs as JSON
LETTERS = "ABCD"
CANNOT_TELL, SEVERAL = "cannot_tell", "several"
OPTIONS: dict[str, range] = {
    "true_false": range(2, 3),
    "choice_2_3": range(2, 4),
    "choice_4": range(4, 5),
    "open": range(1),
}


@dataclass(frozen=True, slots=True)
class QaStage:
    """What all requests of a run share."""

    engine: str
    prompts: Prompts
    settings: Qa
    temperature: float
    seed: int


@dataclass(slots=True)
class Asked:
    """A sample's questions that passed every check, of so many `written`, and how many failed each."""

    questions: list[QA]
    written: int
    failures: Counter[str] = field(default_factory=Counter)


async def ask_questions(room: EngineRoom, sample: Sample, stage: QaStage) -> Asked:
    """The questions about a sample that pass: more than `per_sample` may (qa/ration.py chooses).

    Raises Unusable where the model gave no list of questions, AnswerFailed where a request failed for another reason.
    """
    wanted = stage.settings.per_sample + SPARE
    facts = [*facts_of(sample.attributes), *claimed(sample.claims)]
    raw = await room.ask(
        request_of(
            stage, "qa", sample.uid, schema_of(wanted), wanted * QUESTION_TOKENS,
            caption=sample.caption, facts=facts, count=wanted, wanted=shares(stage.settings),
            question_chars=QUESTION, option_chars=OPTION,
        ),
        parse_questions,
    )  # fmt: skip
    asked = Asked([], len(raw))
    found: list[QA] = []
    for fields in raw:
        qa = read_question(fields, sample, f"{stage.engine}:{told_model(room.engine.model)}")
        if isinstance(qa, str):
            asked.failures[qa] += 1
            continue
        qa = checked(qa, sample.attributes, sample.claims, "unchecked")
        qa = with_check(qa, distinct=distinct(qa, found))
        if wrong := failed(qa.checks):
            asked.failures.update(wrong)
        else:
            found.append(qa)
    if found:
        found = await answered_again(room, stage, sample, facts, found, asked.failures)
    if found:
        found = await answered_blind(room, stage, sample.uid, found, asked.failures)
    asked.questions = found
    return asked


async def answered_again(
    room: EngineRoom, stage: QaStage, sample: Sample, facts: list[str], found: list[QA], failures: Counter[str]
) -> list[QA]:
    """Those whose answer is found again from caption and facts; where evidence alone has settled it, that stands."""
    said = await answers_to(room, stage, "qa_derive", sample.uid, found, caption=sample.caption, facts=facts)
    kept = []
    for qa, answer in zip(found, said, strict=True):
        settled = qa.checks.derivable == "pass"
        if is_word(answer, SEVERAL) and qa.options and qa.checks.one_correct != "pass":
            qa = with_check(qa, one_correct="fail")
        elif qa.options:
            agrees = letter_of(answer, qa.options) == qa.letter
            if qa.checks.one_correct == "unchecked":
                qa = with_check(qa, one_correct="pass" if agrees else "fail")
            qa = with_check(qa, derivable="pass" if agrees or settled else "fail")
        else:
            agrees = not is_word(answer, CANNOT_TELL) and means(answer, qa.attribute) == qa.value
            qa = with_check(qa, derivable="pass" if agrees or settled else "fail", one_correct="pass")
        if wrong := failed(qa.checks):
            failures.update(wrong)
        else:
            kept.append(qa)
    return kept


async def answered_blind(
    room: EngineRoom, stage: QaStage, about: str, found: list[QA], failures: Counter[str]
) -> list[QA]:
    """Those that somebody who sees nothing cannot answer. What cannot be read is no proof of that."""
    said = await answers_to(room, stage, "qa_blind", about, found)
    kept = []
    for qa, answer in zip(found, said, strict=True):
        guess = letter_of(answer, qa.options) if qa.options else means(answer, qa.attribute)
        if is_word(answer, CANNOT_TELL) or (guess and guess != (qa.letter if qa.options else qa.value)):
            kept.append(with_check(qa, blind="pass"))
        else:
            failures["blind"] += 1
    return kept


async def answers_to(
    room: EngineRoom, stage: QaStage, name: str, about: str, found: list[QA], **facts: Any
) -> list[str]:
    """An answer to each question; "" to all where the model's are not usable. Raises AnswerFailed."""
    schema = object_of(answers=list_of(line(OPTION), len(found), len(found)))
    request = request_of(stage, name, about, schema, 48 * len(found) + 64, questions=found, **facts)
    try:
        return await room.ask(request, lambda text: strings_in(text, "answers", len(found)))
    except Unusable:
        return [""] * len(found)


# ------------------------------------------------------------------ requests and answers


def request_of(stage: QaStage, name: str, about: str, schema: dict[str, Any], max_tokens: int, **facts: Any) -> Request:
    system, user = stage.prompts.render(name, **facts)
    return Request(
        stage=name, system=system, user=user, schema=schema, max_tokens=max_tokens,
        temperature=stage.temperature, seed=stage.seed, about=about,
    )  # fmt: skip


@functools.cache
def known_states() -> tuple[str, ...]:
    """What an answer may state: attribute=value of the taxonomy, NOT_VISIBLE among the values."""
    hidden = (f"{name}={NOT_VISIBLE}" for name in dict.fromkeys(p.partition("=")[0] for p in pairs()))
    return (*pairs(), *hidden)


def schema_of(count: int) -> dict[str, Any]:
    question = object_of(
        kind=one_of(list(OPTIONS)),
        states=one_of(list(known_states())),
        question=prose(QUESTION),
        options=list_of(line(OPTION), 4),
        answer=line(OPTION),
    )
    return object_of(questions=list_of(question, count, 1))


def parse_questions(text: str) -> list[dict[str, Any]]:
    listed = fields_of(text).get("questions")
    if not isinstance(listed, list) or not all(isinstance(q, dict) for q in listed):
        raise ValueError("no list of questions")
    return listed


def read_question(fields: dict[str, Any], sample: Sample, source: str) -> QA | str:
    """The question in our words, options in an order that the sample's key gives; else what is wrong with it.

    `malformed`: its parts do not fit; `too_long`: question, option or answer is longer than was asked for.
    """
    kind, question, answer = (fields.get(name) for name in ("kind", "question", "answer"))
    options, states = fields.get("options"), fields.get("states")
    texts = (kind, question, answer, states)
    if not all(isinstance(t, str) and t.strip() for t in texts) or not isinstance(options, list):
        return "malformed"
    attribute, _, value = str(states).partition("=")
    if kind not in OPTIONS or states not in known_states() or not all(isinstance(o, str) for o in options):
        return "malformed"
    if kind == "true_false":
        answer, options = str(answer).strip(" .").lower(), ["yes", "no"]
    question, answer = " ".join(str(question).split()), str(answer).strip()
    shown = ordered([o.strip() for o in options], sample.uid, question, shuffle=kind != "true_false")
    if len(question) > QUESTION or any(len(text) > OPTION for text in (answer, *shown)):
        return "too_long"
    right = [i for i, option in enumerate(shown) if same_words(option, answer)]
    if len(shown) not in OPTIONS[str(kind)] or (shown and len(right) != 1) or not question.endswith("?"):
        return "malformed"
    return QA(
        question=question,
        answer=shown[right[0]] if shown else answer,
        kind=kind_of(str(kind)),
        category=load_taxonomy()[attribute].group,
        attribute=attribute,
        value=value,
        options=shown,
        letter=LETTERS[right[0]] if shown else "",
        verdict="unverified",
        checks=UNCHECKED,
        source=source,
    )


def kind_of(text: str) -> QAKind:
    kinds: tuple[QAKind, ...] = ("true_false", "choice_2_3", "choice_4", "open")
    return next(kind for kind in kinds if kind == text)


def ordered(options: list[str], key: str, question: str, shuffle: bool) -> list[str]:
    """Options in the order of their hashes: every letter is as likely as the others to be right."""
    if not shuffle:
        return options
    return sorted(options, key=lambda o: hashlib.sha256(f"{key}\n{question}\n{o}".encode()).digest())


LETTERED = re.compile(r"(?:(?:option|answer):? )?\(?([a-d])(?:[.):]+|$)\s*(.*)", re.IGNORECASE)


def letter_of(answer: str, options: Sequence[str]) -> str:
    """The letter that an answer gives: "B", "b.", "(b)", "B. closed", or an option's own words; "" where it is unclear."""
    text = answer.strip(" *`\"'")
    named = [LETTERS[i] for i, option in enumerate(options) if same_words(option, text)]
    lettered = LETTERED.fullmatch(text)
    if lettered is not None and not named:
        letter, rest = lettered[1].upper(), lettered[2]
        place = LETTERS.index(letter)
        if place < len(options) and (not rest or same_words(options[place], rest)):
            return letter
    return named[0] if len(named) == 1 else ""


def is_word(answer: str, word: str) -> bool:
    return answer.strip(" .*`\"'").lower().replace(" ", "_") == word


def means(answer: str, attribute: str) -> str:
    """The value that a short answer states of the attribute; "" where it states none, or several."""
    if says_not_visible(answer):
        return NOT_VISIBLE
    values = {value for name, value in stated(answer, attribute) if name == attribute}
    return next(iter(values)) if len(values) == 1 else ""


def claimed(claims: Sequence[Claim]) -> list[str]:
    """What the caption claims beyond the evidence, in plain words."""
    taxonomy = load_taxonomy()
    said: dict[str, None] = {}
    for claim in claims:
        if claim.verdict == "unverified" and claim.attribute in taxonomy:
            value = taxonomy[claim.attribute].said(claim.value)
            said[f"{claim.attribute.replace('_', ' ')}: {'not ' if claim.negated else ''}{value} (not measured)"] = None
    return list(said)


def shares(settings: Qa) -> str:
    """The shares of kinds and groups in words, for the prompt."""
    parts = [f"{share:.0%} {name}" for name, share in (*settings.kinds, *settings.groups) if share]
    return ", ".join(parts)


def with_check(qa: QA, **verdicts: str) -> QA:
    return qa.model_copy(update={"checks": qa.checks.model_copy(update=verdicts)})
