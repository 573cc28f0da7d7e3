"""Words of English prose with their places in the text, cut into sentences. Nothing here knows an attribute."""

from __future__ import annotations

import re
from dataclasses import dataclass

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*'?|[^\w\s]")
OF_SIDE = re.compile(r"\s+(?:left|right)")  # "the viewer's left" is a side and says nothing of the viewer
CLITIC = re.compile(r"^(.+?)('s|'re|'ve|'ll|'d|'m)$")
STOPS = frozenset(".!?")
SHORT_FORMS = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "dr",
        "st",
        "sr",
        "jr",
        "prof",
        "sen",
        "rep",
        "gov",
        "gen",
        "col",
        "capt",
        "lt",
        "sgt",
        "hon",
        "rev",
        "e.g",
        "i.e",
        "vs",
    ]
)  # their dot ends no sentence


@dataclass(frozen=True, slots=True)
class Token:
    """One word (lower case; hyphenated words are several, "isn't" is "is" and "not") or one punctuation mark."""

    word: str
    start: int
    end: int


def tokens_of(text: str) -> list[Token]:
    """The text's words and marks, in order; `text[t.start:t.end]` is what token t stands for. Hyphens inside words go."""
    plain = text.replace("\u2019", "'").replace("\u2018", "'").replace("\u02bc", "'")
    found: list[Token] = []
    for match in WORD.finditer(plain):
        word, start, end = match.group().lower(), match.start(), match.end()
        if word in ("-", "\u2010", "\u2011") and inside_word(plain, start):
            continue
        if word == "'":
            continue
        if word.endswith("n't") and len(word) > 3:
            found += [Token(word[:-3], start, end - 3), Token("not", end - 3, end)]
        elif word == "cannot":
            found += [Token("can", start, start + 3), Token("not", start + 3, end)]
        elif (clitic := CLITIC.match(word)) and not (clitic[2] == "'s" and OF_SIDE.match(plain, end)):
            cut = start + len(clitic[1])
            found += [Token(clitic[1], start, cut), Token(clitic[2], cut, end)]
        elif word.endswith("'"):
            found.append(Token(word[:-1], start, end - 1))
        elif word in ("\u2013", "\u2014", "-"):
            found.append(Token("-", start, end))
        else:
            found.append(Token(word, start, end))
    return found


def initial(text: str, before: Token, token: Token) -> bool:
    """Whether the token is somebody's initial: "Joe D. Biden"."""
    single = token.end - token.start == 1 and text[token.start].isupper() and text[token.start] != "I"
    return single and text[before.start].isupper()


def inside_word(text: str, at: int) -> bool:
    return 0 < at < len(text) - 1 and text[at - 1].isalnum() and text[at + 1].isalnum()


def sentences_of(text: str, tokens: list[Token]) -> list[tuple[int, int]]:
    """Sentences as [first, last) indices into `tokens`; a sentence ends with its full stop."""
    spans: list[tuple[int, int]] = []
    first = 0
    for i, token in enumerate(tokens):
        if token.word not in STOPS:
            continue
        following = tokens[i + 1] if i + 1 < len(tokens) else None
        if following is not None:
            if following.start == token.end and following.word not in ('"', "'", ")", "\u201d", *STOPS):
                continue  # inside a number or an abbreviation
            if following.word in STOPS or following.word in ('"', ")", "\u201d"):
                continue
            if i > 1 and (tokens[i - 1].word in SHORT_FORMS or initial(text, tokens[i - 2], tokens[i - 1])):
                continue
        spans.append((first, i + 1))
        first = i + 1
    if first < len(tokens):
        spans.append((first, len(tokens)))
    return spans
