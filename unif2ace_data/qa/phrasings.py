"""The wording in phrasings.yaml with the taxonomy's words in it: statements, options, questions, and what they ask."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from unif2ace_data.captions.extract import find_claims
from unif2ace_data.errors import UserError
from unif2ace_data.schema import NOT_VISIBLE, Model
from unif2ace_data.taxonomy import Entry, load_taxonomy

PATH = Path(__file__).with_name("phrasings.yaml")
UNMARKED = ("no", "none")  # a yes to "does the person wear no glasses?" is unclear: these are asked by clause

Fact = tuple[str, str]  # attribute, value


class Frames(Model):
    true_false: list[str] = Field(min_length=3)
    which: list[str] = Field(min_length=3)
    or_not: list[str] = Field(min_length=3)
    true_of: list[str] = Field(min_length=3)


class NotVisible(Model):
    option: str
    clause: str
    answers: list[str] = Field(min_length=1)


class Wording(Model):
    """How one attribute is worded; the head of phrasings.yaml explains the keys."""

    topic: str
    says: str | dict[str, str]
    clauses: dict[str, str] = {}
    about: str
    which: list[str] = []
    whether: list[str] = []


class Phrasings(Model):
    frames: Frames
    not_visible: NotVisible
    attributes: dict[str, Wording]


@functools.cache
def phrasings() -> Phrasings:
    """The phrasings that travel with the package. Raises UserError where they do not fit the taxonomy."""
    data: Any = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    try:
        found = Phrasings.model_validate(data)
    except ValidationError as error:
        lines = [f"  {'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise UserError(f"{PATH.name} does not hold:\n" + "\n".join(lines)) from None
    differ = set(found.attributes) ^ set(load_taxonomy().attributes)
    if differ:
        raise UserError(f"{PATH.name} and the taxonomy differ in {sorted(differ)}")
    return found


def is_yes_no(entry: Entry) -> bool:
    return set(entry.values) == {"no", "yes"}


def clause(attribute: str, value: str) -> str:
    """The clause that states the value: "the hair is gray"."""
    if value == NOT_VISIBLE:
        return phrasings().not_visible.clause
    wording = phrasings().attributes[attribute]
    if value in wording.clauses:
        return wording.clauses[value]
    if isinstance(wording.says, dict):
        return wording.says[value]
    return wording.says.replace("{value}", load_taxonomy()[attribute].said(value))


def sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def statement(facts: tuple[Fact, ...]) -> str:
    """One sentence that states all of the facts: "The mouth is closed, and the person wears eyeglasses."."""
    return sentence(", and ".join(clause(*fact) for fact in facts))


def option(attribute: str, value: str) -> str:
    """How the value stands among the options of a question about this attribute alone."""
    if value == NOT_VISIBLE:
        return phrasings().not_visible.option
    said_whole = isinstance(phrasings().attributes[attribute].says, dict)
    return statement(((attribute, value),)) if said_whole else load_taxonomy()[attribute].said(value)


@functools.cache
def true_false_questions(attribute: str, value: str) -> tuple[str, ...]:
    """Questions whether the attribute has the value."""
    own = phrasings().attributes[attribute].whether
    entry = load_taxonomy()[attribute]
    direct = [] if value in UNMARKED else [w.replace("{value}", entry.said(value)) for w in own]
    return tuple(direct + [frame.format(clause=clause(attribute, value)) for frame in phrasings().frames.true_false])


@functools.cache
def which_questions(attribute: str) -> tuple[str, ...]:
    """Questions about the attribute as a whole, for choices."""
    wording, entry, frames = phrasings().attributes[attribute], load_taxonomy()[attribute], phrasings().frames
    generic = frames.or_not if wording.topic.startswith("whether ") else frames.which
    return tuple(dict.fromkeys([*wording.which, *(f.format(topic=wording.topic, which=entry.which) for f in generic)]))


@functools.cache
def open_questions(attribute: str) -> tuple[str, ...]:
    """Those that do not hold the words of any value (of yes/no attributes: all; their question names what it is about)."""
    entry = load_taxonomy()[attribute]
    if is_yes_no(entry) or phrasings().attributes[attribute].topic.startswith("whether "):
        return which_questions(attribute)
    said = [entry.said(value) for value in entry.values]
    return tuple(q for q in which_questions(attribute) if not any(holds_words(q, words) for words in said))


def true_of_questions() -> tuple[str, ...]:
    """Questions which of several statements is true."""
    return tuple(phrasings().frames.true_of)


def not_visible_answers(reason: Fact) -> tuple[str, ...]:
    """Answers that it cannot be seen, and why."""
    return tuple(text.format(reason=clause(*reason)) for text in phrasings().not_visible.answers)


def holds_words(text: str, words: str) -> bool:
    """Whether `text` holds `words` as whole words, in any case."""
    return whole_words(words).search(text) is not None


def without_words(text: str, words: str) -> str:
    return whole_words(words).sub("…", text)


@functools.lru_cache(1 << 12)  # answers and options return from sample to sample
def whole_words(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(words.strip('. '))}(?!\w)", re.IGNORECASE)


# ------------------------------------------------------------------ back from words to what they ask and state


@functools.cache
def asked_by_question() -> dict[str, Fact]:
    """True/false question, in lower case -> what it asks. Wordings that two facts share are left out."""
    found: dict[str, Fact] = {}
    shared = set()
    for entry in load_taxonomy().attributes.values():
        for value in entry.values:
            texts = true_false_questions(entry.name, value)
            if value not in UNMARKED:
                texts = (*texts, entry.asks(value))
            for text in texts:
                if found.setdefault(text.lower(), (entry.name, value)) != (entry.name, value):
                    shared.add(text.lower())
    return {text: fact for text, fact in found.items() if text not in shared}


def asked(question: str, attribute: str) -> Fact | None:
    """What a true/false question about `attribute` asks: by its wording, else as its words read; None where unclear."""
    fact = asked_by_question().get(question.strip().lower())
    if fact is not None:
        return fact
    if attribute not in load_taxonomy():
        return None
    read = [claim for claim in find_claims(question) if claim.attribute == attribute]
    if read:
        values = {(claim.value, claim.negated) for claim in read}
        value, negated = next(iter(values))
        return None if negated or len(values) > 1 else (attribute, value)
    value = "" if NEGATED.search(question) else named_value(question, attribute)
    return (attribute, value) if value else None


def named_value(text: str, attribute: str) -> str:
    """The value whose words `text` holds, the longest words first; "" where it holds none, or those of several values."""
    entry = load_taxonomy()[attribute]
    words = [(entry.said(v), v) for v in entry.values if v not in UNMARKED or v in entry.words]
    words += [(v.replace("_", " "), v) for _, v in words]
    found: set[str] = set()
    for said, value in sorted(words, reverse=True, key=lambda pair: (len(pair[0]), pair)):
        left = without_words(text, said)
        if left != text:
            found.add(value)
            text = left
    return found.pop() if len(found) == 1 else ""


@functools.cache
def fact_by_statement() -> dict[str, Fact]:
    """Clause, in lower case -> what it states. Clauses that two facts share are left out."""
    found: dict[str, Fact] = {}
    shared = set()
    for entry in load_taxonomy().attributes.values():
        for value in entry.values:
            text = clause(entry.name, value).lower()
            if text in found:
                shared.add(text)
            found[text] = (entry.name, value)
    return {text: fact for text, fact in found.items() if text not in shared}


@functools.lru_cache(1 << 14)
def stated(text: str, attribute: str) -> tuple[Fact, ...]:
    """What an option or answer states, in a question about `attribute`; empty where its words are not understood."""
    plain = text.strip().rstrip(".").lower()
    known = fact_by_statement()
    if plain in known:
        return (known[plain],)
    parts = plain.split(", and ")
    if len(parts) > 1 and all(part in known for part in parts):
        return tuple(known[part] for part in parts)
    if says_not_visible(plain):
        return ((attribute, NOT_VISIBLE),)
    if attribute not in load_taxonomy():
        return ()
    entry = load_taxonomy()[attribute]
    for value in entry.values:
        if plain in (entry.said(value).lower(), value.replace("_", " ")):
            return ((attribute, value),)
    read = find_claims(text)
    if read:
        return () if any(c.negated for c in read) else tuple(dict.fromkeys((c.attribute, c.value) for c in read))
    value = "" if NEGATED.search(text) else named_value(text, attribute)
    return ((attribute, value),) if value else ()


NEGATED = re.compile(r"\b(?:no|not|never|without|neither|nor|none|lacks?)\b|n't\b", re.IGNORECASE)
NOT_SEEN = re.compile(
    r"\b(?:not visible|not shown|(?:can(?:not| ?not|'t)|impossible to) (?:be )?(?:seen?|told|tell|determined?)"
    r"|does not show it|no way to (?:see|tell))\b"
)


def says_not_visible(text: str) -> bool:
    """Whether the text says that it cannot be seen."""
    return NOT_SEEN.search(text.lower()) is not None
