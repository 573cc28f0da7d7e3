"""Questions by a language model, from the refined caption and its claims (paper: prompt 3), and their checks.

Three requests a sample, none with the photograph: the questions; their answers, found again from caption and facts by
somebody who has not been told; and again by somebody who sees nothing at all. What the evidence can settle, it settles
(qa/checks.py): a model's word never outranks it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from unif2ace_data.captions.check import facts_of
from unif2ace_data.llm.engine import Request, told_model
from unif2ace_data.llm.prompts import Prompts, pairs
from unif2ace_data.llm.room import AnswerFailed, EngineRoom
from unif2ace_data.llm.structured import fields_of, line, list_of, object_of, one_of, prose, strings_in
from unif2ace_data.qa.checks import UNCHECKED, checked, distinct, failed, same_words
from unif2ace_data.qa.phrasings import named_value, says_not_visible
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
    """A sample's questions that passed every check, and how many failed each."""

    questions: list[QA]
    failures: Counter[str] = field(default_factory=Counter)


async def ask_questions(room: EngineRoom, sample: Sample, stage: QaStage) -> Asked:
    """At most `per_sample` questions about a sample. Raises AnswerFailed where the model gave no list of questions."""
    wanted = stage.settings.per_sample + SPARE
    facts = [*facts_of(sample.attributes), *claimed(sample.claims)]
    raw = await room.ask(
        request_of(
            stage, "qa", schema_of(wanted), wanted * QUESTION_TOKENS,
            caption=sample.caption, facts=facts, count=wanted, wanted=shares(stage.settings),
        ),
        parse_questions,
    )  # fmt: skip
    asked = Asked([])
    found: list[QA] = []
    for fields in raw:
        qa = read_question(fields, sample, f"{stage.engine}:{told_model(room.engine.model)}")
        if qa is None:
            asked.failures["malformed"] += 1
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
        found = await answered_blind(room, stage, found, asked.failures)
    asked.questions = mixed(found, stage.settings)
    return asked


async def answered_again(
    room: EngineRoom, stage: QaStage, sample: Sample, facts: list[str], found: list[QA], failures: Counter[str]
) -> list[QA]:
    """Those whose answer is found again from caption and facts; where evidence alone has settled it, that stands."""
    said = await answers_to(room, stage, "qa_derive", found, caption=sample.caption, facts=facts)
    kept = []
    for qa, answer in zip(found, said, strict=True):
        settled = qa.checks.derivable == "pass"
        if answer == SEVERAL and qa.options and qa.checks.one_correct != "pass":
            qa = with_check(qa, one_correct="fail")
        elif qa.options:
            agrees = answer.strip(" .)").upper() == qa.letter
            if qa.checks.one_correct == "unchecked":
                qa = with_check(qa, one_correct="pass" if agrees else "fail")
            qa = with_check(qa, derivable="pass" if agrees or settled else "fail")
        else:
            agrees = answer != CANNOT_TELL and means(answer, qa.attribute) == qa.value
            qa = with_check(qa, derivable="pass" if agrees or settled else "fail", one_correct="pass")
        if wrong := failed(qa.checks):
            failures.update(wrong)
        else:
            kept.append(qa)
    return kept


async def answered_blind(room: EngineRoom, stage: QaStage, found: list[QA], failures: Counter[str]) -> list[QA]:
    """Those that somebody who sees nothing cannot answer."""
    said = await answers_to(room, stage, "qa_blind", found)
    kept = []
    for qa, answer in zip(found, said, strict=True):
        right = answer.strip(" .)").upper() == qa.letter if qa.options else means(answer, qa.attribute) == qa.value
        if (right and answer != CANNOT_TELL) or not answer:  # no answer is no proof that it cannot be answered
            failures["blind"] += 1
        else:
            kept.append(with_check(qa, blind="pass"))
    return kept


async def answers_to(room: EngineRoom, stage: QaStage, name: str, found: list[QA], **facts: Any) -> list[str]:
    schema = object_of(answers=list_of(line(OPTION), len(found), len(found)))
    request = request_of(stage, name, schema, 48 * len(found) + 64, questions=found, **facts)
    try:
        return await room.ask(request, lambda text: strings_in(text, "answers", len(found)))
    except AnswerFailed:
        return [CANNOT_TELL if name == "qa_derive" else ""] * len(found)


# ------------------------------------------------------------------ requests and answers


def request_of(stage: QaStage, name: str, schema: dict[str, Any], max_tokens: int, **facts: Any) -> Request:
    system, user = stage.prompts.render(name, **facts)
    return Request(
        stage=name, system=system, user=user, schema=schema, max_tokens=max_tokens,
        temperature=stage.temperature, seed=stage.seed,
    )  # fmt: skip


def schema_of(count: int) -> dict[str, Any]:
    states = [*pairs(), *(f"{name}={NOT_VISIBLE}" for name in dict.fromkeys(p.partition("=")[0] for p in pairs()))]
    question = object_of(
        kind=one_of(list(OPTIONS)),
        states=one_of(states),
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


def read_question(fields: dict[str, Any], sample: Sample, source: str) -> QA | None:
    """The question in our words, options in an order that the sample's key gives; None where its parts do not fit."""
    kind, question, answer = (fields.get(name) for name in ("kind", "question", "answer"))
    options, states = fields.get("options"), fields.get("states")
    texts = (kind, question, answer, states)
    if not all(isinstance(t, str) and t.strip() for t in texts) or not isinstance(options, list):
        return None
    attribute, _, value = str(states).partition("=")
    if kind not in OPTIONS or attribute not in load_taxonomy() or not all(isinstance(o, str) for o in options):
        return None
    if kind == "true_false":
        answer, options = str(answer).strip(" .").lower(), ["yes", "no"]
    shown = ordered([o.strip() for o in options], sample.uid, str(question), shuffle=kind != "true_false")
    right = [i for i, option in enumerate(shown) if same_words(option, str(answer))]
    if len(shown) not in OPTIONS[str(kind)] or (shown and len(right) != 1) or not str(question).strip().endswith("?"):
        return None
    return QA(
        question=" ".join(str(question).split()),
        answer=shown[right[0]] if shown else str(answer).strip(),
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


def means(answer: str, attribute: str) -> str:
    """The value that a short answer states of the attribute; "" where it states none."""
    return NOT_VISIBLE if says_not_visible(answer) else named_value(answer, attribute)


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


def mixed(found: list[QA], settings: Qa) -> list[QA]:
    """At most `per_sample` questions: from the kind and the group that is furthest behind its share, each time."""
    left, chosen = list(found), list[QA]()
    kinds, groups = dict(settings.kinds), dict(settings.groups)

    def behind(qa: QA) -> float:
        count = len(chosen) + 1
        kind = kinds[qa.kind] * count - sum(q.kind == qa.kind for q in chosen)
        return float(kind + groups[qa.category] * count - sum(q.category == qa.category for q in chosen))

    while left and len(chosen) < settings.per_sample:
        best = max(left, key=behind)
        left.remove(best)
        chosen.append(best)
    return chosen
