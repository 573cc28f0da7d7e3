"""Words that captions never use: names of people, ethnicity, religion, orientation, attractiveness, guesses on health.

Lists of words and phrases (forbidden.yaml) with word boundaries; names by what announces them and by capitals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from unif2ace_data.captions.lexicon import Rule, RuleBook, compiled
from unif2ace_data.captions.tokens import Token, sentences_of, tokens_of

PATH = Path(__file__).with_name("forbidden.yaml")
KINDS = ("ethnicity", "religion", "orientation", "attractiveness", "health")


@dataclass(frozen=True, slots=True)
class Lists:
    words: RuleBook
    harmless: RuleBook
    cues: RuleBook
    titles: frozenset[str]
    ordinary: frozenset[str]


def forbidden_spans(text: str) -> list[tuple[int, int, str]]:
    """(start, end, kind) of every forbidden stretch, in order, none overlapping another.

    `kind`: name | ethnicity | religion | orientation | attractiveness | health.
    """
    tokens = tokens_of(text)
    lists = forbidden_lists()
    spans: list[tuple[int, int, str]] = []
    for first, last in sentences_of(text, tokens):
        harmless = frozenset(i for m in lists.harmless.matches(tokens, first, last, frozenset()) for i in m.at)
        for match in lists.words.matches(tokens, first, last, harmless):
            spans.append((tokens[match.at[0]].start, tokens[match.at[-1]].end, match.rule.stands_for))
        spans += [(tokens[i].start, tokens[j - 1].end, "name") for i, j in names(text, tokens, first, last)]
    kept: list[tuple[int, int, str]] = []
    for span in sorted(spans, key=lambda s: (s[0], -s[1])):
        if not kept or span[0] >= kept[-1][1]:
            kept.append(span)
    return kept


def names(text: str, tokens: Sequence[Token], first: int, last: int) -> list[tuple[int, int]]:
    """Stretches of capitalised words that name somebody: behind a title or a cue, or two and more in mid-sentence."""
    lists = forbidden_lists()
    cued = {m.at[-1] + 1 for m in lists.cues.matches(tokens, first, last, frozenset())}
    words_of = lists.words.by_word
    found: list[tuple[int, int]] = []
    i = first
    while i < last:
        j = i
        while j < last and capital(text, tokens[j]) and (j == i or tokens[j - 1].word not in "!?;:,()"):
            j += 1
            while j + 1 < last and tokens[j].word in (".", "'") and capital(text, tokens[j + 1]) and j - i < 3:
                j += 1
        run = [k for k in range(i, j) if tokens[k].word[0].isalpha()]
        own = [k for k in run if tokens[k].word not in lists.ordinary and tokens[k].word not in words_of]
        titled = bool(run) and tokens[run[0]].word in lists.titles
        if run and titled and len(run) > 1:
            found.append((run[0], run[-1] + 1))
        elif (
            (own and i > first and not titled)
            or (len(own) > 1 and i == first and shouted(text, tokens, own) is False)
            or (own and i in cued)
        ):
            found.append((own[0], own[-1] + 1))
        i = max(j, i + 1)
    return found


def capital(text: str, token: Token) -> bool:
    """A capital and then a small letter, as names have them ("D." too; "ID" and "T-shirt" not)."""
    word = text[token.start : token.end]
    if not word[0].isupper():
        return False
    if len(word) == 1:
        return text[token.end : token.end + 1] == "." and text[token.end + 1 : token.end + 2] == " "
    return any(c.islower() for c in word[1:])


def shouted(text: str, tokens: Sequence[Token], at: Sequence[int]) -> bool:
    """Whether the words stand in a heading, where all words have capitals."""
    return len(at) > 4


@cache
def forbidden_lists() -> Lists:
    """The lists that travel with the package."""
    data: dict[str, Any] = yaml.load(PATH.read_text(encoding="utf-8"), getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    words = [Rule(compiled(text, {}), kind) for kind in KINDS for text in data[kind]]
    return Lists(
        words=RuleBook(words),
        harmless=RuleBook([Rule(compiled(text, {}), text) for text in data["harmless"]]),
        cues=RuleBook([Rule(compiled(text, {}), text) for text in data["names"]["cues"]]),
        titles=frozenset(data["names"]["titles"]),
        ordinary=frozenset(data["names"]["ordinary"]),
    )
