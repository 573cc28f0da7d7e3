"""Checks of a question against what is known of its sample, for questions of any engine.

Each gives `pass`, `fail`, or `unchecked` where what is known does not settle it (a model may, see the other engines).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from unif2ace_data.captions.forbidden import forbidden_spans
from unif2ace_data.qa.facts import Facts, assumed, excludes, facts_of, settle
from unif2ace_data.qa.forms import MARGIN
from unif2ace_data.qa.phrasings import Fact, asked, holds_words, says_not_visible, stated
from unif2ace_data.schema import NOT_VISIBLE, QA, Attribute, Check, Checks, Claim, Verdict
from unif2ace_data.taxonomy import load_taxonomy

UNCHECKED = Checks(
    derivable="unchecked",
    blind="unchecked",
    one_correct="unchecked",
    no_giveaway="unchecked",
    distinct="unchecked",
    allowed="unchecked",
    value_stated="unchecked",
)
TAGGED = re.compile(
    r"(?:,|\bor)\s*(?:right|correct|true|(?:is|are|does|do|has|have)(?:n't| not)?\s+\w+)\s*\?$", re.IGNORECASE
)
WHETHER = re.compile(r"\bwhether\b.*|.*\bor (?:not|none)\?$", re.IGNORECASE)
LEADING = re.compile(r"^(?:is|are|does|do|has|have|was|were|can|could|would)n't\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a sample: validated evidence, and beside it the claims of its caption that nothing contradicts.

    `weak`: attributes that only a claim without evidence speaks of.
    """

    evidence: list[Attribute]
    facts: Facts
    weak: frozenset[str]


def known(attributes: Sequence[Attribute], claims: Sequence[Claim]) -> Known:
    evidence = [a for a in attributes if a.validated]
    measured = {a.name for a in evidence}
    weak = set()
    for claim in claims:
        if claim.negated or claim.verdict == "contradicted" or claim.attribute in measured:
            continue
        if claim.attribute in load_taxonomy():
            evidence.append(assumed((claim.attribute, claim.value)))
            if claim.verdict != "supported":
                weak.add(claim.attribute)
    return Known(evidence, facts_of(evidence), frozenset(weak))


# ------------------------------------------------------------------ the answer, found again


@dataclass(frozen=True, slots=True)
class Derived:
    """The answer that follows from what is known: an option, "yes" or "no", or the value of an open question.

    `right`, `open`: how many options are certainly right, and of how many that is not known.
    """

    answer: str
    verdict: Verdict
    right: int
    open: int


def derive(kind: str, question: str, attribute: str, options: Sequence[str], about: Known) -> Derived:
    """Answer a question from what is known, without seeing its answer; `answer` is "" where that does not settle it."""
    if kind == "true_false":
        fact = asked(question, attribute)
        verdict = settle(fact, about.facts, about.evidence) if fact else "unverified"
        said = {"supported": "yes", "contradicted": "no", "unverified": ""}[verdict]
        return Derived(said, trust(fact, about) if said and fact else "unverified", int(bool(said)), int(not said))
    if kind == "open":
        value = NOT_VISIBLE if attribute in about.facts.hidden else about.facts.values.get(attribute, "")
        known_ = bool(value)
        return Derived(
            value, trust((attribute, value), about) if known_ else "unverified", int(known_), int(not known_)
        )
    states = [state_of(stated(option, attribute), about) for option in options]
    right = [option for option, state in zip(options, states, strict=True) if state == "supported"]
    unsettled = states.count("unverified")
    if len(right) != 1:
        return Derived("", "unverified", len(right), unsettled)
    facts = stated(right[0], attribute)
    weak = any(trust(fact, about) == "unverified" for fact in facts)
    return Derived(right[0], "unverified" if weak else "supported", 1, unsettled)


def state_of(facts: Sequence[Fact], about: Known) -> Verdict:
    """Of an option that states several facts: supported where all are, contradicted where one is."""
    states = [settle(fact, about.facts, about.evidence) for fact in facts]
    if "contradicted" in states:
        return "contradicted"
    return "supported" if states and set(states) == {"supported"} else "unverified"


def trust(fact: Fact, about: Known) -> Verdict:
    return "unverified" if fact[0] in about.weak else "supported"


def derivable(qa: QA, found: Derived) -> Check:
    """Whether the derived answer is the question's own."""
    if not found.answer:
        return "fail" if found.right > 1 else "unchecked"
    if qa.kind == "open":
        value = open_value(qa)
        same = value == found.answer or (found.answer == NOT_VISIBLE and value in hidden_values(qa.attribute))
        return "pass" if same else "unchecked" if not value else "fail"
    return "pass" if same_words(qa.answer, found.answer) else "fail"


def open_value(qa: QA) -> str:
    """The value that an open answer states; "" where its words say none."""
    if says_not_visible(qa.answer):
        return NOT_VISIBLE
    return next((value for name, value in stated(qa.answer, qa.attribute) if name == qa.attribute), "")


def value_stated(qa: QA) -> Check:
    """Whether the answer (of a true/false question with what that asks) states `qa.value`, and no other beside it."""
    own = (qa.attribute, qa.value)
    if qa.kind == "true_false":
        fact = asked(qa.question, qa.attribute)
        if fact is None:
            return "fail"
        return "pass" if (fact == own if qa.answer == "yes" else excludes(own, fact)) else "fail"
    if says_not_visible(qa.answer):
        return "pass" if qa.value in (NOT_VISIBLE, *hidden_values(qa.attribute)) else "fail"
    read = [(name, value) for name, value in stated(qa.answer, qa.attribute) if name == qa.attribute]
    if qa.value == NOT_VISIBLE:
        return "pass" if read and all(value in hidden_values(qa.attribute) for _, value in read) else "fail"
    return "pass" if own in read and not any(excludes(own, fact) for fact in read) else "fail"


def hidden_values(attribute: str) -> list[str]:
    """The attribute's own values that say that it cannot be seen."""
    return load_taxonomy()[attribute].hidden_by.get(attribute, []) if attribute in load_taxonomy() else []


def same_words(one: str, other: str) -> bool:
    return one.strip().rstrip(".").lower() == other.strip().rstrip(".").lower()


def one_correct(qa: QA, found: Derived) -> Check:
    """Whether exactly one option is right: what else might be right for all that is known leaves it open."""
    if qa.options and sum(same_words(option, qa.answer) for option in qa.options) != 1:
        return "fail"
    if len({option.strip().lower() for option in qa.options}) < len(qa.options):
        return "fail"
    if found.right > 1 or (found.right == 0 and not found.open):
        return "fail"
    return "pass" if found.right == 1 and not found.open else "unchecked"


# ------------------------------------------------------------------ the question by itself


def no_giveaway(qa: QA) -> Check:
    """Whether the question keeps its answer to itself: it may name all options, not the right one alone."""
    if qa.kind == "true_false":
        return "fail" if TAGGED.search(qa.question) or LEADING.search(qa.question) else "pass"
    said = WHETHER.sub("", qa.question)  # "whether the hair is gray" asks, it does not say
    if not holds_words(said, qa.answer):
        if qa.kind == "open" and qa.attribute in load_taxonomy() and qa.value in load_taxonomy()[qa.attribute].values:
            entry = load_taxonomy()[qa.attribute]
            named = [v for v in entry.values if v not in ("no", "yes") and holds_words(said, entry.said(v))]
            return "fail" if named == [qa.value] else "pass"
        return "pass"
    named_options = [option for option in qa.options if holds_words(said, option)]
    return "pass" if qa.options and len(named_options) == len(qa.options) else "fail"


def same_as(qa: QA) -> tuple[object, ...]:
    """What a question asks: two questions of a sample with the same must not both be there."""
    return asks_of(qa.kind, qa.question, qa.attribute, tuple(qa.options))


@functools.lru_cache(1 << 12)  # each question is held against every other of its sample
def asks_of(kind: str, question: str, attribute: str, options: tuple[str, ...]) -> tuple[object, ...]:
    if kind == "true_false":
        fact = asked(question, attribute)
        return ("whether", *fact) if fact else ("whether", attribute, words(question))
    about = {name for option in options for name, _ in stated(option, attribute)}
    if len(about) > 1:
        return ("of", frozenset(words(option) for option in options))
    return ("which", attribute)


@functools.lru_cache(1 << 14)
def words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def distinct(qa: QA, others: Sequence[QA]) -> Check:
    """Whether none of the others asks the same, in the same words or in others."""
    mine = same_as(qa) if others else ()
    for other in others:
        if mine == same_as(other):
            return "fail"
        if words(qa.question) == words(other.question) and not (qa.options and other.options and mine[0] == "of"):
            return "fail"
    return "pass"


def allowed(qa: QA) -> Check:
    """Whether question, answer and options name no one and say nothing of ethnicity, religion, orientation, looks or health."""
    return "pass" if all(map(clean, (qa.question, qa.answer, *qa.options))) else "fail"


@functools.lru_cache(1 << 14)
def clean(text: str) -> bool:
    return not forbidden_spans(text)


def blind(commonest: int, asked_: int, chance: float) -> Check:
    """Whether a form's commonest answer (given `commonest` times of `asked_`) is near enough to chance."""
    return "pass" if commonest <= (chance + MARGIN) * asked_ + 1e-9 else "fail"


# ------------------------------------------------------------------ all of them


def checked(qa: QA, attributes: Sequence[Attribute], claims: Sequence[Claim], blind_: Check) -> QA:
    """The question with its verdict and checks, `distinct` as it was: that one needs the sample's other questions."""
    found = derive(qa.kind, qa.question, qa.attribute, qa.options, known(attributes, claims))
    derived = derivable(qa, found)
    return qa.model_copy(
        update={
            "verdict": found.verdict if derived == "pass" else "contradicted" if derived == "fail" else "unverified",
            "checks": Checks(
                derivable=derived,
                blind=blind_,
                one_correct=one_correct(qa, found),
                no_giveaway=no_giveaway(qa),
                distinct=qa.checks.distinct,
                allowed=allowed(qa),
                value_stated=value_stated(qa),
            ),
        }
    )


def failed(checks: Checks) -> list[str]:
    """The names of the checks that say `fail`."""
    return [name for name, verdict in checks.model_dump().items() if verdict == "fail"]
