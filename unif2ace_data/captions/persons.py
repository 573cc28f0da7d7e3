"""The person without gender: where "woman" or "he" is wrong, the words give way to "person"."""

from __future__ import annotations

from collections.abc import Sequence

from unif2ace_data.captions.tokens import Token, tokens_of
from unif2ace_data.captions.wordclass import ADV, AUX, COMMA, DET, ED, ING, MARK, PRON, WORD, classes_of, grammar

Span = tuple[int, int]
DENIAL = 3  # words: "not a man"


def moved(span: Span, start: int, end: int, shift: int) -> Span | None:
    if span[1] <= start:
        return span
    if span[0] >= end:
        return span[0] + shift, span[1] + shift
    left = (span[0], min(span[1], start)) if span[0] < start else None
    right = (end + shift, span[1] + shift) if span[1] > end else None
    if left and right:
        return left[0], right[1]
    return left or right


def neutral(text: str, wrong: list[Span], keep: list[Span]) -> tuple[str, list[Span], list[Span]]:
    """Where a wrong span is a word that names the person by gender, all words of that gender give way to "person"."""
    words = grammar()
    tokens = tokens_of(text)
    genders = {
        gender
        for gender in ("female", "male")
        for t in tokens
        for s in wrong
        if t.word in words[gender] and s[0] <= t.start and t.end <= s[1] and len(text[s[0] : s[1]].split()) <= 2
    }
    right = {g for g in genders for t in tokens for s in keep if t.word in words[g] and (t.start, t.end) == s}
    genders -= right  # "no gentleman" is wrong of a man: then "man" and "he" stay
    if not genders:
        return text, wrong, keep
    classes = classes_of(tokens)
    for k in range(len(tokens) - 1, -1, -1):
        token = tokens[k]
        gender = next((g for g in genders if token.word in words[g]), None)
        if gender is None or any(denies(text, s, token) for s in keep):
            continue
        if stated(tokens, classes, k) and any(s[0] <= token.start < s[1] for s in wrong):
            continue
        new = str(words["neutral"][token.word])
        if token.word == "her" and (k + 1 >= len(tokens) or classes[k + 1] not in (WORD, ED, ING, ADV)):
            new = "the person"
        if token.word in ("woman", "man") and k + 1 < len(tokens) and tokens[k + 1].word == "'s":
            new = "person"
        if text[token.start].isupper():
            new = new[0].upper() + new[1:]
        wrong = [s for s in wrong if not (s[0] <= token.start and token.end <= s[1])]
        text = text[: token.start] + new + text[token.end :]
        shift = len(new) - (token.end - token.start)
        wrong = [m for s in wrong if (m := moved(s, token.start, token.end, shift))]
        keep = [m for s in keep if (m := moved(s, token.start, token.end, shift))]
    return text, wrong, keep


def denies(text: str, span: Span, token: Token) -> bool:
    """Whether the kept span is a denial of the gender ("not a man") and no statement that the word stands in."""
    return span[0] <= token.start and token.end == span[1] and len(text[span[0] : span[1]].split()) <= DENIAL


def stated(tokens: Sequence[Token], classes: Sequence[str], k: int) -> bool:
    """Whether the noun at k is predicated ("is a woman") or added (", a woman by …"): then the statement goes."""
    if k > 1 and classes[k - 1] == DET and classes[k - 2] == COMMA:
        return True
    for m in range(k - 1, max(-1, k - 4), -1):
        if classes[m] == AUX:
            return has_subject(tokens, classes, m)
        if classes[m] not in (DET, WORD, ADV):
            return False
    return False


def has_subject(tokens: Sequence[Token], classes: Sequence[str], verb: int) -> bool:
    """Whether a noun or pronoun stands before the verb: in "pictured here is a woman" she herself is the subject."""
    for k in range(verb - 1, -1, -1):
        if classes[k] == MARK:
            return False
        if classes[k] == WORD or (classes[k] == PRON and tokens[k].word not in ("here", "there")):
            return True
    return False
