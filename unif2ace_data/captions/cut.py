"""Statements taken out of prose: the smallest piece of a sentence whose removal leaves an English sentence.

For every stretch of a sentence that holds the wrong words and no kept ones, what its removal would leave is looked at:
is anything left hanging at the joint, has every clause its subject and its verb. The shortest stretch that leaves
nothing to object to goes; where none does, the one with the fewest objections, so that kept statements stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unif2ace_data.captions.persons import Span, moved, neutral
from unif2ace_data.captions.standing import objections
from unif2ace_data.captions.tokens import Token, sentences_of, tokens_of
from unif2ace_data.captions.wordclass import (
    ADV,
    AUX,
    COMMA,
    CONJ,
    DET,
    ED,
    ING,
    MARK,
    PREP,
    REL,
    VERB,
    WORD,
    classes_of,
    grammar,
)

OBJECTION = 100  # our choice: no length of text is worth an ungrammatical joint
GENDER_LOST = 30  # a noun that only names the person goes with its sentence, though not gladly
PRONOUNS = frozenset(["he", "she", "him", "her", "his", "hers", "himself", "herself"])
SHORT = 16  # tokens up to which a sentence without a kept statement goes whole; our choice

Edit = tuple[int, int, str]  # text[start:end] gives way to the string


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence: its tokens with their classes, and which of them are wrong or kept."""

    tokens: Sequence[Token]
    classes: Sequence[str]
    kept: frozenset[int]
    person: frozenset[int]  # kept words that only name the person


def cut(text: str, wrong: Sequence[Span], keep: Sequence[Span]) -> str:
    """`text` without the statements at the spans `wrong`; the words at `keep` stay verbatim.

    Removed is the smallest unit that leaves English behind: an adjective, an item of a list, a phrase, a clause, a
    sentence. Where `wrong` names the person by gender ("the woman", "he"), the word gives way to "person". A part of a
    wrong span that is also kept stays. Returns "" where nothing is left.
    """
    if not wrong:
        return text
    text, wrong, keep = neutral(text, list(wrong), list(keep))
    wrong = pieces(text, wrong, keep)
    while wrong:
        text, wrong, keep = without_one(text, wrong, keep)
    return tidy(text)


def pieces(text: str, wrong: Sequence[Span], keep: Sequence[Span]) -> list[Span]:
    """The wrong spans word by word run: without what is kept, each inside one sentence, none overlapping another."""
    tokens = tokens_of(text)
    gendered = grammar()["female"] | grammar()["male"]
    out: list[Span] = []
    for first, last in sentences_of(text, tokens):
        run: list[Token] = []
        for token in [*tokens[first:last], None]:
            held = token is not None and token.word not in gendered and touches(token, keep)
            if token is not None and touches(token, wrong) and not held:
                run.append(token)
            elif run:
                out.append((run[0].start, run[-1].end))
                run = []
    return [s for s in out if any(c.isalnum() for c in text[s[0] : s[1]])]


def touches(token: Token, spans: Sequence[Span]) -> bool:
    return any(token.start < end and token.end > start for start, end in spans)


def without_one(text: str, wrong: list[Span], keep: list[Span]) -> tuple[str, list[Span], list[Span]]:
    """The text without its last wrong span, and the other spans in the new text."""
    span = max(wrong)
    rest = [one for one in wrong if one != span]
    tokens = tokens_of(text)
    for first, last in sentences_of(text, tokens):
        inside = [i for i in range(first, last) if tokens[i].start < span[1] and tokens[i].end > span[0]]
        if inside:
            for start, end, joint in removal(text, tokens[first:last], [i - first for i in inside], keep):
                text = text[:start] + joint + text[end:]
                shift = len(joint) - (end - start)
                rest = [m for s in rest if (m := moved(s, start, end, shift))]
                keep = [m for s in keep if (m := moved(s, start, end, shift))]
            return text, rest, keep
    return text, rest, keep


def removal(text: str, tokens: Sequence[Token], inside: Sequence[int], keep: Sequence[Span]) -> list[Edit]:
    """The edits, last place first, that take the words at `inside` out of the sentence."""
    kept = frozenset(i for i, t in enumerate(tokens) for s in keep if t.start < s[1] and t.end > s[0])
    gendered = grammar()["female"] | grammar()["male"]
    person = frozenset(
        i for i in kept if tokens[i].word in gendered and (i == 0 or tokens[i - 1].word in ("the", "this", "that"))
    ) | frozenset(i for i in kept if tokens[i].word in PRONOUNS)
    hard = kept - person
    sentence = Sentence(tokens, classes_of(tokens), hard, person)
    wrong = [i for i in inside if i not in hard]
    if not wrong:
        return []
    if not hard and (len(tokens) <= SHORT or 3 * len(wrong) >= len(tokens)):
        return joined(text, sentence, 0, len(tokens))
    best: tuple[int, int, int] | None = None
    for i, j in stretches(sentence, wrong):
        cost = price(sentence, i, j)
        if best is None or (cost, i - j) < (best[0], best[1] - best[2]):
            best = (cost, i, j)
    assert best is not None
    return joined(text, sentence, best[1], best[2])


def stretches(sentence: Sentence, wrong: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Every [i, j) that holds all the wrong words and no kept one; where kept words part them, of the last run."""
    low, high = wrong[0], wrong[-1]
    blocked = [k for k in sentence.kept if low < k < high]
    if blocked:
        low = min(k for k in wrong if k > max(blocked))
    left = max((k for k in sentence.kept if k < low), default=-1)
    right = min((k for k in sentence.kept if k > high), default=len(sentence.tokens))
    for i in range(left + 1, low + 1):
        for j in range(high + 1, right + 1):
            yield i, j


def price(sentence: Sentence, i: int, j: int) -> int:
    """What speaks against removing tokens [i, j): objections, and its length."""
    n = len(sentence.tokens)
    lost = sum(1 for k in sentence.person if i <= k < j)
    end = n - 1 if sentence.classes[n - 1] == MARK else n
    if i == 0 and j >= end:
        return (j - i) + GENDER_LOST * bool(lost)
    if j > end:
        return OBJECTION * 50
    return OBJECTION * objections(sentence.classes, sentence.tokens, i, j, end) + (j - i) + GENDER_LOST * bool(lost)


def joined(text: str, sentence: Sentence, i: int, j: int) -> list[Edit]:
    """The removal of [i, j) in characters, and behind it what mends the list: "a, b" becomes "a and b"."""
    tokens, classes = sentence.tokens, sentence.classes
    n = len(tokens)
    end = n - 1 if classes[n - 1] == MARK else n
    if i == 0 and j >= end:
        stop = tokens[n - 1].end
        return [(tokens[0].start, stop + len(text[stop:]) - len(text[stop:].lstrip()), "")]
    start = tokens[i - 1].end if i else tokens[0].start
    stop = tokens[j].start if j < n else tokens[n - 1].end
    glue = "" if i == 0 or (j < n and tokens[j].word in ",.;:!?)") else " "
    if (classes[i] == CONJ and j >= end - 0) or (
        classes[i] == COMMA and i + 1 < n and classes[i + 1] == CONJ and j >= end
    ):
        comma = last_list_comma(classes, i)
        if comma is not None:
            word = next(t.word for t in tokens[i:j] if t.word in grammar()["conjunctions"])
            return [(start, stop, glue), (tokens[comma].start, tokens[comma].end, f" {word}")]
    return [(start, stop, glue)]


def last_list_comma(classes: Sequence[str], i: int) -> int | None:
    """The comma before the last item of the list that ends at i, where what follows it is an item and no clause."""
    for k in range(i - 1, 0, -1):
        if classes[k] == COMMA:
            item = classes[k + 1 : i]
            plain = bool(item) and all(c in (DET, WORD, ED, ADV, PREP) for c in item) and item[0] != PREP
            earlier = any(c in (VERB, AUX, ING, PREP) for c in classes[:k])
            return k if plain and earlier and classes[k - 1] in (WORD, ED, ADV) else None
        if classes[k] in (CONJ, MARK, REL, VERB, AUX, ING):
            return None
    return None


# ------------------------------------------------------------------ the text as a whole


def tidy(text: str) -> str:
    """Single blanks, no blank before a stop, articles that fit the next word, capitals at the start of sentences."""
    text = re.sub(r"[ \t]{2,}", " ", text)
    text = re.sub(r"\s+([,.;:!?])", r"\1", text).strip()
    text = re.sub(r"\b([Aa])n(?= [bcdfgjklmnpqrstvwxyz])(?! (?:honest|hour|heir))", r"\1", text)
    text = re.sub(r"\b([Aa])(?= [aeio]| u[bmnp])(?! (?:one|unif|uni[qtv]))", r"\1n", text)
    return re.sub(r"(^|[.!?] )([a-z])", lambda m: m[1] + m[2].upper(), text)
