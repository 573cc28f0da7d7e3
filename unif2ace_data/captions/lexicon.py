"""vocabulary.yaml, read once: phrases as rows of words, topics, states, negators; and how a phrase matches tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from unif2ace_data.captions.tokens import Token

PATH = Path(__file__).with_name("vocabulary.yaml")
GAP = 5  # words that `..` may stand for
BARRIERS = frozenset(
    [
        ",",
        ";",
        ":",
        "(",
        ")",
        ".",
        "!",
        "?",
        "-",
        "but",
        "while",
        "whereas",
        "although",
        "though",
        "and",
        "with",
        "who",
        "whose",
        "which",
    ]
)  # never inside a gap


@dataclass(frozen=True, slots=True)
class Element:
    """One place of a phrase: a gap, or one of these words or beginnings of words."""

    gap: bool = False
    optional: bool = False
    any: bool = False
    words: frozenset[str] = frozenset()
    begins: tuple[str, ...] = ()

    def fits(self, word: str) -> bool:
        return self.any or word in self.words or (bool(self.begins) and word.startswith(self.begins))


@dataclass(frozen=True, slots=True)
class Rule:
    """A phrase and what it stands for (`says`: attribute and value; `state`: index of a row of `states`; …)."""

    elements: tuple[Element, ...]
    stands_for: Any


@dataclass(frozen=True, slots=True)
class Match:
    """A rule found in the tokens: the indices of the words it names (not those in its gaps), in order."""

    rule: Rule
    at: tuple[int, ...]


class RuleBook:
    """Rules by the first words that they may begin with."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.by_word: dict[str, list[Rule]] = {}
        self.by_beginning: list[tuple[str, Rule]] = []
        for rule in rules:
            for element in openers(rule.elements):
                for word in element.words:
                    self.by_word.setdefault(word, []).append(rule)
                self.by_beginning += [(begin, rule) for begin in element.begins]

    def matches(self, tokens: Sequence[Token], first: int, last: int, taken: frozenset[int]) -> Iterator[Match]:
        """Every match inside tokens [first, last) that touches no index in `taken`: the shortest from each start."""
        for start in range(first, last):
            word = tokens[start].word
            rules = list(self.by_word.get(word, ()))
            rules += [rule for begin, rule in self.by_beginning if word.startswith(begin)]
            for rule in rules:
                found = walk(rule.elements, 0, tokens, start, last)
                if found is not None and found and not taken.intersection(found):
                    yield Match(rule, found)


def openers(elements: Sequence[Element]) -> Iterator[Element]:
    for element in elements:
        yield element
        if not element.optional:
            return


def walk(elements: Sequence[Element], i: int, tokens: Sequence[Token], at: int, last: int) -> tuple[int, ...] | None:
    """Indices of the words that elements[i:] name when they begin at `at`, or None."""
    if i == len(elements):
        return ()
    element = elements[i]
    if element.gap:
        for skip in range(GAP + 1):
            rest = walk(elements, i + 1, tokens, at + skip, last)
            if rest is not None:
                return rest
            if at + skip >= last or tokens[at + skip].word in BARRIERS:
                return None
        return None
    if at < last and element.fits(tokens[at].word):
        rest = walk(elements, i + 1, tokens, at + 1, last)
        if rest is not None:
            return (at, *rest)
    return walk(elements, i + 1, tokens, at, last) if element.optional else None


@dataclass(frozen=True, slots=True)
class Lexicon:
    says: RuleBook
    states: RuleBook
    state_is: tuple[dict[str, tuple[tuple[str, str], ...]], ...]  # per row of `states`: topic -> (attribute, value)s
    state_words: frozenset[str]  # words that are a state on their own
    topics: dict[str, tuple[str, ...]]  # word -> topics
    verbs: frozenset[str]  # topics that do not stand between a noun and its predicate
    through: frozenset[str]
    ignored: RuleBook
    things: frozenset[str]
    open_ended: frozenset[str]  # attributes with words that only say what is not so (`!x`)
    specific: frozenset[tuple[str, str]]
    opposite: dict[tuple[str, str], str]  # of a denied value, what is left
    firmly: dict[tuple[str, str], str]  # the same where the denial is firm
    firm: frozenset[str]  # negators that deny firmly
    before: RuleBook
    after: RuleBook
    after_things: RuleBook
    ends: frozenset[str]
    compounds: frozenset[tuple[str, ...]]


def compiled(text: str, sets: dict[str, list[str]]) -> tuple[Element, ...]:
    return tuple(element(part, sets) for part in text.replace("-", " ").split())


def element(part: str, sets: dict[str, list[str]]) -> Element:
    if part == "..":
        return Element(gap=True)
    optional = part.endswith("?")
    names = part.rstrip("?").split("|")
    words: list[str] = []
    for name in names:
        words += sets[name[1:-1]] if name.startswith("{") else [name]
    return Element(
        optional=optional,
        any="*" in words,
        words=frozenset(w for w in words if not w.endswith("*")),
        begins=tuple(w[:-1] for w in words if w.endswith("*") and len(w) > 1),
    )


def pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def pairs(texts: Sequence[str]) -> dict[tuple[str, str], str]:
    """ "a=x a=y" as {(a, x): y}."""
    return {pair(one): pair(other)[1] for one, other in (text.split() for text in texts)}


@cache
def lexicon() -> Lexicon:
    """The vocabulary that travels with the package."""
    data = vocabulary()
    sets = data["sets"]

    def book(phrases: Sequence[str]) -> RuleBook:
        return RuleBook([Rule(compiled(text, sets), text) for text in phrases])

    says = [
        Rule(compiled(text, sets), (attribute, value))
        for attribute, values in data["says"].items()
        for value, phrases in values.items()
        for text in phrases
    ]
    states, meanings = [], []
    for row, state in enumerate(data["states"]):
        states += [Rule(compiled(str(text), sets), row) for text in state["words"]]
        meanings.append(
            {
                topic: tuple(pair(one) for one in ([given] if isinstance(given, str) else given))
                for topic, given in state["is"].items()
            }
        )
    topics: dict[str, list[str]] = {}
    for topic, words in data["topics"].items():
        for word in words:
            topics.setdefault(word, []).append(topic)
    negation = data["negation"]
    return Lexicon(
        says=RuleBook(says),
        states=RuleBook(states),
        state_is=tuple(meanings),
        state_words=frozenset(w for rule in states if len(rule.elements) == 1 for w in rule.elements[0].words),
        topics={word: tuple(dict.fromkeys(found)) for word, found in topics.items()},
        verbs=frozenset(data["verbs"]),
        through=frozenset(data["through"]),
        ignored=book(data["ignored"]),
        things=frozenset(data["things"]),
        open_ended=frozenset(name for name, values in data["says"].items() if any(v.startswith("!") for v in values)),
        specific=frozenset(pair(text) for text in data["specific"]),
        opposite=pairs(data["opposites"]["plain"]),
        firmly=pairs(data["opposites"]["firm"]),
        firm=frozenset(data["opposites"]["negators"]),
        before=book(negation["before"]),
        after=book(negation["after"]),
        after_things=book(negation["after_things"]),
        ends=frozenset(negation["ends"]),
        compounds=frozenset(tuple(text.split()) for text in data["compounds"]),
    )


@cache
def scope_words() -> dict[str, frozenset[str]]:
    """The lists under `scope`."""
    return {name: frozenset(words) for name, words in vocabulary()["scope"].items()}


@cache
def vocabulary() -> dict[str, Any]:
    # BaseLoader: "no", "yes" and "on" are words here
    data: dict[str, Any] = yaml.load(PATH.read_text(encoding="utf-8"), getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    return data
